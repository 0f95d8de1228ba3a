// Package kill_test ends runs of the suite at random moments, and sees to it
// that the machine is as it was soon after. The script ci/killtest runs it in a
// virtual machine.
package kill_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

var (
	kills = flag.Int("kills", 0, "how many `runs` end by SIGKILL; a tenth of that, or one, ends in each of the other ways (default 0: none)")
	seed  = flag.Uint64("seed", 1, "of the random moments")
	add   = flag.String("hot-add", "", "`command` by which the machine gets a CPU in each run, as of the suite")
)

// The environment of a victim: that it is one, and after what time it is to
// panic.
const (
	victimEnv = "KILLTEST_VICTIM"
	panicEnv  = "KILLTEST_PANIC"
)

const (
	// restoreLimit is how long the machine may take to be as it was.
	restoreLimit = 10 * time.Second
	// lifetime bounds the time after which a run is ended. Each is of another
	// transition or scenario, so it need not be long to be about all of them.
	lifetime = 4 * time.Second
	// cpusets are fewer than by default, as a run is mostly about other things.
	cpusets = 200
)

// TestSuite is the victim.
func TestSuite(t *testing.T) {
	if os.Getenv(victimEnv) == "" {
		t.Skip("this is what TestKill runs and ends")
	}
	if text := os.Getenv(panicEnv); text != "" {
		after, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(after, func() { panic("killtest") })
	}
	hotplugtest.Run(t, hotplugtest.Options{Cpusets: cpusets, HotAdd: *add, Known: []string{"builtin"}})
}

func TestKill(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("-short: this takes CPUs offline")
	case *kills == 0:
		t.Skip("-kills is 0; ci/killtest runs this in a virtual machine")
	case os.Geteuid() != 0:
		t.Skip("not root: taking CPUs offline needs it")
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	others := max(*kills/10, 1)
	names := rows()
	// how long a row's run is, where that is known to be less
	lasts := make(map[string]time.Duration)
	for _, way := range []struct {
		name  string
		count int
		end   func(c *exec.Cmd, after time.Duration)
		kill  unix.Signal
		// the supervisor is killed first, and the next to come restores the
		// machine
		both bool
	}{
		{"SIGKILL", *kills, nil, unix.SIGKILL, false},
		{"SIGKILL to both", others, nil, unix.SIGKILL, true},
		{"SIGINT", others, nil, unix.SIGINT, false},
		{"SIGHUP", others, nil, unix.SIGHUP, false},
		{"timeout", others, func(c *exec.Cmd, after time.Duration) { c.Args = append(c.Args, "-test.timeout="+after.String()) }, 0, false},
		{"panic", others, func(c *exec.Cmd, after time.Duration) { c.Env = append(c.Env, panicEnv+"="+after.String()) }, 0, false},
	} {
		t.Run(way.name, func(t *testing.T) {
			before, err := machine.Take("/")
			if err != nil {
				t.Fatal(err)
			}
			before.HotAdd = *add != ""
			good, changed := 0, 0
			var slowest time.Duration
			for n := 0; n < way.count; {
				row := names[random.IntN(len(names))]
				after := time.Duration(random.Int64N(int64(cmp.Or(lasts[row], lifetime))))
				started := time.Now()
				v := start(t, row, way.end, after)
				if way.kill != 0 {
					v.await(after)
					if way.both {
						killSupervisor(t, v.cmd.Process.Pid)
					}
					_ = v.cmd.Process.Signal(way.kill)
				}
				<-v.done
				ended := time.Now()
				var recovered bytes.Buffer
				if way.both {
					if err := machine.Recover(&recovered); err != nil {
						t.Error(err)
					}
				}
				restored, diffs := settled(t, before)
				took := restored.Sub(ended)
				slowest = max(slowest, took)
				said, err := v.complaints()
				if err != nil {
					t.Fatal(err)
				}
				if status := v.cmd.ProcessState; status.ExitCode() == 0 {
					lasts[row] = ended.Sub(started)
					continue
				} else if status.ExitCode() == 1 {
					t.Fatalf("a run of %s failed:\n%s", row, v.said.String())
				}
				n++
				if bytes.Contains(append(said, recovered.Bytes()...), []byte("left the machine changed")) {
					changed++
				}
				switch {
				case len(diffs) > 0:
					t.Errorf("%s ended after %v, and %v later the machine was different: %v\n%s", row, after, took, diffs, said)
				case took > restoreLimit:
					t.Errorf("%s ended after %v, and it took %v until the machine was as before\n%s", row, after, took, said)
				default:
					good++
				}
			}
			// On standard output without the test's name, so that it is easily
			// found.
			fmt.Printf("%s: %d of %d times the machine was as before within %v; %d times it was left changed; slowest %v\n",
				way.name, good, way.count, restoreLimit, changed, slowest.Round(time.Millisecond))
		})
	}
}

// rows are the names of the tests that a run can be of.
func rows() (names []string) {
	tables := hotplugtest.Default()
	for _, transition := range tables.Transitions {
		names = append(names, transition.Name)
	}
	for _, scenario := range tables.Scenarios {
		names = append(names, "Scenario/"+scenario.Name)
	}
	return names
}

// victim is a run of the suite.
type victim struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}

	// What it and its supervisor print on standard error, which ends with the
	// last of them. A panic prints more than a pipe takes that nobody reads.
	complaints func() ([]byte, error)
}

func start(t *testing.T, row string, end func(*exec.Cmd, time.Duration), after time.Duration) *victim {
	t.Helper()
	run := "^TestSuite$/^" + strings.ReplaceAll(row, "/", "$/^") + "$"
	v := &victim{cmd: exec.Command("/proc/self/exe", "-test.run="+run, "-hot-add="+*add), done: make(chan struct{})}
	v.cmd.Env = append(os.Environ(), victimEnv+"=yes")
	if end != nil {
		end(v.cmd, max(after, time.Millisecond))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	v.cmd.Stderr = w
	v.cmd.Stdout = &v.said
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var complaints []byte
	read := make(chan error, 1)
	go func() {
		var err error
		complaints, err = io.ReadAll(r)
		read <- err
	}()
	v.complaints = func() ([]byte, error) { err := <-read; return complaints, err }
	go func() {
		_ = v.cmd.Wait()
		close(v.done)
	}()
	return v
}

// killSupervisor kills the child of a process, if it has one by now.
func killSupervisor(t *testing.T, parent int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		status, _ := os.ReadFile(file)
		if strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// await waits for a time, or for the victim's end.
func (v *victim) await(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-v.done:
	}
}

// settled waits until the supervisor is done too, and returns when that was and
// what is different then.
func settled(t *testing.T, before *machine.Snapshot) (time.Time, []machine.Difference) {
	t.Helper()
	unlock, err := machine.Lock(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	diffs, err := before.Compare()
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	return now, diffs
}
