package kernel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/debian"
	"github.com/hotplugtest/hotplugtest/internal/filelock"
)

// fresh is how long a suite's kernel serves before the mirror is asked again.
const fresh = 24 * time.Hour

// A suite is the kernel of a Debian suite for an architecture.
type suite struct {
	name, flavour string // such as "trixie", "rt"
	goarch        string
}

// debianArch are the names of architectures: Debian's own, and the one in the
// names of its kernel packages.
var debianArch = map[string]struct{ name, kernel string }{
	"amd64":   {"amd64", "amd64"},
	"arm64":   {"arm64", "arm64"},
	"ppc64le": {"ppc64el", "powerpc64le"},
	"riscv64": {"riscv64", "riscv64"},
	"s390x":   {"s390x", "s390x"},
}

func (s suite) String() string {
	if s.flavour == "" {
		return s.name
	}
	return s.name + "/" + s.flavour
}

// metapackage is the package that always depends on the suite's current kernel.
func (s suite) metapackage() string {
	name := "linux-image-"
	if s.flavour != "" {
		name += s.flavour + "-"
	}
	return name + debianArch[s.goarch].kernel
}

// record describes the kernel in the cache. The modification time of its file
// is when the mirror was last asked.
type record struct {
	Package string `json:"package"` // the one that the kernel was in
	Version string `json:"version"`
	Release string `json:"release"`
}

// resolve takes the kernel from the cache or from the mirror.
func (s suite) resolve(ctx context.Context, cache string, log io.Writer) (*Image, error) {
	if _, ok := debianArch[s.goarch]; !ok {
		return nil, fmt.Errorf("kernel %q: Debian has none for %s", s, s.goarch)
	}
	dir := filepath.Join(cache, "debian", s.name, cmp.Or(s.flavour, "default"), s.goarch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	defer unlock()

	r, asked, err := readRecord(dir)
	if err != nil || time.Since(asked) > fresh {
		newer, refreshErr := s.refresh(ctx, dir, r, log)
		switch {
		case refreshErr == nil:
			r = newer
		case err != nil || ctx.Err() != nil:
			return nil, fmt.Errorf("kernel %q: %w", s, refreshErr)
		default:
			fmt.Fprintf(log, "kernel %s: using %s %s, as of %s: %v\n", s, r.Package, r.Version, asked.Format(time.DateOnly), refreshErr)
		}
	}
	img, err := open(filepath.Join(dir, "vmlinuz"), s.String(), s.goarch, cache, log)
	if err != nil {
		return nil, err
	}
	img.Source = fmt.Sprintf("Debian %s %s %s", s.name, r.Package, r.Version)
	img.Release = r.Release
	img.modules = &moduleSource{
		cache:  filepath.Join(dir, modulesDir, r.Version),
		from:   img.Source,
		opener: modulesPackage{suite: s, dir: dir, name: strings.Replace(r.Package, "linux-binary-", "linux-modules-", 1) + "=" + r.Version},
	}
	return img, nil
}

// modulesPackage is the package with the modules of a suite's kernel in dir: the
// kernel's own, or since Debian 14 one beside it.
type modulesPackage struct {
	suite     suite
	dir, name string
}

func (p modulesPackage) open(ctx context.Context) (files func(visitor) error, done func(), err error) {
	unlock, err := filelock.Lock(ctx, filepath.Join(p.dir, "lock"))
	if err != nil {
		return nil, nil, err
	}
	a, err := debian.NewAPT(ctx, filepath.Join(p.dir, "apt"), p.suite.name, debianArch[p.suite.goarch].name)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	done = func() { a.Clean(); unlock() }
	err = a.Update(ctx)
	var deb string
	if err == nil {
		deb, err = a.Download(ctx, p.name)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return func(visit visitor) error { return visitDebian(ctx, deb, visit) }, done, nil
}

// readRecord returns what kernel is in dir, and when the mirror was last asked.
func readRecord(dir string) (*record, time.Time, error) {
	path := filepath.Join(dir, "kernel.json")
	fi, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err != nil {
		return nil, time.Time{}, err
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, fi.ModTime(), nil
}

// refresh brings the suite's current kernel into dir, where old is, if not nil.
func (s suite) refresh(ctx context.Context, dir string, old *record, log io.Writer) (*record, error) {
	a, err := debian.NewAPT(ctx, filepath.Join(dir, "apt"), s.name, debianArch[s.goarch].name)
	if errors.Is(err, debian.ErrNoMirror) {
		return nil, fmt.Errorf("%w: give -kernel a path to a kernel image", err)
	}
	if err != nil {
		return nil, err
	}
	if err := a.Update(ctx); err != nil {
		return nil, err
	}
	defer a.Clean()
	pkg, err := kernelPackage(ctx, a, s.metapackage())
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "kernel.json")
	if old != nil && pkg["Package"] == old.Package && pkg["Version"] == old.Version {
		now := time.Now()
		return old, os.Chtimes(path, now, now)
	}

	r := &record{Package: pkg["Package"], Version: pkg["Version"]}
	fmt.Fprintf(log, "kernel %s: downloading %s %s from %s\n", s, r.Package, r.Version, a.Mirror)
	deb, err := a.Download(ctx, r.Package+"="+r.Version)
	if err != nil {
		return nil, err
	}
	tmp := filepath.Join(dir, "vmlinuz.new")
	defer os.Remove(tmp)
	if r.Release, err = extractKernel(ctx, deb, tmp); err != nil {
		return nil, fmt.Errorf("package %s %s: %w", r.Package, r.Version, err)
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return nil, err
	}
	// A kernel without record counts as missing, so if this ends half-way, none
	// is taken for the other.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(tmp, filepath.Join(dir, "vmlinuz")); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(dir, modulesDir)); err != nil {
		return nil, err
	}
	return r, os.WriteFile(path, append(b, '\n'), 0o644)
}

// kernelPackage returns the fields of the package that the metapackage brings
// the kernel in.
func kernelPackage(ctx context.Context, a *debian.APT, metapackage string) (map[string]string, error) {
	name := metapackage
	// At most metapackage, linux-image-RELEASE, linux-binary-RELEASE.
	for range 3 {
		text, err := a.Show(ctx, name)
		if err != nil {
			return nil, err
		}
		fields := parseStanza(text)
		next := kernelDependency(fields["Depends"])
		if next == "" {
			return fields, nil
		}
		name = next
	}
	return nil, fmt.Errorf("package %s: no kernel package within its dependencies", metapackage)
}

// kernelFile is where a package has its kernel.
var kernelFile = regexp.MustCompile(`^(?:\./|/)?(?:boot/(?:vmlinu[xz]|Image)-([^/]+)|(?:usr/)?lib/modules/([^/]+)/(?:vmlinu[xz]|Image))$`)

// extractKernel writes the kernel in the Debian package to path, and returns
// its release.
func extractKernel(ctx context.Context, deb, path string) (release string, err error) {
	err = visitDebian(ctx, deb, func(name string, content io.Reader) (more bool, err error) {
		m := kernelFile.FindStringSubmatch(name)
		if m == nil {
			return true, nil
		}
		release = m[1] + m[2]
		return false, writeTo(path, content)
	})
	if err == nil && release == "" {
		err = errors.New("holds no kernel")
	}
	return release, err
}

// visitDebian visits the files of a Debian package by dpkg-deb, which unpacks
// on all processors.
func visitDebian(ctx context.Context, deb string, visit visitor) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		w.CloseWithError(debian.Run(ctx, w, "dpkg-deb", "--fsys-tarfile", deb))
	}()
	return visitTar(r, visit)
}

// parseStanza reads the first paragraph of a Debian control file: its fields by
// name.
func parseStanza(text string) map[string]string {
	fields := make(map[string]string)
	var last string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch name, value, ok := strings.Cut(line, ":"); {
		case line == "" && len(fields) > 0:
			return fields
		case line == "":
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += "\n" + strings.TrimSpace(line)
			}
		case ok:
			last = name
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// kernelDependency returns the package in a Depends field that holds the
// kernel, or "". Newer suites have it in a linux-binary package, apart from its
// modules.
func kernelDependency(depends string) string {
	for _, prefix := range []string{"linux-binary-", "linux-image-"} {
		for _, d := range strings.Split(depends, ",") {
			d = strings.TrimSpace(d)
			if strings.HasPrefix(d, prefix) {
				name, _, _ := strings.Cut(d, " ")
				name, _, _ = strings.Cut(name, ":")
				return name
			}
		}
	}
	return ""
}
