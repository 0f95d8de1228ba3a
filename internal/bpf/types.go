package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// types is what is needed of the types of the running kernel.
type types struct {
	spec  *btf.Spec
	value *btf.Struct // struct bpf_struct_ops_sched_ext_ops, around the next one
	ops   map[string]int

	kind, code int16 // where they are in struct scx_exit_info
}

// kernelTypes reads the types of sched_ext.
func kernelTypes() (*types, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	k := &types{spec: spec, ops: make(map[string]int)}
	if err := spec.TypeByName("bpf_struct_ops_sched_ext_ops", &k.value); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			err = fmt.Errorf("%w: the kernel has no CONFIG_SCHED_CLASS_EXT", ebpf.ErrNotSupported)
		}
		return nil, err
	}
	data, err := member(k.value, "data")
	if err != nil {
		return nil, err
	}
	ops, ok := btf.UnderlyingType(data.Type).(*btf.Struct)
	if !ok {
		return nil, fmt.Errorf("%v is no struct", data.Type)
	}
	for _, m := range ops.Members {
		k.ops[m.Name] = int(data.Offset.Bytes() + m.Offset.Bytes())
	}
	var info *btf.Struct
	if err := spec.TypeByName("scx_exit_info", &info); err != nil {
		return nil, err
	}
	kind, err := member(info, "kind")
	code, failed := member(info, "exit_code")
	k.kind, k.code = int16(kind.Offset.Bytes()), int16(code.Offset.Bytes())
	return k, errors.Join(err, failed)
}

func member(s *btf.Struct, name string) (btf.Member, error) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, nil
		}
	}
	return btf.Member{}, fmt.Errorf("struct %s has no member %s", s.Name, name)
}

// offset returns where a member of struct sched_ext_ops is in the value of a
// map. All that are asked for have been there since v6.12.
func (k *types) offset(name string) int { return k.ops[name] }

// call returns the call of a function of the kernel: the first of the names that
// there is.
func (k *types) call(names ...string) (asm.Instruction, error) {
	for _, name := range names {
		var f *btf.Func
		err := k.spec.TypeByName(name, &f)
		if errors.Is(err, btf.ErrNotFound) {
			continue
		}
		if err != nil {
			return asm.Instruction{}, err
		}
		id, err := k.spec.TypeID(f)
		return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(id)}, err
	}
	return asm.Instruction{}, fmt.Errorf("%w: the kernel has none of %v", ebpf.ErrNotSupported, names)
}
