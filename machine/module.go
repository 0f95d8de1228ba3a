package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// modules are those by which errors are injected, in the order in which they
// can be removed.
type modules struct{}

var injectors = []string{"pm_notifier_error_inject", "notifier_error_inject"}

// deleteModule is replaced in tests, where the modules are those of another
// machine.
var deleteModule = func(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }

func (modules) take(s *Snapshot) error {
	for _, name := range injectors {
		// One that is built in has a directory too, but no state.
		if _, err := os.Stat(filepath.Join(s.path("sys/module"), name, "initstate")); err == nil {
			s.Modules = append(s.Modules, name)
		}
	}
	return nil
}

func (modules) diff(was, now *Snapshot) []Difference {
	var diffs []Difference
	for _, name := range injectors {
		before, after := slices.Contains(was.Modules, name), slices.Contains(now.Modules, name)
		switch {
		case after && !before:
			diffs = append(diffs, Difference{"module " + name, "absent", "loaded", func() error {
				if err := deleteModule(name); err != nil {
					return failed("delete_module", name, err)
				}
				return nil
			}, false})
		case before && !after:
			diffs = append(diffs, Difference{"module " + name, "loaded", "absent", func() error {
				return fmt.Errorf("machine: load it by modprobe %s", name)
			}, false})
		}
	}
	return diffs
}
