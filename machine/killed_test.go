package machine

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// guarded is this binary as a process that changes the machine under a guard
// until it is killed.
func guarded() {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	_, err := Guard(os.Stderr)
	check(err)
	h, err := cpuset.New("/")
	check(err)
	_, err = h.EnableController()
	check(err)
	home, err := h.Root().Create(leftoverPrefix + strconv.Itoa(os.Getpid()))
	check(err)
	check(home.AttachProcess(0))
	_ = write("/sys/power/pm_test", "core") // where the kernel has it
	check(trace())
	sys, err := cpuhp.New("/")
	check(err)
	hotpluggable, _, err := sys.Hotpluggable()
	check(err)
	os.Stdout.WriteString("changed\n")
	for {
		for _, online := range []bool{false, true} {
			for cpu := range hotpluggable.All() {
				if err := sys.SetOnline(cpu, online); !errors.Is(err, unix.EBUSY) {
					check(err)
				}
			}
		}
	}
}

// trace traces in an instance until this process ends, if the kernel can.
func trace() error {
	f, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		return nil
	} else if err != nil {
		return err
	}
	i, err := f.Create(leftoverPrefix+strconv.Itoa(os.Getpid()), nil)
	if err != nil {
		return err
	}
	return errors.Join(i.Enable("sched:sched_switch", ""), i.Start())
}

// The process is killed while it takes CPUs offline and online, with itself in
// a cgroup that is to be removed.
func TestKernelSupervisor(t *testing.T) {
	skipUnlessOurs(t)
	// The test of another package may have changed something.
	unlock, err := Lock(t.Output())
	require.NoError(t, err)
	before, err := Take("/")
	require.NoError(t, err)
	require.NoError(t, unlock())
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGINT, unix.SIGQUIT, unix.SIGKILL, unix.SIGKILL} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "GUARDED=yes")
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			if _, err = io.ReadFull(out, make([]byte, len("changed\n"))); err != nil {
				said, _ := io.ReadAll(stderr)
				t.Fatalf("%v; it said:\n%s", err, said)
			}
			require.NoError(t, cmd.Process.Signal(signal))
			killed := time.Now()

			unlock, err := Lock(io.Discard)
			require.NoError(t, err)
			took := time.Since(killed)
			diffs, err := before.Compare()
			require.NoError(t, err)
			assert.Empty(t, sprint(ours(diffs)))
			require.NoError(t, unlock())
			said, err := io.ReadAll(stderr)
			require.NoError(t, err)
			_ = cmd.Wait()
			assert.Contains(t, string(said), "hotplugtest: the machine is as it was\n")
			t.Logf("restored after %v:\n%s", took, said)
		})
	}
}

// Both the process and its supervisor are killed: the next run restores the
// machine before it begins, and says so.
func TestKernelBothKilled(t *testing.T) {
	skipUnlessOurs(t)
	before, err := Take("/")
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "GUARDED=yes")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("changed\n")))
	require.NoError(t, err)
	require.NoError(t, unix.Kill(child(t, cmd.Process.Pid), unix.SIGKILL))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	diffs, err := before.Compare()
	require.NoError(t, err)
	require.NotEmpty(t, diffs, "nothing was left changed")

	var log strings.Builder
	release, err := Guard(&log)
	require.NoError(t, err)
	diffs, err = before.Compare()
	assert.NoError(t, err)
	assert.Empty(t, sprint(ours(diffs)))
	assert.Contains(t, log.String(), "hotplugtest: process "+strconv.Itoa(cmd.Process.Pid)+" was killed together with its supervisor, and left the machine changed:\n")
	assert.Contains(t, log.String(), "hotplugtest-"+strconv.Itoa(cmd.Process.Pid)+" is left over, was absent\n")
	assert.NoError(t, release())
	assert.NoError(t, Recover(&log))
	assert.Equal(t, 1, strings.Count(log.String(), "left the machine changed"), "the snapshot is not gone: %s", log.String())
}

// What another process changes during a run is there at the end, and what the
// process of the run changes is not.
func TestKernelOthers(t *testing.T) {
	skipUnlessOurs(t)
	if balanced() {
		t.Skip("irqbalance runs, and may move the interrupts of this test")
	}
	sys, cpu := lastCPU(t)
	var irqs []IRQ
	s, err := Take("/")
	require.NoError(t, err)
	for _, irq := range s.IRQs {
		if write(maskFile(irq.Number), irq.CPUs) == nil {
			irqs = append(irqs, irq)
		}
	}
	require.GreaterOrEqual(t, len(irqs), 2, "IRQs that can be moved")
	theirs, ours := maskFile(irqs[0].Number), maskFile(irqs[1].Number)
	// No guard puts back what is done as others do it. A CPU that goes takes the
	// interrupts that are pinned to it along.
	t.Cleanup(func() {
		assert.NoError(t, write(theirs, irqs[0].CPUs))
		assert.NoError(t, s.Restore())
	})

	var log strings.Builder
	release, err := Guard(&log)
	require.NoError(t, err)
	require.NoError(t, write(ours, "1"))
	otherWrites(t, theirs, "1")
	require.NoError(t, release())
	for path, want := range map[string]string{theirs: "1", ours: irqs[1].CPUs} {
		cpus, err := read(path)
		require.NoError(t, err)
		assert.Equal(t, want, strings.TrimSpace(cpus), path)
	}
	assert.Contains(t, log.String(), "hotplugtest: at the end of the run this is put back:\n  "+irqs[1].label()+" is 1, was "+irqs[1].CPUs+"\n")
	assert.NotContains(t, log.String(), irqs[0].label())

	release, err = Guard(t.Output())
	require.NoError(t, err)
	otherWrites(t, "/sys/devices/system/cpu/cpu"+strconv.Itoa(cpu)+"/online", "0")
	// Before that a CPU that is taken online again looks as if nobody had.
	require.Eventually(t, func() bool {
		r, err := stored("/")
		return err == nil && r != nil && !cpuList(r.Snapshot.Online).Has(cpu)
	}, 10*time.Second, time.Millisecond, "the supervisor has not seen it")
	require.NoError(t, sys.SetOnline(cpu, true))
	require.NoError(t, release())
	online, err := sys.IsOnline(cpu)
	require.NoError(t, err)
	assert.False(t, online, "somebody had taken it offline")
	require.NoError(t, sys.SetOnline(cpu, true))
}
