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
	"regexp"
	"strings"
	"time"
)

// keyring has the keys of Debian's archive; without it, those APT trusts serve.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

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
	mirror, err := Mirror(ctx)
	if err != nil {
		return nil, err
	}
	a := &apt{dir: dir, config: filepath.Join(dir, "apt.conf"), mirror: mirror, suite: suite}
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

// update gets the suite's package lists from the mirror.
func (a *apt) update(ctx context.Context) error {
	err := run(ctx, io.Discard, "apt-get", "update", "-qq", "-c", a.config)
	var e *commandError
	if errors.As(err, &e) && strings.Contains(e.stderr, "does not have a Release file") {
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
		err := run(ctx, &out, "apt-cache", "show", "--no-all-versions", "-c", a.config, name)
		var e *commandError
		if errors.As(err, &e) && strings.Contains(e.stderr, "No packages found") {
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
	cmd := command(ctx, "apt-get", "download", "-qq", "-c", a.config, pkg+"="+version)
	cmd.Dir = dir
	if err := wait(ctx, cmd); err != nil {
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

// SignedBy is the option of a line of APT's sources by which it takes the archive's signature, or "" where the keys that APT
// trusts anyway have to serve.
func SignedBy() string {
	if _, err := os.Stat(keyring); err != nil {
		return ""
	}
	return "signed-by=" + keyring
}

// Mirror returns the URI of the Debian mirror that this machine's APT uses.
func Mirror(ctx context.Context) (string, error) {
	// Only what the package lists are there for has an origin, or is named at
	// all in the first call. As root, APT would write its caches, if it had any.
	for _, extra := range []string{"--release-info", "--no-release-info"} {
		var out bytes.Buffer
		err := run(ctx, &out, "apt-get", "indextargets", extra, "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
			"--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)", "Created-By: Packages")
		if err != nil {
			return "", err
		}
		if uri := parseMirror(out.String()); uri != "" {
			return uri, nil
		}
	}
	return "", errors.New("APT has no Debian mirror in its sources here: give -kernel a path to a kernel image")
}

// mirrorPath ends the URI of a Debian mirror, or of a file that lists some.
var mirrorPath = regexp.MustCompile(`/debian(\.list)?/$`)

// parseMirror picks Debian's main archive among lines of URI|ORIGIN|LABEL|COMPONENT,
// by what it says it is, or else by its URI. It returns "" if it is not there.
func parseMirror(targets string) string {
	var guess string
	for line := range strings.Lines(targets) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 || f[3] != "main" {
			continue
		}
		switch uri, origin, label := f[0], f[1], f[2]; {
		case origin == "Debian" && label == "Debian":
			return uri
		case guess == "" && origin == "$(ORIGIN)" && mirrorPath.MatchString(uri):
			guess = uri
		}
	}
	return guess
}

// commandError is a command's failure.
type commandError struct {
	command string // and its first argument
	stderr  string
	err     error
}

// Error has the line of stderr that matters: APT's first error, or else the last.
func (e *commandError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("%s: %v", e.command, e.err)
	}
	lines := strings.Split(e.stderr, "\n")
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, "E: "); ok {
			return e.command + ": " + text
		}
	}
	return e.command + ": " + lines[len(lines)-1]
}

func (e *commandError) Unwrap() error { return e.err }

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second // for what a killed command leaves behind with its output open
	return cmd
}

// run runs a command with its output going to stdout. It fails with a
// *commandError, or with why ctx ended.
func run(ctx context.Context, stdout io.Writer, name string, args ...string) error {
	cmd := command(ctx, name, args...)
	cmd.Stdout = stdout
	return wait(ctx, cmd)
}

func wait(ctx context.Context, cmd *exec.Cmd) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		return nil
	}
	name := strings.Join(cmd.Args[:2], " ")
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	return &commandError{name, strings.TrimSpace(stderr.String()), err}
}
