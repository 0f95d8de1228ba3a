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

// Names of types and functions, and the same functions in v6.12.
const (
	value    = "bpf_struct_ops_sched_ext_ops" // around the next one
	ops      = "sched_ext_ops"
	exitInfo = "scx_exit_info"
	create   = "scx_bpf_create_dsq"
	insert   = "scx_bpf_dsq_insert"
	move     = "scx_bpf_dsq_move_to_local"
	insert12 = "scx_bpf_dispatch"
	move12   = "scx_bpf_consume"
)

// NewKernel reads the types.
func NewKernel() (*Kernel, error) {
	btf, end, err := readTypes()
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel has no CONFIG_DEBUG_INFO_BTF: %w", ErrNotSupported, err)
	}
	defer end()
	types, err := findTypes(btf, value, ops, exitInfo, create, insert, move, insert12, move12)
	if err == nil {
		if _, ok := types[value]; !ok {
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
	fds    []int // what is closed last is last
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
	bytes := make([]byte, k.types[value].size)
	_, base, err := k.types[value].find("data")
	if err != nil {
		return failed("read", typesFile, err)
	}
	set := func(member string, value []byte) error {
		_, offset, err := k.types[ops].find(member)
		copy(bytes[base+offset:], value)
		return failed("read", typesFile, err)
	}
	err = errors.Join(set("name", []byte("hotplugtest")), set("flags", binary.NativeEndian.AppendUint64(nil, switchPartial)))
	for name, code := range callbacks {
		fd, failed := keep(loadCallback(k.types[ops], name, code))
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		err = set(name, binary.NativeEndian.AppendUint64(nil, uint64(fd)))
	}
	if err != nil {
		return err
	}
	fd, err := keep(newCallbacks(k.types[value], bytes))
	if err == nil {
		_, err = keep(linkCallbacks(fd))
	}
	return err
}

// callbacks returns the code of the scheduler's callbacks, by the names of the
// members of struct sched_ext_ops. Each has a pointer to its arguments in R1,
// and its values in R9.
func (s *Scheduler) callbacks(k *Kernel, queue bool) (map[string]asm.Instructions, error) {
	_, kind, failedKind := k.types[exitInfo].find("kind")
	_, exitCode, failedCode := k.types[exitInfo].find("exit_code")
	if err := errors.Join(failedKind, failedCode); err != nil {
		return nil, failed("read", typesFile, err)
	}
	begin := func(code ...asm.Instruction) asm.Instructions {
		return append(asm.Instructions{asm.LoadMapValue(asm.R9, s.values.FD(), 0)}, code...)
	}
	end := []asm.Instruction{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	code := map[string]asm.Instructions{
		// void exit(struct scx_exit_info *info)
		"exit": append(begin(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, int16(kind), asm.Word),
			asm.StoreMem(asm.R9, atKind, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, int16(exitCode), asm.DWord),
			asm.StoreMem(asm.R9, atCode, asm.R2, asm.DWord),
		), end...),
	}
	if !queue {
		return code, nil
	}
	makeQueue, failedMake := k.call(create)
	toQueue, failedTo := k.call(insert, insert12)
	fromQueue, failedFrom := k.call(move, move12)
	if err := errors.Join(failedMake, failedTo, failedFrom); err != nil {
		return nil, err
	}
	// s32 init(void)
	code["init"] = asm.Instructions{
		asm.LoadImm(asm.R1, queueID, asm.DWord),
		asm.Mov.Imm(asm.R2, -1), // the NUMA node: any
		makeQueue,
		asm.Return(),
	}
	// void enqueue(struct task_struct *p, u64 flags)
	code["enqueue"] = append(begin(
		asm.LoadMem(asm.R4, asm.R1, 8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, atQueued),
		asm.LoadImm(asm.R2, queueID, asm.DWord),
		asm.LoadImm(asm.R3, slice, asm.DWord),
		toQueue,
	), end...)
	// void dispatch(s32 cpu, struct task_struct *prev)
	code["dispatch"] = append(asm.Instructions{asm.LoadImm(asm.R1, queueID, asm.DWord), fromQueue}, end...)
	// void cpu_offline(s32 cpu), void cpu_online(s32 cpu)
	for i, name := range []string{"cpu_offline", "cpu_online"} {
		code[name] = append(begin(
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.JGE.Imm(asm.R1, maxCPUs, "end"),
			asm.Mul.Imm(asm.R1, perCPU),
			asm.Add.Reg(asm.R9, asm.R1),
			asm.Mov.Imm(asm.R2, 1),
			asm.AddAtomic.Mem(asm.R9, asm.R2, asm.DWord, int16(atCPUs+8*i)),
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
	for _, fd := range slices.Backward(s.fds) {
		errs = append(errs, unix.Close(fd))
	}
	s.fds = nil
	if s.values != nil {
		errs = append(errs, s.values.Close())
	}
	return failed("close", "the scheduler", errors.Join(errs...))
}
