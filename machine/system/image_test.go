package system_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/debian"
	"github.com/hotplugtest/hotplugtest/vm"
)

// An image is what the guest boots from. Its disks are never written: each boot
// has overlays of its own.
type image struct {
	dir      string // disk.raw, vmlinuz, initrd, and the key to log in with
	home     string // the file system of /home
	emulator string
}

// tools are the programs that are needed here, and Debian's packages of them.
var tools = []struct{ program, pkg string }{
	{"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}, {"qemu-img", "qemu-utils"},
	{"ssh", "openssh-client"}, {"scp", "openssh-client"}, {"ssh-keygen", "openssh-client"}, {"git", "git"}, {"unshare", "util-linux"},
}

// disks makes the system's disks. The one that takes minutes, with Debian on
// it, is kept in the cache for as long as nothing changes that it is made of.
func disks(t *testing.T) *image {
	t.Helper()
	require.Zero(t, os.Geteuid(), "not root: building a Debian system needs it")
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	top := filepath.Join(cache, "hotplugtest", "system")
	require.NoError(t, os.MkdirAll(top, 0o755))
	installTools(t)
	i := &image{dir: filepath.Join(top, *suite+"-"+recipe(t)), home: filepath.Join(t.TempDir(), "home.raw")}
	i.emulator, err = vm.Emulator(t.Context(), runtime.GOARCH, os.Stderr)
	require.NoError(t, err)

	// Two that run side by side must not build the same.
	lock, err := os.Create(i.dir + ".lock")
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	if complete := filepath.Join(i.dir, "complete"); !exists(complete) {
		require.NoError(t, os.RemoveAll(i.dir))
		require.NoError(t, os.MkdirAll(i.dir, 0o700))
		command(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(i.dir, "key"))
		mirror, err := debian.Mirror(t.Context(), *suite)
		require.NoError(t, err)
		command(t, fmt.Sprintf("building a system of Debian %s, which takes minutes and is kept in %s", *suite, i.dir),
			"./root.sh", *suite, mirror, i.dir)
		require.NoError(t, os.WriteFile(complete, nil, 0o644))
	}
	now := time.Now()
	require.NoError(t, os.Chtimes(filepath.Join(i.dir, "complete"), now, now))
	command(t, "cloning the checkout, and compiling what the guest need not",
		"./home.sh", *checkout, i.dir, i.home)
	discardOld(t, top)
	return i
}

// recipe is the hash of what a disk is made of, but for Debian itself.
func recipe(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	fmt.Fprintln(sum, *suite, runtime.Version())
	add := func(path string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		fmt.Fprintf(sum, "%s %d %s\n", path, len(data), data)
	}
	add("root.sh")
	require.NoError(t, filepath.WalkDir("testdata/root", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			add(path)
		}
		return err
	}))
	return fmt.Sprintf("%x", sum.Sum(nil))[:12]
}

// discardOld removes disks that have not been used for a month.
func discardOld(t *testing.T, top string) {
	t.Helper()
	marks, err := filepath.Glob(filepath.Join(top, "*", "complete"))
	require.NoError(t, err)
	for _, mark := range marks {
		if fi, err := os.Stat(mark); err == nil && time.Since(fi.ModTime()) > 30*24*time.Hour {
			require.NoError(t, os.RemoveAll(filepath.Dir(mark)))
		}
	}
}

// installTools installs what is missing by APT.
func installTools(t *testing.T) {
	t.Helper()
	var missing []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool.program); err != nil {
			missing = append(missing, tool.pkg)
		}
	}
	if len(missing) == 0 {
		return
	}
	command(t, "installing "+strings.Join(missing, ", "), "apt-get", "-qq", "update")
	command(t, "", "apt-get", append([]string{"-qq", "install", "--yes", "--no-install-recommends"}, missing...)...)
}

// command runs a program here, which ends with this thread, and says what for.
// Its output shows if it fails.
func command(t *testing.T, what, name string, args ...string) {
	t.Helper()
	if what != "" {
		fmt.Println("====", what)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	// Its traps must run.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	started := time.Now()
	require.NoError(t, cmd.Run(), "%s %s:\n%s", name, strings.Join(args, " "), &out)
	if what != "" {
		fmt.Printf("     took %v\n", time.Since(started).Round(time.Second))
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
