package affinity

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// MaxCPU is the largest CPU number of a [CPUSet]. It is well above what any
// kernel can be configured for, and keeps a malformed list such as
// "0-4294967295" from becoming half a gigabyte.
const MaxCPU = 65535

var (
	// ErrRange says that a CPU number is not in 0..[MaxCPU].
	ErrRange = fmt.Errorf("not in 0-%d", MaxCPU)

	// ErrSyntax says that a text is no CPU list or no CPU mask.
	ErrSyntax = errors.New("invalid syntax")
)

// A CPUSet is a set of CPUs. The zero value is the empty set. A CPUSet is a
// value: no method changes it, those that seem to return a new set.
type CPUSet struct {
	// words are the kernel's unsigned longs, in the machine's byte order, for
	// the system calls to read. The last one is never 0, so that equal sets
	// have equal words.
	words []uint
}

// Of returns the set of the given CPUs. It panics with an error that wraps
// [ErrRange] when one is not in 0..[MaxCPU].
func Of(cpus ...int) CPUSet {
	return CPUSet{}.With(cpus...)
}

// ParseList parses a CPU list as in cpuset.cpus or
// /sys/devices/system/cpu/online: "0-3,8,16-31:2/4", where ":2/4" takes the
// first 2 of each 4 CPUs of the range. It accepts what the kernel's
// bitmap_parselist() does, with commas and white space between the ranges, a
// newline at the end, and the empty list for the empty set. Only the words
// "all" and "N" are refused, for they stand for what the kernel knows.
//
// The error wraps [ErrSyntax] or [ErrRange].
func ParseList(s string) (CPUSet, error) {
	line, err := oneLine(s)
	if err != nil {
		return CPUSet{}, fmt.Errorf("affinity: CPU list %q: %w", s, err)
	}
	var set CPUSet
	for region := range strings.FieldsFuncSeq(line, separates) {
		if err := set.addRegion(region); err != nil {
			return CPUSet{}, fmt.Errorf("affinity: CPU list %q: %q: %w", s, region, err)
		}
	}
	return set, nil
}

// ParseMask parses a CPU mask as in /proc/irq/N/smp_affinity or
// /sys/devices/system/cpu/cpuN/topology/core_cpus: "ff,00000000", groups of up
// to eight hexadecimal digits for 32 CPUs each, the group with CPU 0 last. It
// accepts what the kernel's bitmap_parse() does, with commas and white space
// between the groups, a newline at the end, and no group at all for the empty
// set.
//
// The error wraps [ErrSyntax] or [ErrRange].
func ParseMask(s string) (CPUSet, error) {
	line, err := oneLine(s)
	if err != nil {
		return CPUSet{}, fmt.Errorf("affinity: CPU mask %q: %w", s, err)
	}
	var set CPUSet
	base := 0
	for _, group := range slices.Backward(strings.FieldsFunc(line, separates)) {
		if len(group) > 8 {
			return CPUSet{}, fmt.Errorf("affinity: CPU mask %q: more than 32 bits in %q: %w", s, group, ErrSyntax)
		}
		word, err := strconv.ParseUint(group, 16, 32)
		if err != nil {
			return CPUSet{}, fmt.Errorf("affinity: CPU mask %q: %q: %w", s, group, ErrSyntax)
		}
		for ; word != 0; word &= word - 1 {
			if err := set.add(base + bits.TrailingZeros64(word)); err != nil {
				return CPUSet{}, fmt.Errorf("affinity: CPU mask %q: %w", s, err)
			}
		}
		base += 32
	}
	return set, nil
}

// String returns the set as a CPU list, as the kernel prints it: "0-3,8,16-17".
// The empty set is the empty string.
func (s CPUSet) String() string {
	var list []byte
	first, last := -1, -1
	flush := func() {
		if first < 0 {
			return
		}
		if len(list) > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, int64(first), 10)
		if last > first {
			list = append(list, '-')
			list = strconv.AppendInt(list, int64(last), 10)
		}
	}
	for cpu := range s.All() {
		if first < 0 || cpu != last+1 {
			flush()
			first = cpu
		}
		last = cpu
	}
	flush()
	return string(list)
}

// Mask returns the set as a CPU mask: "ff,00000000". The kernel prints as many
// digits as the machine can have CPUs; Mask leaves the leading zeros out. The
// empty set is "0".
func (s CPUSet) Mask() string {
	last, _ := s.Last()
	var mask strings.Builder
	for group := last / 32; group >= 0; group-- {
		format := ",%08x"
		if group == last/32 {
			format = "%x"
		}
		fmt.Fprintf(&mask, format, s.group(group))
	}
	return mask.String()
}

// Has reports whether cpu is in the set.
func (s CPUSet) Has(cpu int) bool {
	return cpu >= 0 && cpu/bits.UintSize < len(s.words) &&
		s.words[cpu/bits.UintSize]&(1<<(cpu%bits.UintSize)) != 0
}

// Count returns the number of CPUs in the set.
func (s CPUSet) Count() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount(w)
	}
	return n
}

// Empty reports whether the set has no CPU.
func (s CPUSet) Empty() bool { return len(s.words) == 0 }

// Equal reports whether both sets have the same CPUs.
func (s CPUSet) Equal(o CPUSet) bool { return slices.Equal(s.words, o.words) }

// With returns the set with cpus added. It panics with an error that wraps
// [ErrRange] when one is not in 0..[MaxCPU].
func (s CPUSet) With(cpus ...int) CPUSet {
	set := CPUSet{slices.Clone(s.words)}
	for _, cpu := range cpus {
		if err := set.add(cpu); err != nil {
			panic(fmt.Errorf("affinity: %w", err))
		}
	}
	return set
}

// Without returns the set with cpus taken out. Those that are not in it are
// ignored.
func (s CPUSet) Without(cpus ...int) CPUSet {
	words := slices.Clone(s.words)
	for _, cpu := range cpus {
		if s.Has(cpu) {
			words[cpu/bits.UintSize] &^= 1 << (cpu % bits.UintSize)
		}
	}
	return normal(words)
}

// Union returns the set of the CPUs that are in either set.
func (s CPUSet) Union(o CPUSet) CPUSet {
	if len(s.words) < len(o.words) {
		s, o = o, s
	}
	words := slices.Clone(s.words)
	for i, w := range o.words {
		words[i] |= w
	}
	return normal(words)
}

// Intersect returns the set of the CPUs that are in both sets.
func (s CPUSet) Intersect(o CPUSet) CPUSet {
	words := slices.Clone(s.words[:min(len(s.words), len(o.words))])
	for i := range words {
		words[i] &= o.words[i]
	}
	return normal(words)
}

// Difference returns the set of the CPUs that are in s and not in o.
func (s CPUSet) Difference(o CPUSet) CPUSet {
	words := slices.Clone(s.words)
	for i := range min(len(words), len(o.words)) {
		words[i] &^= o.words[i]
	}
	return normal(words)
}

// All returns an iterator over the CPUs in the set, in ascending order.
func (s CPUSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s.words {
			for ; w != 0; w &= w - 1 {
				if !yield(i*bits.UintSize + bits.TrailingZeros(w)) {
					return
				}
			}
		}
	}
}

// First returns the lowest CPU in the set, and false when the set is empty.
func (s CPUSet) First() (int, bool) {
	for cpu := range s.All() {
		return cpu, true
	}
	return 0, false
}

// Last returns the highest CPU in the set, and false when the set is empty.
func (s CPUSet) Last() (int, bool) {
	if s.Empty() {
		return 0, false
	}
	i := len(s.words) - 1
	return i*bits.UintSize + bits.Len(s.words[i]) - 1, true
}

// add puts cpu into the set, in place.
func (s *CPUSet) add(cpu int) error {
	if cpu < 0 || cpu > MaxCPU {
		return fmt.Errorf("CPU %d is %w", cpu, ErrRange)
	}
	i := cpu / bits.UintSize
	if i >= len(s.words) {
		s.words = append(s.words, make([]uint, i+1-len(s.words))...)
	}
	s.words[i] |= 1 << (cpu % bits.UintSize)
	return nil
}

// addRegion puts the CPUs of one region of a list, "8", "0-3" or "16-31:2/4",
// into the set, in place.
func (s *CPUSet) addRegion(region string) error {
	span, pattern, patterned := strings.Cut(region, ":")
	from, to, ranged := strings.Cut(span, "-")
	if patterned && !ranged {
		return fmt.Errorf("%w: a pattern needs a range", ErrSyntax)
	}
	if !ranged {
		to = from
	}
	first, err := number(from)
	if err != nil {
		return err
	}
	last, err := number(to)
	if err != nil {
		return err
	}
	if first > last {
		return fmt.Errorf("%w: the range is backwards", ErrSyntax)
	}

	used, size := int64(1), int64(1)
	if patterned {
		u, g, ok := strings.Cut(pattern, "/")
		if !ok {
			return fmt.Errorf("%w: a pattern is USED/GROUP", ErrSyntax)
		}
		if used, err = number(u); err != nil {
			return err
		}
		if size, err = number(g); err != nil {
			return err
		}
		if size == 0 || used > size {
			return fmt.Errorf("%w: %d of each %d CPUs", ErrSyntax, used, size)
		}
	}
	// The kernel checks the bounds of the range, not of what the pattern
	// leaves of it.
	if last > MaxCPU {
		return fmt.Errorf("CPU %d is %w", last, ErrRange)
	}

	for group := first; group <= last; group += size {
		for cpu := group; cpu < group+used && cpu <= last; cpu++ {
			if err := s.add(int(cpu)); err != nil {
				return err
			}
		}
	}
	return nil
}

// group returns the 32 bits of CPUs 32*i to 32*i+31.
func (s CPUSet) group(i int) uint32 {
	if s.Empty() {
		return 0
	}
	return uint32(s.words[i*32/bits.UintSize] >> (i * 32 % bits.UintSize))
}

// normal returns the set of words, which it takes over.
func normal(words []uint) CPUSet {
	for len(words) > 0 && words[len(words)-1] == 0 {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return CPUSet{}
	}
	return CPUSet{words}
}

// number parses a number as the kernel does: decimal digits, up to 32 bits.
func number(s string) (int64, error) {
	if s == "N" || strings.EqualFold(s, "all") {
		return 0, fmt.Errorf("%w: what %q stands for is only known to the kernel", ErrSyntax, s)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is %w", s, ErrRange)
	case err != nil:
		return 0, fmt.Errorf("%w: %q is not a number", ErrSyntax, s)
	}
	return int64(n), nil
}

// oneLine returns s up to its newline. The kernel ignores what comes after it,
// where nobody means to have anything.
func oneLine(s string) (string, error) {
	line, rest, _ := strings.Cut(s, "\n")
	if rest != "" {
		return "", fmt.Errorf("%w: more than one line", ErrSyntax)
	}
	return line, nil
}

// separates reports whether r is a comma, or white space to the kernel's
// isspace().
func separates(r rune) bool {
	return r == ',' || r == ' ' || '\t' <= r && r <= '\r'
}
