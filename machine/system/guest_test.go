package system_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/tsc"
)

// A guest is a booted system.
type guest struct {
	image   *image
	dir     string // of its overlays and sockets
	console string // what it writes to its serial line
	port    int    // here, of its sshd
	qemu    *exec.Cmd
	ended   chan struct{} // closed when QEMU has ended
	masters []*exec.Cmd   // the connections that commands share
}

// bootLimit is for four emulated CPUs on two busy ones, which take a minute.
const bootLimit = 6 * time.Minute

// boot starts the system anew, from the image. The caller must be locked to its
// thread, which QEMU ends with.
func (i *image) boot(t *testing.T) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "system-")
	require.NoError(t, err)
	g := &guest{image: i, dir: dir, console: filepath.Join(dir, "console.log"), port: freePort(t), ended: make(chan struct{})}
	for name, disk := range map[string]string{"root": filepath.Join(i.dir, "disk.raw"), "home": i.home} {
		command(t, "", "qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", filepath.Join(dir, name))
	}
	g.qemu = exec.Command(i.emulator, g.arguments()...)
	g.qemu.Stderr = os.Stderr
	g.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	fmt.Printf("==== booting %s\n", *suite)
	started := time.Now()
	require.NoError(t, g.qemu.Start())
	go func() {
		_ = g.qemu.Wait()
		close(g.ended)
	}()
	g.up(t)
	g.install(t)
	fmt.Printf("     took %v; log in with\n     %s\n", time.Since(started).Round(time.Second), g.login("root"))
	return g
}

// arguments are QEMU's. The devices are such as a driver takes several MSI or
// MSI-X interrupts for, which it gives back before a suspend: the numbers move.
// QEMU's user network has one queue, so for a network card with several there
// is igb, which has them in the device.
//
// All CPUs are emulated in one thread. With one for each, QEMU 10.0 died of
// "iotlb_to_section: Assertion" in two suspends of one run: a CPU reads a
// device's memory while another one takes the device's addresses away. It is no
// slower here.
func (g *guest) arguments() []string {
	args := []string{
		"-machine", "q35", "-cpu", "max,vendor=GenuineIntel,family=6,model=54,-monitor", "-accel", "tcg,thread=single",
		"-smp", "4", "-m", "3G", "-nodefaults", "-no-user-config", "-display", "none",
		"-kernel", filepath.Join(g.image.dir, "vmlinuz"), "-initrd", filepath.Join(g.image.dir, "initrd"),
		"-append", strings.Join(append([]string{"root=/dev/vda rw console=ttyS0 no_console_suspend no_timer_check tsc=nowatchdog", tsc.BootArg()}, hierarchy()...), " "),
		"-serial", "file:" + g.console,
		"-netdev", fmt.Sprintf("user,id=ssh,net=10.0.2.0/24,restrict=on,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:22", g.port),
		"-device", "virtio-net-pci,netdev=ssh",
		"-netdev", "user,id=queues,net=10.0.3.0/24,restrict=on", "-device", "igb,netdev=queues",
		"-drive", "driver=null-co,size=1G,read-zeroes=on,if=none,id=nvme", "-device", "nvme,drive=nvme,serial=1",
		"-device", "virtio-rng-pci",
	}
	for _, name := range []string{"root", "home"} {
		args = append(args, "-drive", fmt.Sprintf("file=%s,if=none,id=%s,cache=unsafe", filepath.Join(g.dir, name), name),
			"-device", "virtio-blk-pci,num-queues=4,drive="+name)
	}
	return args
}

// hierarchy is what makes systemd use cgroup v1 for its controllers.
func hierarchy() []string {
	if !*hybrid {
		return nil
	}
	return []string{"systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=0"}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// up waits until the guest has booted, its tenants have moved in, and it lets
// the user in.
func (g *guest) up(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(bootLimit); ; {
		g.connect()
		out, code := g.run(t, "root", readyScript)
		if code == 0 {
			return
		}
		select {
		case <-g.ended:
			t.Fatalf("QEMU has ended before the guest was up:\n%s", tail(g.said()))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest was not up within %v: status %d: %s\n%s", bootLimit, code, out, tail(g.said()))
		}
	}
}

// readyScript ends with status 0 when the system has started all that it
// starts.
const readyScript = `
state=$(systemctl is-system-running --wait)
[ "$state" = running ] || { echo "$state"; systemctl --no-legend --failed; exit 1; }
for try in 1 2 3 4 5 6 7 8 9 10; do
	podman container inspect -f '{{.State.Running}}' tenant 2>/dev/null | grep -qx true && exec systemctl is-active --quiet 'tenant-*'
done
echo 'the container does not run'; exit 1`

// install brings the programs of this checkout into the guest.
func (g *guest) install(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	g.copy(t, self, "root", "system.test")
	for _, user := range []string{"root", "qa"} {
		g.copy(t, *binary, user, "hotplugtest.test")
	}
}

// stop ends the guest as a power failure does.
func (g *guest) stop() {
	g.disconnect()
	_ = g.qemu.Process.Kill()
	<-g.ended
	os.RemoveAll(g.dir)
}

// reboot has the guest boot again, with its disks as they are.
func (g *guest) reboot(t *testing.T) {
	t.Helper()
	id := g.must(t, "root", "cat /proc/sys/kernel/random/boot_id")
	_, _ = g.run(t, "root", "systemctl reboot")
	for deadline := time.Now().Add(bootLimit); ; {
		g.connect()
		if now, code := g.run(t, "root", "cat /proc/sys/kernel/random/boot_id"); code == 0 && now != id {
			break
		}
		require.True(t, time.Now().Before(deadline), "the guest did not reboot:\n%s", tail(g.said()))
	}
	g.up(t)
}

// standsStill reports whether the guest lets nobody in any more.
func (g *guest) standsStill(t *testing.T) bool {
	_, code := g.run(t, "root", "true")
	return code == noConnection
}

// said is what the guest has written to its console.
func (g *guest) said() string {
	text, err := os.ReadFile(g.console)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// tail is the end of a console's text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-100):], "\n")
}

// shell gives the person at the terminal a shell in the guest.
func (g *guest) shell(t *testing.T) {
	t.Helper()
	cmd := g.ssh("root", "-t", "127.0.0.1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = cmd.Run() // its status is that of the last command there
}

// login is the command to log in with.
func (g *guest) login(user string) string {
	return "ssh " + strings.Join(g.options(), " ") + " -p " + strconv.Itoa(g.port) + " " + user + "@127.0.0.1"
}
