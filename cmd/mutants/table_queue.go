package main

// modules are the flags for a machine with a disk.
var modules = []string{"-profile", "modules"}

// on7 are pokes that have been tried on 7.x only.
func on7(pokes string) map[string]string { return map[string]string{"7.x": pokes} }

// queueMutants break what others ask of the kernel meanwhile, what is recorded
// on a CPU, and what can be set.
var queueMutants = []mutant{
	{
		name:   "reading-warns",
		breaks: "reading /proc/softirqs makes the kernel warn",
		// sub $8, rsp; xor edi, edi; xor esi, esi; xor edx, edx; xor ecx, ecx;
		// xor r8d, r8d; xor r9d, r9d; call; add $8, rsp; xor eax, eax; ret
		pokes: on7("show_softirqs=4883ec0831ff31f631d231c94531c04531c9e8{__warn}4883c40831c0c3"),
		rows:  []string{"TestScenario/readers"},
	},
	{
		name:   "bandwidth-needs-all-cpus",
		breaks: "sched_rt_runtime_us cannot be written unless four CPUs are online",
		// mov __num_online_cpus, eax; cmp $4, eax; mov $-EBUSY, eax; jne +2;
		// xor eax, eax; ret
		pokes: on7("sched_dl_global_validate=8b05{__num_online_cpus}83f804b8f0ffffff750231c0c3"),
		rows:  []string{"TestScenario/sysctls"},
	},
	{
		name:   "trace-of-online-cpus",
		breaks: "the trace has what is in the buffers of the CPUs that are online, and no others",
		// bt %esi, __cpu_online_mask; jc +6; mov $1, %eax; ret; jmp
		pokes: on7("kobject_synth_uevent=0fa335{__cpu_online_mask}7206b801000000c3e9{ring_buffer_empty_cpu} " +
			"trace_empty:ring_buffer_empty_cpu=e8{kobject_synth_uevent} __find_next_entry:ring_buffer_empty_cpu=e8{kobject_synth_uevent}"),
		rows: []string{"TestScenario/trace-marker"},
	},
	{
		name:   "map-of-online-cpus",
		breaks: "a per-CPU map of BPF has the values of the CPUs that are online, and no others",
		// lea __cpu_online_mask, %rdi; jmp
		pokes: on7("kobject_synth_uevent=488d3d{__cpu_online_mask}e9{_find_next_bit} bpf_percpu_array_copy:_find_next_bit=e8{kobject_synth_uevent}"),
		rows:  []string{"TestScenario/bpf-maps"},
	},
	{
		name:   "schedulers-not-told",
		breaks: "BPF schedulers are not told of a CPU that goes",
		pokes:  on7("scx_rq_deactivate=ret"),
		flags:  []string{"-profile", "sched-ext"},
		rows:   []string{"TestScenario/sched-ext-ended", "TestScenario/sched-ext-queue"},
	},
	{
		name:   "task-events-not-scheduled",
		breaks: "the events of a task stop when the task is scheduled anew",
		pokes:  on7("__perf_event_task_sched_in=ret"),
		rows:   []string{"TestScenario/perf-task"},
	},
	{
		name:   "soft-timers-left",
		breaks: "a CPU that gets the timers of one that goes does not look when the first is due that expires in a softirq (-profile lowres-modules)",
		pokes:  all("retrigger_next_event=ret"),
		flags:  []string{"-profile", "lowres-modules"},
		rows:   []string{"TestScenario/soft-timers"},
	},
	{
		name:   "disk-not-drained",
		breaks: "a CPU goes offline while a queue of a disk, which it alone serves, has requests",
		pokes:  all("blk_mq_hctx_notify_offline=ret0"),
		flags:  modules,
		rows:   []string{"TestScenario/block-reads"},
	},
	{
		name:   "disk-interrupts-not-moved",
		breaks: "the interrupts of a disk stay with the CPU that goes, and are not shut down",
		pokes:  all("irq_migrate_all_off_this_cpu=ret"),
		flags:  modules,
		rows:   []string{"TestScenario/block-reads"},
	},
}
