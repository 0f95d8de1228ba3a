package machine_test

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestLeaks(t *testing.T) {
	for _, tt := range []struct {
		name string
		leak func(t *testing.T) (end func())
		want string
	}{
		{"nothing", func(t *testing.T) func() { return func() {} }, "^$"},
		{"what ends by itself", func(t *testing.T) func() {
			go runtime.Gosched()
			return func() {}
		}, "^$"},
		{"descriptor", func(t *testing.T) func() {
			f, err := os.Open(os.DevNull)
			require.NoError(t, err)
			return func() { f.Close() }
		}, `^descriptor \d+: /dev/null$`},
		{"descriptor such as the runtime has one of", func(t *testing.T) func() {
			var fds [2]int
			for i := range fds {
				fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
				require.NoError(t, err)
				fds[i] = fd
			}
			return func() { unix.Close(fds[0]); unix.Close(fds[1]) }
		}, `^descriptor \d+: anon_inode:\[eventfd\]`},
		{"goroutine", func(t *testing.T) func() {
			stop := make(chan struct{})
			go func() { <-stop }()
			return func() { close(stop) }
		}, `^goroutine \d+: \[chan receive\]:\n.*TestLeaks`},
		{"child process", func(t *testing.T) func() {
			cmd := exec.Command("cat")
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			return func() {
				in.Close()
				_ = cmd.Wait()
			}
		}, `child process \d+: (cat|machine)`},
		{"thread", func(t *testing.T) func() {
			// The mask of a thread that waits in a system call, as a goroutine
			// that did not unlock its thread leaves it.
			r, w, err := os.Pipe()
			require.NoError(t, err)
			pinned, done := make(chan error), make(chan struct{})
			go func() {
				defer close(done)
				_ = affinity.Thread(func() error {
					all, err := affinity.Get(0)
					first, _ := all.First()
					if err == nil {
						err = affinity.Set(0, affinity.Of(first))
					}
					pinned <- err
					_, err = r.Read(make([]byte, 1))
					return err
				})
			}()
			require.NoError(t, <-pinned)
			return func() { w.Close(); <-done; r.Close() }
		}, `thread \d+: may run on CPUs \d+, the process on `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "thread" && runtime.NumCPU() == 1 {
				t.Skip("one CPU: a thread cannot be pinned to fewer")
			}
			stock := machine.TakeStock()
			end := tt.leak(t)
			find := stock.Leaks
			if tt.want != "^$" {
				find = func() []string { return machine.LeaksAfter(stock, time.Second) }
			}
			leaks := strings.Join(find(), "\n")
			end()
			assert.Regexp(t, regexp.MustCompile(tt.want), leaks)
			assert.Empty(t, stock.Leaks(), "after its end")
		})
	}
}

// At any moment there is a goroutine more than before, but none that stays.
func TestPassingIsNoLeak(t *testing.T) {
	next, ended := make(chan chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var last chan struct{}
		for end := range next {
			go func() { <-end }()
			if last != nil {
				close(last)
			}
			last = end
		}
		if last != nil {
			close(last)
		}
	}()
	stop := make(chan struct{})
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		defer close(next)
		for {
			select {
			case next <- make(chan struct{}):
			case <-stop:
				return
			}
		}
	}()
	leaks := machine.TakeStock().Leaks()
	close(stop)
	<-fed
	<-ended
	assert.Empty(t, leaks)
}

func TestMainFailsForALeak(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LEAKING=yes")
	out, err := cmd.CombinedOutput()
	assert.EqualError(t, err, "exit status 1")
	assert.Regexp(t, `^FAIL: leaked descriptor \d+: /dev/null\n$`, string(out))
}
