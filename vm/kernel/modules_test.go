package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// moduleFor is a module that depends on others.
func moduleFor(t *testing.T, depends string) []byte {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	info := "license=GPL\x00depends=" + depends + "\x00name=x\x00"
	at := uint64(binary.Size(elf.Header64{}))
	var b bytes.Buffer
	write := func(v any) { require.NoError(t, binary.Write(&b, binary.LittleEndian, v)) }
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: uint16(at),
		Shoff: at + uint64(len(info)+len(names)), Shentsize: uint16(binary.Size(elf.Section64{})), Shnum: 3, Shstrndx: 2,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	write(h)
	b.WriteString(info + names)
	write(elf.Section64{})
	write(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))})
	write(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(names))})
	return b.Bytes()
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

// installedModules is a directory with the modules of two releases.
func installedModules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	drivers := filepath.Join(dir, "lib/modules/6.1.0/kernel/drivers")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(moduleFor(t, "mid-dle,base"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	put(t, filepath.Join(drivers, "top.ko.gz"), packed.Bytes())
	put(t, filepath.Join(drivers, "mid_dle.ko"), moduleFor(t, "base,in-the-kernel"))
	put(t, filepath.Join(drivers, "base.ko"), moduleFor(t, ""))
	put(t, filepath.Join(drivers, "ring.ko"), moduleFor(t, "ring"))
	put(t, filepath.Join(drivers, "text.ko"), []byte("text"))
	put(t, filepath.Join(dir, "lib/modules/6.1.0/modules.builtin"), []byte("kernel/fs/in_the_kernel.ko\n"))
	put(t, filepath.Join(dir, "lib/modules/5.10.0/kernel/old.ko"), moduleFor(t, ""))
	return dir
}

type counted struct {
	opener
	times int
}

func (c *counted) open(ctx context.Context) (func(visitor) error, func(), error) {
	c.times++
	return c.opener.open(ctx)
}

func TestModules(t *testing.T) {
	dir := installedModules(t)
	opened := &counted{opener: installation{dir, "6.1.0"}}
	for _, cache := range []string{"", t.TempDir()} {
		i := &Image{modules: &moduleSource{cache: cache, from: "it", opener: opened}}
		for range 2 {
			list, err := i.Modules(t.Context(), "top", "base", "in-the-kernel")
			require.NoError(t, err)
			var names []string
			for _, m := range list {
				names = append(names, m.Name)
				_, err := dependencies(m.Data)
				assert.NoError(t, err, m.Name)
			}
			assert.Equal(t, []string{"base", "mid_dle", "top"}, names)
		}
	}
	assert.Equal(t, 3, opened.times, "what was unpacked is not found in the cache")
}

func TestNoModules(t *testing.T) {
	i := &Image{modules: &moduleSource{from: "it", opener: installation{installedModules(t), "6.1.0"}}}
	for name, want := range map[string]string{
		"nothing": "module nothing of it: no such module",
		"old":     "module old of it: no such module", // it is of another release
		"ring":    "module ring of it: it depends on itself, by ring",
		"text":    "module text of it: it is no ELF object: EOF",
	} {
		_, err := i.Modules(t.Context(), name)
		assert.EqualError(t, err, want)
	}
	_, err := i.Modules(t.Context(), "nothing")
	assert.ErrorIs(t, err, ErrNoModule)
	_, err = new(Image).Modules(t.Context(), "null_blk")
	assert.ErrorIs(t, err, ErrNoModule)
	assert.ErrorContains(t, err, "an image alone has none")
}
