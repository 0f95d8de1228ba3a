package machine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Sysctls are the sysctls that tests write, as paths on the machine. A test
// must restrict itself to these, and write no other value to the two of
// sched_rt than they have: the rest is not restored.
var Sysctls = []string{
	"/proc/sys/kernel/bpf_stats_enabled",
	"/proc/sys/kernel/sched_rr_timeslice_ms",
	"/proc/sys/kernel/sched_rt_period_us",
	"/proc/sys/kernel/sched_rt_runtime_us",
	"/proc/sys/kernel/sched_schedstats",
	"/proc/sys/kernel/watchdog_thresh",
}

// rebuilding are those of them that a test must write no other value to than
// the one that they have. They are in no snapshot: some kernels, 6.12.117 among
// them, rebuild the scheduling domains when one is read, and are no longer as
// they were found then.
var rebuilding = []string{
	"/proc/sys/kernel/sched_rt_period_us",
	"/proc/sys/kernel/sched_rt_runtime_us",
}

var sysctls = setting{name: "sysctl", paths: sysctlFiles}

// sysctlFiles returns the sysctls that are restored. In a container they are
// mounted read-only: no test can change them, and there are none.
func sysctlFiles(s *Snapshot) (files []string) {
	for _, path := range Sysctls {
		if !slices.Contains(rebuilding, path) && unix.Access(s.path(path), unix.R_OK|unix.W_OK) == nil {
			files = append(files, path)
		}
	}
	return files
}
