package hotplugtest

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// takeOffline takes CPUs offline, one after the other. If the kernel refuses
// one with ENOSPC, because the other CPUs have no room for its interrupts,
// missing says so in the kernel's own words: such a machine cannot have so few
// CPUs online. After that refusal nothing may have changed; if something has,
// that is the error.
func (s *Suite) takeOffline(cpus affinity.CPUSet) (missing string, err error) {
	for cpu := range cpus.All() {
		if err := s.events.Forget(); err != nil {
			return "", err
		}
		before, err := s.standing(cpu)
		if err != nil {
			return "", err
		}
		s.said.begin()
		err = s.cpus.SetOnline(cpu, false)
		said := s.said.end()
		s.progress.Add(1)
		if err == nil {
			err = said.judge()
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOSPC):
			if changed := errors.Join(s.sameAs(cpu, before), said.judge()); changed != nil {
				return "", fmt.Errorf("%w, and then:\n%w\n    promised: %s\n    source:   %s", err, changed,
					"a refused operation changes nothing and sends no uevent", docHotplug+": a failed operation is rolled back")
			}
			return fmt.Sprintf("the other CPUs have no room for the interrupts of cpu%d (ENOSPC): %s", cpu, said.about(cpu)), nil
		default:
			return "", errors.Join(err, said.explain())
		}
	}
	return "", nil
}

// fact is something that is read of the machine.
type fact struct{ name, value string }

// standing is what must stay as it is when an operation on the CPU is refused.
func (s *Suite) standing(cpu int) (list []fact, err error) {
	add := func(name string, value any, e error) {
		list = append(list, fact{name, fmt.Sprint(value)})
		err = errors.Join(err, e)
	}
	online, e := s.cpus.Online()
	add("the online mask", online, e)
	offline, e := s.cpus.Offline()
	add("the offline mask", offline, e)
	present, e := s.cpus.Present()
	add("the present mask", present, e)
	is, e := s.cpus.IsOnline(cpu)
	add(fmt.Sprintf("cpu%d/online", cpu), is, e)
	state, target, e := s.cpus.State(cpu)
	add(fmt.Sprintf("cpu%d/hotplug/state", cpu), state, e)
	add(fmt.Sprintf("cpu%d/hotplug/target", cpu), target, e)
	for _, place := range s.places {
		if place.cpuset != nil {
			cpus, e := place.cpuset.Effective()
			add("the effective mask of "+place.cpuset.Path(), cpus, e)
		}
	}
	return list, err
}

// sameAs checks that a CPU stands as it did before, and has sent no uevent.
func (s *Suite) sameAs(cpu int, before []fact) error {
	after, err := s.standing(cpu)
	errs := []error{err, s.events.Check(cpu, "")}
	for i, was := range before {
		if is := after[i]; is != was {
			errs = append(errs, fmt.Errorf("%s is %s, and was %s", is.name, is.value, was.value))
		}
	}
	return errors.Join(errs...)
}

// explain is what the kernel has said about an operation that failed, or nil.
func (s *said) explain() error {
	if err := s.judge(); err != nil || len(s.tail) == 0 {
		return err
	}
	return fmt.Errorf("the kernel's log of it:%s", indent(s.tail))
}

// about is the last record of the kernel's about a CPU, or says that there is
// none.
func (s *said) about(cpu int) string {
	name := fmt.Sprintf("CPU %d ", cpu)
	for i := len(s.tail) - 1; i >= 0; i-- {
		if r := s.tail[i]; r.Facility == 0 && strings.Contains(r.Text, name) {
			return oneLine(r.Text)
		}
	}
	return "the kernel's log does not say how many"
}
