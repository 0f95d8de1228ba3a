package system_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file are about how the system is looked at. They need none.

func TestDifferent(t *testing.T) {
	const nic = "irq 0000:00:02.0 eth0-rx-1"
	for _, tt := range []struct {
		name, was, now string
		ignore         string
		want           []string
	}{
		{name: "nothing", was: nic + "\t2\n", now: nic + "\t2\n"},
		{name: "another value", was: nic + "\t2\n", now: nic + "\t0-3\n", want: []string{nic + `: is "0-3", and was "2"`}},
		{name: "ignored", was: nic + "\t2\n", now: nic + "\t0-3\n", ignore: "^irq "},
		{name: "gone", was: "mount /sys\trw\n", want: []string{`mount /sys: is gone, and was "rw"`}},
		{name: "new", now: "cgroup /hotplugtest-1\t\n", want: []string{`cgroup /hotplugtest-1: is "", and was not there`}},
		{name: "two of a name, in another order", was: "irq A x\t1\nirq A x\t2\n", now: "irq A x\t2\nirq A x\t1\n"},
		{name: "two of a name, one of which differs", was: "irq A x\t1\nirq A x\t2\n", now: "irq A x\t2\nirq A x\t2\n",
			want: []string{`irq A x: is "2; 2", and was "1; 2"`}},
		{name: "threads of a program, one more", was: "thread /a \"x\" \"x\"\t0\n", now: "thread /a \"x\" \"x\"\t0\nthread /a \"x\" \"x\"\t0\n"},
		{name: "threads of a program, of which one is elsewhere", was: "thread /a \"x\" \"x\"\t0\n", now: "thread /a \"x\" \"x\"\t0\nthread /a \"x\" \"x\"\t1\n",
			want: []string{`thread /a "x" "x": is "0; 1", and was "0"`}},
		{name: "a thread of the kernel that ends", was: "thread / \"psimon\" \"\"\t0\n"},
		{name: "a thread of the kernel that is elsewhere", was: "thread / \"psimon\" \"\"\t0\n", now: "thread / \"psimon\" \"\"\t1\n",
			want: []string{`thread / "psimon" "": is "1", and was "0"`}},
		{name: "a process that is left", now: "thread / \"exe\" \"hotplugtest-supervisor\"\t0\n",
			want: []string{`thread / "exe" "hotplugtest-supervisor": is "0", and was not there`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, parseState(tt.was).different(parseState(tt.now), tt.ignore))
		})
	}
}

func TestLook(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"sys/devices/system/cpu/online":                "0-3\n",
		"sys/bus/pci/devices/0000:00:02.0/msi_irqs/31": "msix\n",
		"proc/irq/31/smp_affinity_list":                "2\n",
		"proc/irq/31/eth0-rx-1/x":                      "",
		"proc/irq/8/smp_affinity_list":                 "0-3\n",
		"proc/irq/8/rtc0/x":                            "",
		"sys/kernel/irq/8/chip_name":                   "IO-APIC\n",
		"sys/kernel/irq/8/hwirq":                       "8\n",
		// nobody's
		"proc/irq/9/smp_affinity_list":                         "0-3\n",
		"sys/fs/cgroup/cgroup.subtree_control":                 "memory cpuset\n",
		"sys/fs/cgroup/user.slice/cpuset.cpus":                 "0-1\n",
		"sys/fs/cgroup/user.slice/session-1.scope/cpuset.cpus": "",
		"run/hotplugtest.lock":                                 "1\n",
		"var/lib/hotplugtest.snapshot":                         "",
		"proc/modules":                                         "igb 307200 0 - Live 0x0\ndca 16384 1 igb, Live 0x0\n",
		"proc/self/mountinfo":                                  "24 30 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n",
		"proc/7/cmdline":                                       "sleep\x00infinity\x00",
		"proc/7/cgroup":                                        "0::/system.slice/tenant.service\n",
		"proc/7/task/7/comm":                                   "sleep\n",
		"proc/7/task/7/status":                                 "Name:\tsleep\nCpus_allowed_list:\t2\n",
		"proc/7/task/7/stat":                                   "7 (a b) c) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 5 1 0 500 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 2 50 1 0 0\n",
		"proc/8/cmdline":                                       "",
		"proc/8/cgroup":                                        "0::/\n",
		"proc/8/task/8/comm":                                   "kworker/0:1\n",
		"proc/10/cmdline":                                      "",
		"proc/10/task/10/comm":                                 "mm_percpu_wq\n", // a rescuer
		"proc/10/task/10/stat":                                 "10 (mm_percpu_wq) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 0 -20 1 0 9\n",
		"proc/11/cmdline":                                      "",
		"proc/11/task/11/comm":                                 "kcompactd0\n",
		"proc/11/task/11/stat":                                 "11 (kcompactd0) S 2 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 25 5 1 0 9\n",
		"proc/9/cmdline":                                       "bash\x00",
		"proc/9/cgroup":                                        "0::/user.slice/user-0.slice/session-1.scope\n",
		"proc/9/task/9/comm":                                   "bash\n",
		"sys/fs/cgroup/user.slice/user-0.slice/user@0.service/x":      "",
		"sys/devices/system/cpu/cpufreq/policy0/scaling_governor":     "performance\n",
		"sys/fs/cgroup/user.slice/user-0.slice/cpuset.cpus.partition": "member\n",
	} {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	var out strings.Builder
	require.NoError(t, look(root, &out))
	assert.Equal(t, `file /sys/devices/system/cpu/online	0-3
file /sys/devices/system/cpu/cpufreq/policy0/scaling_governor	performance
left /var/lib/hotplugtest.snapshot	
irq 0000:00:02.0 eth0-rx-1	2
irq IO-APIC-8 rtc0	0-3
cgroup /	
cgroup /cgroup.subtree_control	cpuset memory
cgroup /user.slice	
cgroup /user.slice/cpuset.cpus	0-1
cgroup /user.slice/user-0.slice	
cgroup /user.slice/user-0.slice/cpuset.cpus.partition	member
thread  "kcompactd0" ""	?
thread /system.slice/tenant.service "sleep" "sleep infinity"	cpus 2, policy 1, nice 5
mount /sys	/ rw,nosuid sysfs sysfs rw
module dca	loaded
module igb	loaded
`, out.String())
}
