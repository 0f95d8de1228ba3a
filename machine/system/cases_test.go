package system_test

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cases are in the order in which they run. The longest is the last.
var cases = []testCase{
	// As the README has it.
	{name: "documented/go-test-exec-sudo", run: goTestExecSudo, v1: true},
	{name: "documented/sudo-go-test", run: sudoGoTest, v1: true},
	{name: "documented/static-binary", run: wholeRun, ignore: moved, balanced: true, v1: true},
	{name: "documented/junit", run: junit, v1: true},
	{name: "documented/junit-cut-early", run: junitCutEarly},

	// Interrupts that have other numbers after a suspend.
	{name: "pins/irqbalance-stopped", run: suspends},
	{name: "pins/irqbalance-running", run: suspends, ignore: moved, balanced: true},

	// What others change in the middle of a run.
	{name: "others/first-user-of-cpusets", run: firstUserOfCpusets, fresh: true},
	{name: "others/settings", run: othersSettings},
	// A CPU that goes offline takes interrupts along, and virtio_net sets all
	// of its masks anew.
	{name: "others/cpu-offline", run: othersOffline, ignore: `^irq `},

	// Units of systemd's, and cron.
	{name: "units/oneshot", run: oneshot},
	{name: "units/ProtectKernelTunables", run: hardened("ProtectKernelTunables")},
	{name: "units/ProtectControlGroups", run: hardened("ProtectControlGroups")},
	{name: "units/limited", run: limitedUnit},
	{name: "units/stopped", run: stoppedUnit},
	{name: "units/cron", run: cron},

	// Ends that nobody wants.
	{name: "ended/connection", run: connectionCut, v1: true},
	{name: "ended/test-killed", run: testKilled, v1: true},
	{name: "ended/both-killed-then-restore", run: bothKilledThenRestore, v1: true},
	{name: "ended/both-killed-then-next-run", run: bothKilledThenNextRun},
	{name: "ended/both-killed-then-reboot", run: bothKilledThenReboot, fresh: true},

	// Where nothing can be tested.
	{name: "nothing/user", run: asUser},
	{name: "nothing/container", run: inContainer("", `/sys is mounted read-only`)},
	{name: "nothing/privileged-container", run: inContainer("--privileged", `this is a container`)},

	{name: "everything", run: everything, ignore: `^thread .*(gopls|go-build)`},
}

const (
	// moved matches the facts that irqbalance changes all the time.
	moved = "^irq "

	// brief are tests that take some seconds, long are some that take half a
	// minute.
	brief = "^(TestOnline|TestOffline)$/at-return/^(affinity|effective|runs|online-mask)$"
	long  = "^(TestOnline|TestOffline)$/at-return"

	// middle is the output of -test.v in the middle of them.
	middle = `=== RUN +TestOffline/at-return/`
)

// whole are the options of each run of all of the suite: no kernel of Debian's
// is without defects. On a host of cgroup v1 the CPUs that may be taken offline
// have to be named.
func whole() string { return " -known builtin" + spared() }

func spared() string {
	if *hybrid {
		return " -cpus=2-3"
	}
	return ""
}

// options are those of each run of a part of the suite.
func options() string { return " -cpusets=200" + spared() }

// static is the command that runs tests by the static binary, of the user whose
// home it is in.
func static(run string, more ...string) string {
	return "./hotplugtest.test -test.v -test.run='" + run + "'" + options() + " " + strings.Join(more, " ")
}

// A tally is what the last line of a run says.
type tally struct {
	passed, skipped, failed int
	nothing                 string // why nothing was tested
}

var lastLine = regexp.MustCompile(`(?m)^hotplugtest: (?:Linux \S+: (\d+) passed, (\d+) skipped, (\d+) failed(?:, \d+ by known defects)?|NOTHING WAS TESTED: (.+?))\r*$`)

// tallyOf reads that line, of which there must be one.
func tallyOf(t *testing.T, out string) (found tally) {
	t.Helper()
	lines := lastLine.FindAllStringSubmatch(out, -1)
	if !assert.Len(t, lines, 1, "there is not one line that says what was tested:\n%s", failures(out)) {
		return tally{}
	}
	found.passed, _ = strconv.Atoi(lines[0][1])
	found.skipped, _ = strconv.Atoi(lines[0][2])
	found.failed, _ = strconv.Atoi(lines[0][3])
	found.nothing = lines[0][4]
	return found
}

// passes fails the test if a run did not pass, or does not say what it tested.
func passes(t *testing.T, out string, code int) {
	t.Helper()
	require.Zero(t, code, "the run failed:\n%s", failures(out))
	found := tallyOf(t, out)
	assert.Positive(t, found.passed, "%+v", found)
	assert.Zero(t, found.failed, "%+v", found)
}

// testsNothing fails the test if a run passes, or does not say why it tested
// nothing.
func testsNothing(t *testing.T, out string, code int, reason string) {
	t.Helper()
	assert.Positive(t, code, "the run passed, which has tested nothing:\n%s", failures(out))
	assert.Regexp(t, reason, tallyOf(t, out).nothing)
}

// failures are the lines of an output that are about failures, or its end.
func failures(out string) string {
	var lines, about []string
	for line := range strings.Lines(out) {
		if !noise.MatchString(line) {
			lines = append(lines, strings.TrimRight(line, "\r\n"))
		}
	}
	for i, line := range lines {
		if strings.Contains(line, "FAIL") || strings.Contains(line, "hotplugtest:") {
			// What a test says stands above it.
			about = append(about, lines[max(0, i-40):i+1]...)
		}
	}
	if len(about) == 0 {
		about = lines[max(0, len(lines)-20):]
	}
	return strings.Join(about, "\n")
}

// noise matches lines that are only progress.
var noise = regexp.MustCompile(`=== (ATTR|RUN|NAME|PAUSE|CONT) |--- (PASS|SKIP): `)

// goTestExecSudo is the README's command for a machine with Go: all of the
// suite, with a terminal, as most people have. What it makes must be the
// user's.
func goTestExecSudo(t *testing.T, g *guest) {
	s := g.startApart(t, "qa", "cd hotplugtest && go test -count=1 -exec sudo ."+whole(), "-tt")
	out, code := s.wait(t)
	passes(t, out, code)
	fmt.Printf("     %s\n", strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n     "))
	assert.Regexp(t, `(?m)^ok\s+github.com/hotplugtest/hotplugtest\s`, out)
	assert.Empty(t, g.must(t, "root", "find /home/qa ! -user qa"), "something of the user's is not hers any more")
}

// sudoGoTest is where go is in the path of root.
func sudoGoTest(t *testing.T, g *guest) {
	goForRoot(t, g)
	out, code := g.run(t, "qa", "cd hotplugtest && sudo go test -count=1 -v -run '"+brief+"' ."+options())
	passes(t, out, code)
}

// goForRoot puts go where sudo finds it.
func goForRoot(t *testing.T, g *guest) {
	t.Helper()
	const link = "/usr/local/bin/go"
	g.must(t, "root", "ln -s /usr/local/go/bin/go "+link)
	t.Cleanup(func() { g.must(t, "root", "rm "+link) })
}

// wholeRun is all of the suite, on the system as it is.
func wholeRun(t *testing.T, g *guest) {
	out, code := g.run(t, "root", "./hotplugtest.test"+whole())
	passes(t, out, code)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	assert.Regexp(t, lastLine, lines[len(lines)-1], "that is not the last line")
	if found := tallyOf(t, out); !*hybrid {
		// rows of partitions are skipped: tenants have the CPUs
		assert.Greater(t, found.passed, 500, "%+v", found)
	}
	fmt.Println("     " + lines[len(lines)-1])
}

// everything is the project's own tests on a machine that is somebody's.
func everything(t *testing.T, g *guest) {
	goForRoot(t, g)
	times := 1
	if *thrice {
		times = 3
	}
	for range times {
		out, code := g.run(t, "qa", "cd hotplugtest && sudo go test -count=1 $(go list ./... | tail -n +2) && sudo go test -count=1 ."+whole())
		assert.Zero(t, code, out)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "ok") && strings.Contains(line, "github.com/hotplugtest/hotplugtest\t") {
				fmt.Print("     ", line)
			}
		}
	}
}

// asUser has no root, by either command.
func asUser(t *testing.T, g *guest) {
	out, code := g.run(t, "qa", static(brief))
	testsNothing(t, out, code, `not root`)
	out, code = g.run(t, "qa", "cd hotplugtest && go test -count=1 .")
	testsNothing(t, out, code, `not root`)
}

// inContainer is the static binary in a container of podman's.
func inContainer(how, reason string) func(*testing.T, *guest) {
	return func(t *testing.T, g *guest) {
		g.must(t, "root", "cp hotplugtest.test /srv/spare/")
		name := path.Base(t.Name())
		out, code := g.run(t, "root", "podman run --rm --network=none --name="+name+" "+how+" --rootfs /srv/spare /hotplugtest.test -test.v -test.run='"+brief+"'")
		testsNothing(t, out, code, reason)
	}
}
