package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// archive is a package of a distribution's: what it says of itself, and what is
// in it.
type archive struct {
	name, version string
	goarch        string   // or another name of the architecture; "": any
	depends       []string // names of packages
	source        bool     // it is made for building
	files         func(visit visitor) error
}

// visitor is called with each regular file of a package until it returns false.
type visitor func(name string, content io.Reader) (more bool, err error)

// The first bytes of packages.
const (
	debMagic = "!<arch>\n"
	rpmMagic = "\xed\xab\xee\xdb"
)

// isPackage reports whether a file is a package.
func isPackage(f io.ReaderAt) bool {
	var magic [len(debMagic)]byte
	n, _ := f.ReadAt(magic[:], 0)
	text := string(magic[:n])
	return text == debMagic || strings.HasPrefix(text, rpmMagic)
}

// readArchive reads what a package says of itself.
func readArchive(f *os.File) (*archive, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var magic [1]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return nil, err
	}
	if magic[0] == rpmMagic[0] {
		return readRPM(f, info.Size())
	}
	return readDeb(f, info.Size())
}

// contents describes the kernel that was in a package, in the cache.
type contents struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Release string `json:"release"`
	Config  bool   `json:"config"` // the package has the kernel's configuration
}

// fromPackage makes an Image of the kernel in a package, which messages call
// name.
func fromPackage(f *os.File, name, goarch, cache string, log io.Writer) (*Image, error) {
	a, err := readArchive(f)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	if a.goarch != "" && a.goarch != goarch {
		return nil, fmt.Errorf("kernel %s: package %s %s is for %s, not for %s", name, a.name, a.version, a.goarch, goarch)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, all(f)); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	packages := filepath.Join(cache, "packages")
	dir := filepath.Join(packages, fmt.Sprintf("%x", sum.Sum(nil)))
	c, err := readContents(dir)
	if err != nil {
		if c, err = a.extract(packages, dir); err != nil {
			return nil, fmt.Errorf("kernel %s: %w", name, err)
		}
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	img, err := open(filepath.Join(dir, "vmlinuz"), name, goarch, cache, log)
	if err != nil {
		return nil, err
	}
	img.Named = name
	img.Source = fmt.Sprintf("%s %s", c.Name, c.Version)
	if img.Release == "" {
		img.Release = c.Release
	}
	if c.Config {
		img.Config = filepath.Join(dir, "config")
	}
	img.modules = &moduleSource{cache: filepath.Join(dir, modulesDir), from: img.Source, opener: packageFile(name)}
	return img, nil
}

// packageFile is the path of a package.
type packageFile string

func (p packageFile) open(context.Context) (files func(visitor) error, done func(), err error) {
	f, err := os.Open(string(p))
	if err != nil {
		return nil, nil, err
	}
	a, err := readArchive(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return a.files, func() { f.Close() }, nil
}

// readContents returns what is in a directory of the cache.
func readContents(dir string) (*contents, error) {
	data, err := os.ReadFile(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return nil, err
	}
	c := new(contents)
	return c, json.Unmarshal(data, c)
}

// configFile is where a package has the configuration of its kernel.
var configFile = regexp.MustCompile(`^(?:\./|/)?(?:boot/config-([^/]+)|(?:usr/)?lib/modules/([^/]+)/config)$`)

// extract puts the kernel of a package, and its configuration, into a directory
// below parent, which is then there as a whole or not at all.
func (a *archive) extract(parent, dir string) (*contents, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(parent, "new-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	c := &contents{Name: a.name, Version: a.version}
	err = a.files(func(name string, content io.Reader) (more bool, err error) {
		to := ""
		switch m := kernelFile.FindStringSubmatch(name); {
		case m != nil && c.Release == "" && !isPacked(name):
			c.Release, to = m[1]+m[2], "vmlinuz"
		case configFile.MatchString(name):
			c.Config, to = true, "config"
		default:
			return true, nil
		}
		return c.Release == "" || !c.Config, writeTo(filepath.Join(tmp, to), content)
	})
	if err != nil {
		return nil, fmt.Errorf("package %s %s: %w", a.name, a.version, err)
	}
	if c.Release == "" {
		return nil, a.noKernel()
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tmp, "kernel.json"), data, 0o644); err != nil {
		return nil, err
	}
	// Another process may have been faster, or a damaged entry is in the way.
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if c, readErr := readContents(dir); readErr == nil {
			return c, nil
		}
		return nil, err
	}
	return c, prune(parent, keep)
}

// isPacked reports whether a file is packed for another use than to boot:
// vmlinux-6.4.0-default.gz of openSUSE has debug symbols.
func isPacked(name string) bool {
	switch path.Ext(name) {
	case ".gz", ".xz", ".zst", ".hmac", ".sig", ".old":
		return true
	}
	return false
}

func writeTo(path string, content io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(content, maxSize+1))
	if n > maxSize {
		err = fmt.Errorf("a file of it has more than %d bytes", maxSize)
	}
	return errors.Join(err, f.Close())
}

// noKernel says what a package is that holds no kernel.
func (a *archive) noKernel() error {
	is := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(a.name, part) {
				return true
			}
		}
		return false
	}
	what := "holds no kernel"
	switch {
	case a.source:
		what = "is a source package, and holds no kernel"
	case is("-headers", "-devel", "-kbuild"):
		what = "has headers for building modules, and no kernel"
	case is("-dbg", "debuginfo", "debugsource"):
		what = "has debug symbols, and no kernel that boots"
	case is("-modules"):
		what = "has modules, and no kernel"
	}
	for _, d := range a.depends {
		if strings.HasPrefix(d, "linux-image-") || strings.HasPrefix(d, "linux-binary-") || strings.HasPrefix(d, "kernel-core") {
			return fmt.Errorf("package %s %s %s: it depends on %s, which may have it", a.name, a.version, what, d)
		}
	}
	return fmt.Errorf("package %s %s %s: give a linux-image or kernel-core package", a.name, a.version, what)
}

// debMember is a file in the ar archive that a .deb is.
type debMember struct {
	name    string
	content *io.SectionReader
}

// debMembers reads the table of a .deb: see deb(5).
func debMembers(f io.ReaderAt, size int64) (list []debMember, err error) {
	const head = 60
	for at := int64(len(debMagic)); at < size; {
		var header [head]byte
		if _, err := f.ReadAt(header[:], at); err != nil {
			return nil, fmt.Errorf("the package is cut off after %d bytes", size)
		}
		var length int64
		if _, err := fmt.Sscanf(string(header[48:58]), "%d", &length); err != nil || length < 0 || string(header[58:]) != "`\n" {
			return nil, fmt.Errorf("the package is damaged at byte %d", at)
		}
		at += head
		name := strings.TrimRight(strings.TrimSpace(string(header[:16])), "/")
		if length > size-at {
			return nil, fmt.Errorf("the package is cut off after %d bytes, within %s", size, name)
		}
		list = append(list, debMember{name, io.NewSectionReader(f, at, length)})
		at += length + length%2
	}
	return list, nil
}

func readDeb(f io.ReaderAt, size int64) (*archive, error) {
	members, err := debMembers(f, size)
	if err != nil {
		return nil, err
	}
	a := &archive{}
	var data *io.SectionReader
	for _, m := range members {
		switch {
		case strings.HasPrefix(m.name, "control.tar"):
			if err := a.readControl(m.content); err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
		case strings.HasPrefix(m.name, "data.tar"):
			data = m.content
		}
	}
	if a.name == "" || data == nil {
		return nil, errors.New("an ar archive that is no Debian package, or cut off: it has no control.tar and data.tar")
	}
	a.files = func(visit visitor) error { return visitTar(io.NewSectionReader(data, 0, data.Size()), visit) }
	return a, nil
}

// readControl reads the control file of a .deb.
func (a *archive) readControl(content io.Reader) error {
	return visitTar(content, func(name string, file io.Reader) (bool, error) {
		if path.Clean(name) != "control" {
			return true, nil
		}
		var text bytes.Buffer
		if _, err := io.Copy(&text, io.LimitReader(file, 1<<20)); err != nil {
			return false, err
		}
		fields := parseStanza(text.String())
		a.name, a.version, a.goarch = fields["Package"], fields["Version"], fields["Architecture"]
		for goarch, names := range debianArch {
			if names.name == a.goarch {
				a.goarch = goarch
				break
			}
		}
		if a.goarch == "all" {
			a.goarch = ""
		}
		for d := range strings.SplitSeq(fields["Depends"], ",") {
			if name := strings.FieldsFunc(d, func(r rune) bool { return strings.ContainsRune(" (:|", r) }); len(name) > 0 {
				a.depends = append(a.depends, name[0])
			}
		}
		return false, nil
	})
}

// visitTar visits the files of a tar archive, which may be packed.
func visitTar(r io.Reader, visit visitor) error {
	unpacked, err := maybeDecompress(r)
	if err != nil {
		return err
	}
	for t := tar.NewReader(unpacked); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if more, err := visit(h.Name, t); err != nil || !more {
			return damaged(err)
		}
	}
}

// damaged explains an error of unpacking.
func damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut off: %w", err)
	}
	return err
}
