package explore

import (
	"context"
	"slices"
	"strings"
)

// repeats is how often again has the last step done.
const repeats = 30

// again returns lines with the last step undone and done again several times,
// if it takes a CPU offline or online: what shows for a moment only shows more
// often so.
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

// shortest returns how many steps show what the step number at, from 1, has
// shown, of those that again made of n. What is repeated is left out: a step
// that was only made to be able to repeat is the last one then.
func shortest(n, at int) int {
	if at > n && (at-n)%2 == 1 {
		return n + 1
	}
	return min(n, at)
}

// reverse returns the line that undoes what a line does to a CPU. ok is false
// if that is nothing.
func reverse(l Line) (back Line, ok bool) {
	for _, c := range l.Commands {
		if cpu, ok := cpuOf(Key(c.Path), "online"); ok {
			opposite := map[string]string{"0": "1", "1": "0"}[c.Value]
			return Line{Commands: []Command{{Op: Write, Path: string(keysOf(cpu).online), Value: opposite}}}, true
		}
	}
	return Line{}, false
}

// operation returns the least that does what a line does to a CPU, on a machine
// whose CPUs are online; nil if that is nothing.
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

// moment returns the operation on a CPU that steps end with, if it alone breaks
// a law now and then, this one or another that is not known; otherwise nil.
// What an operation leaves to be done later breaks one law or another. The
// finding then is that of the simplest steps, and of what a shell reads as soon
// as possible.
func (e *Explorer) moment(ctx context.Context, steps []Line, f *Finding) []Line {
	least := operation(steps[len(steps)-1])
	if least == nil {
		return nil
	}
	unknown := func(v Violation) bool { return e.unknown(v.Key()) }
	var best *Violation
	repeated := again(least)
	for range luckyTries {
		e.tell(Event{Begin: &Begin{Why: "shrink", Lines: texts(repeated)}})
		out, err := e.Runner.Run(repeated, unknown)
		if err != nil || out.Spoiled != "" {
			e.spoil(out, "it could not be read")
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		for _, v := range out.Broken {
			if unknown(v) && (best == nil || v.commands() < best.commands()) {
				best = &v
			}
		}
		if best != nil && best.commands() == 0 {
			break
		}
	}
	if best == nil {
		return nil
	}
	if was := f.Violation.Key(); best.Key() != was {
		f.Also = append(f.Also, was)
		f.Violation = *best
		f.Violation.Lasted = healed
	}
	return least
}

// commands returns how many facts a shell cannot read by itself: a command
// takes milliseconds to start.
func (v Violation) commands() int {
	n := 0
	for _, f := range v.Facts {
		if strings.Contains(string(f.Key), "#") {
			n++
		}
	}
	return n
}
