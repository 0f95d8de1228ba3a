package hotplugtest

// What the suite has found, and no kernel of the time has mended.
var (
	noHousekeeping = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{7, 0}}},
		Symptom: "with isolcpus=, taking the last CPU offline that is not isolated is not refused with EBUSY, but is a page fault " +
			"in partition_sched_domains() or its helpers, or a BUG in select_fallback_rq() where a task is pinned to it",
		Since: "v7.0, in which the check moved into _cpu_down(); v5.10 has none",
		Signature: &Signature{
			ID:       "last-housekeeping",
			Test:     `TestRefused/last-housekeeping/at-return(/.*)?`,
			Symptom:  `(?s)^(the kernel panicked|the VM ended) while the program ran .*(BUG: unable to handle |BUG: kernel NULL |general protection fault|kernel BUG at kernel/sched/core\.c).*\b(partition_sched_domains|select_fallback_rq)`,
			Crash:    true,
			Profiles: []string{"isolcpus"},
			Review:   "2027-06-01",
		},
	}
	isolatedPrimary = Defect{
		Kernels: []Span{
			{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}},
			{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 3}},
		},
		Symptom: "with an isolcpus= that has CPU 0, a suspend that takes all other CPUs offline is a page fault",
		Signature: &Signature{
			ID:       "isolated-primary",
			Test:     `TestSuspend/last-housekeeping/after-resume(/.*)?`,
			Symptom:  `(?s)^(the kernel panicked|the VM ended) while the program ran .*(BUG: unable to handle |BUG: kernel NULL |general protection fault).*\bpartition_sched_domains`,
			Crash:    true,
			Profiles: []string{"isolcpus-suspend"},
			Review:   "2027-06-01",
		},
	}
	loneIsolated = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: "a CPU that alone is isolated, as by isolcpus=1, cannot be taken offline until another one was: EBUSY",
		Signature: &Signature{
			ID:      "lone-isolated",
			Test:    `TestOffline/at-return/.*`,
			Symptom: `^Offline of cpu1: the operation failed: cpuhp: .*/sys/devices/system/cpu/cpu1/online: EBUSY `,
			// It stays online, so that no promise about an offline CPU is kept.
			Beside:   `^cpu1, at the return of the write of Offline\b|^broken in 1 of \d+ probes`,
			Profiles: []string{"isolcpus-one"},
			Most:     1,
			Review:   "2027-06-01",
		},
	}
	dyingNotVacated = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: `in one run of thirty, or in several tests of a run on a host with more to run than it has processors: ` +
			`the warning "Dying CPU not properly vacated!" in sched_cpu_dying(), with two tasks counted and one found`,
		Signature: &Signature{
			ID:      "dying-not-vacated",
			Test:    `Test(Online|Offline|Rollback)/.*`,
			Symptom: `(?s)Dying CPU not properly vacated!\n.*sched_cpu_dying.*enqueued tasks \(2 total\):\n[^\n]*name: migration/\d+(\n[^\n]*\] [^\t\n][^\n]*)*\n?$`,
			// Five were seen. A kernel that counts tasks wrong does so in all.
			Most:   8,
			Rare:   true,
			Review: "2027-06-01",
		},
	}
	deadlineBandwidth = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: `once, on such a host: the warning "dl_rq->running_bw > old" in task_non_contending(), as the deadline server of a CPU ` +
			"that goes offline is stopped (dl_server_stop(), sched_cpu_dying())",
		Signature: &Signature{
			ID:      "deadline-bandwidth",
			Test:    `Test(Online|Offline|Rollback)/.*`,
			Symptom: `(?s)dl_rq->running_bw > old\n.*task_non_contending\+.* dl_server_stop\+.* sched_cpu_dying\+`,
			Most:    1,
			Rare:    true,
			Review:  "2027-06-01",
		},
	}
	tscLockup = Defect{
		Kernels: []Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "once, on a busy host without tsc=nowatchdog: the clocksource watchdog calls the TSC unstable as a CPU comes online, " +
			"and that CPU and the one that brings it up wait for each other for ever (check_tsc_sync_source(), check_tsc_sync_target())",
	}
)
