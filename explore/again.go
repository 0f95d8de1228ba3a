package explore

import "slices"

// repeats is how often again has the last step done.
const repeats = 30

// again returns lines with the last step undone and done again several times, if it
// takes a CPU offline or online: what shows for a moment only shows more often so.
func again(lines []Line) []Line {
	last := lines[len(lines)-1]
	back, ok := reverse(last)
	if !ok {
		return lines
	}
	all := slices.Clone(lines)
	for range repeats {
		all = append(all, back, last)
	}
	return all
}

// shortest returns how many steps show what the step number at, from 1, has shown, of
// those that again made of n. What is repeated is left out: a step that was only made
// to be able to repeat is the last one then.
func shortest(n, at int) int {
	if at > n && (at-n)%2 == 1 {
		return n + 1
	}
	return min(n, at)
}

// reverse returns the line that undoes what a line does to a CPU. ok is false if that
// is nothing.
func reverse(l Line) (back Line, ok bool) {
	for _, c := range l.Commands {
		if cpu, ok := cpuOf(Key(c.Path), "online"); ok {
			opposite := map[string]string{"0": "1", "1": "0"}[c.Value]
			return Line{Commands: []Command{{Op: Write, Path: string(keysOf(cpu).online), Value: opposite}}}, true
		}
	}
	return Line{}, false
}

// operation returns the least that does what a line does to a CPU, on a machine whose
// CPUs are online; nil if that is nothing.
func operation(l Line) []Line {
	back, ok := reverse(l)
	if !ok {
		return nil
	}
	if back.Commands[0].Value == "0" {
		return []Line{back, l}
	}
	return []Line{l}
}
