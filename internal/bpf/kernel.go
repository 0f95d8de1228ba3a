package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A Kernel has the types of the running kernel, of which schedulers need some.
// Make one with [NewKernel], for many schedulers, since it takes long.
type Kernel struct {
	types *btf.Spec
	cache *btf.Cache // has the types
}

// Names of the kernel's types and functions.
const (
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
	cache := btf.NewCache()
	types, err := cache.Kernel()
	if errors.Is(err, btf.ErrNotSupported) {
		return nil, fmt.Errorf("%w: the kernel has no CONFIG_DEBUG_INFO_BTF: %w", ErrNotSupported, err)
	}
	if err != nil {
		return nil, failed("read", "the kernel's types", err)
	}
	k := &Kernel{types, cache}
	return k, k.takesSchedulers()
}

// takesSchedulers returns an error if the kernel has no sched_ext.
func (k *Kernel) takesSchedulers() error {
	var ops *btf.Struct
	err := k.types.TypeByName(opsType, &ops)
	if errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("%w: the kernel has no CONFIG_SCHED_CLASS_EXT", ErrNotSupported)
	}
	return failed("read", "the kernel's types", err)
}

// offset returns where a struct of the kernel has a member.
func (k *Kernel) offset(name, member string) (int16, error) {
	var t *btf.Struct
	if err := k.types.TypeByName(name, &t); err != nil {
		return 0, failed("read", "the kernel's types", err)
	}
	for _, m := range t.Members {
		if m.Name == member {
			return int16(m.Offset.Bytes()), nil
		}
	}
	return 0, failed("read", "the kernel's types", fmt.Errorf("struct %s has no member %s", name, member))
}

// call returns the call of a function of the kernel, the first of the names that
// there is.
func (k *Kernel) call(names ...string) (asm.Instruction, error) {
	for _, name := range names {
		f, err := k.function(name)
		if errors.Is(err, btf.ErrNotFound) {
			continue
		}
		if err != nil {
			return asm.Instruction{}, failed("find the function", name, err)
		}
		id, err := k.types.TypeID(f)
		call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(id)}
		return call, failed("find the function", name, err)
	}
	return asm.Instruction{}, fmt.Errorf("%w: the kernel has no function %s", ErrNotSupported, names[0])
}

// function finds a function by its whole name. Version 0.22 of the library does
// not: if there are name___v2 and name___v2_impl, it takes one of them for name.
func (k *Kernel) function(name string) (*btf.Func, error) {
	types, err := k.types.AnyTypesByName(name)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		if f, ok := t.(*btf.Func); ok && f.Name == name {
			return f, nil
		}
	}
	return nil, btf.ErrNotFound
}
