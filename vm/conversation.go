package vm

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// guest is the host's end of a conversation with init.
type guest struct {
	vm      *VM
	out     io.Writer
	qmp     *monitor
	release string
	started bool
	exit    *wire.Exit
	shell   *terminal // the user's, while a shell runs

	mu       sync.Mutex
	attended bool  // a shell runs: the program may stand still
	seen     signs // since they were last asked for; away is whether it is so now
}

// signs returns the guest's signs since the last call.
func (g *guest) signs() signs {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	seen.away = seen.away || g.attended
	g.seen.heard, g.seen.printed = false, false
	return seen
}

// note makes a note of what has come. Until listen is called this process is
// away.
func (g *guest) note(m wire.Guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen.away, g.seen.heard = true, true
	if m.Pong != nil {
		g.seen.stuck = m.Pong.Stuck
	} else {
		g.seen.printed = true
	}
}

// listen is what follows note.
func (g *guest) listen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen.away = false
}

// linux names the guest's kernel, for the end of a message.
func (g *guest) linux() string {
	if g.release == "" {
		return ""
	}
	return fmt.Sprintf(" (Linux %s)", g.release)
}

// refused is an error of the host's own in the middle of a conversation.
type refused struct{ err error }

func (r *refused) Error() string { return r.err.Error() }

// maxMessage bounds what the guest says at a time, in bytes. The longest are
// the files that it sends back.
const maxMessage = 1 << 28

// converse answers the guest until it exits or is gone. The guest's root can
// write to the line, so it is believed in nothing that would do harm here.
func (g *guest) converse(line io.ReadWriter, hello chan<- struct{}) error {
	in, reply := wire.NewReceiver(line, maxMessage), gob.NewEncoder(line)
	for {
		g.listen()
		m, err := in.Receive()
		if err != nil {
			return err
		}
		g.note(m)
		switch {
		case (m.Hello == nil) != g.started:
			return &refused{errors.New("the guest says hello other than once and first")}
		case m.Hello != nil && m.Hello.Unfit != "":
			return &refused{errors.New(strings.ReplaceAll(plain(m.Hello.Unfit), "\n", " "))}
		case m.Hello != nil:
			if err := g.vm.change(m.Hello.Symbols, g.qmp); err != nil {
				return &refused{err}
			}
			g.release, g.started = strings.ReplaceAll(plain(m.Hello.Release), "\n", ""), true
			close(hello)
			if err := reply.Encode(wire.Host{Start: true}); err != nil {
				return err
			}
		case m.Output != nil:
			if _, err := g.out.Write(m.Output); err != nil {
				return &refused{err}
			}
		case m.Shell != nil || m.Screen != nil:
			if err := g.talk(m, line); err != nil {
				return &refused{err}
			}
		case m.AddCPU:
			if err := g.qmp.addCPU(); err != nil {
				fmt.Fprintf(g.out, "%s%v\n", Prefix, err)
			}
		case m.File != nil:
			if err := g.save(*m.File); err != nil {
				return &refused{err}
			}
		case m.Exit != nil:
			g.exit = m.Exit
			return nil
		}
	}
}

// save writes a file of the guest's where the program would have written it, if
// it was asked for.
func (g *guest) save(f wire.File) error {
	asked := slices.ContainsFunc(g.vm.job.Collect, func(path string) bool {
		below, ok := strings.CutPrefix(f.Path, path+"/")
		return f.Path == path || ok && filepath.IsLocal(below)
	})
	if !asked {
		return fmt.Errorf("the guest sent a file nobody asked for: %s", f.Path)
	}
	return os.WriteFile(f.Path, f.Data, 0o644)
}
