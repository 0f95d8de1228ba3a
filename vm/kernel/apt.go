package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/debian"
)

// An apt is APT with a suite, state and cache of its own, beside the machine's:
// that one's sources, package lists and hooks are left alone; its proxy,
// credentials and keys are used.
type apt struct {
	dir, config   string
	mirror, suite string
}

// newAPT sets APT up for a suite and an architecture, below dir.
func newAPT(ctx context.Context, dir, suite, arch string) (*apt, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, errors.New("no apt-get here: give -kernel a path to a kernel image")
	}
	mirror, err := debian.Mirror(ctx)
	if err != nil {
		return nil, err
	}
	a := &apt{dir: dir, config: filepath.Join(dir, "apt.conf"), mirror: mirror, suite: suite}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("arch=%s target=Packages lang=none %s", arch, debian.SignedBy())
	conf := strings.NewReplacer("DIR", dir, "ARCH", arch).Replace(`
#clear APT::Architectures;
#clear APT::Update;
APT::Architecture "ARCH";
APT::Architectures:: "ARCH";
APT::Update::Error-Mode "any";
Acquire::AllowReleaseInfoChange "true";
Acquire::GzipIndexes "true";
Dir::State "DIR";
Dir::State::lists "lists";
Dir::State::status "DIR/status";
Dir::Cache "DIR/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Etc::sourcelist "DIR/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
`)
	if os.Geteuid() == 0 { // _apt could not write below dir
		conf += "APT::Sandbox::User \"root\";\n"
	}
	for name, text := range map[string]string{
		"apt.conf":     conf,
		"sources.list": fmt.Sprintf("deb [%s] %s %s main\n", options, mirror, suite),
		"status":       "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// update gets the suite's package lists from the mirror.
func (a *apt) update(ctx context.Context) error {
	err := debian.Run(ctx, io.Discard, "apt-get", "update", "-qq", "-c", a.config)
	var e *debian.CommandError
	if errors.As(err, &e) && strings.Contains(e.Stderr, "does not have a Release file") {
		os.RemoveAll(a.dir)
		return fmt.Errorf("neither a file nor a Debian suite that %s has", a.mirror)
	}
	return err
}

// kernelPackage returns the fields of the package that the metapackage brings
// the kernel in.
func (a *apt) kernelPackage(ctx context.Context, metapackage string) (map[string]string, error) {
	name := metapackage
	// At most metapackage, linux-image-RELEASE, linux-binary-RELEASE.
	for range 3 {
		var out bytes.Buffer
		err := debian.Run(ctx, &out, "apt-cache", "show", "--no-all-versions", "-c", a.config, name)
		var e *debian.CommandError
		if errors.As(err, &e) && strings.Contains(e.Stderr, "No packages found") {
			return nil, fmt.Errorf("%s has no %s in %s", a.mirror, name, a.suite)
		}
		if err != nil {
			return nil, err
		}
		fields := parseStanza(out.String())
		next := kernelDependency(fields["Depends"])
		if next == "" {
			return fields, nil
		}
		name = next
	}
	return nil, fmt.Errorf("package %s: no kernel package within its dependencies", metapackage)
}

// download gets a package, whose signature APT checks, and returns its path,
// which is valid until clean.
func (a *apt) download(ctx context.Context, pkg, version string) (string, error) {
	dir := filepath.Join(a.dir, "cache", "deb")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return "", err
	}
	cmd := debian.Command(ctx, "apt-get", "download", "-qq", "-c", a.config, pkg+"="+version)
	cmd.Dir = dir
	if err := debian.Do(ctx, cmd); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return "", err
	}
	if len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s=%s: %d packages came", pkg, version, len(debs))
	}
	return debs[0], nil
}

// clean removes what need not be kept for the next update.
func (a *apt) clean() { os.RemoveAll(filepath.Join(a.dir, "cache")) }
