package explore

import "slices"

// Shrink returns the shortest part of lines that it can find that still shows a
// defect. It is delta debugging: chunks are left out, large ones first, until
// no single line can be. first returns the index of the first of the candidates
// that shows the defect, or -1. So a machine that a candidate crashes has tried
// all those before it.
//
// A property-based testing library shrinks what its random numbers were; it
// takes a property to be a function of them. Here one try changes a machine,
// may be the last thing that the machine does, and shows a defect at times
// only. So the lines themselves are reduced, and first decides how often one is
// tried.
func Shrink(lines []Line, first func(candidates [][]Line) int) []Line {
	for size := max(len(lines)/2, 1); ; size = max(size/2, 1) {
		reduced := false
		for end := len(lines); end > 0; {
			candidates, ends := without(lines, end, size)
			if len(candidates) == 0 {
				break
			}
			i := first(candidates)
			if i < 0 {
				break
			}
			lines, end, reduced = candidates[i], ends[i], true
		}
		if size == 1 && !reduced {
			return simplify(lines, first)
		}
	}
}

// without returns lines without one chunk each: those that end at end and
// before. ends has where each chunk began.
func without(lines []Line, end, size int) (candidates [][]Line, ends []int) {
	for ; end > 0; end -= size {
		begin := max(end-size, 0)
		if end-begin < len(lines) {
			candidates = append(candidates, slices.Concat(lines[:begin], lines[end:]))
			ends = append(ends, begin)
		}
	}
	return candidates, ends
}

// simplify replaces lines of several commands by fewer, and commands at the
// same time by one after the other.
func simplify(lines []Line, first func(candidates [][]Line) int) []Line {
	for i := range lines {
		var candidates [][]Line
		for _, simpler := range simpler(lines[i]) {
			part := slices.Clone(lines)
			part[i] = simpler
			candidates = append(candidates, part)
		}
		if len(candidates) == 0 {
			continue
		}
		if n := first(candidates); n >= 0 {
			lines = candidates[n]
		}
	}
	return lines
}

// simpler returns lines that do less than l, the simplest first.
func simpler(l Line) []Line {
	if len(l.Commands) < 2 {
		return nil
	}
	var all []Line
	for _, c := range l.Commands {
		if len(l.Commands) == 2 && l.Parallel {
			all = append(all, Line{Commands: []Command{c}})
		}
	}
	if l.Parallel {
		backward := slices.Clone(l.Commands)
		slices.Reverse(backward)
		all = append(all, Line{Commands: l.Commands}, Line{Commands: backward})
	}
	return append(all, emptier(l)...)
}

// emptier returns lines that make a cgroup as l does, and write less to it. All
// that other lines of several commands do belongs together.
func emptier(l Line) []Line {
	if l.Parallel || l.Commands[0].Op != Mkdir {
		return nil
	}
	all := []Line{{Commands: l.Commands[:1]}}
	for i := 1; i < len(l.Commands) && len(l.Commands) > 2; i++ {
		all = append(all, Line{Commands: slices.Concat(l.Commands[:i], l.Commands[i+1:])})
	}
	return all
}
