package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ErrNoModule says that a kernel has no module of a name, or that it is not
// known where its modules are.
var ErrNoModule = errors.New("no such module")

// modulesDir is where the modules of a kernel in the cache are.
const modulesDir = "modules"

// Module is a module of a kernel, unpacked.
type Module struct {
	Name string
	Data []byte
}

// moduleSource is where the modules of a kernel are.
type moduleSource struct {
	cache string // directory for what was unpacked; "": nothing is kept
	from  string // for people

	opener
}

// opener finds the files among which modules are.
type opener interface {
	// open returns what visits the files, and what ends that; nil: nothing has
	// to.
	open(context.Context) (files func(visitor) error, done func(), err error)
}

// Modules returns the modules of these names, with all that they depend on, in
// the order in which they can be loaded. One that is built in is left out. In a
// name, "-" and "_" are the same.
//
// The error wraps [ErrNoModule] if there is none, or if the kernel was given
// without its modules, as an image alone is.
func (i *Image) Modules(ctx context.Context, names ...string) ([]Module, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if i.modules == nil {
		return nil, fmt.Errorf("module %s: %w: an image alone has none; give a package with it, or the directory in which the kernel was built or installed", names[0], ErrNoModule)
	}
	l := &loading{source: i.modules, have: make(map[string][]byte)}
	defer l.close()
	var order []Module
	for _, name := range names {
		if err := l.add(ctx, moduleName(name), nil, &order); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// loading is one search for modules.
type loading struct {
	source *moduleSource
	have   map[string][]byte // by name; nothing in it: it is built in
	files  func(visitor) error
	done   func()
}

func (l *loading) close() {
	if l.done != nil {
		l.done()
	}
}

// add appends a module to the order after those that it depends on. For are
// those that it is needed for.
func (l *loading) add(ctx context.Context, name string, needed []string, order *[]Module) error {
	if slices.ContainsFunc(*order, func(m Module) bool { return m.Name == name }) {
		return nil
	}
	if slices.Contains(needed, name) {
		return fmt.Errorf("module %s of %s: it depends on itself, by %s", name, l.source.from, strings.Join(needed, ", "))
	}
	data, err := l.get(ctx, name)
	if err != nil || len(data) == 0 {
		return err
	}
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("module %s of %s: %w", name, l.source.from, err)
	}
	for _, other := range depends {
		if err := l.add(ctx, other, append(needed, name), order); err != nil {
			return err
		}
	}
	*order = append(*order, Module{Name: name, Data: data})
	return nil
}

// get returns a module's file, which is empty if it is built in.
func (l *loading) get(ctx context.Context, name string) ([]byte, error) {
	if data, ok := l.have[name]; ok {
		return data, nil
	}
	path := filepath.Join(l.source.cache, name+".ko")
	if l.source.cache != "" {
		if data, err := os.ReadFile(path); err == nil {
			return data, nil
		}
	}
	if l.files == nil {
		var err error
		if l.files, l.done, err = l.source.open(ctx); err != nil {
			return nil, fmt.Errorf("modules of %s: %w", l.source.from, err)
		}
	}
	data, err := find(l.files, name)
	if err != nil {
		return nil, fmt.Errorf("module %s of %s: %w", name, l.source.from, err)
	}
	l.have[name] = data
	if l.source.cache == "" {
		return data, nil
	}
	return data, keepFile(path, data)
}

// moduleFile and builtinFile are where a package has a module, and the list of
// those that are built in.
var (
	moduleFile  = regexp.MustCompile(`(?:^|/)([^/]+)\.ko(?:\.(gz|xz|zst))?$`)
	builtinFile = regexp.MustCompile(`(?:^|/)modules\.builtin$`)
)

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// find returns the module among the files, or nothing if it is built in.
func find(files func(visitor) error, name string) (data []byte, err error) {
	found := false
	err = files(func(file string, content io.Reader) (more bool, err error) {
		m := moduleFile.FindStringSubmatch(file)
		switch {
		case m != nil && moduleName(m[1]) == name:
			if m[2] != "" {
				if content, err = decompress(content); err != nil {
					return false, err
				}
			}
			found = true
			data, err = io.ReadAll(io.LimitReader(content, maxSize))
			return false, err
		case builtinFile.MatchString(file):
			list, err := io.ReadAll(io.LimitReader(content, maxSize))
			if err != nil {
				return false, err
			}
			for line := range strings.Lines(string(list)) {
				if m := moduleFile.FindStringSubmatch(strings.TrimSpace(line)); m != nil && moduleName(m[1]) == name {
					found = true
				}
			}
		}
		return !found, nil
	})
	if err == nil && !found {
		err = ErrNoModule
	}
	return data, err
}

// dependencies returns the modules that a module says it depends on.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it is no ELF object: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(moduleName(list), ","), nil
		}
	}
	return nil, nil
}

// keepFile writes a file of the cache, which is then there as a whole or not at
// all.
func keepFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// installation is a directory in which a kernel of a release was built or
// installed. It may have the modules of other releases beside that.
type installation struct{ dir, release string }

func (i installation) open(context.Context) (func(visitor) error, func(), error) {
	return i.files, nil, nil
}

func (i installation) files(visit visitor) error {
	return filepath.WalkDir(i.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && i.isOther(path):
			return fs.SkipDir
		case !d.Type().IsRegular() || !moduleFile.MatchString(path) && !builtinFile.MatchString(path):
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		more, err := visit(path, f)
		if err == nil && !more {
			err = fs.SkipAll
		}
		return err
	})
}

// isOther reports whether a directory is that of another release.
func (i installation) isOther(path string) bool {
	_, rest, ok := strings.Cut(path+"/", "lib/modules/")
	return ok && i.release != "" && rest != "" && !strings.HasPrefix(rest, i.release+"/")
}
