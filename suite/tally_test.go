package suite

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// scriptEnv has TestConclude run the script below in place of its cases. Set to
// "alone", it makes the test binary one that has no tests but the suite's.
const scriptEnv = "HOTPLUGTEST_SCRIPT"

func init() { options.OtherTests = os.Getenv(scriptEnv) != "alone" }

// script has groups and tests with the results that their names say.
func script(t *testing.T, env string) {
	counted.ask()
	counted.stopAt(env == "stop")
	r := &Runner{}
	test := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			counted.test(t)
			f(t)
		})
	}
	group := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			counted.group(t)
			counted.group(t)
			f(t)
		})
	}
	skip := func(why string) func(*testing.T) { return func(t *testing.T) { r.skip(t, Unsupportedf("%s", why)) } }

	test("good-1", func(*testing.T) {})
	test("good-2", func(*testing.T) {})
	test("skipped-1", skip("no SMT"))
	test("skipped-2", skip("no SMT"))
	test("other", skip("no suspend"))
	test("bad", func(t *testing.T) { t.Error("broken") })
	test("cleanup", func(t *testing.T) { t.Cleanup(func() { t.Error("not undone") }) })
	group("group", func(t *testing.T) {
		for _, name := range []string{"good", "bad"} {
			// Nobody watches the test of an invariant that is placed.
			t.Run(name, func(t *testing.T) {
				t.Run("child-cpuset", func(t *testing.T) {
					counted.test(t)
					if name == "bad" {
						t.Error("broken")
					}
				})
			})
		}
	})
	group("undo", func(t *testing.T) {
		t.Run("good", func(t *testing.T) { counted.test(t) })
		t.Error("the set-up is not undone")
	})
	group("unable", skip("no partition"))
	t.Run("wrong", func(t *testing.T) { SkipOrFail(t, &wrongOption{"-cpus 9: cpu9 cannot be used"}, *options) })
	t.Run("embedded", func(t *testing.T) { Run(t, Options{MustTest: env == "must", Tables: &Tables{}}) })
	t.Run("beside", func(t *testing.T) { t.Error("it is not the suite's") })
}

// It is somebody's test that has the suite, and does not come to it.
func TestSkippedBefore(t *testing.T) {
	if os.Getenv(scriptEnv) != "" {
		t.Skip("not on this machine")
	}
}

// The last line of a run, and its exit status.
func TestConclude(t *testing.T) {
	if env := os.Getenv(scriptEnv); env != "" {
		script(t, env)
		return
	}
	var uname unix.Utsname
	require.NoError(t, unix.Uname(&uname))
	linux := "hotplugtest: Linux " + unix.ByteSliceToString(uname.Release[:]) + ": "
	nothing := "hotplugtest: NOTHING WAS TESTED: "
	for _, tt := range []struct {
		name, run, env string
		args           []string
		code           int
		last           string // "": there is no such line
	}{
		{name: "passed", run: "TestConclude/good", last: linux + "2 passed, 0 skipped, 0 failed"},
		{name: "some skipped", run: "TestConclude/(good|skipped|other)", last: linux + "2 passed, 3 skipped, 0 failed"},
		{name: "twice", run: "TestConclude/(good|other)", args: []string{"-test.count=2"}, last: linux + "4 passed, 2 skipped, 0 failed"},
		{name: "a test fails", run: "TestConclude/(good|bad|other)", code: 1, last: linux + "2 passed, 1 skipped, 1 failed"},
		{name: "a cleanup fails", run: "TestConclude/(good|cleanup)", code: 1, last: linux + "2 passed, 0 skipped, 1 failed"},
		{name: "inside a group", run: "TestConclude/group", code: 1, last: linux + "1 passed, 0 skipped, 1 failed"},
		{name: "a good group", run: "TestConclude/group/good", last: linux + "1 passed, 0 skipped, 0 failed"},
		{name: "the group fails", run: "TestConclude/undo", code: 1, last: linux + "1 passed, 0 skipped, 1 failed"},
		{name: "all", run: "TestConclude", code: 1, last: linux + "4 passed, 5 skipped, 4 failed, 1 that could not begin"},
		{name: "something else fails", run: "TestConclude/(good|beside)", code: 1,
			last: linux + "2 passed, 0 skipped, 0 failed, but the run failed: see above"},

		{name: "all skipped", run: "TestConclude/skipped", code: 1, last: nothing + "no SMT"},
		{name: "a group is skipped", run: "TestConclude/unable", code: 1, last: nothing + "no partition"},
		{name: "for several reasons", run: "TestConclude/(skipped|other)", code: 1,
			last: nothing + "all 3 tests were skipped, TestConclude/skipped-1 first: no SMT"},
		{name: "asked for wrongly", run: "TestConclude/(wrong|other)", code: 1, last: nothing + "-cpus 9: cpu9 cannot be used"},
		{name: "no such row", run: "TestConclude/typo", code: 1, last: nothing + `no test of the suite matches -run "TestConclude/typo"`},
		{name: "nothing is enough", run: "TestConclude/skipped", args: []string{"-must-test=false"}, last: nothing + "no SMT"},

		{name: "short", run: "TestOnline", env: "alone", args: []string{"-test.short"}},
		{name: "other tests", run: "TestVersion$"},
		{name: "no such test", run: "NoSuch"},
		{name: "no such test of the suite", run: "NoSuch", env: "alone", code: 1, last: nothing + `no test that matches -run "NoSuch" has run the suite`},
		{name: "a test skips before the suite", run: "TestSkippedBefore", env: "alone", code: 1,
			last: nothing + `no test that matches -run "TestSkippedBefore" has run the suite`},
		{name: "all are left out", env: "alone", args: []string{"-test.skip=."}, code: 1, last: nothing + "no test has run the suite"},
		{name: "a list", run: "TestOnline", env: "alone", args: []string{"-test.list=TestOnline"}},
		{name: "a benchmark", run: "^$", env: "alone", args: []string{"-test.bench=NoSuch"}},

		{name: "an ordinary user", run: "TestSMT|TestOnline", code: 1,
			last: nothing + "not root: taking CPUs offline needs it; run with sudo"},
		{name: "somebody's test", run: "TestConclude/embedded", args: []string{"-must-test=false"},
			last: nothing + "not root: taking CPUs offline needs it; run with sudo"},
		{name: "somebody's test, which must test", run: "TestConclude/embedded", env: "must", args: []string{"-must-test=false"}, code: 1,
			last: nothing + "not root: taking CPUs offline needs it; run with sudo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := scriptedRun(tt.run, tt.env, tt.args...)
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit status %d, not %d, error %v:\n%s", code, tt.code, err, out)
			}
			assert.Equal(t, strings.Contains(tt.last, " failed") && !strings.Contains(tt.last, " 0 failed"), strings.Contains(string(out), "\nhotplugtest: what failed, "), string(out))
			if last := lastLine(out); tt.last != "" {
				assert.Equal(t, tt.last, last, string(out))
			} else {
				assert.NotContains(t, string(out), "hotplugtest: ")
			}
		})
	}
}

// What failed is named so that go test runs it again.
func TestAgain(t *testing.T) {
	v := verdicts{{test: "TestOnline/at-return/a.b", verdict: failed}, {test: "TestOnline/at-return/c"}, {test: "TestSMT", verdict: failed}}
	assert.Equal(t, `^TestOnline$/^at-return$/^a\.b$|^TestSMT$`, v.again())
	for _, row := range strings.Split("abcdefghi", "") {
		v = append(v, ended{test: "TestOnline/at-uevent/" + row, verdict: failed})
	}
	assert.Equal(t, "^TestOnline$/^at-return$|^TestSMT$|^TestOnline$/^at-uevent$", v.again(), "not too many of them")
	assert.Empty(t, verdicts{{test: "TestSMT"}, {test: "TestOnline", verdict: unable}}.again())
}

// scriptedRun is the test binary as the run of an ordinary user, whom the real
// suite never tests anything for.
func scriptedRun(run, env string, args ...string) *exec.Cmd {
	if env == "" {
		env = "yes"
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=" + run}, args...)...)
	// The race detector sleeps for a second at the end of a process.
	cmd.Env = append(os.Environ(), scriptEnv+"="+env, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimRight(out, "\n"), []byte("\n"))
	return string(lines[len(lines)-1])
}

// The terminal gets the line once.
func TestConcludeOnTerminal(t *testing.T) {
	for _, tt := range []struct {
		name, run string
		args      []string
		terminal  bool // what is standard output
		want      bool // the terminal gets the line
	}{
		{name: "go test .", run: "good", args: []string{"-test.paniconexit0"}, want: true},
		{name: "go test", run: "good", args: []string{"-test.paniconexit0"}, terminal: true, want: true},
		{name: "go test -v .", run: "good", args: []string{"-test.paniconexit0", "-test.v"}},
		{name: "go test -json .", run: "good", args: []string{"-test.paniconexit0", "-test.v=test2json"}},
		{name: "go test . fails", run: "bad", args: []string{"-test.paniconexit0"}},
		{name: "go test . tests nothing", run: "skipped", args: []string{"-test.paniconexit0"}},
		{name: "the binary", run: "good", terminal: true, want: true},
		{name: "the binary in a pipe", run: "good"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			terminal, user := openTerminal(t)
			cmd := scriptedRun("TestConclude/"+tt.run, "", tt.args...)
			cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, true, 3
			cmd.ExtraFiles = []*os.File{terminal}
			var out bytes.Buffer
			cmd.Stdout = &out
			if tt.terminal {
				cmd.Stdout = terminal
			}
			_ = cmd.Run()
			shown := allShown(t, terminal, user)
			want := 0
			if tt.want {
				want = 1
			}
			assert.Equal(t, want, strings.Count(shown, "hotplugtest: "), shown)
			if !tt.terminal {
				assert.Contains(t, lastLine(out.Bytes()), "hotplugtest: ")
			}
		})
	}
}

// openTerminal makes a terminal, and a non-blocking descriptor of what its user
// sees.
func openTerminal(t *testing.T) (terminal *os.File, user int) {
	t.Helper()
	user, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudoterminals: /dev/ptmx: %v", err)
	}
	t.Cleanup(func() { unix.Close(user) })
	require.NoError(t, unix.IoctlSetPointerInt(user, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(user, unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { terminal.Close() })
	return terminal, user
}

// allShown closes the terminal, and returns all that the user has seen. The
// kernel passes it on from a workqueue, so until the end there may be more.
func allShown(t *testing.T, terminal *os.File, user int) string {
	t.Helper()
	require.NoError(t, terminal.Close())
	var shown []byte
	for {
		buf := make([]byte, 4096)
		n, err := unix.Read(user, buf)
		switch {
		case err == unix.EIO:
			return string(shown)
		case err == unix.EAGAIN || err == unix.EINTR:
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(user), Events: unix.POLLIN}}, -1)
			require.Contains(t, []error{nil, unix.EINTR}, err)
		default:
			require.NoError(t, err)
			shown = append(shown, buf[:n]...)
		}
	}
}

// With Options.Stop, the process stops at the end of the first test that fails,
// once.
func TestStop(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestConclude$", "-test.v")
	cmd.Env = append(os.Environ(), scriptEnv+"=stop")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	text := func() string {
		data, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		return string(data)
	}
	var status syscall.WaitStatus
	_, err = syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	if !status.Stopped() {
		t.Fatalf("it has not stopped:\n%s", text())
	}
	assert.Contains(t, text(), "broken")
	assert.NotContains(t, text(), "not undone")
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.ErrorAs(t, cmd.Wait(), new(*exec.ExitError))
	assert.Contains(t, text(), "not undone")
}
