package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

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
// [unix.SCHED_EXT] alone. Make one with [Kernel.StartScheduler].
type Scheduler struct {
	loaded  *ebpf.Collection
	enabled link.Link
}

// Names of the scheduler's maps.
const (
	valuesMap    = "values"
	callbacksMap = "hotplugtest"
)

// StartScheduler loads a scheduler and enables it. With queue, its tasks wait in
// a queue of its own, from which each CPU takes the next one, and it has
// callbacks for CPUs that go offline and online. Without, the kernel's defaults
// do all.
//
// The error wraps [unix.EBUSY] if there is another scheduler.
func (k *Kernel) StartScheduler(queue bool) (*Scheduler, error) {
	spec, err := k.scheduler(queue)
	if err != nil {
		return nil, err
	}
	s := new(Scheduler)
	if s.loaded, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: k.cache}); err != nil {
		return nil, failed("load", "the scheduler", err)
	}
	if s.enabled, err = link.AttachStructOps(link.StructOpsOptions{Map: s.loaded.Maps[callbacksMap]}); err != nil {
		return nil, errors.Join(failed("enable", "the scheduler", err), s.Close())
	}
	return s, nil
}

// scheduler returns what is to be loaded: the callbacks' programs, a map for
// what they see, and a map of the callbacks.
func (k *Kernel) scheduler(queue bool) (*ebpf.CollectionSpec, error) {
	callbacks, err := k.callbacks(queue)
	if err != nil {
		return nil, err
	}
	ops, value := userOps(slices.Sorted(maps.Keys(callbacks)))
	spec := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{
			valuesMap: {Name: valuesMap, Type: ebpf.Array, KeySize: 4, ValueSize: atCPUs + maxCPUs*perCPU, MaxEntries: 1},
			callbacksMap: {
				Name: callbacksMap, Type: ebpf.StructOpsMap, KeySize: 4, ValueSize: ops.Size, MaxEntries: 1, Flags: unix.BPF_F_LINK,
				Value: ops, Contents: []ebpf.MapKV{{Key: uint32(0), Value: value}},
			},
		},
		Programs: make(map[string]*ebpf.ProgramSpec),
	}
	for name, code := range callbacks {
		p := &ebpf.ProgramSpec{
			Name: name, Type: ebpf.StructOps, AttachType: ebpf.AttachStructOps, AttachTo: opsType + ":" + name,
			Instructions: code, License: "GPL",
		}
		if name == "init" {
			p.Flags = unix.BPF_F_SLEEPABLE
		}
		spec.Programs[name] = p
	}
	return spec, nil
}

// userOps returns a struct of some members of struct sched_ext_ops, and its
// value. The library writes the programs of the callbacks in where the kernel
// has them.
func userOps(callbacks []string) (ops *btf.Struct, value []byte) {
	ops = &btf.Struct{Name: opsType}
	add := func(name string, t btf.Type, bytes []byte) {
		ops.Members = append(ops.Members, btf.Member{Name: name, Type: t, Offset: btf.Bits(8 * len(value))})
		value = append(value, bytes...)
		ops.Size = uint32(len(value))
	}
	const nameLength = 128 // SCX_OPS_NAME_LEN
	char, u64 := &btf.Int{Name: "char", Size: 1}, &btf.Int{Name: "u64", Size: 8}
	name := append([]byte("hotplugtest"), make([]byte, nameLength)...)
	add("name", &btf.Array{Index: u64, Type: char, Nelems: nameLength}, name[:nameLength])
	add("flags", u64, binary.NativeEndian.AppendUint64(nil, switchPartial))
	for _, name := range callbacks {
		add(name, &btf.Pointer{Target: &btf.Void{}}, make([]byte, 8))
	}
	return ops, value
}

// callbacks returns the code of the scheduler's callbacks, by the names of the
// members of struct sched_ext_ops. Each has a pointer to its arguments in R1,
// and its values in R9.
func (k *Kernel) callbacks(queue bool) (map[string]asm.Instructions, error) {
	kind, failedKind := k.offset(exitInfoType, "kind")
	exitCode, failedCode := k.offset(exitInfoType, "exit_code")
	if err := errors.Join(failedKind, failedCode); err != nil {
		return nil, err
	}
	code := map[string]asm.Instructions{
		// void exit(struct scx_exit_info *info)
		"exit": callback(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, kind, asm.Word),
			asm.StoreMem(asm.R9, atKind, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, exitCode, asm.DWord),
			asm.StoreMem(asm.R9, atCode, asm.R2, asm.DWord),
		),
	}
	if !queue {
		return code, nil
	}
	// void cpu_offline(s32 cpu), void cpu_online(s32 cpu)
	for i, name := range []string{"cpu_offline", "cpu_online"} {
		code[name] = callback(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.JGE.Imm(asm.R1, maxCPUs, endOfCallback),
			asm.Mul.Imm(asm.R1, perCPU),
			asm.Add.Reg(asm.R9, asm.R1),
			asm.Mov.Imm(asm.R2, 1),
			asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, int16(atCPUs+8*i)),
		)
	}
	return code, k.addQueue(code)
}

// endOfCallback is a label.
const endOfCallback = "end"

// callback returns the code of a callback that returns nothing, or 0.
func callback(code ...asm.Instruction) asm.Instructions {
	all := append(asm.Instructions{asm.LoadMapValue(asm.R9, 0, 0).WithReference(valuesMap)}, code...)
	return append(all, asm.Mov.Imm(asm.R0, 0).WithSymbol(endOfCallback), asm.Return())
}

// addQueue adds the callbacks for the queue.
func (k *Kernel) addQueue(code map[string]asm.Instructions) error {
	makeQueue, failedMake := k.call(createQueue)
	toQueue, failedTo := k.call(insertTask, insertTask612)
	fromQueue, failedFrom := k.call(moveToLocal, moveToLocal612)
	if err := errors.Join(failedMake, failedTo, failedFrom); err != nil {
		return err
	}
	// s32 init(void)
	code["init"] = asm.Instructions{
		asm.LoadImm(asm.R1, queueID, asm.DWord),
		asm.Mov.Imm(asm.R2, -1), // the NUMA node: any
		makeQueue,
		asm.Return(),
	}
	// void enqueue(struct task_struct *p, u64 flags)
	code["enqueue"] = callback(
		asm.LoadMem(asm.R4, asm.R1, 8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, atQueued),
		asm.LoadImm(asm.R2, queueID, asm.DWord),
		asm.LoadImm(asm.R3, slice, asm.DWord),
		toQueue,
	)
	// void dispatch(s32 cpu, struct task_struct *prev)
	code["dispatch"] = callback(asm.LoadImm(asm.R1, queueID, asm.DWord), fromQueue)
	return nil
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
	buf, err := s.loaded.Maps[valuesMap].LookupBytes(uint32(0))
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
func (s *Scheduler) Close() (err error) {
	if s.enabled != nil {
		err = s.enabled.Close()
	}
	s.loaded.Close()
	return failed("close", "the scheduler", err)
}
