package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// A Counter is a program that adds one to its CPU's value in a per-CPU array,
// and in a per-CPU hash. Make one with [NewCounter].
type Counter struct {
	// Array and Hash have one key, 0.
	Array, Hash *PerCPU

	program *ebpf.Program
}

// NewCounter loads the program. Its counts are 0.
func NewCounter() (*Counter, error) {
	c := new(Counter)
	err := c.load()
	if err != nil {
		err = errors.Join(err, c.Close())
	}
	return c, err
}

func (c *Counter) load() (err error) {
	if err := features.HaveProgramType(ebpf.RawTracepoint); err != nil {
		return failed("load", "programs of raw tracepoints (CONFIG_BPF_EVENTS)", err)
	}
	if c.Array, err = newPerCPU("array", ebpf.PerCPUArray, 1); err != nil {
		return err
	}
	if c.Hash, err = newPerCPU("hash", ebpf.PerCPUHash, 1); err != nil {
		return err
	}
	if err := c.Hash.Set(0, make([]uint64, c.Hash.Values())); err != nil {
		return err
	}
	code := asm.Instructions{asm.StoreImm(asm.RFP, -4, 0, asm.Word)}
	for _, m := range []*PerCPU{c.Array, c.Hash} {
		code = append(code,
			asm.LoadMapPtr(asm.R1, m.m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end-of-"+m.name),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end-of-"+m.name),
		)
	}
	code = append(code, asm.FnGetSmpProcessorId.Call(), asm.Return())
	c.program, err = newProgram(&ebpf.ProgramSpec{Name: "hotplugtest", Type: ebpf.RawTracepoint, Instructions: code})
	return err
}

// RunOn has the program run once on a CPU, and returns the CPU on which it says
// it has run. The error wraps [unix.ENXIO] if the CPU is offline.
func (c *Counter) RunOn(cpu int) (int, error) {
	ran, err := c.program.Run(&ebpf.RunOptions{Flags: unix.BPF_F_TEST_RUN_ON_CPU, CPU: uint32(cpu)})
	return int(ran), failed("run the program on", fmt.Sprintf("cpu%d", cpu), err)
}

// Close frees the program and its maps.
func (c *Counter) Close() error {
	var errs []error
	for _, m := range []*PerCPU{c.Array, c.Hash} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if c.program != nil {
		errs = append(errs, c.program.Close())
	}
	return errors.Join(errs...)
}

// PerCPU is a map that has a value of each possible CPU for a key.
type PerCPU struct {
	name string
	cpus int // possible ones
	m    *ebpf.Map
}

// NewHash returns a per-CPU hash that has room for so many keys.
func NewHash(keys int) (*PerCPU, error) { return newPerCPU("keys", ebpf.PerCPUHash, keys) }

func newPerCPU(name string, kind ebpf.MapType, keys int) (*PerCPU, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		// The library knows no numbers with gaps.
		return nil, fmt.Errorf("%w: count the possible CPUs: %w", ErrNotSupported, err)
	}
	m, err := newMap(&ebpf.MapSpec{Name: name, Type: kind, KeySize: 4, ValueSize: 8, MaxEntries: uint32(keys)})
	if err != nil {
		return nil, err
	}
	return &PerCPU{name, cpus, m}, nil
}

// Values returns how many values a key has: one for each possible CPU.
func (p *PerCPU) Values() int { return p.cpus }

// Get returns the values for a key, one for each possible CPU.
func (p *PerCPU) Get(key int) (values []uint64, err error) {
	err = p.m.Lookup(uint32(key), &values)
	return values, failed("look up", fmt.Sprintf("key %d in the map %s", key, p.name), err)
}

// Set writes the values for a key, one for each possible CPU.
func (p *PerCPU) Set(key int, values []uint64) error {
	return failed("update", fmt.Sprintf("key %d in the map %s", key, p.name), p.m.Put(uint32(key), values))
}

// Delete takes a key out of a hash.
func (p *PerCPU) Delete(key int) error {
	return failed("delete", fmt.Sprintf("key %d from the map %s", key, p.name), p.m.Delete(uint32(key)))
}

// Close frees the map.
func (p *PerCPU) Close() error { return failed("close", "the map "+p.name, p.m.Close()) }
