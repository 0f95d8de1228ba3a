package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/debian"
	"github.com/hotplugtest/hotplugtest/internal/filelock"
)

// sound is the first QEMU that emulates several CPUs well enough: deba78709ae8
// ("accel/tcg: Always lock pages before translation", 8.1). Before it, a CPU
// can keep a translation of code that another one is just changing, and a
// kernel changes its own all the time: it panics at a breakpoint nobody set, or
// hangs when it freezes its tasks. It is also the first that takes input-path
// for a file.
var sound = version{8, 1}

type version struct{ major, minor int }

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// versionPattern matches what starts with a version, be it Debian's with an
// epoch.
var versionPattern = regexp.MustCompile(`^(?:\d+:)?(\d+)\.(\d+)`)

func parseVersion(text string) (v version, ok bool) {
	m := versionPattern.FindStringSubmatch(text)
	if m == nil {
		return v, false
	}
	v.major, _ = strconv.Atoi(m[1])
	v.minor, _ = strconv.Atoi(m[2])
	return v, true
}

// Emulator returns the path of QEMU's system emulator for an architecture, by
// the name that Go has for that. If QEMU is missing, Emulator installs it by
// APT as root, and says so on log.
func Emulator(ctx context.Context, goarch string, log io.Writer) (string, error) {
	m, ok := machines[goarch]
	if !ok {
		return "", fmt.Errorf("there is no virtual machine for %s, only for %s", goarch, strings.Join(Architectures(), ", "))
	}
	return m.find(ctx, log)
}

// find returns the path of the emulator. Where it is missing it is installed,
// if this is root on a machine with APT. One that is not sound is an error: it
// is not ours to replace.
func (m machine) find(ctx context.Context, log io.Writer) (string, error) {
	_, noAPT := exec.LookPath("apt-get")
	root := os.Geteuid() == 0
	if root && noAPT == nil {
		// Another one may be installing it: then not all of it need be there.
		unlock, err := filelock.Lock(ctx, installLock)
		if ctx.Err() != nil {
			return "", err
		}
		if err == nil { // where nobody can write, nobody installs
			defer unlock()
		}
	}
	path, err := exec.LookPath(m.qemu)
	switch {
	case err == nil:
		return path, m.check(ctx, path)
	case noAPT != nil:
		return "", fmt.Errorf("%s is not installed, and there is no apt-get to install it with: install QEMU by other means", m.qemu)
	case !root:
		return "", fmt.Errorf("%s is not installed: run sudo apt-get install %s (%d.%d or newer, if there is), or this as root, which does so", m.qemu, m.pkg, sound.major, sound.minor)
	}
	fmt.Fprintf(log, "vm: installing %s\n", m.pkg)
	if err := install(ctx, m.pkg); err != nil {
		return "", err
	}
	if path, err = exec.LookPath(m.qemu); err != nil {
		return "", err
	}
	return path, m.check(ctx, path) // the release may have no newer one
}

// installLock has those who may install a QEMU take turns.
var installLock = "/run/hotplugtest-install.lock"

// install installs a package of QEMU's, from the release's backports if its own
// is too old and those are newer. APT's lists and packages stay as they are, and
// whoever uses them meanwhile is not in the way: these are in a directory of
// their own. For dpkg it waits.
func install(ctx context.Context, pkg string) error {
	dir, err := os.MkdirTemp("", "vm-apt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, err := ownFiles(dir)
	if err != nil {
		return err
	}
	if _, err := apt(ctx, "apt-get", append([]string{"update"}, own...)...); err != nil {
		return err
	}
	shown, err := apt(ctx, "apt-cache", append([]string{"show", "--no-all-versions", pkg}, own...)...)
	if err != nil {
		return err
	}
	options := append([]string{"install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"}, own...)
	if release := codename(); release != "" && tooOld(shown) {
		if sources, err := backports(ctx, dir, release, own); err == nil {
			options = append(options, sources...)
			options = append(options, "-t", release+"-backports")
		}
	}
	_, err = apt(ctx, "apt-get", append(options, pkg)...)
	return err
}

// ownFiles returns the options by which APT has its lists and what it downloads
// in dir.
func ownFiles(dir string) ([]string, error) {
	lists, archives := filepath.Join(dir, "lists"), filepath.Join(dir, "archives")
	for _, d := range []string{lists, archives} {
		if err := os.MkdirAll(filepath.Join(d, "partial"), 0o755); err != nil {
			return nil, err
		}
	}
	// APT reads them as another user.
	return []string{
		"-o", "Dir::State::lists=" + lists, "-o", "Dir::Cache::archives=" + archives, "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
	}, os.Chmod(dir, 0o755)
}

// tooOld tells whether a package, as apt-cache shows it, is of a QEMU that is
// not sound.
func tooOld(shown string) bool {
	for line := range strings.Lines(shown) {
		if text, ok := strings.CutPrefix(line, "Version: "); ok {
			v, ok := parseVersion(text)
			return ok && v.before(sound)
		}
	}
	return false
}

// codename is the name of this machine's Debian release, or "".
func codename() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	var id, name string
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.Trim(value, `"`); key {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			name = value
		}
	}
	if id != "debian" {
		return ""
	}
	return name
}

// backports returns the options by which APT knows of the release's backports
// beside its own sources, which stay as they are: these are of their own, in dir.
func backports(ctx context.Context, dir, release string, own []string) ([]string, error) {
	mirror, err := debian.Mirror(ctx, release+"-backports")
	if err != nil {
		return nil, err
	}
	parts := filepath.Join(dir, "parts")
	if err := os.Mkdir(parts, 0o755); err != nil {
		return nil, err
	}
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if err := os.Symlink(file, filepath.Join(parts, filepath.Base(file))); err != nil {
				return nil, err
			}
		}
	}
	list := filepath.Join(dir, "backports.list")
	line := fmt.Sprintf("deb [target=Packages %s] %s %s-backports main\n", debian.SignedBy(), mirror, release)
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return nil, err
	}
	sources := []string{"-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=" + parts}
	_, err = apt(ctx, "apt-get", slices.Concat([]string{"update", "-o", "APT::Update::Error-Mode=any"}, own, sources)...)
	return sources, err
}

// apt runs a command of APT's and returns what it printed.
func apt(ctx context.Context, name string, args ...string) (string, error) {
	cmd := debian.Command(ctx, name, append([]string{args[0], "-qq"}, args[1:]...)...)
	var out strings.Builder
	cmd.Stdout = &out
	// An interrupt is APT's to judge: in the midst of dpkg's work it goes on.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = 0
	err := debian.Do(ctx, cmd)
	return out.String(), err
}

// check returns an error if the emulator is not sound.
func (m machine) check(ctx context.Context, emulator string) error {
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", emulator, err)
	}
	text, _ := strings.CutPrefix(string(out), "QEMU emulator version ")
	v, ok := parseVersion(text)
	if !ok || !v.before(sound) {
		return nil
	}
	advice := "install a newer QEMU"
	if release := codename(); release != "" {
		advice = fmt.Sprintf("if APT has the source %s-backports, run sudo apt-get install -t %[1]s-backports %s; or remove it and run this as root, which installs a newer one if there is any", release, m.pkg)
	}
	return fmt.Errorf("%s is QEMU %d.%d, which may run code from before the kernel has changed it, and takes no input-path: %d.%d or newer is needed: %s",
		emulator, v.major, v.minor, sound.major, sound.minor, advice)
}
