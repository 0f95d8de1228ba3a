package debian

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
)

// An APT is APT with a suite, state and cache of its own, beside the machine's:
// that one's sources, package lists and hooks are left alone; its proxy,
// credentials and keys are used.
type APT struct {
	Mirror string // its URI

	dir, config, suite string
}

// NewAPT sets APT up for a suite and an architecture, by Debian's name for that,
// below dir. The error wraps [ErrNoMirror] if there is nothing to take packages
// from.
func NewAPT(ctx context.Context, dir, suite, arch string) (*APT, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, fmt.Errorf("%w: no apt-get here", ErrNoMirror)
	}
	mirror, err := Mirror(ctx, suite)
	if err != nil {
		return nil, err
	}
	a := &APT{Mirror: mirror, dir: dir, config: filepath.Join(dir, "apt.conf"), suite: suite}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("arch=%s target=Packages lang=none %s", arch, SignedBy())
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

// Update gets the suite's package lists from the mirror.
func (a *APT) Update(ctx context.Context) error {
	err := Run(ctx, io.Discard, "apt-get", "update", "-qq", "-c", a.config)
	var e *CommandError
	if errors.As(err, &e) && strings.Contains(e.Stderr, "does not have a Release file") {
		os.RemoveAll(a.dir)
		return fmt.Errorf("neither a file nor a Debian suite that %s has", a.Mirror)
	}
	return err
}

// Show returns what the mirror says of a package: its stanza.
func (a *APT) Show(ctx context.Context, name string) (string, error) {
	var out bytes.Buffer
	err := Run(ctx, &out, "apt-cache", "show", "--no-all-versions", "-c", a.config, name)
	var e *CommandError
	if errors.As(err, &e) && strings.Contains(e.Stderr, "No packages found") {
		return "", fmt.Errorf("%s has no %s in %s", a.Mirror, name, a.suite)
	}
	return out.String(), err
}

// Download gets a package, as NAME or NAME=VERSION, whose signature APT checks.
// It returns its path, which is valid until Clean.
func (a *APT) Download(ctx context.Context, pkg string) (string, error) {
	dir := filepath.Join(a.dir, "cache", "deb")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return "", err
	}
	cmd := Command(ctx, "apt-get", "download", "-qq", "-c", a.config, pkg)
	cmd.Dir = dir
	if err := Do(ctx, cmd); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return "", err
	}
	if len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s: %d packages came", pkg, len(debs))
	}
	return debs[0], nil
}

// Clean removes what need not be kept for the next update.
func (a *APT) Clean() { os.RemoveAll(filepath.Join(a.dir, "cache")) }
