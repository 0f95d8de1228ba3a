package hotplugtest

// lockScenarios are about what other processes ask of the kernel all the while.
var lockScenarios = []Scenario{
	{
		Name:    "readers",
		Promise: "files of sysfs, procfs, debugfs, tracefs and cgroupfs that tell of CPUs can be read while CPUs come and go: a file of a CPU that is offline answers or is not there, and a list of CPUs is one",
		Source:  docSysfs + `; cbd399f78e23 ("topology: Keep the cpumask unchanged when printing cpumap", v6.13)`,
		Known:   []Defect{tornList, shrunkList},
		Actors:  []Actor{readers},
	},
	{
		Name:    "hotplug-lock",
		Promise: "system calls that take the hotplug lock for reading return while CPUs come and go, and do not keep the operation from it: kernel.watchdog_thresh, vm.stat_refresh, perf_event_open(2), a move to another cpuset, also when hundreds of cpusets are removed at once",
		Source:  docHotplug + `; 4f7e7236435c ("cgroup: Fix threadgroup_rwsem <-> cpus_read_lock() deadlock", v6.0); CVE-2024-53054 ("cgroup/bpf: use a dedicated workqueue for cgroup bpf destruction", v6.12)`,
		Actors:  []Actor{lockReaders, cgroupBursts},
	},
}
