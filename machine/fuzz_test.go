package machine_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
)

func FuzzParseStat(f *testing.F) {
	f.Add(stat(20, "x", 0x04200000, 100))
	f.Add(stat(20, "a) R 1 (b", 1, 2))
	f.Add("1 (x) S")
	f.Add(")(")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		name, _, _, ok := machine.ParseStat(text)
		if ok && !strings.Contains(text, "("+name+")") {
			t.Errorf("%q has no name %q in parentheses", text, name)
		}
	})
}

// texts are files that a snapshot is made of, each as some kernel has written
// it.
var texts = map[string]string{
	cpu + "online":                                "0-3\n",
	cpu + "smt/control":                           "notsupported\n",
	cpu + "cpu2/hotplug/fail":                     "-1\n",
	"sys/power/pm_test":                           "[none] core processors platform devices freezer\n",
	"sys/power/mem_sleep":                         "s2idle [deep]\n",
	"sys/class/rtc/rtc0/wakealarm":                "1767323045\n",
	"sys/class/rtc/rtc0/since_epoch":              "1767323000\n",
	"proc/self/mountinfo":                         mountV2,
	"proc/irq/9/smp_affinity_list":                "0-3\n",
	"proc/7/task/7/stat":                          stat(7, "a) R (b", 0x400040, 100),
	"proc/7/task/7/status":                        status("0-1"),
	"cg/cgroup.controllers":                       "cpuset cpu io\n",
	"cg/cgroup.subtree_control":                   "cpuset\n",
	"cg/a/cpuset.cpus":                            "1-3\n",
	"cg/a/cpuset.cpus.partition":                  "root invalid (Parent is not a partition root)\n",
	"cg/a/cgroup.subtree_control":                 "cpu\n",
	"sys/kernel/security/lockdown":                "[none] integrity confidentiality\n",
	"proc/1/environ":                              "HOME=/\x00container=lxc\x00",
	"proc/self/status":                            "Name:\tx\nCapEff:\t000001ffffffffff\n",
	"sys/module/suspend/parameters/pm_test_delay": "5\n",
	cpu + "cpufreq/policy0/scaling_governor":      "schedutil\n",
	"sys/class/net/eth0/power/wakeup":             "disabled\n",
}

// Whatever is in one of the files, what has not changed is no difference, and a
// snapshot survives on its way to a supervisor.
func FuzzTake(f *testing.F) {
	names := slices.Sorted(maps.Keys(texts))
	for i, name := range names {
		f.Add(i, texts[name])
	}
	f.Add(slices.Index(names, "proc/self/mountinfo"), mountV1)
	f.Add(slices.Index(names, "proc/self/mountinfo"), "33 24 0:28 / /../../.. rw - cgroup cgroup rw,cpuset\n")
	// A cgroup, and an IRQ's mask that no kernel would have, with what is no
	// UTF-8.
	f.Add(slices.Index(names, "proc/self/mountinfo"), "33 24 0:28 / /\x80 rw - cgroup cgroup rw,cpuset\n")
	f.Add(slices.Index(names, "proc/irq/9/smp_affinity_list"), "\x80")
	root := f.TempDir()
	for name, text := range texts {
		writeFile(f, filepath.Join(root, name), text)
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		name := names[uint(i)%uint(len(names))]
		writeFile(t, filepath.Join(root, name), text)
		defer writeFile(t, filepath.Join(root, name), texts[name])
		_ = machine.Unsuitable(root)
		_ = machine.Warnings(root)
		s, err := machine.Take(root)
		if err != nil {
			return
		}
		diffs, err := sent(t, s).Compare()
		require.NoError(t, err)
		require.Empty(t, diffs)
	})
}
