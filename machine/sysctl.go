package machine

import "golang.org/x/sys/unix"

// Sysctls are the sysctls that tests write, as paths on the machine. A test
// must restrict itself to these: others are not restored.
var Sysctls = []string{
	"/proc/sys/kernel/bpf_stats_enabled",
	"/proc/sys/kernel/sched_rr_timeslice_ms",
	"/proc/sys/kernel/sched_rt_period_us",
	"/proc/sys/kernel/sched_rt_runtime_us",
	"/proc/sys/kernel/sched_schedstats",
	"/proc/sys/kernel/watchdog_thresh",
}

var sysctls = setting{name: "sysctl", paths: sysctlFiles}

// sysctlFiles returns the sysctls that there are. In a container they are
// mounted read-only: then no test can change them.
func sysctlFiles(s *Snapshot) (files []string) {
	for _, path := range Sysctls {
		if unix.Access(s.path(path), unix.R_OK|unix.W_OK) == nil {
			files = append(files, path)
		}
	}
	return files
}
