package bpf

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// kernelWith has some functions, and structs with a few of their members.
func kernelWith(t *testing.T, structs []string, functions ...string) *Kernel {
	u32, u64 := &btf.Int{Name: "u32", Size: 4}, &btf.Int{Name: "u64", Size: 8}
	members := map[string][]btf.Member{
		opsType: {{Name: "flags", Type: u64}},
		exitInfoType: {
			{Name: "kind", Type: u32},
			{Name: "exit_code", Type: u64, Offset: 64},
		},
	}
	var types []btf.Type
	for _, name := range structs {
		types = append(types, &btf.Struct{Name: name, Size: 16, Members: members[name]})
	}
	for _, name := range functions {
		types = append(types, &btf.Func{Name: name, Type: &btf.FuncProto{Return: u32}})
	}
	b, err := btf.NewBuilder(types, nil)
	require.NoError(t, err)
	raw, err := b.Marshal(nil, nil)
	require.NoError(t, err)
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(t, err)
	return &Kernel{types: spec}
}

var schedExtStructs = []string{opsType, exitInfoType}

// TestCall has names of which others are the beginning, as in v7.2.
func TestCall(t *testing.T) {
	const now, v2, impl, before = "put", "put___v2", "put___v2_impl", "dispatch"
	for _, tc := range []struct {
		has  []string
		want string // "" is none
	}{
		{[]string{now, v2, impl, before}, now},
		{[]string{v2, impl, now, before}, now},
		{[]string{before, v2, impl}, before},
		{[]string{v2, impl}, ""},
		{nil, ""},
	} {
		k := kernelWith(t, schedExtStructs, tc.has...)
		call, err := k.call(now, before)
		if tc.want == "" {
			assert.ErrorIs(t, err, ErrNotSupported, tc.has)
			assert.EqualError(t, err, "bpf: not supported: the kernel has no function put")
			continue
		}
		require.NoError(t, err, tc.has)
		assert.True(t, call.IsKfuncCall(), tc.has)
		f, err := k.types.TypeByID(btf.TypeID(call.Constant))
		require.NoError(t, err, tc.has)
		assert.Equal(t, tc.want, f.TypeName(), tc.has)
	}
}

func TestTakesSchedulers(t *testing.T) {
	assert.NoError(t, kernelWith(t, schedExtStructs).takesSchedulers())
	err := kernelWith(t, nil, opsType).takesSchedulers()
	assert.ErrorIs(t, err, ErrNotSupported)
	assert.EqualError(t, err, "bpf: not supported: the kernel has no CONFIG_SCHED_CLASS_EXT")
}

func TestOffset(t *testing.T) {
	k := kernelWith(t, schedExtStructs)
	offset, err := k.offset(exitInfoType, "exit_code")
	assert.NoError(t, err)
	assert.EqualValues(t, 8, offset)
	_, err = k.offset(exitInfoType, "none")
	assert.EqualError(t, err, "bpf: read the kernel's types: struct scx_exit_info has no member none")
	_, err = k.offset("none", "kind")
	assert.ErrorIs(t, err, btf.ErrNotFound)
}

func TestScheduler(t *testing.T) {
	k := kernelWith(t, schedExtStructs, createQueue, insertTask612, moveToLocal)
	for _, tc := range []struct {
		queue bool
		want  []string
	}{
		{false, []string{"exit"}},
		{true, []string{"cpu_offline", "cpu_online", "dispatch", "enqueue", "exit", "init"}},
	} {
		spec, err := k.scheduler(tc.queue)
		require.NoError(t, err)
		assert.Equal(t, tc.want, slices.Sorted(maps.Keys(spec.Programs)))
		for name, p := range spec.Programs {
			assert.Equal(t, "sched_ext_ops:"+name, p.AttachTo)
			assert.Equal(t, name == "init", p.Flags == unix.BPF_F_SLEEPABLE, name)
			assert.NoError(t, p.Instructions.Marshal(new(bytes.Buffer), binary.LittleEndian), name)
		}

		callbacks := spec.Maps[callbacksMap]
		assert.EqualValues(t, unix.BPF_F_LINK, callbacks.Flags)
		value := callbacks.Contents[0].Value.([]byte)
		ops := callbacks.Value.(*btf.Struct)
		assert.Len(t, value, int(ops.Size))
		assert.Equal(t, "hotplugtest", unix.ByteSliceToString(value))
		var pointers []string
		for _, m := range ops.Members {
			switch m.Type.(type) {
			case *btf.Pointer:
				pointers = append(pointers, m.Name)
			case *btf.Int:
				assert.Equal(t, "flags", m.Name)
				assert.EqualValues(t, switchPartial, binary.NativeEndian.Uint64(value[m.Offset.Bytes():]))
			}
		}
		assert.Equal(t, tc.want, pointers)
	}

	_, err := kernelWith(t, schedExtStructs, createQueue).scheduler(true)
	assert.ErrorIs(t, err, ErrNotSupported)
}
