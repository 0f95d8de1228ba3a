package explore

import (
	"fmt"
	"slices"
)

// A Law is what the kernel promises about its state, whatever was done.
type Law struct {
	Name string

	// Text is what is promised, as a sentence.
	Text string

	// Source is where it is promised: a document of the kernel, a manual page, or
	// the commit or function that established it.
	Source string

	// Since is the first version of Linux that promises it. {}: all.
	Since Version

	// Cgroup is the version of cgroup whose cpusets the law is about. 0: both.
	Cgroup int

	// Lags reports that the kernel may be late by design: what is broken at once
	// counts only if it still is a while later.
	Lags bool

	// State reports that the law is about a state: Check depends on After and
	// Base alone, the log not included. It is then not judged again when
	// nothing changed.
	State bool

	// Check returns what is broken. It must depend on nothing but c. nil: a
	// program outside of the machine judges it, as it does [Survives].
	Check func(c *Case) []Violation
}

// A Case is what a law judges.
type Case struct {
	// Base is the state before the first step, and Before that before this one.
	Base, Before *Snapshot

	Step   Line
	Result Result
	After  *Snapshot

	// Road is the state that the same settings have led to by another road, at
	// the end of a sequence. nil: none was gone.
	Road *Snapshot

	// Earlier are the states since the last step that was more than a CPU offline
	// or online. It is empty after any other step.
	Earlier []*Snapshot
}

// unchanged reports whether the step has changed no reading.
func (c *Case) unchanged() bool {
	return c.After.state != 0 && c.Before != nil && c.After.state == c.Before.state
}

// A Violation is a law that is broken.
type Violation struct {
	// Law is the name of the law. The explorer fills it in.
	Law string

	// Touches says what is concerned, in words that are the same for any
	// sequence that shows the same defect: no CPU numbers, no names of cgroups.
	Touches string

	// Seen says what is wrong, as a sentence.
	Seen string

	// Facts are readings that cannot all be right at the same time. The
	// reproducer says that the kernel is broken if it reads all of them.
	Facts []Fact

	// Lasted says what became of it a while later: it "stays", or "heals".
	Lasted string
}

// Key returns what tells a finding from others: the law, and what it touches.
func (v Violation) Key() string { return v.Law + ": " + v.Touches }

// A Fact is something that was read.
type Fact struct {
	Key   Key
	Value string
}

// facts returns what the snapshot has for the keys. What it has not is left
// out.
func (s *Snapshot) facts(keys ...Key) []Fact {
	var facts []Fact
	for _, key := range keys {
		if value, ok := s.Readings[key]; ok {
			facts = append(facts, Fact{key, value})
		}
	}
	return facts
}

// Judge returns the laws that the case breaks, of those that kernel v promises
// and that have a Check.
func Judge(laws []Law, v Version, c *Case) []Violation {
	var broken []Violation
	for _, law := range laws {
		if law.Check == nil || !v.Since(law.Since) || law.Cgroup != 0 && law.Cgroup != c.After.Cgroup() || law.State && c.unchanged() {
			continue
		}
		for _, violation := range law.Check(c) {
			violation.Law = law.Name
			broken = append(broken, violation)
		}
	}
	return broken
}

// find returns the law of a name.
func find(laws []Law, name string) (Law, error) {
	i := slices.IndexFunc(laws, func(l Law) bool { return l.Name == name })
	if i < 0 {
		return Law{}, fmt.Errorf("there is no law %q", name)
	}
	return laws[i], nil
}
