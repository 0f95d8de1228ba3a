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
	offlineDivides = Defect{
		Kernels: []Span{
			{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}},
			{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 4}},
		},
		Symptom: "a deadline task that sleeps gets another policy, or ends, and the CPU goes offline that it ran on: at its zero-lag time " +
			"the kernel divides by the number of CPUs that it shares its promise with, dl_bw_cpus(), which is 0",
		Signature: &Signature{
			ID:      "offline-divides",
			Test:    `TestScenario/deadline-ended`,
			Symptom: `(?s)^(the kernel panicked|the VM ended) while the program ran .*divide error: .*\binactive_task_timer\b`,
			Crash:   true,
			Review:  "2027-06-01",
		},
	}
	takenBackTwice = Defect{
		Kernels: []Span{
			{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}},
			{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 4}},
		},
		Symptom: "a deadline task gets another policy, and the scheduling domains are made anew before its zero-lag time, as when a CPU goes or comes: " +
			"what it was promised is in no total any more (dl_clear_root_domain()), and inactive_task_timer() takes it from the new one. " +
			"Below zero, dl_bw->total_bw is more than there is: no CPU goes offline, EBUSY, until the domains are made anew once more",
		Signature: &Signature{
			ID:   "taken-back-twice",
			Test: `TestScenario/deadline-taken-back`,
			Symptom: `seen:     cycle 1: while cpu\d+ is offline, and after the zero-lag time of a deadline task that got another policy before that: ` +
				`cpuhp: write "0" to /sys/devices/system/cpu/cpu\d+/online: EBUSY `,
			Review: "2027-06-01",
		},
	}
	zswapFreed = Defect{
		Kernels: []Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "a CPU goes offline while a thread that began on it compresses a page for zswap, and what it compresses with is freed: " +
			"a general protection fault. Seen with -profile modules -delay zpool_malloc=100ms, within 20 cycles",
		Since: `1ec3b5fe6eec ("mm/zswap: move to use crypto_acomp API for hardware acceleration", v5.11), until v6.13`,
		Link:  `CVE-2025-21693; 12dcb0ef5406 ("mm: zswap: properly synchronize freeing resources during CPU hotunplug", v6.13, 6.12.12; not in 6.1)`,
	}
	softTimersLost = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}},
		Symptom: "with highres=off and nohz=off, a timer that expires in a softirq is moved from a CPU that goes offline, and the CPU that gets it does not look for it " +
			"before it has another one: softirq_expires_next stays as it was",
		Since: `5c0930ccaad5 ("hrtimers: Push pending hrtimers away from outgoing CPU earlier", v6.7, 5.10.204), until v6.17`,
		Link:  `e895f8e29119 ("hrtimers: Unconditionally update target CPU base after offline timer migration", v6.17, 6.12.48, 6.1.153; not in 5.10)`,
		Signature: &Signature{
			ID:       "soft-timers-lost",
			Test:     `TestScenario/soft-timers`,
			Symptom:  `seen:     cycle \d+: a softirq's timer that cpu\d+ had when it went offline is late by \S+ or more: RX_TIMEOUT of the CAN broadcast manager\n +source:`,
			Profiles: []string{"lowres-modules"},
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
	isolatedPartition = Defect{
		Kernels: []Span{{From: Version{7, 2}, Until: Version{7, 4}}},
		Symptom: "a suspend that takes all other CPUs offline is a NULL pointer's page fault if the CPU that stays is in an isolated partition",
		Signature: &Signature{
			ID:      "isolated-partition",
			Test:    `TestScenario/suspend-isolated`,
			Symptom: `(?s)^(the kernel panicked|the VM ended) while the program ran .*(BUG: unable to handle |BUG: kernel NULL |general protection fault).*\bpartition_sched_domains`,
			Crash:   true,
			Review:  "2027-06-01",
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
			Test:    `Test(Online|Offline|Rollback|Partition|Scenario|Suspend)/.*`,
			Symptom: `(?s)Dying CPU not properly vacated!\n.*sched_cpu_dying.*enqueued tasks \(2 total\):\n[^\n]*name: migration/\d+(\n[^\n]*\] [^\t\n][^\n]*)*\n?$`,
			// Five were seen. A kernel that counts tasks wrong does so in all.
			Most:   8,
			Rare:   true,
			Review: "2027-06-01",
		},
	}
	deadlineBandwidth = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: `once, on a host with more to run than it has processors: the warning "dl_rq->running_bw > old" in task_non_contending(), as the deadline server of a CPU ` +
			"that goes offline is stopped (dl_server_stop(), sched_cpu_dying())",
		Signature: &Signature{
			ID:      "deadline-bandwidth",
			Test:    `Test(Online|Offline|Rollback|Partition|Scenario|Suspend)/.*`,
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

// byIDs is what notShared says.
const byIDs = `By its id, which is \d+ and \d+, cpu\d+ and cpu\d+ do not share it`

// What the rows for kinds of promises have found.
var (
	partitionFreesKthreads = Defect{
		Kernels: []Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "after a partition was made and removed, most kernel threads may run on all CPUs, also on those that nohz_full= or their node kept them off, " +
			"and so may unbound kworkers",
		Since: `ec5fbdfb99d1 ("cgroup/cpuset: Enable update_tasks_cpumask() on top_cpuset", v6.1)`,
		Signature: &Signature{
			ID:   "partition-frees-kthreads",
			Test: `TestScenario/kernel-threads-partition`,
			Symptom: `seen:     cycle 1(: |\n\s*)(when a partition of cpu\d+ was made and removed, thread \d+ \S+ ` +
				`started at \d+ may run on CPUs 0-\d+, and might on \S+\n\s*)+source:`,
			Profiles: []string{"nohz_full", "numa"},
			Review:   "2027-06-01",
		},
	}
	partitionFreesNodeThreads = Defect{
		Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: "after a partition was made and removed, kswapd and kcompactd may run on all CPUs, also on those of other nodes",
		Since:   `ec5fbdfb99d1 ("cgroup/cpuset: Enable update_tasks_cpumask() on top_cpuset", v6.1)`,
		Signature: &Signature{
			ID:   "partition-frees-node-threads",
			Test: `TestScenario/kernel-threads-partition`,
			Symptom: `seen:     cycle 1(: |\n\s*)(when a partition of cpu\d+ was made and removed, thread \d+ (kswapd|kcompactd)\d+ ` +
				`started at \d+ may run on CPUs 0-\d+, and might on \S+\n\s*)+source:`,
			Profiles: []string{"numa"},
			Review:   "2027-06-01",
		},
	}
	workersGetCPU = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{5, 14}, Until: Version{7, 4}}},
		Symptom: "a CPU that comes online is given to the workers of every io_uring that has one, whatever CPUs were registered for them: " +
			"workers that are made later may run there",
		Since: "v5.14 and v5.10.162, in which the workers got a mask of their own (io_wq_cpu_online())",
		Signature: &Signature{
			ID:   "io-workers",
			Test: `TestScenario/io-workers`,
			// Two CPUs, of which one is registered, and none more. Two neighbours
			// are a range whose last digits follow each other.
			Symptom: `seen:     cycle \d+: when cpu\d+ was offline and is back, the worker \d+ of an io_uring may run on CPUs ` +
				`(\d+,\d+|\d*(0-\d*1|1-\d*2|2-\d*3|3-\d*4|4-\d*5|5-\d*6|6-\d*7|7-\d*8|8-\d*9|9-\d*0)), and CPUs \d+ are registered\n`,
			Review: "2027-06-01",
		},
	}
	tornList = Defect{
		Kernels: []Span{{From: Version{5, 16}, Until: Version{7, 4}}},
		Symptom: "now and then a list of CPUs in topology/ that is read while a CPU goes or comes is none, such as \"-3\": " +
			"each read(2) prints it anew, and one after that of an empty list begins in the midst of 0-3",
		Since: "v5.16 (bb9ec13d156e)",
		Signature: &Signature{
			ID:      "torn-list",
			Test:    `TestScenario/readers`,
			Symptom: `seen:     reader: /sys/devices/system/cpu/cpu\d+/topology/\w+_list: "([-,\d]|\\n)*" is no list of CPUs: `,
			Rare:    true,
			Review:  "2027-06-01",
		},
	}
	shrunkList = Defect{
		Kernels: []Span{{From: Version{5, 16}, Until: Version{7, 4}}},
		Symptom: "a list of CPUs in topology/ that gets shorter by two bytes or more while it is read ends with EPERM: " +
			"beyond the end of the new one, cpumap_print_list_to_buf() takes one from zero bytes",
		Since: "v5.16 (bb9ec13d156e)",
		Signature: &Signature{
			ID:      "shrunk-list",
			Test:    `TestScenario/readers`,
			Symptom: `seen:     reader: read /sys/devices/system/cpu/cpu\d+/topology/\w+_list: operation not permitted\n`,
			Rare:    true,
			Review:  "2027-06-01",
		},
	}
	cacheKeepsOffline = Defect{
		Kernels: []Span{
			{From: Version{6, 1}, Until: Version{6, 2}}, {From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 4}},
		},
		Symptom: "on an AMD processor with an L3 cache and without TOPOEXT, as QEMU emulates them, shared_cpu_list of that cache keeps a CPU that goes offline: " +
			"cache_shared_cpu_map_remove() takes it out of the lists of CPUs whose cache has the same id, and legacy_amd_cpuid4() gives each CPU an id of its own",
		Since: `198102c9103f ("cacheinfo: Fix shared_cpu_map to handle shared caches at different levels", v6.3), as the source reads; not seen in 5.10`,
		Signature: &Signature{
			ID:   "cache-keeps-offline",
			Test: `Test(Offline|SameValue|SameTarget|SMT|Partition|Suspend|Memory)/.*\bcache-sharers|TestRollback/(online|offline)/.*|TestScenario/description`,
			Symptom: `seen:     shared_cpu_list of the \w+ cache of level \d+ of cpu\d+ is \S+, and the online CPUs are \S+\. ` + byIDs + `\n` +
				`|seen:     cycle \d+(: |\n\s*)(while cpu\d+ is offline, /sys/devices/system/cpu/cpu\d+/cache/index\d+/shared_cpu_list is "[-,\d]+", and was "[-,\d]+": want "[-,\d]+"\. ` + byIDs + `\n\s*)+source:`,
			Beside: `^broken in \d+ of \d+ probes`,
			Rare:   true, // on other processors
			Review: "2027-06-01",
		},
	}
	endedSchedulerHangs = Defect{
		Kernels: []Span{{From: Version{7, 2}, Until: Version{7, 4}}},
		Symptom: "about one in ten times that a CPU goes offline while a BPF scheduler without callbacks for that has tasks, it never does: " +
			"sched_cpu_wait_empty() waits though nothing is left on the CPU, which is idle, and the scheduler is never ended, since scx_root_disable() waits for the hotplug lock",
	}
	policyLosesNodes = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "memory that a thread in a cpuset without cpuset.mems has bound with MPOL_F_STATIC_NODES loses its nodes when any CPU goes offline or comes online",
		Since:   "v3.17 (ae1c802382f7), until 6.1.178 and 5.10.261",
		Link:    `"cgroup/cpuset: rebind mm mempolicy to effective_mems, not mems_allowed"`,
		Signature: &Signature{
			ID:      "policy-loses-nodes",
			Test:    `TestScenario/memory-policy`,
			Symptom: `seen:     cycle 1: when cpu\d+ is back, the policy of memory that is bound to node (\d+) is "bind=static" in /proc/self/numa_maps, and was "bind=static:\d+"`,
			Review:  "2027-06-01",
		},
	}
	relativeDivides = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "memory is bound with MPOL_F_RELATIVE_NODES by a thread in a cpuset without cpuset.mems, and a CPU goes offline or comes online: " +
			"the kernel divides by zero in the write to online, with the locks of hotplug and cpusets held",
		Since: "v3.17 (ae1c802382f7), until 6.1.178 and 5.10.261",
		Link:  `"cgroup/cpuset: rebind mm mempolicy to effective_mems, not mems_allowed"`,
		Signature: &Signature{
			ID:       "relative-divides",
			Test:     `TestMemory/relative-policy/at-(uevent|return)(/.*)?`,
			Symptom:  `(?s)^(the kernel panicked|the VM ended) while the program ran .*divide error: .*\bmpol_rebind_nodemask\b`,
			Crash:    true,
			Profiles: []string{"numa"},
			Review:   "2027-06-01",
		},
	}
	memcgAddsAnew = Defect{
		Kernels: []Span{{From: Version{5, 10}, Until: Version{5, 11}}},
		Symptom: "when a CPU goes offline, what another one, which takes it offline, counted for a cgroup in memory.stat is added once for each level " +
			"above the cgroup, and to none of its ancestors",
		Since: "v5.8 (42a300353577), until v5.13 (a3d4c05a4474)",
		Link:  `"mm: memcontrol: fix memcg accounting during cpu hotplug"`,
		Signature: &Signature{
			ID:   "memcg-adds-anew",
			Test: `TestScenario/memory-counters`,
			// What is added grows with the level. If nothing is counted right,
			// the uppermost cgroups are wrong, too.
			Symptom: `seen:     cycle 1: anon in memory\.stat of \S+-memory(/below){4,} is \d+ when all of it is free, and may be wrong by \d+\n`,
			Review:  "2027-06-01",
		},
	}
)
