package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// someTypes has a type of most kinds, in the kernel's format.
func someTypes(t testing.TB) []byte {
	number := &btf.Int{Name: "int", Size: 4}
	info := &btf.Struct{Name: "info", Size: 16, Members: []btf.Member{
		{Name: "kind", Type: number},
		{Name: "few", Type: number, Offset: 32, BitfieldSize: 3},
		{Name: "code", Type: &btf.Int{Name: "long", Size: 8}, Offset: 64},
	}}
	prototype := &btf.FuncProto{Return: number, Params: []btf.FuncParam{{Name: "i", Type: &btf.Pointer{Target: info}}}}
	b, err := btf.NewBuilder([]btf.Type{
		&btf.Enum{Name: "scale", Size: 4, Values: []btf.EnumValue{{Name: "big", Value: 1}}},
		&btf.Enum{Name: "large", Size: 8, Values: []btf.EnumValue{{Name: "huge", Value: 1 << 40}}},
		&btf.Array{Index: number, Type: number, Nelems: 3},
		&btf.Union{Name: "either", Size: 4, Members: []btf.Member{{Name: "one", Type: number}}},
		&btf.Float{Name: "float", Size: 4},
		&btf.Typedef{Name: "done", Type: info},
		&btf.Func{Name: "done", Type: prototype, Linkage: btf.GlobalFunc, Tags: []string{"tagged"}},
	}, nil)
	require.NoError(t, err)
	raw, err := b.Marshal(nil, nil)
	require.NoError(t, err)
	return raw
}

func TestFindTypes(t *testing.T) {
	raw := someTypes(t)
	types, err := findTypes(raw, "info", "done", "either", "none")
	require.NoError(t, err)
	require.Len(t, types, 2, "a struct and a function")
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(t, err)
	var info *btf.Struct
	require.NoError(t, spec.TypeByName("info", &info))
	var done *btf.Func
	require.NoError(t, spec.TypeByName("done", &done))
	for name, typ := range map[string]btf.Type{"info": info, "done": done} {
		id, err := spec.TypeID(typ)
		require.NoError(t, err)
		assert.EqualValues(t, id, types[name].id, name)
	}
	assert.EqualValues(t, 16, types["info"].size)
	for _, m := range info.Members {
		_, offset, err := types["info"].find(m.Name)
		assert.NoError(t, err)
		assert.EqualValues(t, m.Offset.Bytes(), offset, m.Name)
	}
	_, _, err = types["info"].find("none")
	assert.EqualError(t, err, "a struct has no member none")

	_, err = findTypes(raw[:len(raw)-1], "info")
	assert.EqualError(t, err, "no BTF that is understood: it is cut off")
	_, err = findTypes(nil, "info")
	assert.EqualError(t, err, "no BTF that is understood: no header")
	unknown := append([]byte(nil), raw...)
	binary.NativeEndian.PutUint32(unknown[24+4:], 31<<24)
	_, err = findTypes(unknown, "info")
	assert.EqualError(t, err, "no BTF that is understood: type 1 is of kind 31")
}

func FuzzFindTypes(f *testing.F) {
	f.Add(someTypes(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		types, err := findTypes(raw, "info", "done")
		if err != nil {
			assert.ErrorIs(t, err, errTypes)
			return
		}
		for name, typ := range types {
			assert.Contains(t, []string{"info", "done"}, name)
			assert.Positive(t, typ.id)
		}
	})
}
