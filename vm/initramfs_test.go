package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// program is the start of an executable: an ELF header, one program header and
// what that is of.
func program(t testing.TB, machine elf.Machine, prog elf.ProgType, data string) string {
	t.Helper()
	order, encoding := binary.ByteOrder(binary.LittleEndian), elf.ELFDATA2LSB
	if machine == elf.EM_S390 {
		order, encoding = binary.BigEndian, elf.ELFDATA2MSB
	}
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(encoding)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, order, header))
	require.NoError(t, binary.Write(&b, order, elf.Prog64{Type: uint32(prog), Off: 64 + 56, Filesz: uint64(len(data))}))
	return b.String() + data
}

func TestProgramArch(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		want          string
		err           string // after the program's path
	}{
		{name: "amd64", content: program(t, elf.EM_X86_64, elf.PT_LOAD, ""), want: "amd64"},
		{name: "arm64", content: program(t, elf.EM_AARCH64, elf.PT_LOAD, ""), want: "arm64"},
		{name: "s390x", content: program(t, elf.EM_S390, elf.PT_LOAD, ""), want: "s390x"},
		{name: "ppc64le", content: program(t, elf.EM_PPC64, elf.PT_LOAD, ""), want: "ppc64le"},
		{name: "riscv64", content: program(t, elf.EM_RISCV, elf.PT_LOAD, ""), want: "riscv64"},
		{name: "mips", content: program(t, elf.EM_MIPS, elf.PT_LOAD, ""), err: " is for EM_MIPS"},
		{
			name: "script", content: "#!/bin/sh\nexec true\n",
			err: " is not an ELF executable: bad magic number '[35 33 47 98]' in record at byte 0x0",
		},
		{name: "empty", err: " is not an ELF executable: EOF"},
		{name: "cut off", content: program(t, elf.EM_X86_64, elf.PT_LOAD, "")[:70], err: " is not an ELF executable: EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			require.NoError(t, os.WriteFile(path, []byte(tt.content), 0o600))
			got, err := programArch(path)
			if tt.err != "" {
				assert.EqualError(t, err, "program "+path+tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "program")
		_, err := programArch(path)
		assert.EqualError(t, err, "program: open "+path+": no such file or directory")
	})
}

func TestLibraries(t *testing.T) {
	dir := t.TempDir()
	// A loader that answers as glibc's does, if it is asked for the program.
	loader := filepath.Join(dir, "ld.so")
	require.NoError(t, os.WriteFile(loader, []byte(`#!/bin/sh
test "$*" = "--list `+dir+`/program" || exit 1
echo "	linux-vdso.so.1 (0x00007ffd28a5f000)"
echo "	libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1c8a000000)"
echo "	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c89e00000)"
echo "	$0 (0x00007f1c8a1d8000)"
`), 0o755))
	for _, tt := range []struct {
		name, content string
		want          []string
		err           string // after the program's path
	}{
		{name: "static", content: program(t, elf.EM_X86_64, elf.PT_LOAD, "code")},
		{
			name: "dynamic", content: program(t, elf.EM_X86_64, elf.PT_INTERP, loader+"\x00"),
			want: []string{loader, "/lib/x86_64-linux-gnu/libm.so.6", "/lib/x86_64-linux-gnu/libc.so.6"},
		},
		{
			name: "dynamic, of another machine", content: program(t, elf.EM_AARCH64, elf.PT_INTERP, "/nosuch/ld.so\x00"),
			err: ` is dynamically linked, and its loader "/nosuch/ld.so" does not list its libraries here ` +
				`(fork/exec /nosuch/ld.so: no such file or directory): build it with CGO_ENABLED=0`,
		},
		{
			name: "a library is missing", content: program(t, elf.EM_X86_64, elf.PT_INTERP, "/bin/false\x00"),
			err: ` is dynamically linked, and its loader "/bin/false" does not list its libraries here (exit status 1): build it with CGO_ENABLED=0`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "program")
			require.NoError(t, os.WriteFile(path, []byte(tt.content), 0o600))
			got, err := libraries(t.Context(), path)
			if tt.err != "" {
				assert.EqualError(t, err, "program "+path+tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestWriteInitramfs(t *testing.T) {
	dir := t.TempDir()
	pkg := filepath.Join(dir, "src", "pkg")
	for name, mode := range map[string]os.FileMode{"testdata/a": 0o644, "testdata/bin/tool": 0o755, "testdata/empty/": 0, "pkg.go": 0o644} {
		path := filepath.Join(pkg, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if mode != 0 {
			require.NoError(t, os.WriteFile(path, []byte(name), mode))
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Join(pkg, "testdata", "empty"), 0o755))
	require.NoError(t, os.Symlink("a", filepath.Join(pkg, "testdata", "link")))
	binary := filepath.Join(dir, "p.test")
	require.NoError(t, os.WriteFile(binary, []byte("ELF"), 0o600))
	job := wire.Job{Argv: []string{"/bin/p.test", "-test.v"}, Dir: pkg}
	initrd := filepath.Join(dir, "initramfs")
	library := filepath.Join(dir, "lib", "libc.so.6")
	require.NoError(t, os.Mkdir(filepath.Dir(library), 0o755))
	require.NoError(t, os.WriteFile(library, []byte("libc"), 0o644))
	require.NoError(t, writeInitramfs(initrd, []byte("init"), binary, "", []string{library}, nil, job))

	type entry struct {
		mode cpio.FileMode
		data string
	}
	got := make(map[string]entry)
	f, err := os.Open(initrd)
	require.NoError(t, err)
	defer f.Close()
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		if h.Linkname != "" {
			data = []byte(h.Linkname)
		}
		assert.NotContainsf(t, got, h.Name, "%s is there twice", h.Name)
		if parent := filepath.Dir(h.Name); parent != "." {
			assert.Containsf(t, got, parent, "%s comes before its directory, without which the kernel leaves it out", h.Name)
		}
		got[h.Name] = entry{h.Mode, string(data)}
	}

	const dirMode, exec, file = cpio.TypeDir | 0o755, cpio.TypeReg | 0o755, cpio.TypeReg | 0o644
	data, err := json.Marshal(job)
	require.NoError(t, err)
	in := func(name string) string { return filepath.Join(pkg, "testdata", name)[1:] }
	want := map[string]entry{
		"job.json":                {file, string(data)},
		"init":                    {exec, "init"},
		"bin":                     {dirMode, ""},
		filepath.Dir(library)[1:]: {dirMode, ""},
		library[1:]:               {exec, "libc"},
		"bin/p.test":              {exec, "ELF"},
		in("."):                   {dirMode, ""},
		in("a"):                   {file, "testdata/a"},
		in("bin"):                 {dirMode, ""},
		in("bin/tool"):            {exec, "testdata/bin/tool"},
		in("empty"):               {dirMode, ""},
		in("link"):                {cpio.TypeSymlink | 0o777, "a"},
	}
	for parent := pkg; parent != "/"; parent = filepath.Dir(parent) {
		want[parent[1:]] = entry{dirMode, ""}
	}
	assert.Equal(t, want, got)
}

func TestWriteInitramfsWithoutTestdata(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "p.test")
	require.NoError(t, os.WriteFile(binary, nil, 0o600))
	initrd := filepath.Join(dir, "initramfs")
	require.NoError(t, writeInitramfs(initrd, nil, binary, "", nil, nil, wire.Job{Argv: []string{"/bin/p.test"}, Dir: "/"}))
	f, err := os.Open(initrd)
	require.NoError(t, err)
	defer f.Close()
	var names []string
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
	slices.Sort(names)
	assert.Equal(t, []string{"bin", "bin/p.test", "init", "job.json"}, names)
}

func TestWriteInitramfsError(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "p.test")
	err := writeInitramfs(filepath.Join(dir, "initramfs"), nil, program, "", nil, nil, wire.Job{Argv: []string{"/bin/p.test"}, Dir: dir})
	assert.EqualError(t, err, "writing the guest's root file system: open "+program+": no such file or directory")
}

func FuzzProgramArch(f *testing.F) {
	for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_MIPS} {
		f.Add([]byte(program(f, machine, elf.PT_INTERP, "/lib/ld.so\x00")))
	}
	f.Add([]byte("#!/bin/sh\n"))
	path := filepath.Join(f.TempDir(), "program")
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o644))
		goarch, err := programArch(path)
		if err != nil {
			require.Empty(t, goarch)
			return
		}
		require.Contains(t, []string{"amd64", "arm64", "ppc64le", "riscv64", "s390x"}, goarch)
	})
}
