package explore

import (
	"fmt"
	"strings"
)

// roadLaw is judged at the end of a sequence, by [Case.Road].
var roadLaw = Law{
	Name: "same-by-another-road",
	Text: "cpusets that have the same settings, and partitions that are all valid, have the same CPUs, whatever came before",
	Source: cgroupDoc + ", cpuset.cpus.effective: \"the onlined CPUs that are actually granted to this cgroup by its parent\"; cpuset.cpus.partition: " +
		"what makes a partition valid is said of its settings, its parent's and its siblings'",
	Since:  Version{6, 1},
	Cgroup: 2,
	Check:  checkRoad,
}

// roadFiles are what must be the same by another road.
var roadFiles = []string{"effective", "partition", "exclusive.effective"}

func checkRoad(c *Case) []Violation {
	if c.Road == nil {
		return nil
	}
	// A partition may be invalid that was refused nothing: then there is no
	// other road.
	for _, g := range c.Road.All() {
		if _, invalid := g.invalid(); invalid {
			return nil
		}
	}
	keys := []Key{isolatedKey}
	for _, g := range c.After.All() {
		for _, file := range roadFiles {
			keys = append(keys, g.Key(file))
		}
	}
	for cpu := range c.After.Online().All() {
		keys = append(keys, keysOf(cpu).domains)
	}
	var changed []Key
	for _, key := range keys {
		if c.After.Readings[key] != c.Road.Readings[key] {
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return []Violation{{
		Touches: strings.Join(names(changed), ", "),
		Seen:    fmt.Sprintf("the same settings had another effect when they were made in order: %s", story(c.Road, c.After, changed)),
		Facts:   c.After.facts(changed...),
	}}
}

// road returns the lines that make the settings of a state from the state base,
// in order: cpusets, then CPUs, then partitions from the top, then tasks, and
// then the CPUs that are offline. It returns nil if the state is not one that
// can be made so: some partition is invalid, or there is none.
func road(base, s *Snapshot) []Line {
	var lines []Line
	add := func(op Op, path, value string) {
		lines = append(lines, Line{Commands: []Command{{Op: op, Path: path, Value: value}}})
	}
	partitions := 0
	for _, name := range s.Groups {
		g := s.Group(name)
		if _, invalid := g.invalid(); invalid {
			return nil
		}
		if parent := g.Parent(); !parent.Root() && s.Has(g.Key("effective")) {
			add(Write, parent.Name+"/cgroup.subtree_control", "+cpuset")
		}
		add(Mkdir, name, "")
	}
	for _, file := range []string{"", "exclusive"} {
		for _, name := range s.Groups {
			if key := s.Group(name).Key(file); s.Readings[key] != "" {
				add(Write, string(key), s.Readings[key])
			}
		}
	}
	for _, name := range s.Groups {
		if g := s.Group(name); g.Valid() {
			partitions++
			add(Write, string(g.Key("partition")), g.Partition())
		}
	}
	for _, task := range s.Tasks {
		if group := s.Readings[Key(task+"#cgroup")]; group != "" && group != rootGroup {
			add(Write, group+"/cgroup.procs", task)
		}
	}
	for cpu := range base.Online().Difference(s.Online()).All() {
		add(Write, string(keysOf(cpu).online), "0")
	}
	if partitions == 0 || !s.Online().Difference(base.Online()).Empty() {
		return nil
	}
	return lines
}

// roadAllowed reports whether the settings that lines have made are those that
// road knows.
func roadAllowed(lines []Line) bool {
	for _, l := range lines {
		for _, c := range l.Commands {
			if c.Op == Chrt || strings.HasSuffix(c.Path, "/cgroup.type") || strings.HasSuffix(c.Path, "/cgroup.threads") ||
				strings.HasSuffix(c.Path, "/cpuset.mems") || strings.HasPrefix(c.Path, cpuDir+"smt/") || c.Value == "+cpu" {
				return false
			}
		}
	}
	return true
}

// byOtherRoad goes the other road to the state s, which n steps have led to, on
// a machine on which they were undone, and judges. It takes the machine back.
func (w *walk) byOtherRoad(s *Snapshot, n int) error {
	r := w.runner
	do := func(l Line) Result {
		result := r.Target.Do(l)
		w.beside, w.besideResults = append(w.beside, l), append(w.besideResults, result)
		return result
	}
	defer func() {
		for _, l := range r.Target.Undo(w.base) {
			do(l)
		}
	}()
	for _, l := range road(w.base, s) {
		result := do(l)
		r.Stats.Kernel += result.Took
		if result.Failed() {
			return nil // this road is closed
		}
	}
	there, err := r.Observer.Look()
	if err != nil {
		return err
	}
	w.log = there.Log
	c := &Case{Base: w.base, Before: s, After: s, Road: there, Result: w.outcome.Results[n-1], Step: w.outcome.Steps[n-1]}
	if broken := Judge([]Law{roadLaw}, r.Facts.Version, c); w.stops(broken) {
		w.outcome.Broken, w.outcome.Steps, w.outcome.Results = broken, w.outcome.Steps[:n], w.outcome.Results[:n]
	}
	return nil
}
