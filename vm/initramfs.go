package vm

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

const guestPackage = "github.com/hotplugtest/hotplugtest/vm/internal/guest"

// programArch tells for which GOARCH a program was built.
func programArch(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return "", fmt.Errorf("program %s is not an ELF executable: %w", path, err)
	}
	if goarch := kernel.Architecture(f.FileHeader); goarch != "" {
		return goarch, nil
	}
	return "", fmt.Errorf("program %s is for %s", path, f.Machine)
}

// libraries returns the dynamic loader and the shared libraries that a program
// needs, none for a static one. The loader itself tells, so it has to be one
// that runs here.
func libraries(ctx context.Context, path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", path, err)
		}
		loader := string(bytes.TrimRight(name, "\x00"))
		list, err := exec.CommandContext(ctx, loader, "--list", path).Output()
		if err != nil {
			return nil, fmt.Errorf("program %s is dynamically linked, and its loader %q does not list its libraries here (%w): build it with CGO_ENABLED=0", path, loader, err)
		}
		files := []string{loader}
		for word := range strings.FieldsSeq(string(list)) {
			if filepath.IsAbs(word) && word != loader {
				files = append(files, word)
			}
		}
		return files, nil
	}
	return nil, nil
}

// writeInitramfs writes the guest's root file system: init, the job, the
// program with its libraries, a busybox unless its path is "", modules of the
// kernel, and, as go test promises the program its package's directory, that
// directory's testdata.
func writeInitramfs(path string, init []byte, program, busybox string, libraries []string, modules []kernel.Module, job wire.Job) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	a := &archive{w: cpio.NewWriter(buf), dirs: make(map[string]bool)}

	data, err := json.Marshal(job)
	if err != nil {
		return err
	}
	a.file(wire.JobPath, 0o644, data)
	a.file("/init", 0o755, init)
	a.copy(job.Argv[0], program)
	if busybox != "" {
		a.copy("/bin/busybox", busybox)
	}
	for _, library := range libraries {
		a.copy(library, library)
	}
	for _, m := range modules {
		a.file(modulePath(m.Name), 0o644, m.Data)
	}
	a.mkdir(job.Dir)
	a.tree(filepath.Join(job.Dir, "testdata"))
	if a.err != nil {
		return fmt.Errorf("writing the guest's root file system: %w", a.err)
	}
	if err := a.w.Close(); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// archive remembers the first error, and which directories it has.
type archive struct {
	w    *cpio.Writer
	dirs map[string]bool
	err  error
}

func (a *archive) add(h *cpio.Header, data []byte) {
	if a.err != nil {
		return
	}
	h.Size = int64(len(data))
	if a.err = a.w.WriteHeader(h); a.err == nil {
		_, a.err = a.w.Write(data)
	}
}

func (a *archive) mkdir(dir string) {
	dir = strings.Trim(dir, "/")
	if dir == "" || a.dirs[dir] {
		return
	}
	if parent := filepath.Dir(dir); parent != "." {
		a.mkdir(parent)
	}
	a.dirs[dir] = true
	a.add(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755}, nil)
}

func (a *archive) file(path string, mode fs.FileMode, data []byte) {
	a.mkdir(filepath.Dir(path))
	a.add(&cpio.Header{Name: strings.TrimPrefix(path, "/"), Mode: cpio.TypeReg | cpio.FileMode(mode.Perm())}, data)
}

func (a *archive) copy(path, from string) {
	data, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.file(path, 0o755, data)
}

// tree copies a directory, which need not be there.
func (a *archive) tree(dir string) {
	if _, err := os.Stat(dir); err != nil {
		return
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			a.mkdir(path)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			a.mkdir(filepath.Dir(path))
			a.add(&cpio.Header{Name: strings.TrimPrefix(path, "/"), Mode: cpio.TypeSymlink | 0o777}, []byte(target))
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			a.file(path, info.Mode(), data)
		}
		return a.err
	})
	if a.err == nil {
		a.err = err
	}
}
