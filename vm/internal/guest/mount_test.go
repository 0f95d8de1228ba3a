package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCgroupMounts(t *testing.T) {
	const cgroups = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\nmemory\t0\t1\t0\n"
	v2 := []mount{{"cgroup2", "/sys/fs/cgroup", ""}}
	v1 := func(cpuset string) []mount {
		return []mount{
			{"tmpfs", "/sys/fs/cgroup", ""},
			{"cgroup", "/sys/fs/cgroup/cpuset", cpuset},
			{"cgroup", "/sys/fs/cgroup/cpu", "cpu"},
		}
	}
	for _, tt := range []struct {
		cmdline string
		want    []mount
	}{
		{"", v2},
		{"console=ttyS0 isolcpus=0-2\n", v2},
		{"systemd.unified_cgroup_hierarchy=1", v2},
		{"guest.cpuset=cpuset_v2_mode", v2},
		{"console=ttyS0 systemd.unified_cgroup_hierarchy=0\n", v1("cpuset")},
		{"systemd.unified_cgroup_hierarchy=0 guest.cpuset=cpuset_v2_mode\n", v1("cpuset,cpuset_v2_mode")},
	} {
		assert.Equal(t, tt.want, cgroupMounts(tt.cmdline, cgroups), tt.cmdline)
	}
	assert.Equal(t, []mount{{"tmpfs", "/sys/fs/cgroup", ""}}, cgroupMounts(legacyWord, ""), "a kernel without cgroups")
}
