package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
)

func TestUnsuitable(t *testing.T) {
	const (
		caps   = "Name:\tx\nCapEff:\t000001ffffffffff\n"
		noCaps = "Name:\tx\nCapEff:\t00000000a80425fb\n"
		sysfs  = "24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n"
	)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a machine", map[string]string{"proc/self/status": caps, "proc/self/mountinfo": sysfs, "proc/1/environ": "HOME=/\x00TERM=linux\x00"}, ""},
		{"read-only sysfs", map[string]string{"proc/self/mountinfo": "24 1 0:22 / /sys ro,nosuid - sysfs sysfs rw\n"}, "/sys is mounted read-only"},
		{"read-only file system", map[string]string{"proc/self/mountinfo": "24 1 0:22 / /sys rw,nosuid - sysfs sysfs ro\n"}, "/sys is mounted read-only"},
		{"read-only below sysfs", map[string]string{"proc/self/mountinfo": sysfs + "25 24 0:23 / /sys/firmware ro - tmpfs tmpfs rw\n"}, ""},
		{"read-only sysfs below another", map[string]string{"proc/self/mountinfo": "24 1 0:22 / /sys ro - sysfs sysfs rw\n" + sysfs}, ""},
		{"docker", map[string]string{".dockerenv": ""}, "this is a container (/.dockerenv): its CPUs are the host's"},
		{"podman", map[string]string{"run/.containerenv": ""}, "this is a container (/run/.containerenv): its CPUs are the host's"},
		{"nspawn", map[string]string{"proc/1/environ": "HOME=/\x00container=systemd-nspawn\x00"}, "this is a container (container=systemd-nspawn in the environment of process 1): its CPUs are the host's"},
		{"capabilities", map[string]string{"proc/self/status": noCaps}, "this process has no CAP_SYS_ADMIN: not root, or in a container"},
		{"a BPF scheduler", map[string]string{"sys/kernel/sched_ext/state": "enabled\n", "sys/kernel/sched_ext/root/ops": "scx_lavd\n"}, "the BPF scheduler scx_lavd runs, and a CPU that goes offline may end it: stop it first"},
		{"a BPF scheduler that has ended", map[string]string{"sys/kernel/sched_ext/state": "disabled\n"}, ""},
		{"Hyper-V", map[string]string{"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n", "sys/bus/vmbus/devices/00000000-0000/": ""}, "this is a guest of Hyper-V: a CPU with a VMBus channel cannot go offline (EBUSY)"},
		{"a laptop of Microsoft's", map[string]string{"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, machine.Unsuitable(tree(t, tt.files)))
		})
	}
}

func TestUnsuitableNamespace(t *testing.T) {
	for namespace, want := range map[string]string{
		"pid:[4026531836]": "",
		"pid:[4026532201]": "this is a container (it has a PID namespace of its own, pid:[4026532201]): its CPUs are the host's",
	} {
		root := tree(t, map[string]string{"proc/self/ns/": ""})
		require.NoError(t, os.Symlink(namespace, filepath.Join(root, "proc/self/ns/pid")))
		assert.Equal(t, want, machine.Unsuitable(root))
	}
}

func TestOccupiedV1Cpusets(t *testing.T) {
	files := map[string]string{
		"cg/tasks": "1\n", "cg/a/tasks": "", "cg/a/b/tasks": "7\n8\n", "cg/c/tasks": "9\n", "cg/hotplugtest-7/tasks": "10\n",
	}
	for _, tt := range []struct {
		name  string
		mount string
		want  []string
	}{
		{"v1", mountV1, []string{"/cg/a/b", "/cg/c"}},
		{"v1 with cpuset_v2_mode", strings.Replace(mountV1, "rw,cpuset\n", "rw,cpuset,cpuset_v2_mode\n", 1), nil},
		{"v2", mountV2, nil},
		{"none", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files["proc/self/mountinfo"] = tt.mount
			files["cg/cgroup.controllers"] = "cpuset\n"
			assert.Equal(t, tt.want, machine.OccupiedV1Cpusets(tree(t, files)))
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"v2", map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset\n", "cg/a/": "",
			"sys/kernel/security/lockdown": "[none] integrity confidentiality\n"}, nil},
		{"v1 without children", map[string]string{"proc/self/mountinfo": mountV1, "cg/": ""}, nil},
		{"v1", map[string]string{"proc/self/mountinfo": mountV1, "cg/a/b/": "", "cg/c/": ""},
			[]string{"/cg is cgroup v1, and has 3 child cpusets that lose each CPU that goes offline, until the end of the run"}},
		{"lockdown", map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
			[]string{"kernel lockdown is integrity: debugfs is closed, so PM notifier errors cannot be injected"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, machine.Warnings(tree(t, tt.files)))
		})
	}
}
