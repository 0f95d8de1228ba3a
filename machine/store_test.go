package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// machineTree makes a machine of text files.
func machineTree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	write("sys/devices/system/cpu/online", "0-3\n")
	write("proc/sys/kernel/random/boot_id", "this-boot\n")
	for path, text := range files {
		write(path, text)
	}
	return root
}

func has(t *testing.T, root, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// otherWrites has another process write a file.
func otherWrites(t *testing.T, path, text string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, path, text)
	cmd.Env = append(os.Environ(), "WRITE_FILE=yes")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// left returns a machine that a killed run has left changed.
func left(t *testing.T) string {
	t.Helper()
	root := machineTree(t, map[string]string{
		"sys/power/pm_test":              "[none] core\n",
		"sys/class/rtc/rtc0/wakealarm":   "9000000000\n",
		"sys/class/rtc/rtc0/since_epoch": "1800000000\n",
	})
	s, err := Take(root)
	require.NoError(t, err)
	require.NoError(t, keep(root, 4242, s))
	for path, text := range map[string]string{"sys/power/pm_test": "none [core]\n", "sys/class/rtc/rtc0/wakealarm": "\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	return root
}

// keep writes the record of a run, process pid, of a machine.
func keep(root string, pid int, s *Snapshot) error {
	_, err := (&record{Boot: bootID(root), Process: pid, Snapshot: s}).store(root)
	return err
}

func TestRecover(t *testing.T) {
	root := left(t)
	var log strings.Builder
	// On a tree of text files the kernel's brackets do not come back.
	err := recoverAt(root, &log)
	assert.ErrorContains(t, err, "machine: not restored: /sys/power/pm_test is empty, was none\n"+
		"if that is as it should be, remove /var/lib/hotplugtest.snapshot and /run/hotplugtest.snapshot")
	assert.Equal(t, "none", has(t, root, "sys/power/pm_test"))
	assert.Equal(t, "9000000000", has(t, root, "sys/class/rtc/rtc0/wakealarm"))

	// It is tried again.
	require.NoError(t, os.WriteFile(filepath.Join(root, "sys/power/pm_test"), []byte("[none] core\n"), 0o644))
	require.NoError(t, recoverAt(root, &log))
	assert.Equal(t, `hotplugtest: process 4242 was killed together with its supervisor, and left the machine changed:
  /sys/power/pm_test is core, was none
  /sys/class/rtc/rtc0/wakealarm is empty, was 9000000000
hotplugtest: process 4242 was killed together with its supervisor; the machine is as it was
`, log.String())

	log.Reset()
	require.NoError(t, recoverAt(root, &log), "the snapshot is gone")
	assert.Empty(t, log.String())
}

// A reboot resets the kernel, not the clock's alarm.
func TestRecoverAfterReboot(t *testing.T) {
	root := left(t)
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"), []byte("the next\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/online"), []byte("0-1\n"), 0o644))
	var log strings.Builder
	require.NoError(t, recoverAt(root, &log))
	assert.Equal(t, `hotplugtest: process 4242 was killed, before a reboot, together with its supervisor, and left the machine changed:
  /sys/class/rtc/rtc0/wakealarm is empty, was 9000000000
hotplugtest: the machine is as it was
`, log.String())
	assert.Equal(t, "none [core]", has(t, root, "sys/power/pm_test"))
	assert.NoFileExists(t, filepath.Join(root, storePaths[0]))
}

func TestRecoverNoSnapshot(t *testing.T) {
	root := machineTree(t, nil)
	path := filepath.Join(root, storePaths[1])
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("text"), 0o600))
	err := recoverAt(root, nil)
	assert.EqualError(t, err, "machine: "+path+" is no snapshot (unexpected EOF): see that the machine is as it should be, and remove it")
	assert.FileExists(t, path)
}

// An interrupt that is gone keeps no later run from testing.
func TestRecoverLost(t *testing.T) {
	root := machineTree(t, map[string]string{"proc/irq/24/smp_affinity_list": "3\n"})
	s, err := Take(root)
	require.NoError(t, err)
	require.NoError(t, keep(root, 4242, s))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "proc/irq/24")))
	var log strings.Builder
	require.NoError(t, recoverAt(root, &log))
	assert.Contains(t, log.String(), "hotplugtest: this cannot be put back: /proc/irq/24/smp_affinity_list is gone, was 3\n")
	assert.NotContains(t, log.String(), restoredLine)
	r, err := stored(root)
	assert.NoError(t, err)
	assert.Nil(t, r)
}

// The kernel cannot open some files of /proc for this process once their writer
// has ended, and says so in the place of the event.
func TestWatchGoesOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: fanotify(7) needs CAP_SYS_ADMIN")
	}
	s, err := Take("/")
	require.NoError(t, err)
	w, err := watchOthers(s, func() {}, os.Getpid())
	require.NoError(t, err)
	defer w.close()
	for range 20 {
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(self, "/dev/null", "")
		cmd.Env = append(os.Environ(), "WRITE_FILE=yes")
		// This writes its uid_map, gid_map and setgroups.
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}
		w.mutex.Lock() // the events come late
		err = cmd.Run()
		w.mutex.Unlock()
		require.NoError(t, err)
		w.latest()
	}
	select {
	case <-w.ended:
		t.Error("it has ended")
	default:
	}
}

// A file that the tests write as well may have their value by now.
func TestWatchOfBoth(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: fanotify(7) needs CAP_SYS_ADMIN")
	}
	const online = "sys/devices/system/cpu/cpu3/online"
	root := machineTree(t, map[string]string{online: "1\n"})
	s, err := Take(root)
	require.NoError(t, err)
	w, err := watchOthers(s, func() {}, os.Getpid())
	require.NoError(t, err)
	defer w.close()
	w.mutex.Lock() // it comes late
	otherWrites(t, filepath.Join(root, online), "1")
	require.NoError(t, os.WriteFile(filepath.Join(root, online), []byte("0\n"), 0o644))
	w.mutex.Unlock()
	assert.Equal(t, "0-3", w.latest().Online)
}

// Of two places the first is taken that can be written.
func TestStoreElsewhere(t *testing.T) {
	root := machineTree(t, map[string]string{"var": "this is no directory"})
	s, err := Take(root)
	require.NoError(t, err)
	require.NoError(t, keep(root, 1, s))
	assert.FileExists(t, filepath.Join(root, storePaths[1]))
	r, err := stored(root)
	require.NoError(t, err)
	assert.Equal(t, 1, r.Process)

	require.NoError(t, os.RemoveAll(filepath.Join(root, "run")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "run"), nil, 0o644))
	err = keep(root, 1, s)
	assert.ErrorIs(t, err, unix.ENOTDIR)
	assert.ErrorContains(t, err, "/var: ")
	assert.ErrorContains(t, err, "/run: ")
}

// readOnlyVar has /var of a machine of text files refuse all writes until rw is
// called.
func readOnlyVar(t *testing.T, root string) (rw func()) {
	t.Helper()
	inTheWay := filepath.Join(root, storePaths[0]+".new")
	require.NoError(t, os.Mkdir(inTheWay, 0o755))
	remove = func(path string) error {
		if strings.HasPrefix(path, filepath.Join(root, "var")) {
			return &os.PathError{Op: "remove", Path: path, Err: unix.EROFS}
		}
		return os.Remove(path)
	}
	rw = func() {
		remove = os.Remove
		require.NoError(t, os.RemoveAll(inTheWay))
	}
	t.Cleanup(rw)
	return rw
}

// A record that can be neither changed nor removed any more is not restored.
func TestStoreOnVarThatBecomesReadOnly(t *testing.T) {
	const governor = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
	root := machineTree(t, map[string]string{governor: "schedutil\n"})
	s, err := Take(root)
	require.NoError(t, err)
	r := &record{Boot: bootID(root), Process: 1, Snapshot: s}
	path, err := r.store(root)
	require.NoError(t, err)
	require.Equal(t, storePaths[0], path)

	rw := readOnlyVar(t, root)
	var log strings.Builder
	for _, value := range []string{"performance", "powersave"} {
		governors.set(s, "/"+governor, value)
		path = r.update(path, &log)
		got, err := stored(root)
		require.NoError(t, err)
		assert.Equal(t, value, got.Snapshot.Settings[governors.name]["/"+governor], "the newer record counts")
	}
	assert.Equal(t, "hotplugtest: the record of this run is now in /run/hotplugtest.snapshot\n", log.String(), "it is said once")

	// The run ends. The next one has nothing to restore, nor has the one after
	// that.
	for pid := 2; pid < 4; pid++ {
		require.NoError(t, unstore(root))
		log.Reset()
		require.NoError(t, recoverAt(root, &log))
		assert.Empty(t, log.String())
		require.FileExists(t, filepath.Join(root, storePaths[0]))
		require.NoError(t, keep(root, pid, s))
		got, err := stored(root)
		require.NoError(t, err)
		assert.Equal(t, pid, got.Process)
	}

	rw()
	assert.Equal(t, storePaths[0], r.update(storePaths[1], &log))
	assert.NoFileExists(t, filepath.Join(root, storePaths[1]))
	require.NoError(t, unstore(root))
	assert.NoFileExists(t, filepath.Join(root, storePaths[0]))
	assert.NoFileExists(t, filepath.Join(root, storePaths[1]))
}

// What can be kept nowhere any more is said in a line, once.
func TestStoreNowhere(t *testing.T) {
	root := machineTree(t, nil)
	s, err := Take(root)
	require.NoError(t, err)
	r := &record{Boot: bootID(root), Process: 1, Snapshot: s}
	path, err := r.store(root)
	require.NoError(t, err)
	readOnlyVar(t, root)
	require.NoError(t, os.MkdirAll(filepath.Join(root, storePaths[1]+".new"), 0o755))
	var log strings.Builder
	for range 3 {
		path = r.update(path, &log)
	}
	assert.Equal(t, "hotplugtest: /var/lib/hotplugtest.snapshot cannot be written any more: if this run and its supervisor are killed, "+
		"what others have changed since will be undone: machine: open "+root+"/var/lib/hotplugtest.snapshot.new: EISDIR (is a directory); "+
		"machine: open "+root+"/run/hotplugtest.snapshot.new: EISDIR (is a directory)\n", log.String())
	assert.ErrorIs(t, unstore(root), unix.EROFS, "nothing can say that it does not count")
}

// What others write goes into the snapshot, whatever it is.
func TestAdopt(t *testing.T) {
	const cpus = "sys/devices/system/cpu/"
	root := machineTree(t, map[string]string{
		cpus + "cpu1/online": "1\n", cpus + "cpu2/online": "0\n",
		cpus + "cpufreq/policy0/scaling_governor": "schedutil\n",
		"proc/irq/24/smp_affinity_list":           "3\n", "proc/irq/25/smp_affinity_list": "2\n",
		"proc/self/mountinfo": "33 24 0:28 / /cg rw - cgroup2 cgroup2 rw\n", "cg/cgroup.controllers": "cpuset\n", "cg/cgroup.subtree_control": "\n",
		"cg/a/cpuset.cpus.partition": "root invalid (because)\n",
	})
	require.NoError(t, os.WriteFile(filepath.Join(root, cpus, "online"), []byte("0-1,3\n"), 0o644))
	s, err := Take(root)
	require.NoError(t, err)
	before := s.IRQs
	for path, text := range map[string]string{
		cpus + "cpu1/online": "0\n", cpus + "cpu2/online": "1\n", cpus + "online": "0,2-3\n",
		cpus + "cpufreq/policy0/scaling_governor": "performance\n",
		"proc/irq/24/smp_affinity_list":           "1\n", "proc/irq/26/smp_affinity_list": "0\n",
		"cg/a/cpuset.cpus.partition": "isolated\n", "cg/cgroup.subtree_control": "cpuset\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	assert.False(t, s.adopt([]string{"/proc/self/oom_score_adj", "/cg/cgroup.subtree_control", "/cg/other/cpuset.cpus.partition"}))
	assert.True(t, s.adopt([]string{
		"/" + cpus + "cpu1/online", "/" + cpus + "cpu2/online", "/" + cpus + "cpufreq/policy0/scaling_governor",
		"/proc/irq/24/smp_affinity", "/proc/irq/26/smp_affinity_list", "/cg/a/cpuset.cpus.partition",
	}))
	diffs, err := s.Compare()
	require.NoError(t, err)
	assert.Empty(t, sprint(diffs))
	assert.Empty(t, s.Settings[subtreeControl.name]["/cg/cgroup.subtree_control"], "this is judged by its use")
	assert.Len(t, s.IRQs, 3)
	assert.Equal(t, "3", before[0].CPUs, "the slice is another one")
}

// A process that is not ours writes, and one that is.
func TestWatch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: fanotify(7) needs CAP_SYS_ADMIN")
	}
	const governor, control = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "sys/devices/system/cpu/smt/control"
	root := machineTree(t, map[string]string{governor: "schedutil\n", control: "on\n"})
	s, err := Take(root)
	require.NoError(t, err)
	told := make(chan bool, 10)
	w, err := watchOthers(s, func() { told <- true }, os.Getpid())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, control), []byte("off\n"), 0o644))
	otherWrites(t, filepath.Join(root, governor), "performance")
	<-told
	diffs, err := w.latest().Compare()
	w.close()
	require.NoError(t, err)
	assert.Equal(t, "/sys/devices/system/cpu/smt/control is off, was on", sprint(diffs))
}

// What was written just before the end counts as well.
func TestWatchLatest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: fanotify(7) needs CAP_SYS_ADMIN")
	}
	const governor = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
	root := machineTree(t, map[string]string{governor: "schedutil\n"})
	for range 20 {
		require.NoError(t, os.WriteFile(filepath.Join(root, governor), []byte("schedutil\n"), 0o644))
		s, err := Take(root)
		require.NoError(t, err)
		w, err := watchOthers(s, func() {}, os.Getpid())
		require.NoError(t, err)
		otherWrites(t, filepath.Join(root, governor), "performance")
		latest := w.latest()
		w.close()
		assert.Equal(t, "performance", latest.Settings[governors.name]["/"+governor])
	}
}

func TestUnwritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write whatever is not on a read-only mount: ci/asfound has such places")
	}
	root := machineTree(t, map[string]string{"proc/irq/24/smp_affinity_list": "3\n"})
	s, err := Take(root)
	require.NoError(t, err)
	require.NoError(t, s.unwritable())
	require.NoError(t, os.Chmod(filepath.Join(root, "proc/irq/24/smp_affinity_list"), 0o444))
	err = s.unwritable()
	assert.ErrorIs(t, err, ErrUnwritable)
	assert.EqualError(t, err, "machine: what has to be restored cannot be written: /proc/irq/24/smp_affinity_list: EACCES (permission denied)")
}
