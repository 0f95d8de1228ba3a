package main

import (
	"slices"
	"strings"
)

// series is a kernel that the pokes of the table fit.
type series struct {
	name  string // as in the table
	suite string // Debian's suite that has it
}

var kernels = []series{{"6.1", "bookworm"}, {"6.12", "trixie"}, {"7.x", "sid"}}

func suites() (names []string) {
	for _, k := range kernels {
		names = append(names, k.suite)
	}
	return names
}

// mutant is one way to break a kernel.
type mutant struct {
	name   string
	breaks string // what is broken, as a sentence about the kernel
	// by the kernel's name, or every for all others: what ci/selftest -poke
	// takes, separated by blanks
	pokes map[string]string
	// what ci/selftest -delay takes, separated by blanks: without them the mutant
	// shows by chance, or not at all
	delays string
	flags  []string // for ci/selftest, beside these
	args   []string // for the test binary
	// each as in go test -run: at least one of the tests that it matches has to
	// fail
	rows []string

	// invisible is why no program can see it, or why the suite does not look:
	// then it may survive.
	invisible string

	short []string // the kernels that it is on the short list for
}

// every in a mutant's pokes stands for each kernel that is not in there.
const every = ""

// pokesFor returns the pokes that make the mutant of a kernel, if there is one.
func (m *mutant) pokesFor(k series) (pokes []string, ok bool) {
	text, ok := m.pokes[k.name]
	if !ok {
		text = m.pokes[every]
	}
	pokes = strings.Fields(text)
	return pokes, len(pokes) > 0
}

// smt are the flags for a machine with two threads a core.
var smt = []string{"-smp", "4,cores=2,threads=2"}

// queueRebuild is a poke of kobject_synth_uevent that queues the work of a
// name, which rebuilds the scheduling domains, and returns 0.
func queueRebuild(work string) string {
	// lea rdx, [rip + …]; mov rsi, [rip + …]; mov edi, NR_CPUS, which is
	// WORK_CPU_UNBOUND; sub rsp, 8; call; add rsp, 8; xor eax, eax; ret
	return "kobject_synth_uevent=488d15{" + work + "}488b35{system_highpri_wq}bf002000004883ec08e8{queue_work_on}4883c40831c0c3"
}

func all(pokes string) map[string]string { return map[string]string{every: pokes} }

var mutants = slices.Concat(hotplugMutants, contentMutants, queueMutants)

// hotplugMutants are for amd64. Where code has to be added it is put into
// kobject_synth_uevent(), which only a write to a uevent file in sysfs calls.
var hotplugMutants = []mutant{
	{
		name:   "cpuset-wait-missing",
		breaks: "cpuset_wait_for_hotplug() does not wait: the kernel before v5.14",
		pokes:  map[string]string{"6.1": "cpuset_wait_for_hotplug=ret"},
		rows:   []string{"TestOnline/at-uevent/affinity/child-cpuset", "TestOnline/at-return/affinity/child-cpuset", "TestOffline/at-.*/effective/child-cpuset"},
		short:  []string{"6.1"},
	},
	{
		name:   "cpuset-wait-missing-up",
		breaks: "_cpu_up() does not wait for the cpusets",
		pokes:  map[string]string{"6.1": "_cpu_up:cpuset_wait_for_hotplug=nop"},
		rows:   []string{"TestOnline/at-.*/affinity/child-cpuset", "TestOnline/at-.*/effective/child-cpuset"},
	},
	{
		name:   "cpuset-wait-missing-down",
		breaks: "_cpu_down() does not wait for the cpusets",
		pokes:  map[string]string{"6.1": "_cpu_down:cpuset_wait_for_hotplug=nop"},
		rows:   []string{"TestOffline/at-.*/effective/child-cpuset"},
	},
	{
		name:   "cpuset-update-missing",
		breaks: "the cpusets are not told of CPUs that come and go",
		pokes:  all("cpuset_update_active_cpus=ret"),
		rows:   []string{"TestOffline/at-return/effective"},
	},
	{
		name:   "cpuset-update-missing-up",
		breaks: "the cpusets are not told of CPUs that come",
		pokes:  all("sched_cpu_activate:cpuset_update_active_cpus=nop"),
		rows:   []string{"TestOnline/at-return/effective", "TestOnline/at-return/affinity/child-cpuset"},
	},
	{
		name:   "cpuset-tasks-not-updated",
		breaks: "the tasks of a cpuset keep the mask that they had before the CPU came",
		pokes: map[string]string{
			"6.1": "cpuset_hotplug_workfn:update_tasks_cpumask=nop",
			every: "cpuset_handle_hotplug:cpuset_update_tasks_cpumask=nop",
		},
		rows: []string{"TestOnline/at-return/getaffinity/child-cpuset"},
	},
	{
		name:   "online-uevent-missing",
		breaks: "device_online() sends no uevent",
		pokes:  all("device_online:kobject_uevent=nop"),
		rows:   []string{"TestOnline/at-return/uevent"},
	},
	{
		name:   "offline-uevent-missing",
		breaks: "device_offline() sends no uevent",
		pokes:  all("device_offline:kobject_uevent=nop"),
		rows:   []string{"TestOffline/at-return/uevent"},
	},
	{
		name:   "online-uevent-twice",
		breaks: "device_online() sends its uevent twice",
		// push rdi, rsi; call; pop rsi, rdi; jmp
		pokes: all("kobject_synth_uevent=5756e8{kobject_uevent}5e5fe9{kobject_uevent} device_online:kobject_uevent=e8{kobject_synth_uevent}"),
		rows:  []string{"TestOnline/at-return/uevent"},
	},
	{
		name:   "offline-uevent-is-online",
		breaks: "device_offline() sends the uevent of device_online()",
		// mov esi, KOBJ_ONLINE; jmp
		pokes: all("kobject_synth_uevent=be04000000e9{kobject_uevent} device_offline:kobject_uevent=e8{kobject_synth_uevent}"),
		rows:  []string{"TestOffline/at-return/uevent"},
	},
	{
		name:   "online-uevent-early",
		breaks: "the online uevent is sent before the CPU is brought up",
		// push rdi; mov esi, KOBJ_ONLINE; call; pop rdi; jmp
		pokes: all("kobject_synth_uevent=57be04000000e8{kobject_uevent}5fe9{cpu_device_up} cpu_subsys_online:cpu_device_up=e8{kobject_synth_uevent} device_online:kobject_uevent=nop"),
		rows:  []string{"TestOnline/at-uevent/affinity/root-cpuset", "TestOnline/at-uevent/online-mask"},
		short: []string{"7.x"},
	},
	{
		name:   "offline-uevent-early",
		breaks: "the offline uevent is sent before the CPU is taken down",
		// push rdi; mov esi, KOBJ_OFFLINE; call; pop rdi; jmp
		pokes: all("kobject_synth_uevent=57be05000000e8{kobject_uevent}5fe9{cpu_device_down} cpu_subsys_offline:cpu_device_down=e9{kobject_synth_uevent} device_offline:kobject_uevent=nop"),
		rows:  []string{"TestOffline/at-uevent/online-mask", "TestOffline/at-uevent/affinity/root-cpuset"},
	},
	{
		name:   "online-warns",
		breaks: "a CPU that comes online makes the kernel warn, and is as it should be otherwise",
		// push rdi, rsi; xor edi, edi; xor edx, edx; xor ecx, ecx; xor r8d,
		// r8d; xor r9d, r9d; call; pop rsi, rdi; jmp
		pokes: all("kobject_synth_uevent=575631ff31d231c94531c04531c9e8{__warn}5e5fe9{kobject_uevent} device_online:kobject_uevent=e8{kobject_synth_uevent}"),
		rows:  []string{"TestOnline/at-return/cpu-online"},
	},
	{
		name:   "online-does-nothing",
		breaks: "the CPU stays offline, with success and a uevent",
		// xor eax, eax; nop
		pokes: all("cpu_subsys_online:cpu_device_up=31c00f1f00"),
		rows:  []string{"TestOnline/at-return/affinity", "TestOnline/at-return/online-mask", "TestOnline/at-return/hotplug-state"},
	},
	{
		name:   "offline-does-nothing",
		breaks: "the CPU stays online, with success and a uevent",
		// xor eax, eax; ret
		pokes: all("cpu_subsys_offline:cpu_device_down=31c0c39090"),
		rows:  []string{"TestOffline/at-return/affinity", "TestOffline/at-return/online-mask", "TestOffline/at-return/hotplug-state"},
	},
	{
		name:   "topology-not-added",
		breaks: "topology/ does not come back with the CPU",
		pokes:  all("topology_add_dev=ret0"),
		rows:   []string{"TestOnline/at-uevent/topology", "TestOnline/at-return/topology"},
	},
	{
		name:   "topology-not-removed",
		breaks: "topology/ stays when the CPU goes",
		pokes:  all("topology_remove_dev=ret0"),
		rows:   []string{"TestOffline/at-return/topology"},
	},
	{
		name:   "cache-not-added",
		breaks: "cache/ does not come back with the CPU",
		pokes:  all("cacheinfo_cpu_online=ret0"),
		rows:   []string{"TestOnline/at-return/cache$"},
	},
	{
		name:   "cache-not-removed",
		breaks: "cache/ stays when the CPU goes",
		pokes:  all("cacheinfo_cpu_pre_down=ret0"),
		rows:   []string{"TestOffline/at-return/cache$"},
	},
	{
		name:   "perf-not-initialised",
		breaks: "perf does not know that the CPU came",
		pokes:  all("perf_event_init_cpu=ret0"),
		rows:   []string{"TestOnline/at-return/perf-event"},
	},
	{
		name:   "perf-not-exited",
		breaks: "perf does not know that the CPU went",
		pokes:  all("perf_event_exit_cpu=ret0"),
		rows:   []string{"TestOffline/at-return/perf-event"},
	},
	{
		name:   "node-without-cpu",
		breaks: "the NUMA node does not get its CPU back",
		pokes:  all("numa_add_cpu=ret"),
		rows:   []string{"TestOnline/at-return/node"},
	},
	{
		name:   "cpu-not-active",
		breaks: "the scheduler does not use the CPU that came",
		pokes:  all("sched_cpu_activate=ret0"),
		rows:   []string{"TestOnline/at-return/getaffinity", "TestScenario/load", "TestScenario/online-masks", "TestScenario/mask-half-offline"},
	},
	{
		name:   "stat-of-all-cpus",
		breaks: "/proc/stat has a line for each possible CPU",
		// lea rdi, [rip + …]; jmp
		pokes: all("kobject_synth_uevent=488d3d{__cpu_possible_mask}e9{_find_next_bit} show_stat:_find_next_bit=e8{kobject_synth_uevent}"),
		rows:  []string{"TestOffline/at-return/proc-stat"},
	},
	{
		name:   "interrupts-of-all-cpus",
		breaks: "/proc/interrupts has a column for each possible CPU",
		pokes: map[string]string{
			"6.1":  "kobject_synth_uevent=488d3d{__cpu_possible_mask}e9{_find_next_bit} show_interrupts:_find_next_bit=e8{kobject_synth_uevent}",
			"6.12": "kobject_synth_uevent=488d3d{__cpu_possible_mask}e9{_find_next_bit} show_interrupts:_find_next_bit=e8{kobject_synth_uevent}",
		},
		rows: []string{"TestOffline/at-return/proc-interrupts"},
	},
	{
		name:   "offline-mask-empty",
		breaks: "/sys/devices/system/cpu/offline lists no CPU",
		pokes:  all("print_cpus_offline=ret0"),
		rows:   []string{"TestOffline/at-return/offline-mask"},
	},
	{
		name:   "smt-off-does-nothing",
		breaks: "the siblings stay online when SMT is turned off, with success and uevents",
		pokes: map[string]string{
			"7.x": "cpuhp_smt_disable:_cpu_down=31c00f1f00",
			every: "cpuhp_smt_disable:cpu_down_maps_locked=31c00f1f00",
		},
		flags: smt,
		rows:  []string{"TestSMT/off/at-return/online-mask", "TestSMT/off/at-return/affinity"},
	},
	{
		name:   "smt-on-does-nothing",
		breaks: "the siblings stay offline when SMT is turned on, with success and uevents",
		pokes:  all("cpuhp_smt_enable:_cpu_up=31c00f1f00"),
		flags:  smt,
		rows:   []string{"TestSMT/on/at-return/online-mask", "TestSMT/on/at-return/affinity"},
	},
	{
		name:   "smt-off-uevent-missing",
		breaks: "no uevent is sent for the siblings when SMT is turned off",
		pokes:  all("cpuhp_smt_disable:kobject_uevent=nop"),
		flags:  smt,
		rows:   []string{"TestSMT/off/at-return/uevent"},
	},
	{
		name:   "smt-on-uevent-missing",
		breaks: "no uevent is sent for the siblings when SMT is turned on",
		pokes:  all("cpuhp_smt_enable:kobject_uevent=nop"),
		flags:  smt,
		rows:   []string{"TestSMT/on/at-return/uevent"},
	},
	{
		name:   "thaw-leaves-cpus-down",
		breaks: "the CPUs stay offline after a suspend",
		// xor eax, eax; nop: as if it had succeeded
		pokes: all("thaw_secondary_cpus.cold:_cpu_up=31c00f1f00"),
		rows:  []string{"TestSuspend/mem-core/after-resume/online-mask"},
	},
	{
		name:   "rollback-missing",
		breaks: "the callbacks of a CPU that fails to come are not undone",
		// test dil, dil; jz +5; jmp; xor eax, eax; ret: the first argument
		// tells which way the callbacks are called.
		pokes: all("kobject_synth_uevent=4084ff7405e9{__cpuhp_invoke_callback_range}31c0c3 _cpu_up:__cpuhp_invoke_callback_range=e8{kobject_synth_uevent}"),
		rows:  []string{"TestRollback/online"},
	},
	{
		name:   "domains-not-rebuilt",
		breaks: "the scheduling domains stay as they were when a CPU comes or goes",
		pokes:  map[string]string{"6.1": "cpuset_hotplug_workfn:rebuild_sched_domains_locked=nop", every: "cpuset_handle_hotplug:rebuild_sched_domains_locked=nop"},
		rows:   []string{"TestOffline/at-return/sched-domains"},
	},
	{
		name:   "domains-rebuilt-later",
		breaks: "the scheduling domains are rebuilt by work that nobody waits for",
		pokes: map[string]string{
			"6.12": queueRebuild("rebuild_sd_work") + " cpuset_handle_hotplug:rebuild_sched_domains_locked=e8{kobject_synth_uevent}",
			"7.x":  queueRebuild("rebuild_sd_work.0") + " cpuset_handle_hotplug:rebuild_sched_domains_locked=e8{kobject_synth_uevent}",
		},
		rows: []string{"TestOnline/at-return/settled"},
	},
	{
		name:   "vmstat-later",
		breaks: "the thresholds of the memory statistics are left to work that nobody waits for",
		// The work has to take the lock that the operation holds.
		pokes: map[string]string{"6.12": queueRebuild("rebuild_sd_work") + " vmstat_cpu_online=e9{kobject_synth_uevent}"},
		rows:  []string{"TestOnline/at-return/settled"},
	},
	{
		name:   "timers-not-migrated",
		breaks: "the timers of a CPU that goes stay there",
		pokes:  all("timers_dead_cpu=ret0"),
		rows:   []string{"TestOffline/at-.*/timeout"},
	},
	{
		name:   "hrtimers-not-migrated",
		breaks: "the high-resolution timers of a CPU that goes stay there",
		pokes:  all("hrtimers_cpu_dying=ret0"),
		rows:   []string{"TestOffline/at-.*/hrtimer"},
	},
	{
		name:   "irqs-not-moved",
		breaks: "the interrupts of a CPU that goes stay there",
		pokes:  all("irq_migrate_all_off_this_cpu=ret"),
		rows:   []string{"TestScenario/irqs"},
	},
	{
		name:   "deadline-unchecked",
		breaks: "a CPU goes though deadline tasks need it",
		pokes:  map[string]string{"7.x": "dl_bw_deactivate=ret0", every: "dl_bw_check_overflow=ret0"},
		rows:   []string{"TestScenario/deadline$"},
	},
	{
		name:   "quota-unenforced",
		breaks: "tasks that have used up their quota of cpu.max go on",
		pokes:  all("throttle_cfs_rq=ret0"),
		rows:   []string{"TestScenario/quota"},
	},
	{
		name:      "fallback-in-cpuset-missing",
		breaks:    "a task that loses its last CPU is not sent to the other CPUs of its cpuset",
		pokes:     all("cpuset_cpus_allowed_fallback=ret0"),
		invisible: "the update of the cpuset, which the operation waits for, moves the task into it before anybody can look",
	},
	{
		name:   "cpuset-update-late-up",
		breaks: "the cpusets are told of a CPU that comes online by work that nobody waits for",
		pokes:  late(queueWork, "e9{cpuset_update_active_cpus}", all("sched_cpu_activate:cpuset_update_active_cpus")),
		delays: lateWork,
		args:   oneCpuset,
		rows:   []string{"TestOnline/at-return/affinity/child-cpuset", "TestOnline/at-return/effective"},
	},
	{
		name:   "cpuset-update-late-down",
		breaks: "the cpusets are told of a CPU that goes offline by work that nobody waits for",
		pokes:  late(queueWork, "e9{cpuset_update_active_cpus}", all("sched_cpu_deactivate:cpuset_update_active_cpus")),
		delays: lateWork,
		args:   oneCpuset,
		rows:   []string{"TestOffline/at-return/effective"},
	},
	{
		name:   "domains-rebuilt-late",
		breaks: "the scheduling domains are rebuilt by work that nobody waits for",
		pokes: late(queueWork, "e9{rebuild_sched_domains}", map[string]string{
			"6.1": "cpuset_hotplug_workfn:rebuild_sched_domains_locked", every: "cpuset_handle_hotplug:rebuild_sched_domains_locked",
		}),
		delays: lateWork,
		args:   oneCpuset,
		rows:   []string{"TestOffline/at-return/sched-domains"},
	},
	{
		name:   "online-uevent-late",
		breaks: "the online uevent is sent by work that nobody waits for",
		// mov $KOBJ_ONLINE, %esi; jmp
		pokes:  late(queueUevent, lateUevent+"be04000000e9{kobject_uevent}", all("device_online:kobject_uevent")),
		delays: lateWork,
		args:   oneCpuset,
		rows:   []string{"TestOnline/at-return/uevent"},
	},
	{
		name:   "offline-uevent-late",
		breaks: "the offline uevent is sent by work that nobody waits for",
		// mov $KOBJ_OFFLINE, %esi; jmp
		pokes:  late(queueUevent, lateUevent+"be05000000e9{kobject_uevent}", all("device_offline:kobject_uevent")),
		delays: lateWork,
		args:   oneCpuset,
		rows:   []string{"TestOffline/at-return/uevent"},
	},
}
