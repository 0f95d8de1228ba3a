package vm

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// stallLimit is how long a guest may stand still. A pong takes a busy emulator
// a second, and an operation of the suite on a slow kernel 60 s.
const stallLimit = 90 * time.Second

// The limit is this many ticks, from one look at the guest to the next. A guest
// whose program has printed nothing for some of them is examined.
const (
	stallTicks   = 18
	examineTicks = 6
)

// signs are what happened between two ticks.
type signs struct {
	// away is whether this process was stopped, or had no time to listen: its
	// own output was not taken. Then it cannot tell.
	away    bool
	heard   bool     // the guest said something: it answered, for example
	printed bool     // its program printed something
	stuck   []string // what did not end in the guest's kernel, at the last examination
}

// silence counts the ticks without signs of life: of the guest as a whole, and
// of its program. A program may be silent for long when its work is, so that is
// no fault as long as the guest's kernel is well.
type silence struct{ guest, program int }

// tick takes the signs since the last one. It returns what to send to the
// guest, if anything, and how the guest stands still, if it does. It does not
// count a tick without a sign if the guest does not run, as running reports.
func (s *silence) tick(now signs, running func() bool) (ping byte, how string) {
	switch {
	case now.away:
		return 0, ""
	case now.printed:
		*s = silence{}
		return 0, ""
	case now.heard:
		s.guest = 0
	case !running():
		return wire.Ping, ""
	default:
		s.guest++
	}
	s.program++
	switch {
	case s.guest >= stallTicks:
		return 0, "no sign of life"
	case s.program >= stallTicks && len(now.stuck) > 0:
		return 0, "its program has printed nothing, and its kernel has not ended " + enumerate(now.stuck)
	case s.program >= examineTicks:
		return wire.Examine, ""
	}
	return wire.Ping, ""
}

// enumerate makes a text of the guest's words, of which it may send any number.
func enumerate(words []string) string {
	const most = 5
	text := strings.ReplaceAll(plain(strings.Join(words[:min(len(words), most)], ", ")), "\n", "")
	if more := len(words) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// watch watches a guest.
type watch struct {
	stalled chan string // takes how the guest stands still
	quit    chan struct{}
	ended   sync.WaitGroup
}

// start begins to watch for a guest that stands still for the time limit.
func (w *watch) start(limit time.Duration, g *guest, p *process) {
	quit := make(chan struct{})
	w.quit = quit
	w.ended.Go(func() {
		every := limit / stallTicks
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		var s silence
		for last := time.Now(); ; {
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
			now := g.signs()
			now.away = now.away || time.Since(last) > 3*every
			ping, how := s.tick(now, p.qmp.running)
			last = time.Now()
			if how != "" {
				w.stalled <- fmt.Sprintf("the guest stands still for %v: %s", limit, how)
				return
			}
			if ping != 0 {
				// An error is of a QEMU that has ended, which is noticed.
				_, _ = p.line.Write([]byte{ping})
			}
		}
	})
}

// stop ends the watch. It may be called more than once.
func (w *watch) stop() {
	if w.quit != nil {
		close(w.quit)
		w.quit = nil
	}
	w.ended.Wait()
}

// deaf is the doubt about a kernel that is past answering.
const deaf = mayBeQEMU + "no processor that it emulates takes an NMI any more"

// question has the kernel write to the console what it is doing, and reports
// whether it did. A break on a serial console and a letter are a SysRq, which the
// kernel answers in the interrupt. If no CPU takes that, they get an NMI, of which
// the kernel panics.
func (vm *VM) question(p *process) (answered bool) {
	before := vm.said()
	for _, key := range []string{"w", "l", "t"} { // blocked tasks, what each CPU does, all tasks
		if _, err := p.qmp.call("chardev-send-break", map[string]any{"id": consoleID}); err != nil {
			return false
		}
		if _, err := p.keys.Write([]byte(key)); err != nil {
			return false
		}
		vm.listen(p, 1)
	}
	if vm.said() == before {
		if _, err := p.qmp.call("inject-nmi", nil); err == nil {
			vm.listen(p, 10)
		}
	}
	return vm.said() != before
}

// listen returns when the kernel has had nothing to say for that many seconds,
// after ten seconds of talk, or when QEMU ended.
func (vm *VM) listen(p *process, silence time.Duration) {
	second := vm.stall / 90
	end := time.Now().Add(10 * second)
	size, grew := vm.said(), time.Now()
	for time.Since(grew) < silence*second && time.Now().Before(end) {
		select {
		case <-p.dead:
			return
		case <-time.After(second / 10):
		}
		if now := vm.said(); now != size {
			size, grew = now, time.Now()
		}
	}
}

// said is how much the kernel has said on its console, in bytes.
func (vm *VM) said() int64 {
	info, err := os.Stat(vm.console)
	if err != nil {
		return 0
	}
	return info.Size()
}
