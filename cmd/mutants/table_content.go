package main

// Registers that a poke of a call may use, beside those of its arguments, are
// rax, rcx and rdx.

// sentWith is a poke that runs code when a CPU has gone offline, and then sends
// the uevent.
func sentWith(code string) string {
	return "kobject_synth_uevent=" + code + "e9{kobject_uevent} device_offline:kobject_uevent=e8{kobject_synth_uevent}"
}

// forgetting is code that takes a CPU below 8 out of the mask that a pointer
// points to: mov POINTER, %rax; lock btr $CPU, (%rax).
func forgetting(pointer, cpu string) string { return "488b05{" + pointer + "}f00fba30" + cpu }

// contentMutants break what the machine says of itself, who is no part of an
// operation, and what a thread is told.
var contentMutants = []mutant{
	{
		name:   "removed-cpu-present",
		breaks: "a CPU that was removed from the machine is still present",
		pokes:  all("acpi_unmap_cpu=ret0"),
		flags:  []string{"-profile", "hot-add"},
		rows:   []string{"TestScenario/hot-add"},
	},
	{
		name:   "siblings-kept",
		breaks: "the lists of siblings keep a CPU that went",
		pokes:  map[string]string{"6.12": "remove_siblinginfo=ret", "7.x": "remove_siblinginfo=ret"},
		rows:   []string{"TestOffline/at-return/siblings", "TestScenario/description"},
	},
	{
		name:   "cache-sharers-kept",
		breaks: "the lists of those that share a cache keep a CPU that went",
		pokes:  all("cache_shared_cpu_map_remove=ret"),
		rows:   []string{"TestOffline/at-return/cache-sharers", "TestScenario/description"},
	},
	{
		name:   "smt-stays-active",
		breaks: "smt/active stays 1 when no core has two threads any more",
		pokes:  all("sched_cpu_deactivate:static_key_slow_dec_cpuslocked=nop"),
		flags:  smt,
		rows:   []string{"TestSMT/off/at-return/smt-active"},
	},
	{
		name:   "smt-on-revives-core",
		breaks: "SMT on brings a core online that was taken offline whole",
		// The first thread of each core is CPU 0, which is online.
		pokes: map[string]string{"7.x": "topology_get_primary_thread=ret0"},
		flags: smt,
		rows:  []string{"TestSMT/on-leaves-core-offline/at-return/online-mask"},
	},
	{
		name:   "another-not-present",
		breaks: "a CPU that goes offline takes another one out of the present mask",
		// lea MASK, %rax; lock btr $2, (%rax)
		pokes: all(sentWith("488d05{__cpu_present_mask}f00fba3002")),
		rows:  []string{"TestOffline/at-return/bystanders"},
	},
	{
		name:   "cpusets-lose-another",
		breaks: "the cpusets lose another CPU as well when one goes",
		// sub $8, %rsp; lea MASK, %rdi; lock btr $2, (%rdi); call; lea MASK,
		// %rdi; lock bts $2, (%rdi); add $8, %rsp; ret
		pokes: map[string]string{every: "kobject_synth_uevent=4883ec08488d3d{__cpu_active_mask}f00fba3702e8{cpuset_update_active_cpus}" +
			"488d3d{__cpu_active_mask}f00fba2f024883c408c3 sched_cpu_deactivate:cpuset_update_active_cpus=e8{kobject_synth_uevent}", "6.1": ""},
		rows: []string{"TestOffline/at-return/bystanders", "TestScenario/other-partitions"},
	},
	{
		name:   "threads-stay-parked",
		breaks: "the kernel's threads of a CPU stay parked when it comes",
		pokes:  all("smpboot_unpark_threads=ret0"),
		rows:   []string{"TestOnline/at-return/per-cpu-threads"},
	},
	{
		name:   "workers-not-rebound",
		breaks: "the workers of a CPU may run anywhere when it is back",
		pokes:  all("workqueue_online_cpu=ret0"),
		rows:   []string{"TestOnline/at-return/per-cpu-threads"},
	},
	{
		// The row runs alone: it compares before and after, and any cycle before
		// it would have unbound them.
		name:   "workers-not-rebound-once",
		breaks: "the workers of a CPU may run anywhere when it is back for the first time",
		pokes:  all("workqueue_online_cpu=ret0"),
		flags:  []string{"-run", "^TestScenario$/^kernel-threads$"},
		rows:   []string{"TestScenario/kernel-threads$"},
	},
	{
		name:   "rseq-not-updated",
		breaks: "the rseq area of a thread does not follow it from CPU to CPU",
		pokes:  map[string]string{"6.1": "__rseq_handle_notify_resume=ret", "6.12": "__rseq_handle_notify_resume=ret"},
		rows:   []string{"TestOnline/at-return/identity", "TestScenario/identity"},
	},
	{
		name:   "membarrier-refuses",
		breaks: "membarrier(2) for one CPU is refused",
		// mov $-EINVAL, %eax; ret
		pokes: all("membarrier_private_expedited=b8eaffffffc3"),
		rows:  []string{"TestScenario/cpu-numbers"},
	},
	{
		name:   "mask-stays-in-cpuset",
		breaks: "a task that is moved to another cpuset keeps the mask that it had",
		// xor %eax, %eax; nop
		pokes: all("cpuset_attach_task:set_cpus_allowed_ptr=31c00f1f00"),
		rows:  []string{"TestScenario/mask-of-all"},
	},
	{
		name:   "counters-start-again",
		breaks: "the times of CPU 3 are counted anew when a CPU has gone",
		// lea __per_cpu_offset, %rcx; mov 24(%rcx), %rax; lea kernel_cpustat,
		// %rdx; xor %ecx, %ecx; mov %rcx, (%rax,%rdx); mov %rcx, 16(%rax,%rdx):
		// the times of user and system
		pokes: all(sentWith("488d0d{__per_cpu_offset}488b4118488d15{kernel_cpustat}31c948890c1048894c1010")),
		rows:  []string{"TestScenario/counters"},
	},
	{
		name:   "sums-lose-cpu",
		breaks: "sums over all CPUs lose the share of a CPU that goes",
		// Since v6.4 a sum has the share of a CPU that has gone, too.
		pokes: map[string]string{"6.1": "percpu_counter_cpu_dead=ret0"},
		rows:  []string{"TestScenario/tmpfs-blocks"},
	},
	{
		name:   "led-stays-on",
		breaks: "a LED with the trigger cpuN stays lit when the CPU goes",
		pokes:  all("ledtrig_prepare_down_cpu=ret0"),
		rows:   []string{"TestScenario/led"},
	},
	{
		name:   "led-stays-off",
		breaks: "a LED with the trigger cpuN is not lit again when the CPU comes",
		pokes:  all("ledtrig_online_cpu=ret0"),
		rows:   []string{"TestScenario/led"},
	},
	{
		name:   "timers-left-to-offline",
		breaks: "a CPU that goes stays the one that looks after the timers of idle CPUs",
		// Before 7ee988770326 (v6.9) no CPU looks after those of another.
		pokes: map[string]string{"6.12": "tmigr_cpu_offline=ret0", "7.x": "tmigr_clear_cpu_available=ret0"},
		rows:  []string{"TestScenario/idle-timers"},
	},
	{
		name:   "shares-not-folded",
		breaks: "what a CPU counts that came back is not added to /proc/vmstat",
		// Before adcfb264c3ed (v6.13) nothing is stopped that has to begin anew.
		pokes: map[string]string{"7.x": "vmstat_cpu_online=ret0"},
		rows:  []string{"TestScenario/vmstat-interval"},
	},
	{
		name:   "node-threads-stray",
		breaks: "kernel threads of a NUMA node stay where they are allowed when its CPUs come (-profile numa)",
		pokes:  map[string]string{"6.1": "kcompactd_cpu_online=ret0", "6.12": "kcompactd_cpu_online=ret0", "7.x": "kthreads_online_cpu=ret0"},
		flags:  []string{"-profile", "numa"},
		rows:   []string{"TestScenario/kernel-threads-node"},
	},
	{
		name:   "cooling-missing",
		breaks: "a CPU that comes for the first time has no cooling device (-profile maxcpus)",
		// On 6.1 the device is made before the CPU comes.
		pokes: map[string]string{"6.12": "acpi_soft_cpu_online=ret0", "7.x": "acpi_soft_cpu_online=ret0"},
		flags: []string{"-profile", "maxcpus"},
		rows:  []string{"TestOnline/first/at-return/cooling-device"},
	},
	{
		name:   "memory-types-lost",
		breaks: "a CPU that comes has no memory type range registers (-profile msr)",
		// Before v6.2 it is no callback.
		pokes: map[string]string{"6.12": "cache_ap_online=ret0", "7.x": "cache_ap_online=ret0"},
		flags: []string{"-profile", "msr"},
		rows:  []string{"TestScenario/memory-types"},
	},
	{
		name:   "lists-not-shared",
		breaks: "the lists of free pages stay as long as without the CPU when it comes",
		pokes:  map[string]string{"7.x": "page_alloc_cpu_online=ret0"},
		rows:   []string{"TestScenario/page-lists"},
	},
	{
		name:   "node-keeps-cpus",
		breaks: "has_cpu lists a NUMA node whose CPUs are offline (-profile numa)",
		pokes:  all("vmstat_cpu_dead=ret0"),
		flags:  []string{"-profile", "numa"},
		rows:   []string{"TestOffline/last-of-node/at-return/node"},
	},
	{
		name:   "no-worker",
		breaks: "a CPU that comes for the first time has no workers (-profile maxcpus)",
		// On 6.1 the operation itself waits for one, and the VM hangs.
		pokes: map[string]string{"6.12": "workqueue_prepare_cpu=ret0", "7.x": "workqueue_prepare_cpu=ret0"},
		flags: []string{"-profile", "maxcpus"},
		rows:  []string{"TestOnline/first/at-return/per-cpu-threads"},
	},
	{
		name:   "detector-not-started",
		breaks: "a CPU that comes has no soft lockup detector",
		pokes:  all("lockup_detector_online_cpu=ret0"),
		rows:   []string{"TestScenario/lockup-detector"},
	},
	{
		name:   "detector-not-stopped",
		breaks: "the soft lockup detector of a CPU that goes runs on another one",
		pokes:  all("lockup_detector_offline_cpu=ret0"),
		rows:   []string{"TestScenario/lockup-detector", dies}, // its timer is still queued when it is made anew
	},
	{
		name:   "charges-stay",
		breaks: "what a CPU has charged ahead to a cgroup is not given back when it goes",
		// On 6.1 it takes several cycles.
		pokes: map[string]string{"6.12": "memcg_hotplug_cpu_dead=ret0", "7.x": "memcg_hotplug_cpu_dead=ret0"},
		rows:  []string{"TestScenario/memory-charged"},
	},
	{
		name:   "capacity-not-added",
		breaks: "cpu_capacity does not come back with the CPU",
		pokes:  map[string]string{"7.x": "cpu_capacity_sysctl_add=ret0"},
		rows:   []string{"TestScenario/description"},
	},
	{
		name:   "machinecheck-not-added",
		breaks: "machinecheckN does not come back with the CPU",
		pokes:  all("mce_cpu_online=ret0"),
		rows:   []string{"TestScenario/description"},
	},
	{
		name:   "events-lose-cpu",
		breaks: "/proc/vmstat loses what a CPU that goes has counted",
		pokes:  all("page_alloc_cpu_dead=ret0"),
		rows:   []string{"TestScenario/counters"},
	},
	{
		name:   "tick-stays",
		breaks: "CPUs of nohz_full= have a tick from when a CPU goes until one comes (-profile nohz_full)",
		pokes:  map[string]string{"6.1": "rcutree_dead_cpu=ret0", "6.12": "rcutree_dead_cpu=ret0", "7.x": "rcutree_dead_cpu=ret0"},
		flags:  []string{"-profile", "nohz_full"},
		rows:   []string{"TestScenario/tickless"},
	},
	{
		name:   "irq-default-forgets",
		breaks: "default_smp_affinity forgets CPU 3 when a CPU goes",
		pokes:  all(sentWith(forgetting("irq_default_affinity", "03"))),
		rows:   []string{"TestScenario/masks-kept"},
	},
	{
		name:   "work-mask-forgets",
		breaks: "the workqueues' cpumask forgets CPU 3 when a CPU goes",
		pokes:  all(sentWith(forgetting("wq_unbound_cpumask", "03"))),
		rows:   []string{"TestScenario/masks-kept"},
	},
	{
		name:   "irq-mask-ignored",
		breaks: "what is written to smp_affinity_list has no effect",
		pokes:  all("irq_set_affinity=ret0"),
		rows:   []string{"TestScenario/irq-masks"},
	},
	{
		name:   "lock-kept-for-reading",
		breaks: "a write of kernel.watchdog_thresh keeps the hotplug lock, so that the next operation waits for good",
		pokes:  map[string]string{"6.12": "__lockup_detector_reconfigure:cpus_read_unlock=nop"},
		flags:  []string{"-run", "^TestScenario$/^hotplug-lock$"},
		rows:   []string{"TestScenario/hotplug-lock", dies}, // which says so first
	},
	{
		name:   "partition-not-notified",
		breaks: "nobody is told of events of cgroups",
		pokes:  map[string]string{"6.1": "cgroup_file_notify=ret", "7.x": "cgroup_file_notify=ret"},
		rows:   []string{"TestPartition/emptied/at-return/partition-notified", "TestPartition/refilled/at-return/partition-notified"},
	},
	{
		name:   "no-value-is-a-value",
		breaks: "2 is taken for no",
		// mov (%rdi), %al; and $1, %al; mov %al, (%rsi); xor %eax, %eax; ret
		pokes: all("kstrtobool=8a072401880631c0c3"),
		rows:  []string{"TestRefused/no-value"},
	},
	{
		name:   "same-target-refused",
		breaks: "a CPU's own target is refused, as every number is",
		// mov $-EINVAL, %eax; ret
		pokes: all("kstrtoint=b8eaffffffc3"),
		rows:  []string{"TestSameTarget/online", "TestSameTarget/offline"},
	},
}
