package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	// The holder of the lock in the tests is this binary again: it locks, says
	// so, and holds on until it is killed.
	if path := os.Getenv("LOCK_AND_HOLD"); path != "" {
		if _, err := lock(path, os.Stderr); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		_ = unix.Pause() // select{} is a deadlock, without cgo
	}
	if root := os.Getenv("SUPERVISED"); root != "" {
		victim(root, os.Args[1])
	}
	if os.Getenv("GUARDED") != "" {
		guarded()
	}
	if os.Getenv("WRITE_FILE") != "" {
		if err := write(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("LEAKING") != "" {
		os.Exit(Main(func() int {
			_, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				panic(err)
			}
			return 0
		}))
	}
	os.Exit(Main(m.Run))
}

// hold has another process lock the path.
func hold(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LOCK_AND_HOLD="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	said := make([]byte, 7)
	_, err = out.Read(said)
	require.NoError(t, err)
	return cmd
}

func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(path, t.Output())
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(os.Getpid()), strings.TrimSpace(string(text)))
	require.NoError(t, unlock())
}

// A holder that is killed leaves nothing behind that would have to be
// recovered; until then whoever waits says for whom.
func TestLockWaitsForItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := hold(t, path)

	waiting := make(chan string, 1)
	locked := make(chan error, 1)
	go func() {
		unlock, err := lock(path, writerFunc(func(text string) { waiting <- text }))
		if err == nil {
			err = unlock()
		}
		locked <- err
	}()
	assert.Contains(t, <-waiting, "process "+strconv.Itoa(holder.Process.Pid))
	select {
	case <-locked:
		t.Fatal("the lock was taken while another process held it")
	default:
	}
	require.NoError(t, holder.Process.Kill())
	require.NoError(t, <-locked)
}

type writerFunc func(text string)

func (f writerFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

// What is left of a holder that has ended is a file that nobody has locked.
func TestLockIsNotStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := hold(t, path)
	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(holder.Process.Pid), strings.TrimSpace(string(text)))
	unlock, err := lock(path, writerFunc(func(text string) { t.Errorf("it says that it is %s", text) }))
	require.NoError(t, err)
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(os.Getpid()), strings.TrimSpace(string(text)))
	require.NoError(t, unlock())
}
