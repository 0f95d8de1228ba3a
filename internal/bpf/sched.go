package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Of enum scx_ops_flags, enum scx_exit_code and enum scx_exit_kind in
// kernel/sched/ext_internal.h.
const (
	switchPartial = 1 << 3 // SCX_OPS_SWITCH_PARTIAL

	// EndedByKernel is SCX_EXIT_UNREG_KERN: neither an error nor a wish of the
	// process.
	EndedByKernel = 66
	// Hotplug is SCX_ECODE_ACT_RESTART | SCX_ECODE_RSN_HOTPLUG.
	Hotplug = 1<<48 | 1<<32
)

// The queue in which tasks wait, and for how long one of them runs.
const (
	queueID = 1
	slice   = 20_000_000 // ns: SCX_SLICE_DFL
)

// The values in the scheduler's map: what exit() was told, how often enqueue()
// was called, and how often cpu_offline() and cpu_online() were for each CPU.
const (
	atKind = 8 * iota
	atCode
	atQueued
	atCPUs

	maxCPUs = 4096
	perCPU  = 2 * 8
)

// A Scheduler is a scheduler of sched_ext, for threads with the policy
// [unix.SCHED_EXT] alone. Make one with [StartScheduler].
type Scheduler struct {
	values   *ebpf.Map
	programs map[string]*ebpf.Program
	ops      *ebpf.Map
	link     link.Link
}

// StartScheduler loads a scheduler and enables it. With queue, its tasks wait in
// a queue of its own, from which each CPU takes the next one, and it has
// callbacks for CPUs that go offline and online. Without, the kernel's defaults
// do all.
//
// The error wraps [unix.EBUSY] if there is another scheduler.
func StartScheduler(queue bool) (*Scheduler, error) {
	s := &Scheduler{programs: make(map[string]*ebpf.Program)}
	// What is parsed of the kernel's types takes many megabytes.
	defer btf.FlushKernelSpec()
	err := s.start(queue)
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	return s, err
}

func (s *Scheduler) start(queue bool) error {
	k, err := kernelTypes()
	if err != nil {
		return failed("read", "the kernel's types", err)
	}
	size := uint32(atCPUs + maxCPUs*perCPU)
	if s.values, err = newMap(&ebpf.MapSpec{Name: "values", Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: 1}); err != nil {
		return err
	}
	callbacks, err := s.callbacks(k, queue)
	if err != nil {
		return err
	}
	ops := make([]byte, k.value.Size)
	for name, code := range callbacks {
		spec := &ebpf.ProgramSpec{Name: name, Type: ebpf.StructOps, AttachTo: "sched_ext_ops:" + name, Instructions: code}
		if name == "init" {
			// It may sleep when it makes the queue.
			spec.Flags = unix.BPF_F_SLEEPABLE
		}
		if s.programs[name], err = newProgram(spec); err != nil {
			return err
		}
		binary.NativeEndian.PutUint64(ops[k.offset(name):], uint64(s.programs[name].FD()))
	}
	binary.NativeEndian.PutUint64(ops[k.offset("flags"):], switchPartial)
	copy(ops[k.offset("name"):], "hotplugtest")
	s.ops, err = newMap(&ebpf.MapSpec{
		Name: "hotplugtest", Type: ebpf.StructOpsMap, Flags: unix.BPF_F_LINK, MaxEntries: 1,
		Key: &btf.Int{Size: 4}, KeySize: 4, Value: &btf.Struct{Name: "sched_ext_ops"},
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: ops}},
	})
	if err != nil {
		return err
	}
	s.link, err = link.AttachStructOps(link.StructOpsOptions{Map: s.ops})
	return failed("enable", "the scheduler", err)
}

// callbacks returns the code of the scheduler's callbacks, by the names of the
// members of struct sched_ext_ops. Each has a pointer to its arguments in R1,
// and its values in R9.
func (s *Scheduler) callbacks(k *types, queue bool) (map[string]asm.Instructions, error) {
	begin := func(code ...asm.Instruction) asm.Instructions {
		return append(asm.Instructions{asm.LoadMapValue(asm.R9, s.values.FD(), 0)}, code...)
	}
	end := []asm.Instruction{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	code := map[string]asm.Instructions{
		// void exit(struct scx_exit_info *info)
		"exit": append(begin(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, k.kind, asm.Word),
			asm.StoreMem(asm.R9, atKind, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, k.code, asm.DWord),
			asm.StoreMem(asm.R9, atCode, asm.R2, asm.DWord),
		), end...),
	}
	if !queue {
		return code, nil
	}
	create, failedCreate := k.call("scx_bpf_create_dsq")
	// v6.12 has other names.
	insert, failedInsert := k.call("scx_bpf_dsq_insert", "scx_bpf_dispatch")
	move, failedMove := k.call("scx_bpf_dsq_move_to_local", "scx_bpf_consume")
	if err := errors.Join(failedCreate, failedInsert, failedMove); err != nil {
		return nil, failed("find", "the functions of sched_ext", err)
	}
	// s32 init(void)
	code["init"] = asm.Instructions{
		asm.LoadImm(asm.R1, queueID, asm.DWord),
		asm.Mov.Imm(asm.R2, -1), // the NUMA node: any
		create,
		asm.Return(),
	}
	// void enqueue(struct task_struct *p, u64 flags)
	code["enqueue"] = append(begin(
		asm.LoadMem(asm.R4, asm.R1, 8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R9, asm.R2, asm.DWord).WithOffset(atQueued),
		asm.LoadImm(asm.R2, queueID, asm.DWord),
		asm.LoadImm(asm.R3, slice, asm.DWord),
		insert,
	), end...)
	// void dispatch(s32 cpu, struct task_struct *prev)
	code["dispatch"] = append(asm.Instructions{asm.LoadImm(asm.R1, queueID, asm.DWord), move}, end...)
	// void cpu_offline(s32 cpu), void cpu_online(s32 cpu)
	for i, name := range []string{"cpu_offline", "cpu_online"} {
		code[name] = append(begin(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.JGE.Imm(asm.R1, maxCPUs, "end"),
			asm.Mul.Imm(asm.R1, perCPU),
			asm.Add.Reg(asm.R9, asm.R1),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R9, asm.R2, asm.DWord).WithOffset(int16(atCPUs+8*i)),
		), asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return())
	}
	return code, nil
}

// Seen is what a scheduler has been told so far.
type Seen struct {
	// Kind and Code are those of struct scx_exit_info when it has been ended,
	// 0 before.
	Kind, Code uint64
	// Queued is how often tasks came to its queue.
	Queued uint64
	// Offline and Online are how often it was told that the CPU goes offline
	// or has come online.
	Offline, Online uint64
}

// Seen returns what the scheduler has been told, and of a CPU.
func (s *Scheduler) Seen(cpu int) (Seen, error) {
	buf, err := s.values.LookupBytes(uint32(0))
	if err == nil && cpu >= maxCPUs {
		err = fmt.Errorf("cpu%d is beyond what it can tell of", cpu)
	}
	if err != nil {
		return Seen{}, failed("read", "the scheduler's values", err)
	}
	value := func(at int) uint64 { return binary.NativeEndian.Uint64(buf[at:]) }
	return Seen{value(atKind), value(atCode), value(atQueued), value(atCPUs + cpu*perCPU), value(atCPUs + cpu*perCPU + 8)}, nil
}

// Close ends the scheduler, if it has not been, and frees it.
func (s *Scheduler) Close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	for _, m := range []*ebpf.Map{s.ops, s.values} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	for _, p := range s.programs {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return failed("close", "the scheduler", errors.Join(errs...))
}
