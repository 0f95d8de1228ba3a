package system_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// options are those of each connection. The guest is a new one each time, so
// its host key says nothing. A guest that stands still for two minutes has lost
// its connections: none of what it is asked to do keeps it for so long.
func (g *guest) options() []string {
	return []string{
		"-i", filepath.Join(g.image.dir, "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-o", "BatchMode=yes",
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8",
	}
}

// ssh is a client that connects to the guest, and ends with this thread.
func (g *guest) ssh(user string, args ...string) *exec.Cmd {
	all := append(g.options(), "-p", strconv.Itoa(g.port), "-l", user)
	cmd := exec.Command("ssh", append(all, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// shared is the socket of the connection that a user's commands share: to make
// one takes the emulated machine seconds.
func (g *guest) shared(user string) string { return filepath.Join(g.dir, "ssh-"+user) }

// connect makes the shared connections.
func (g *guest) connect() {
	g.disconnect()
	for _, user := range []string{"root", "qa"} {
		master := g.ssh(user, "-M", "-N", "-S", g.shared(user), "127.0.0.1")
		if err := master.Start(); err == nil {
			g.masters = append(g.masters, master)
		}
	}
}

func (g *guest) disconnect() {
	for _, master := range g.masters {
		_ = master.Process.Kill()
		_ = master.Wait()
	}
	g.masters = nil
	for _, user := range []string{"root", "qa"} {
		os.Remove(g.shared(user))
	}
}

// A session is a command that runs in the guest.
type session struct {
	cmd  *exec.Cmd
	what string
	done chan struct{} // closed when the client has ended

	mu   sync.Mutex
	out  bytes.Buffer  // both of the command's outputs
	more chan struct{} // closed and replaced when there is more
}

// Write takes the output of the client.
func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.out.Write(p)
}

// text returns the output so far, and what is closed when there is more.
func (s *session) text() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String(), s.more
}

// start starts a script in the login shell of a user.
func (g *guest) start(t *testing.T, user, script string) *session {
	t.Helper()
	return begin(t, g.ssh(user, "-S", g.shared(user), "127.0.0.1", inShell(script)), script)
}

// startApart is start with a connection of the script's own.
func (g *guest) startApart(t *testing.T, user, script string, args ...string) *session {
	t.Helper()
	return begin(t, g.ssh(user, append(args, "-S", "none", "127.0.0.1", inShell(script))...), script)
}

// inShell is the command by which the script runs in a login shell, which has
// the environment that people have.
func inShell(script string) string {
	return "exec bash -lc '" + strings.ReplaceAll(script, "'", `'\''`) + "'"
}

func begin(t *testing.T, cmd *exec.Cmd, what string) *session {
	t.Helper()
	s := &session{cmd: cmd, what: what, done: make(chan struct{}), more: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s, s
	require.NoError(t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.done
	})
	return s
}

// await waits until the output matches. The command must not end before.
func (s *session) await(t *testing.T, pattern string) {
	t.Helper()
	expr := regexp.MustCompile(pattern)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		out, more := s.text()
		if expr.MatchString(out) {
			return
		}
		select {
		case <-more:
		case <-s.done:
			if out, _ = s.text(); !expr.MatchString(out) {
				t.Fatalf("%s\nended with %v before it said %q:\n%s", s.what, s.cmd.ProcessState, pattern, out)
			}
		case <-timer.C:
			t.Fatalf("%s\ndid not say %q within %v:\n%s", s.what, pattern, limit, out)
		}
	}
}

// running reports whether the command has not ended.
func (s *session) running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// noConnection is the status of a command whose connection broke, or could not
// be made.
const noConnection = 255

// wait waits for the command's end and returns its output and status, which may
// be noConnection.
func (s *session) wait(t *testing.T) (out string, code int) {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		out, _ = s.text()
		t.Fatalf("%s\ndid not end within %v:\n%s", s.what, limit, out)
	}
	out, _ = s.text()
	return out, s.cmd.ProcessState.ExitCode()
}

// run runs a script in the login shell of a user.
func (g *guest) run(t *testing.T, user, script string) (out string, code int) {
	t.Helper()
	return g.start(t, user, script).wait(t)
}

// must is run of what has to succeed. It returns the output without white space
// around it.
func (g *guest) must(t *testing.T, user, script string) string {
	t.Helper()
	out, code := g.run(t, user, script)
	require.Zero(t, code, "%s\nended with status %d:\n%s", script, code, out)
	return strings.TrimSpace(out)
}

// copy brings a file to the home of a user.
func (g *guest) copy(t *testing.T, file, user, name string) {
	t.Helper()
	data, err := os.Open(file)
	require.NoError(t, err)
	defer data.Close()
	cmd := g.ssh(user, "-S", g.shared(user), "127.0.0.1", "cat >"+name+" && chmod +x "+name)
	cmd.Stdin = data
	s := begin(t, cmd, "copying "+file)
	out, code := s.wait(t)
	require.Zero(t, code, out)
}
