package main

// oneCpuset are arguments for a machine without the crowd of cpusets that makes
// some windows wide: those of a delay are wide without it.
var oneCpuset = []string{"-cpusets", "1"}

// queueWork is code that queues the work reboot_work, which nothing else in the
// guest does, and returns: mov $WORK_CPU_UNBOUND, %edi; mov system_unbound_wq,
// %rsi; lea reboot_work, %rdx; jmp.
const queueWork = "bf00200000488b35{system_unbound_wq}488d15{reboot_work}e9{queue_work_on}"

// queueUevent does so with the object of a uevent, and lateUevent is the
// beginning of work that sends it: mov %rdi, poweroff_cmd; mov poweroff_cmd,
// %rdi. The name of the command to power off is not needed.
const (
	queueUevent = "48893d{poweroff_cmd}" + queueWork
	lateUevent  = "488b3d{poweroff_cmd}"
)

// lateWork is the function of reboot_work, which waits before it does what a
// mutant says.
const lateWork = "reboot_work_func=500ms"

// late are pokes that replace a call by one that queues work, for which nobody
// waits. The work's function begins behind the bytes that a delay needs.
func late(queue, work string, call map[string]string) map[string]string {
	pokes := make(map[string]string)
	for kernel, entry := range map[string]string{"6.1": "+5", every: "+9"} {
		where, ok := call[kernel]
		if !ok {
			where = call[every]
		}
		pokes[kernel] = "kobject_synth_uevent=" + queue + " reboot_work_func" + entry + "=" + work + " " + where + "=e8{kobject_synth_uevent}"
	}
	return pokes
}
