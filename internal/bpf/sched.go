package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
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

// A Kernel has what schedulers need of the types of the running kernel. Make one
// with [NewKernel].
type Kernel struct{ types map[string]kernelType }

// Names of the kernel's types and functions.
const (
	valueType    = "bpf_struct_ops_sched_ext_ops" // around the next one
	opsType      = "sched_ext_ops"
	exitInfoType = "scx_exit_info"

	createQueue    = "scx_bpf_create_dsq"
	insertTask     = "scx_bpf_dsq_insert"
	moveToLocal    = "scx_bpf_dsq_move_to_local"
	insertTask612  = "scx_bpf_dispatch" // the same in v6.12
	moveToLocal612 = "scx_bpf_consume"
)

// NewKernel reads the types.
func NewKernel() (*Kernel, error) {
	btf, end, err := readTypes()
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel has no CONFIG_DEBUG_INFO_BTF: %w", ErrNotSupported, err)
	}
	defer end()
	types, err := findTypes(btf, valueType, opsType, exitInfoType, createQueue, insertTask, moveToLocal, insertTask612, moveToLocal612)
	if err == nil {
		if _, ok := types[valueType]; !ok {
			return nil, fmt.Errorf("%w: the kernel has no CONFIG_SCHED_CLASS_EXT", ErrNotSupported)
		}
	}
	return &Kernel{types}, failed("read", typesFile, err)
}

// call returns the call of a function of the kernel, the first of the names that
// there is.
func (k *Kernel) call(names ...string) (asm.Instruction, error) {
	for _, name := range names {
		if f, ok := k.types[name]; ok {
			return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(f.id)}, nil
		}
	}
	return asm.Instruction{}, fmt.Errorf("%w: the kernel has no function %s", ErrNotSupported, names[0])
}

// A Scheduler is a scheduler of sched_ext, for threads with the policy
// [unix.SCHED_EXT] alone. Make one with [Kernel.StartScheduler].
type Scheduler struct {
	values *ebpf.Map
	fds    []int // of programs, of the map of callbacks, and of its link, which is closed first
}

// StartScheduler loads a scheduler and enables it. With queue, its tasks wait in
// a queue of its own, from which each CPU takes the next one, and it has
// callbacks for CPUs that go offline and online. Without, the kernel's defaults
// do all.
//
// The error wraps [unix.EBUSY] if there is another scheduler.
func (k *Kernel) StartScheduler(queue bool) (*Scheduler, error) {
	s := new(Scheduler)
	err := s.start(k, queue)
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	return s, err
}

func (s *Scheduler) start(k *Kernel, queue bool) (err error) {
	size := uint32(atCPUs + maxCPUs*perCPU)
	if s.values, err = newMap(&ebpf.MapSpec{Name: "values", Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: 1}); err != nil {
		return err
	}
	keep := func(fd int, err error) (int, error) {
		if err == nil {
			s.fds = append(s.fds, fd)
		}
		return fd, err
	}
	callbacks, err := s.callbacks(k, queue)
	if err != nil {
		return err
	}
	bytes := make([]byte, k.types[valueType].size)
	_, base, err := k.types[valueType].find("data")
	if err != nil {
		return failed("read", typesFile, err)
	}
	set := func(member string, value []byte) error {
		_, offset, err := k.types[opsType].find(member)
		copy(bytes[base+offset:], value)
		return failed("read", typesFile, err)
	}
	err = errors.Join(set("name", []byte("hotplugtest")), set("flags", binary.NativeEndian.AppendUint64(nil, switchPartial)))
	for name, code := range callbacks {
		fd, failed := keep(loadCallback(k.types[opsType], name, code))
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		err = set(name, binary.NativeEndian.AppendUint64(nil, uint64(fd)))
	}
	if err != nil {
		return err
	}
	fd, err := keep(newCallbacks(k.types[valueType], bytes))
	if err == nil {
		_, err = keep(linkCallbacks(fd))
	}
	return err
}

// callbacks returns the code of the scheduler's callbacks, by the names of the
// members of struct sched_ext_ops. Each has a pointer to its arguments in R1,
// and its values in R9.
func (s *Scheduler) callbacks(k *Kernel, queue bool) (map[string]asm.Instructions, error) {
	_, kind, failedKind := k.types[exitInfoType].find("kind")
	_, exitCode, failedCode := k.types[exitInfoType].find("exit_code")
	if err := errors.Join(failedKind, failedCode); err != nil {
		return nil, failed("read", typesFile, err)
	}
	code := map[string]asm.Instructions{
		// void exit(struct scx_exit_info *info)
		"exit": s.callback(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, int16(kind), asm.Word),
			asm.StoreMem(asm.R9, atKind, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, int16(exitCode), asm.DWord),
			asm.StoreMem(asm.R9, atCode, asm.R2, asm.DWord),
		),
	}
	if !queue {
		return code, nil
	}
	// void cpu_offline(s32 cpu), void cpu_online(s32 cpu)
	for i, name := range []string{"cpu_offline", "cpu_online"} {
		code[name] = s.callback(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.JGE.Imm(asm.R1, maxCPUs, endOfCallback),
			asm.Mul.Imm(asm.R1, perCPU),
			asm.Add.Reg(asm.R9, asm.R1),
			asm.Mov.Imm(asm.R2, 1),
			asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, int16(atCPUs+8*i)),
		)
	}
	return code, s.addQueue(k, code)
}

// endOfCallback is a label.
const endOfCallback = "end"

// callback returns the code of a callback that returns nothing, or 0.
func (s *Scheduler) callback(code ...asm.Instruction) asm.Instructions {
	all := append(asm.Instructions{asm.LoadMapValue(asm.R9, s.values.FD(), 0)}, code...)
	return append(all, asm.Mov.Imm(asm.R0, 0).WithSymbol(endOfCallback), asm.Return())
}

// addQueue adds the callbacks for the queue.
func (s *Scheduler) addQueue(k *Kernel, code map[string]asm.Instructions) error {
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
	code["enqueue"] = s.callback(
		asm.LoadMem(asm.R4, asm.R1, 8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, atQueued),
		asm.LoadImm(asm.R2, queueID, asm.DWord),
		asm.LoadImm(asm.R3, slice, asm.DWord),
		toQueue,
	)
	// void dispatch(s32 cpu, struct task_struct *prev)
	code["dispatch"] = s.callback(asm.LoadImm(asm.R1, queueID, asm.DWord), fromQueue)
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
	for _, fd := range slices.Backward(s.fds) {
		errs = append(errs, unix.Close(fd))
	}
	s.fds = nil
	if s.values != nil {
		errs = append(errs, s.values.Close())
	}
	return failed("close", "the scheduler", errors.Join(errs...))
}
