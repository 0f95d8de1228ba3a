package hotplugtest

import (
	"fmt"
	"sync/atomic"
)

// hang is the first thing that has not finished, and never will. The zero hang
// is none. Several goroutines may note one at once.
type hang struct{ what atomic.Pointer[string] }

// hung is that of this process: with it go the lock and the snapshot, to the
// supervisor, so that no other suite can run in the process.
var hung hang

// note keeps what has hung, unless something had before.
func (h *hang) note(what string) {
	h.what.CompareAndSwap(nil, &what)
	if h != &hung {
		hung.note(what)
	}
}

// any reports whether something has hung.
func (h *hang) any() bool { return h.what.Load() != nil }

// err is the error of what cannot be done any more, or nil.
func (h *hang) err() error {
	what := h.what.Load()
	if what == nil {
		return nil
	}
	return fmt.Errorf("%s has not come to its end, and may hold the kernel's locks", *what)
}
