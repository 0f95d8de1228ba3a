package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one file system of the guest's.
type mount struct{ fstype, dir, data string }

// machineMounts are what any Linux machine has.
var machineMounts = []mount{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"debugfs", "/sys/kernel/debug", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
}

// Words of the kernel's command line that say how cgroups are mounted. The
// first is the one that systemd knows. The second is for this init alone: mount
// options of the cpuset hierarchy of cgroup v1, as in
// guest.cpuset=cpuset_v2_mode. The kernel passes over words with a dot that it
// does not know.
const (
	legacyWord = "systemd.unified_cgroup_hierarchy=0"
	cpusetWord = "guest.cpuset="
)

// cgroupMounts are those of cgroup v2, or, if the command line asks for them,
// those of cgroup v1: a hierarchy for each controller in the text of
// /proc/cgroups.
func cgroupMounts(cmdline, cgroups string) []mount {
	const top = "/sys/fs/cgroup"
	legacy, cpusetOptions := false, ""
	for _, word := range strings.Fields(cmdline) {
		if word == legacyWord {
			legacy = true
		} else if options, ok := strings.CutPrefix(word, cpusetWord); ok {
			cpusetOptions = "," + options
		}
	}
	if !legacy {
		return []mount{{"cgroup2", top, ""}}
	}
	mounts := []mount{{"tmpfs", top, ""}}
	for line := range strings.Lines(cgroups) {
		// subsys_name hierarchy num_cgroups enabled
		f := strings.Fields(line)
		if len(f) != 4 || strings.HasPrefix(f[0], "#") || f[3] != "1" {
			continue
		}
		data := f[0]
		if f[0] == "cpuset" {
			data += cpusetOptions
		}
		mounts = append(mounts, mount{"cgroup", top + "/" + f[0], data})
	}
	return mounts
}

// mountAll mounts what a booted machine has. What this kernel was built without
// is missing, as it would be there.
func mountAll() {
	for _, m := range machineMounts {
		m.mount()
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Println("guest:", err)
	}
	cgroups, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		fmt.Println("guest:", err)
	}
	for _, m := range cgroupMounts(string(cmdline), string(cgroups)) {
		m.mount()
	}
}

func (m mount) mount() {
	// Below /sys the kernel makes the mount points it has a use for.
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return
	}
	if err := unix.Mount(m.fstype, m.dir, m.fstype, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
		fmt.Printf("guest: mount %s on %s: %v\n", m.fstype, m.dir, err)
	}
}
