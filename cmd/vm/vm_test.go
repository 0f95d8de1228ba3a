// The tests in this file boot a dozen virtual machines, one after the other,
// and are skipped unless HOTPLUGTEST_VM=1 asks for them; then none is skipped.
// Those of cmd/selftest do too, so give go test -p=2 at most.
//
// They assume of the machine: the Go toolchain with the module's dependencies;
// QEMU, or APT and root to install it; APT with a Debian mirror; a memory of 2
// GB; /bin/sh. They assume neither root nor KVM.
//
// An emulated VM boots in 3 s on two idle CPUs and in 15 s on busy ones. What
// bounds a case:
//   - grace, for what takes the runner no time to speak of: to notice that something ended, and end the rest.
//   - hangLimit, for the case that waits for its bound: four boots on idle CPUs, so that the program gets to run.
//   - patience, for all the others, which end by themselves, as does a question to a mirror: only a hang of the runner
//     itself gets there.
package main_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm"
)

const (
	suite     = "bookworm"       // whose kernel is booted: of the stock ones, one with a wait that can be knocked out
	grace     = 30 * time.Second // for what is done at once, by a machine that may be busy
	hangLimit = 45 * time.Second // in which such a machine has booted a kernel
	patience  = 2 * time.Minute
)

func TestMain(m *testing.M) {
	flag.Parse()
	if program, ok := programs[flag.Arg(0)]; ok {
		os.Exit(program())
	}
	code := machine.Main(m.Run)
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// tools are what the tests run: the runner, and this test binary again for the
// guest, static.
type tools struct {
	vm, guest string
	goOnly    string // a PATH without QEMU and APT
}

var built string // the tools' directory

var build = sync.OnceValues(func() (_ tools, err error) {
	if built, err = os.MkdirTemp("", "vm-test-"); err != nil {
		return tools{}, err
	}
	b := tools{
		vm: filepath.Join(built, "vm"), guest: filepath.Join(built, "guest.test"), goOnly: filepath.Join(built, "path"),
	}
	if err := os.Mkdir(b.goOnly, 0o755); err != nil {
		return b, err
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		return b, err
	}
	if err := os.Symlink(gotool, filepath.Join(b.goOnly, "go")); err != nil {
		return b, err
	}
	for _, args := range [][]string{{"build", "-buildvcs=false", "-o", b.vm, "."}, {"test", "-c", "-o", b.guest, "."}} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	// What is downloaded and built once is in no test's time.
	_, err = vm.Prepare(context.Background(), vm.Options{Kernel: suite}, runtime.GOARCH, os.Stderr)
	return b, err
})

// needVM skips a test that was not asked for, and returns what it runs.
func needVM(t *testing.T) tools {
	t.Helper()
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	b, err := build()
	require.NoError(t, err)
	return b
}

// command is the runner's, with args for vm exec.
func (b tools) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, b.vm, append([]string{"exec"}, args...)...)
}

// result is how a run of the runner ended.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// run runs a command to its end, which leaves nothing behind.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	tmp := t.TempDir()
	cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(start)}
	t.Cleanup(func() {
		if t.Failed() {
			end := strings.ToValidUTF8(r.stdout[max(0, len(r.stdout)-10_000):], ".")
			t.Logf("%v: %v after %v\nstandard output, its end:\n%s\nstandard error:\n%s", cmd, err, r.took, end, r.stderr)
		}
	})
	left, err := filepath.Glob(filepath.Join(tmp, "vm-[0-9]*"))
	require.NoError(t, err)
	assert.Empty(t, left, "left behind in TMPDIR")
	return r
}

// complaints are the lines on standard error, but for those on the way to a VM.
func (r result) complaints() (lines []string) {
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "vm: by /dev/kvm: ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// What the program prints, every byte of it, and its exit status are the
// runner's own. The kernel is poked before.
func TestOutput(t *testing.T) {
	b := needVM(t)
	out := filepath.Join(t.TempDir(), "out,1") // as a CI matrix names its directories
	r := run(t, b.command(t, "-kernel", suite, "-out", out,
		"-poke", "cpuset_wait_for_hotplug=ret", "-poke", "_cpu_up:cpuset_wait_for_hotplug=nop", b.guest, "output", "a b", ""))
	wd, err := os.Getwd()
	require.NoError(t, err)
	hello, err := os.ReadFile("testdata/hello")
	require.NoError(t, err)
	want := outputWants(wd, hello, "output", "a b", "")
	if !bytes.Equal(want, []byte(r.stdout)) {
		same := 0
		for same < min(len(want), len(r.stdout)) && want[same] == r.stdout[same] {
			same++
		}
		t.Errorf("the output is of %d bytes, and like the program's for %d; that printed %d", len(r.stdout), same, len(want))
	}
	assert.Equal(t, outputStatus, r.code)
	assert.Empty(t, r.complaints())
	console, err := os.ReadFile(filepath.Join(out, "console.log"))
	require.NoError(t, err)
	assert.Contains(t, string(console), "Linux version 6.1.")
}

// However it ends: the program's exit status if it came to its end, and else 1,
// with one line that says why before the console's part that matters.
func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		name           string
		flags          []string
		argv           []string // the program and its arguments; a single word is one of this test binary's programs
		code           int
		stdout         []string // regular expressions of its lines
		stderr         string   // of its only line
		atLeast, bound time.Duration
	}{
		{
			name: "panic", argv: []string{"panic"}, code: 1,
			stdout: []string{
				`vm: the kernel panicked while the program ran \(Linux 6\.1\..*\)`,
				`vm: \| .*Kernel panic - not syncing: sysrq triggered crash`,
			},
		},
		{
			name: "panic at boot", flags: []string{"-append", "rdinit=/nosuch"}, argv: []string{"output"}, code: 1,
			stdout: []string{
				`vm: the kernel panicked before the program started`,
				`vm: \| .*Kernel panic - not syncing: VFS: Unable to mount root fs.*`,
			},
		},
		{
			// The console's markers must not count. Only a line of the
			// failure's may repeat them.
			name: "reboot", argv: []string{"reboot"}, code: 1,
			stdout: []string{
				`vm: the VM ended while the program ran \(Linux 6\.1\..*\)`,
				`vm: \| PASS`,
			},
		},
		{
			name: "hang", flags: []string{"-timeout", hangLimit.String()}, argv: []string{"hang"}, code: 1,
			stdout: []string{
				`ready`,
				`vm: the VM was ended: it was not done after ` + hangLimit.String(),
				`vm: \| .*sysrq: Show Blocked State`,
			},
			atLeast: hangLimit, bound: hangLimit + 3*grace, // to let the kernel talk
		},
		{
			name: "hang in the boot", flags: []string{"-timeout", "1s"}, argv: []string{"output"}, code: 1,
			stdout:  []string{`vm: the VM was ended: it was not done after 1s`},
			atLeast: time.Second, bound: time.Second + grace,
		},
		{
			name: "signal", argv: []string{"orphan"}, code: 128 + int(unix.SIGKILL),
			stdout: []string{`vm: /bin/guest\.test: killed by SIGKILL`},
		},
		{
			// As a rule it is dynamically linked.
			name: "one of the machine's programs", argv: []string{"/bin/sh", "-c", "echo child of $PPID; exit 3"}, code: 3,
			stdout: []string{`child of 1`},
		},
		{
			name: "poke of what is not there", flags: []string{"-poke", "nosuchsymbol=ret"}, argv: []string{"output"}, code: 1,
			stderr: `vm: poke: this kernel has no symbol nosuchsymbol`,
		},
		{
			name: "a symbol of a module", flags: []string{"-module", "null_blk nr_devices=2", "-poke", "null_queue_rq=ret0"},
			argv: []string{"/bin/sh", "-c", "read module rest </proc/modules; echo $module; exec 2>/dev/null; : </dev/nullb1 && exit 3"}, code: 3,
			stdout: []string{`null_blk`},
		},
		{
			name: "a module that fails", flags: []string{"-module", "null_blk queue_mode=9"}, argv: []string{"output"}, code: 1,
			stderr: `vm: module null_blk\.ko: finit_module\(2\) with parameters "queue_mode=9": invalid argument`,
		},
		{
			name: "a module that is not there", flags: []string{"-module", "nosuch"}, argv: []string{"output"}, code: 1,
			stderr: `vm: kernel bookworm: module nosuch of Debian bookworm linux-image-\S+ \S+: no such module`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := needVM(t)
			args := append([]string{"-kernel", suite}, tt.flags...)
			if len(tt.argv) == 1 {
				args = append(args, b.guest)
			}
			r := run(t, b.command(t, append(args, tt.argv...)...))
			assert.Equal(t, tt.code, r.code)
			for _, line := range tt.stdout {
				assert.Regexp(t, `(?m)^`+line+`$`, r.stdout)
			}
			assert.NotRegexp(t, `(?m)^(PASS|ok\b|--- PASS)`, r.stdout)
			if tt.stderr == "" {
				assert.Empty(t, r.complaints())
			} else if assert.Len(t, r.complaints(), 1) {
				assert.Regexp(t, `^`+tt.stderr+`\n$`, r.complaints()[0])
			}
			assert.GreaterOrEqual(t, r.took, tt.atLeast)
			if tt.bound > 0 {
				assert.LessOrEqual(t, r.took, tt.bound)
			}
			if log := regexp.MustCompile(`(?m)^vm: the whole console is in (.*)$`).FindStringSubmatch(r.stdout); log != nil {
				_, err := os.Stat(log[1])
				assert.NoError(t, err)
			} else {
				assert.NotContains(t, r.stdout, "vm: |", "a failure says where all of the console is")
			}
		})
	}
}

// What it is made for: go test runs a package's tests in the VM, and has the
// profiles afterwards.
func TestGoTest(t *testing.T) {
	b := needVM(t)
	out := t.TempDir()
	cmd := b.command(t)
	gotool, err := exec.LookPath("go")
	require.NoError(t, err)
	cmd.Path = gotool
	cmd.Args = []string{
		"go", "test", "-count=1", "-exec", b.vm + " exec -kernel " + suite, "-run", "^TestParsePoke$",
		"-o", filepath.Join(out, "vm.test"), "-outputdir", out, "-coverprofile", "cover.out", "-cpuprofile", "cpu.out", "../../vm",
	}
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	r := run(t, cmd)
	assert.Equal(t, 0, r.code)
	assert.Regexp(t, `(?m)^ok\s+\S+/vm\s.*coverage: [1-9]`, r.stdout)
	cover, err := os.ReadFile(filepath.Join(out, "cover.out"))
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^\S+/vm/poke\.go:\S+ \d+ 1$`, string(cover))
	cpu, err := os.ReadFile(filepath.Join(out, "cpu.out"))
	require.NoError(t, err)
	assert.True(t, bytes.HasPrefix(cpu, []byte{0x1f, 0x8b}), "a gzipped profile")
}
