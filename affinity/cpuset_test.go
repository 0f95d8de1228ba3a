package affinity_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// lists has what bitmap_parselist() accepts: the examples of its documentation
// and of lib/test_bitmap.c among them.
var lists = []struct {
	list string
	want string // as a list again
}{
	{"", ""},
	{"\n", ""},
	{" ,, \n", ""},
	{"0", "0"},
	{"0\n", "0"},
	{"0-3\n", "0-3"},
	{"0-3,8,16-31:2/4", "0-3,8,16-17,20-21,24-25,28-29"},
	{"0-1023:2/256", "0-1,256-257,512-513,768-769"},
	{"9-38:4/10", "9-12,19-22,29-32"},
	{"0-31:1/3,1-31:1/3,2-31:1/3", "0-31"},
	{"0-5:3/4", "0-2,4-5"},
	{"1-10:8/12", "1-8"},
	{"0-7:0/4", ""},
	{"0-3:4294967295/4294967295", "0-3"},
	{"3,1,2", "1-3"},
	{"0-2,1-4", "0-4"},
	{",,  ,1-3,\t 5 ,,", "1-3,5"},
	{"1 2\t3\v4\f5\r6", "1-6"},
	{"007-0010", "7-10"},
	{"63-64,127-128", "63-64,127-128"},
	{"1023-1025", "1023-1025"},
	{"65535", "65535"},
	{"0-65535", "0-65535"},
}

func TestParseList(t *testing.T) {
	for _, tt := range lists {
		t.Run(fmt.Sprintf("%q", tt.list), func(t *testing.T) {
			set, err := affinity.ParseList(tt.list)
			require.NoError(t, err)
			assert.Equal(t, tt.want, set.String())
			assert.Equal(t, tt.want == "", set.Empty())
		})
	}
}

func TestParseListErrors(t *testing.T) {
	tests := []struct {
		list string
		want error
		text string
	}{
		{"a", affinity.ErrSyntax, `"a" is not a number`},
		{"-1", affinity.ErrSyntax, `"" is not a number`},
		{"1-", affinity.ErrSyntax, `"" is not a number`},
		{"1--2", affinity.ErrSyntax, `"-2" is not a number`},
		{"1-2-3", affinity.ErrSyntax, `"2-3" is not a number`},
		{"+1", affinity.ErrSyntax, `"+1" is not a number`},
		{"0x1", affinity.ErrSyntax, `"0x1" is not a number`},
		{"1_000", affinity.ErrSyntax, `"1_000" is not a number`},
		{"1;2", affinity.ErrSyntax, `"1;2" is not a number`},
		{"1\u00a02", affinity.ErrSyntax, "is not a number"},
		{"1\x002", affinity.ErrSyntax, "is not a number"},
		{"0-3,5-4", affinity.ErrSyntax, `"5-4": invalid syntax: the range is backwards`},
		{"5:1/2", affinity.ErrSyntax, "a pattern needs a range"},
		{"0-3:", affinity.ErrSyntax, "a pattern is USED/GROUP"},
		{"0-3:1", affinity.ErrSyntax, "a pattern is USED/GROUP"},
		{"0-3:1/", affinity.ErrSyntax, `"" is not a number`},
		{"0-3:/2", affinity.ErrSyntax, `"" is not a number`},
		{"0-3:1/2/3", affinity.ErrSyntax, `"2/3" is not a number`},
		{"0-3:3/2", affinity.ErrSyntax, "3 of each 2 CPUs"},
		{"0-3:0/0", affinity.ErrSyntax, "0 of each 0 CPUs"},
		{"0\n1", affinity.ErrSyntax, "more than one line"},
		{"N", affinity.ErrSyntax, `what "N" stands for is only known to the kernel`},
		{"1-N", affinity.ErrSyntax, `what "N" stands for is only known to the kernel`},
		{"ALL", affinity.ErrSyntax, `what "ALL" stands for is only known to the kernel`},
		{"all:1/2", affinity.ErrSyntax, "a pattern needs a range"},
		{"65536", affinity.ErrRange, "CPU 65536 is not in 0-65535"},
		{"0-4294967295", affinity.ErrRange, "CPU 4294967295 is not in 0-65535"},
		{"0-99999:1/99999", affinity.ErrRange, "CPU 99999 is not in 0-65535"},
		{"4294967296", affinity.ErrRange, "4294967296 is not in 0-65535"},
		{"18446744073709551616", affinity.ErrRange, "18446744073709551616 is not in 0-65535"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q", tt.list), func(t *testing.T) {
			set, err := affinity.ParseList(tt.list)
			require.ErrorIs(t, err, tt.want)
			assert.ErrorContains(t, err, tt.text)
			assert.ErrorContains(t, err, fmt.Sprintf("affinity: CPU list %q", tt.list))
			assert.True(t, set.Empty(), "got %q with the error", set)
		})
	}
}

func TestParseMask(t *testing.T) {
	tests := []struct {
		mask string
		list string
		want string // as a mask again
	}{
		{"", "", "0"},
		{"\n", "", "0"},
		{"0", "", "0"},
		{"00000000,00000000\n", "", "0"},
		{"f", "0-3", "f"},
		{"0f\n", "0-3", "f"},
		{"FF", "0-7", "ff"},
		{"80000001", "0,31", "80000001"},
		{"1,00000000", "32", "1,00000000"},
		{"ff,00000000", "32-39", "ff,00000000"},
		{"00000001,00000000,00000000", "64", "1,00000000,00000000"},
		{"80000000,00000000", "63", "80000000,00000000"},
		{"1,,5", "0,2,32", "1,00000005"},
		{" ,44,\n", "2,6", "44"},
		{"1 1", "0,32", "1,00000001"},
		{strings.Repeat("ffffffff,", 2047) + "ffffffff", "0-65535", strings.Repeat("ffffffff,", 2047) + "ffffffff"},
		{strings.Repeat("00000000,", 4096) + "1", "0", "1"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.40q", tt.mask), func(t *testing.T) {
			set, err := affinity.ParseMask(tt.mask)
			require.NoError(t, err)
			assert.Equal(t, tt.list, set.String())
			assert.Equal(t, tt.want, set.Mask())
		})
	}
}

func TestParseMaskErrors(t *testing.T) {
	tests := []struct {
		mask string
		want error
		text string
	}{
		{"g", affinity.ErrSyntax, `"g"`},
		{"0xff", affinity.ErrSyntax, `"0xff"`},
		{"-1", affinity.ErrSyntax, `"-1"`},
		{"1ffffffff", affinity.ErrSyntax, `more than 32 bits in "1ffffffff"`},
		{"000000001", affinity.ErrSyntax, `more than 32 bits in "000000001"`},
		{"f\nf", affinity.ErrSyntax, "more than one line"},
		{"1" + strings.Repeat(",00000000", 2048), affinity.ErrRange, "CPU 65536 is not in 0-65535"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.40q", tt.mask), func(t *testing.T) {
			set, err := affinity.ParseMask(tt.mask)
			require.ErrorIs(t, err, tt.want)
			assert.ErrorContains(t, err, tt.text)
			assert.True(t, set.Empty(), "got %q with the error", set)
		})
	}
}

func TestOf(t *testing.T) {
	assert.Equal(t, "", affinity.CPUSet{}.String())
	assert.Equal(t, "", affinity.Of().String())
	assert.Equal(t, "0,2-3,65535", affinity.Of(3, 0, 2, 65535, 3).String())

	for _, cpu := range []int{-1, 65536} {
		assertPanicsIs(t, affinity.ErrRange, func() { affinity.Of(0, cpu) })
		assertPanicsIs(t, affinity.ErrRange, func() { affinity.Of(0).With(cpu) })
	}
}

func assertPanicsIs(t *testing.T, want error, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		err, _ := recover().(error)
		assert.ErrorIs(t, err, want)
	}()
	f()
}

func TestHas(t *testing.T) {
	set := affinity.Of(0, 63, 64)
	for _, cpu := range []int{0, 63, 64} {
		assert.True(t, set.Has(cpu), "CPU %d", cpu)
	}
	for _, cpu := range []int{-1, -64, 1, 62, 65, 128, 65536} {
		assert.False(t, set.Has(cpu), "CPU %d", cpu)
	}
}

func TestSetOperations(t *testing.T) {
	tests := []struct {
		a, b                         string
		union, intersect, difference string
	}{
		{"", "", "", "", ""},
		{"0-3", "", "0-3", "", "0-3"},
		{"", "0-3", "0-3", "", ""},
		{"0-3", "2-5", "0-5", "2-3", "0-1"},
		{"0-3", "0-3", "0-3", "0-3", ""},
		{"0,200", "200,4000", "0,200,4000", "200", "0"},
		{"0,4000", "4000", "0,4000", "4000", "0"},
		{"4000", "0", "0,4000", "", "4000"},
	}
	for _, tt := range tests {
		t.Run(tt.a+" and "+tt.b, func(t *testing.T) {
			a, b := list(t, tt.a), list(t, tt.b)
			for _, op := range []struct {
				name string
				got  affinity.CPUSet
				want string
			}{
				{"Union", a.Union(b), tt.union},
				{"With", a.With(slices.Collect(b.All())...), tt.union},
				{"Intersect", a.Intersect(b), tt.intersect},
				{"Difference", a.Difference(b), tt.difference},
				{"Without", a.Without(slices.Collect(b.All())...), tt.difference},
			} {
				assert.Equal(t, op.want, op.got.String(), op.name)
				assert.True(t, op.got.Equal(list(t, op.want)), "%s: %q is not Equal to itself parsed", op.name, op.got)
				assert.Equal(t, list(t, op.want), op.got, "%s: equal sets differ for reflect.DeepEqual", op.name)
			}
			assert.Equal(t, tt.a, a.String(), "changed by an operation")
			assert.Equal(t, tt.b, b.String(), "changed by an operation")
			assert.Equal(t, tt.a == tt.b, a.Equal(b))
		})
	}
}

// Two sets that come from one must not share what With appends to.
func TestOperationsDoNotAlias(t *testing.T) {
	set := affinity.Of(0, 1000).Without(1000)
	a, b := set.With(500), set.With(600)
	assert.Equal(t, "0", set.String())
	assert.Equal(t, "0,500", a.String())
	assert.Equal(t, "0,600", b.String())
}

func TestWithoutIgnoresOthers(t *testing.T) {
	assert.Equal(t, "1", affinity.Of(0, 1).Without(-1, 0, 64, 65536).String())
}

func TestElements(t *testing.T) {
	tests := []struct {
		list        string
		all         []int
		first, last int
		ok          bool
	}{
		{"", nil, 0, 0, false},
		{"0", []int{0}, 0, 0, true},
		{"3,63-64,4000", []int{3, 63, 64, 4000}, 3, 4000, true},
	}
	for _, tt := range tests {
		t.Run(tt.list, func(t *testing.T) {
			set := list(t, tt.list)
			assert.Equal(t, tt.all, slices.Collect(set.All()))
			assert.Equal(t, len(tt.all), set.Count())
			first, ok := set.First()
			assert.Equal(t, tt.ok, ok, "First")
			assert.Equal(t, tt.first, first, "First")
			last, ok := set.Last()
			assert.Equal(t, tt.ok, ok, "Last")
			assert.Equal(t, tt.last, last, "Last")
		})
	}
}

func FuzzParseList(f *testing.F) {
	for _, tt := range lists {
		f.Add(tt.list)
	}
	f.Add("1-N:all/4294967296\n0")
	f.Fuzz(func(t *testing.T, s string) {
		set, err := affinity.ParseList(s)
		if err != nil {
			return
		}
		again, err := affinity.ParseList(set.String())
		require.NoError(t, err)
		require.True(t, set.Equal(again), "%q became %q", set, again)

		mask, err := affinity.ParseMask(set.Mask())
		require.NoError(t, err)
		require.True(t, set.Equal(mask), "%q became %q by way of %s", set, mask, set.Mask())
	})
}

func FuzzParseMask(f *testing.F) {
	for _, mask := range []string{"", "0\n", "f", "ff,00000000", "1,,5", " 44 ", "80000000,00000000", "1ffffffff", "0x1"} {
		f.Add(mask)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := affinity.ParseMask(s)
		if err != nil {
			return
		}
		again, err := affinity.ParseMask(set.Mask())
		require.NoError(t, err)
		require.True(t, set.Equal(again), "%q became %q", set, again)
	})
}

func list(t *testing.T, s string) affinity.CPUSet {
	t.Helper()
	set, err := affinity.ParseList(s)
	require.NoError(t, err)
	return set
}
