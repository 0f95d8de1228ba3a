package hotplugtest

// What the suite has found, and no kernel of the time has mended.
var (
	noHousekeeping = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{7, 0}}},
		Symptom: "with isolcpus=, taking the last CPU offline that is not isolated is not refused with EBUSY, but is a page fault " +
			"in partition_sched_domains() or its helpers, or a BUG in select_fallback_rq() where a task is pinned to it",
		Since: "v7.0, in which the check moved into _cpu_down(); v5.10 has none",
	}
	isolatedPrimary = Defect{
		Kernels: []Span{
			{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}},
			{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 3}},
		},
		Symptom: "with an isolcpus= that has CPU 0, a suspend that takes all other CPUs offline is a page fault",
	}
	loneIsolated = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: "a CPU that alone is isolated, as by isolcpus=1, cannot be taken offline until another one was: EBUSY",
	}
	dyingNotVacated = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: `in one run of thirty, on a busy host: the warning "Dying CPU not properly vacated!" in sched_cpu_dying(), ` +
			"with two tasks counted and one found",
	}
	tscLockup = Defect{
		Kernels: []Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "once, on a busy host without tsc=nowatchdog: the clocksource watchdog calls the TSC unstable as a CPU comes online, " +
			"and that CPU and the one that brings it up wait for each other for ever (check_tsc_sync_source(), check_tsc_sync_target())",
	}
)
