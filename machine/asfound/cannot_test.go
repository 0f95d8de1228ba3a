package found_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// A place is one that the suite cannot run in, or not all of it.
type place struct {
	name    string
	prepare func(t *testing.T)  // on the machine
	process syscall.SysProcAttr // what the suite's process is
	// what it does to be there; a space of its own keeps that from others
	enter   []func() error
	env     string // what it has in its environment
	run     string // the tests to run; default: all
	skipped string // what is skipped; default: all
	reason  string // why, a regular expression
}

// ofNobody is a user namespace whose root is the user nobody outside.
var ofNobody = syscall.SysProcAttr{
	Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
	UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
	GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
	Credential:  &syscall.Credential{NoSetGroups: true},
}

var places = []place{
	{
		name:    "an ordinary user",
		process: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}},
		reason:  `not root: taking CPUs offline needs it; run with sudo`,
	},
	{
		name: "a container of an ordinary user's", process: ofNobody, enter: []func() error{readOnly("/sys")},
		reason: `/sys is mounted read-only`,
	},
	{
		name: "a container of an ordinary user's, with a writable sysfs", process: ofNobody,
		reason: `/sys/devices/system/cpu/cpu\d+/online cannot be written: permission denied \(is this a container with a read-only /sys\?\)`,
	},
	{
		name: "a container of root's", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}, enter: []func() error{ownProc},
		env:    "container=lxc",
		reason: `this is a container \(container=lxc in the environment of process 1\): its CPUs are the host's`,
	},
	{
		name: "root without CAP_SYS_ADMIN", enter: []func() error{drop(unix.CAP_SYS_ADMIN)},
		reason: `this process has no CAP_SYS_ADMIN: not root, or in a container`,
	},
	{
		name: "a read-only sysfs", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, enter: []func() error{readOnly("/sys")},
		reason: `/sys is mounted read-only`,
	},
	{
		name: "root without CAP_SYS_NICE", enter: []func() error{drop(unix.CAP_SYS_NICE)},
		reason: `this process has no CAP_SYS_NICE: threads of others could not be given back the CPUs that they were pinned to`,
	},
	{
		name: "a read-only /proc/irq", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, enter: []func() error{readOnly("/proc/irq")},
		reason: `machine: what has to be restored cannot be written: /proc/irq/\d+/smp_affinity_list: EROFS \(read-only file system\)`,
	},
	{
		name: "read-only cgroups", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, enter: []func() error{readOnly("/sys/fs/cgroup")},
		reason: `machine: what has to be restored cannot be written: /sys/fs/cgroup/?\S*: EROFS \(read-only file system\)`,
	},
	{
		name: "a read-only /run", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, enter: []func() error{readOnly("/run")},
		reason: `machine: what has to be restored cannot be written: open /run/hotplugtest.lock: EROFS \(read-only file system\)`,
	},
	{
		name: "one CPU", prepare: oneCPU,
		reason: `only CPU 0 is online: there is none that could be taken offline`,
	},
	{
		name: "a host of cgroup v1 cpusets", prepare: v1Host,
		reason: `/\S+/tenant is a cpuset of cgroup v1 that has tasks, which would lose each CPU that goes offline until the end: give CPUs that may with -cpus`,
	},
	{
		name: "no cgroups", process: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, enter: []func() error{noCgroups},
		run: "TestSuite/Online/at-return/^affinity$", skipped: "TestSuite/Online/at-return/affinity/child-cpuset",
		reason: `cpuset: no cpuset controller: .*`,
	},
}

// Each time it says why, in one line, and is a success; where it is required to
// run it is none.
func TestCannotRun(t *testing.T) {
	needVM(t)
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			if p.prepare != nil {
				p.prepare(t)
			}
			if p.run == "" {
				p.run, p.skipped = "TestSuite", "TestSuite"
			}
			code, said := p.suite(t, "-test.run="+p.run)
			assert.Equal(t, 0, code, said)
			assert.Regexp(t, `(?m)^ +\w+\.go:\d+: `+p.reason+`\n(.*\n)*? *--- SKIP: `+p.skipped+` \(`, said)

			code, said = p.suite(t, "-test.run="+p.run, "-require=.")
			assert.Equal(t, 1, code, said)
			assert.Regexp(t, `(?m)^ +\w+\.go:\d+: cannot run, but is required: `+p.reason+`\n(.*\n)*? *--- FAIL: `+p.skipped+` \(`, said)
		})
	}
}

// suite runs the suite in the place.
func (p *place) suite(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := suite(args...)
	process := p.process
	cmd.SysProcAttr = &process
	if p.env != "" {
		cmd.Env = append(cmd.Env, p.env)
	}
	cmd.Env = append(cmd.Env, enterEnv+"="+p.name)
	return run(t, cmd)
}

// enter makes this process the suite in a place. It returns only with an error.
func enter(name string) error {
	at := slices.IndexFunc(places, func(p place) bool { return p.name == name })
	if at < 0 {
		return fmt.Errorf("no place %q", name)
	}
	// What a capability is dropped from is a thread.
	runtime.LockOSThread()
	if places[at].process.Cloneflags&unix.CLONE_NEWNS != 0 {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("making mounts private: %w", err)
		}
	}
	for _, f := range places[at].enter {
		if err := f(); err != nil {
			return err
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, enterEnv+"=") })
	return unix.Exec("/proc/self/exe", os.Args, env)
}

// readOnly mounts a directory read-only, as units of systemd have it.
func readOnly(dir string) func() error {
	return func() error {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
		return os.NewSyscallError("remount "+dir, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
}

func ownProc() error {
	return os.NewSyscallError("mount /proc", unix.Mount("proc", "/proc", "proc", 0, ""))
}

func noCgroups() error {
	return os.NewSyscallError("unmount cgroups", unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH))
}

// drop takes a capability from all that this thread executes.
func drop(capability uintptr) func() error {
	return func() error {
		return os.NewSyscallError("prctl(PR_CAPBSET_DROP)", unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0))
	}
}

// oneCPU takes all CPUs offline but the first, on a machine that has more.
func oneCPU(t *testing.T) {
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	others := online.Without(0)
	setAll(t, others, false)
	t.Cleanup(func() { setAll(t, others, true) })
}

// v1Host puts a process into a cpuset of cgroup v1.
func v1Host(t *testing.T) {
	h := mountV1(t)
	set := create(t, h, "tenant", 0)
	pid := process(t, "sleeps", affinity.CPUSet{})
	require.NoError(t, set.AttachProcess(pid))
	t.Cleanup(func() { assert.NoError(t, h.Root().AttachProcess(pid)) })
}
