// Package found_test runs the suite where other people's state is in the
// machine, and where it cannot run, and sees to it that nothing is different
// after that. The script ci/asfound runs it in virtual machines.
package found_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/machine"
)

var (
	inVM    = flag.Bool("vm", false, "this is a virtual machine whose state may be changed; ci/asfound says so")
	options = func() *hotplugtest.Options {
		o := new(hotplugtest.Options)
		o.Flags(flag.CommandLine)
		return o
	}()
)

// What this binary is when it is started again, in the environment.
const (
	suiteEnv = "ASFOUND_SUITE" // the suite
	// what becomes the suite in the place of that name
	enterEnv = "ASFOUND_ENTER"
	// a process that sleeps or runs until it is killed
	tenantEnv = "ASFOUND_TENANT"
)

var ticks int // of a process that runs

func TestMain(m *testing.M) {
	flag.Parse()
	if name := os.Getenv(enterEnv); name != "" {
		fmt.Fprintln(os.Stderr, enter(name))
		os.Exit(99)
	}
	switch os.Getenv(tenantEnv) {
	case "sleeps":
		_ = unix.Pause()
	case "runs":
		for n := 0; ; n++ {
			ticks = n
		}
	}
	os.Exit(machine.Main(m.Run))
}

// TestSuite is the suite that the other tests run.
func TestSuite(t *testing.T) {
	if os.Getenv(suiteEnv) == "" {
		t.Skip("this is what the other tests run")
	}
	hotplugtest.Run(t, *options)
}

// needVM skips a test that was not asked for.
func needVM(t *testing.T) {
	t.Helper()
	if !*inVM {
		t.Skip("changes the machine: ci/asfound runs this in a virtual machine")
	}
}

// suite is a run of the suite in a process of its own.
func suite(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.v", "-cpusets=200"}, args...)...)
	cmd.Env = append(os.Environ(), suiteEnv+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

var attributes = regexp.MustCompile(`(?m)^=== ATTR .*\n`)

// run runs it, and returns its exit status and what it said, without its
// attributes. The test fails if anything of the machine is different after
// that.
func run(t *testing.T, cmd *exec.Cmd) (code int, said string) {
	t.Helper()
	return runWhile(t, cmd, "", nil)
}

// ofInit reports whether a difference is about a thread of init's.
func ofInit(d machine.Difference) bool { return strings.Contains(d.What, " (init) ") }

func TestOfInit(t *testing.T) {
	for what, want := range map[string]bool{
		"thread 102 (init) on CPUs": true, "thread 102 (init) in cpusets": true,
		"thread 102 (initrd) on CPUs": false, "/proc/irq/9/smp_affinity_list (acpi)": false,
	} {
		assert.Equal(t, want, ofInit(machine.Difference{What: what}), what)
	}
}

// runWhile is run, and does something when the suite has said a text.
func runWhile(t *testing.T, cmd *exec.Cmd, text string, do func()) (code int, said string) {
	t.Helper()
	before, err := machine.Take("/")
	require.NoError(t, err)
	out := &trigger{text: text, do: do}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	said = attributes.ReplaceAllString(out.said.String(), "")
	require.Nil(t, out.do, "the suite did not say %q:\n%s", text, said)
	// When a test is silent for long, the virtual machine's init looks whether a
	// sleep on each CPU ends. Its threads are pinned for that, and then end. What
	// the suite had changed about init would last.
	var diffs []machine.Difference
	require.Eventually(t, func() bool {
		diffs, err = before.Compare()
		return err != nil || !slices.ContainsFunc(diffs, ofInit)
	}, 10*time.Second, 50*time.Millisecond, "threads of init stay different: %v", &diffs)
	require.NoError(t, err)
	for _, d := range diffs {
		t.Errorf("after the run of the suite %v", d)
	}
	return cmd.ProcessState.ExitCode(), said
}

// setAll takes CPUs offline or online.
func setAll(t *testing.T, cpus affinity.CPUSet, online bool) {
	t.Helper()
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	for cpu := range cpus.All() {
		require.NoError(t, sys.SetOnline(cpu, online))
	}
}
