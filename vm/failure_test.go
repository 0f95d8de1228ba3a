package vm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lines are the numbered lines of a console.
func lines(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s%d\n", prefix, i+1)
	}
	return b.String()
}

func TestCrash(t *testing.T) {
	boot := lines("[    0.000000] boot ", 200)
	panicked := strings.TrimSpace(`
[    3.1] Kernel panic - not syncing: sysrq triggered crash
[    3.1] CPU: 2 PID: 1 Comm: init Not tainted 6.1.0-56-amd64
[    3.1] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---`)
	const (
		outlived = "[    1.0] BUG: KASAN: use-after-free in f+0x1/0x2\n[    1.1] Call Trace:\n"
		oopsed   = "[ 3600.0] BUG: unable to handle page fault for address: 0000000000000008\n[ 3600.1] Oops: 0002 [#1]\n"
		slow     = "[ 3612.0] Kernel panic - not syncing: Fatal exception"
	)
	for _, tt := range []struct{ name, in, want string }{
		{name: "nothing"},
		{name: "a short boot", in: "a\nb\n", want: "a\nb"},
		{name: "a boot's tail", in: boot, want: strings.TrimSpace(boot[strings.Index(boot, "[    0.000000] boot 171\n"):])},
		{name: "panic", in: boot + panicked + "\n", want: panicked},
		{name: "panic, more after it", in: boot + panicked + "\n[    3.2] Rebooting\n", want: panicked + "\n[    3.2] Rebooting"},
		{
			name: "the oops before the panic",
			in:   boot + "[    3.0] BUG: unable to handle page fault for address: 0000000000000008\n[    3.0] Oops: 0002 [#1]\n" + panicked,
			want: "[    3.0] BUG: unable to handle page fault for address: 0000000000000008\n[    3.0] Oops: 0002 [#1]\n" + panicked,
		},
		{name: "a BUG that the kernel outlived", in: boot + outlived + oopsed + slow, want: oopsed + slow},
		{
			name: "a BUG that the crash may come of",
			in:   boot + strings.ReplaceAll(outlived, "[    1.", "[ 3598.") + oopsed + slow,
			want: strings.ReplaceAll(outlived, "[    1.", "[ 3598.") + oopsed + slow,
		},
		{
			name: "a slow processor's crash",
			in:   boot + outlived + oopsed + "[ 3601.0] BUG: scheduling while atomic\n" + slow,
			want: oopsed + "[ 3601.0] BUG: scheduling while atomic\n" + slow,
		},
		{name: "the later of two BUGs", in: boot + outlived + "[ 3600.0] BUG: x\n", want: "[ 3600.0] BUG: x"},
		{name: "arm64", in: boot + "[    3.0] Unable to handle kernel NULL pointer dereference\nx\n", want: "[    3.0] Unable to handle kernel NULL pointer dereference\nx"},
		{name: "s390x", in: boot + "[    3.0] Oops: 0004 ilc:2 [#1] SMP\nx\n", want: "[    3.0] Oops: 0004 ilc:2 [#1] SMP\nx"},
		{name: "hung", in: boot + "[   18.0] sysrq: Show Blocked State\n[   18.0] task:kworker\n", want: "[   18.0] sysrq: Show Blocked State\n[   18.0] task:kworker"},
		{name: "a long crash", in: "Kernel panic - x\n" + lines("more ", 200), want: "Kernel panic - x\n" + strings.TrimSpace(lines("more ", 29))},
		{
			name: "what stands still, and the crash that is of more interest",
			in:   boot + "[   30.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n" + panicked,
			want: panicked,
		},
		{name: "what stands still", in: boot + "[   30.0] watchdog: BUG: soft lockup - CPU#2 stuck\n[   31.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n",
			want: "[   30.0] watchdog: BUG: soft lockup - CPU#2 stuck\n[   31.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"},
		{
			name: "no registers, and no frames that may be none",
			in:   "[    3.0][  T1] BUG: x\n[    3.0][  T1] RIP: 0010:f+0x1\n[    3.0][  T1] RSP: 0018:1\n[    3.0][  T1] R13: 0\n[    3.0][  T1] FS:  1\n[    3.0][  T1]  ? g+0x2/0x3\n[    3.0][  T1]  h+0x2/0x3\n",
			want: "[    3.0][  T1] BUG: x\n[    3.0][  T1] RIP: 0010:f+0x1\n[    3.0][  T1]  h+0x2/0x3",
		},
		{name: "control characters", in: "\x1bc\x1b[?7l\r\n\x00Kernel\x07 panic - not syncing\r\n\ttabbed\r\n", want: "Kernel panic - not syncing\n\ttabbed"},
		{name: "a crash that is only named", in: boot + "[    3.0] Command line: panic=-1 oops=panic\n", want: strings.TrimSpace(boot[strings.Index(boot, "[    0.000000] boot 172\n"):]) + "\n[    3.0] Command line: panic=-1 oops=panic"},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, crash(tt.in)) })
	}
}

func TestFailure(t *testing.T) {
	kill9 := exec.Command("sh", "-c", "kill -KILL $$").Run()
	for _, tt := range []struct {
		name            string
		console, stderr string
		guest           *guest
		ended           error
		want            string
		doubt           string
		again           bool
		plain           bool // the VM never ran: the error is no Failure
	}{
		{
			name:    "panic while it ran",
			console: "Kernel panic - not syncing: x\n",
			guest:   &guest{started: true, release: "6.1.0-56-amd64"},
			want:    "the kernel panicked while the program ran (Linux 6.1.0-56-amd64)",
		},
		{name: "panic at boot", console: "Kernel panic - not syncing: x\n", want: "the kernel panicked before the program started"},
		{
			name:    "panic long after a BUG",
			console: "[    1.0] BUG: KASAN: use-after-free\n" + lines("[    1.0] more ", consoleLines) + "[ 3600.0] Kernel panic - not syncing: x\n",
			guest:   &guest{started: true},
			want:    "the kernel panicked while the program ran",
		},
		{name: "reset", console: "boot\n", guest: &guest{started: true}, want: "the VM ended while the program ran"},
		{
			name:    "QEMU killed",
			console: "boot\n",
			guest:   &guest{started: true},
			ended:   kill9,
			want:    "the VM ended while the program ran: QEMU: signal: killed",
			doubt:   killed,
		},
		{
			name:    "QEMU killed at boot, after a warning",
			console: "boot\n",
			stderr:  "qemu: a warning\n",
			ended:   kill9,
			want:    "the VM ended before the program started: QEMU: signal: killed",
			doubt:   killed,
			again:   true,
		},
		{
			name:    "QEMU killed after a panic",
			console: "Kernel panic - not syncing: x\n",
			ended:   kill9,
			want:    "the kernel panicked before the program started",
		},
		{
			name:    "QEMU was asked to end",
			console: "boot\n",
			guest:   &guest{started: true},
			stderr:  "qemu-system-x86_64: terminating on signal 15 from pid 7 (earlyoom)\n",
			want:    "the VM ended while the program ran: qemu-system-x86_64: terminating on signal 15 from pid 7 (earlyoom)",
			doubt:   killed,
		},
		{
			name:    "QEMU ended by itself",
			console: "boot\n",
			ended:   exec.Command("false").Run(),
			want:    "the VM ended before the program started: QEMU: exit status 1",
		},
		{
			name:    "QEMU gave up",
			console: "boot\n",
			stderr:  "qemu: a warning\nqemu: out of memory\n",
			ended:   errors.New("exit status 1"),
			want:    "the VM ended before the program started: qemu: out of memory",
		},
		{
			name:    "QEMU found an error of its own",
			console: "boot\n",
			stderr:  "qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.\n",
			ended:   errors.New("signal: aborted"),
			want: "the VM ended before the program started: qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: " +
				"Assertion `section_index < d->map.sections_nb' failed.",
			doubt: "this may be QEMU's doing: it found an error of its own",
			again: true,
		},
		{
			name:    "QEMU found one later",
			console: "boot\n",
			guest:   &guest{started: true},
			stderr:  "**\nERROR:accel/tcg/tcg-accel-ops.c:79:tcg_handle_interrupt: assertion failed: (bql_locked())\n",
			want:    "the VM ended while the program ran: ERROR:accel/tcg/tcg-accel-ops.c:79:tcg_handle_interrupt: assertion failed: (bql_locked())",
			doubt:   "this may be QEMU's doing: it found an error of its own",
		},
		{
			name:   "QEMU refused its arguments",
			stderr: "qemu: Parameter 'smp.cpus' expects integer\n",
			ended:  errors.New("exit status 1"),
			want:   "qemu: Parameter 'smp.cpus' expects integer",
			plain:  true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vm := &VM{console: filepath.Join(t.TempDir(), "console.log")}
			if tt.console != "" {
				require.NoError(t, os.WriteFile(vm.console, []byte(tt.console), 0o600))
			}
			g := cmp.Or(tt.guest, new(guest))
			err := vm.failure(g, tt.ended, tt.stderr)
			assert.EqualError(t, err, tt.want)
			var failure *Failure
			if assert.Equal(t, !tt.plain, errors.As(err, &failure)) && !tt.plain {
				assert.Equal(t, g.started, failure.Started)
				assert.Equal(t, tt.doubt, failure.Doubt)
				assert.Equal(t, tt.again, failure.again)
			}
		})
	}
}

func TestFailurePrint(t *testing.T) {
	var b strings.Builder
	f := &Failure{What: "the kernel panicked", Console: "Kernel panic\n--- FAIL: no such test", Doubt: "or it was QEMU", Log: "/tmp/console.log"}
	f.Print(&b)
	assert.Equal(t, `
vm: the kernel panicked
vm: | Kernel panic
vm: | --- FAIL: no such test
vm: or it was QEMU
vm: the whole console is in /tmp/console.log
`, b.String(), "no line of the console can be taken for one of the program's")
}

func TestComplaint(t *testing.T) {
	for in, want := range map[string]string{
		"qemu-system-s390x: x\n":                                          "qemu-system-s390x: x",
		"qemu-system-x86_64: warning: x\nqemu-system-x86_64: y\r\n":       "qemu-system-x86_64: y",
		"qemu-system-x86_64: -m none: bad\nOptional suffix k, M\nor G.\n": "qemu-system-x86_64: -m none: bad",
		"error while loading shared libraries\n":                          "error while loading shared libraries",
	} {
		assert.Equalf(t, want, complaint(in), "%q", in)
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"\n\n":           "",
		"one":            "one",
		"one\n":          "one",
		"one\ntwo\n\n":   "two",
		"one\r\ntwo\r\n": "two",
	} {
		assert.Equalf(t, want, lastLine(in), "%q", in)
	}
}

// What is shown of a console is a part of its printable text, of a bounded
// number of lines.
func FuzzCrash(f *testing.F) {
	for _, text := range []string{"", "boot\nBUG: x\nKernel panic - not syncing\n", lines("boot ", 200), "\x16--- PASS: TestAll (0.00s)\n", "\n\x1b[1mOops: \xff\r\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := crash(text)
		all := strings.Split(plain(text), "\n")
		for line := range strings.SplitSeq(shown, "\n") {
			assert.True(t, slices.ContainsFunc(all, func(l string) bool { return strings.TrimSpace(l) == strings.TrimSpace(line) }), "%q", line)
		}
		assert.NotContains(t, shown, "\x16")
		assert.Less(t, strings.Count(shown, "\n"), consoleLines)
	})
}

func TestBreakpoint(t *testing.T) {
	for console, doubt := range map[string]string{
		"[   27.190783] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[   27.191348] CPU: 0 UID: 0 PID: 390":     "had removed", // 6.12
		"[    9.190783] int3: 0000 [#1] PREEMPT SMP NOPTI\n":                                                "had removed", // 6.1
		"[    9.190783] BUG: unable to handle page fault for address: 0000\n[    9.19] Oops: 0000 [#1] SMP": "",
		// 6.1: CPU 0 waits, and CPU 2 traps where the code is a jump.
		"[   80.627070]  text_poke_bp_batch+0x29f/0x300\n[  130.433576] RIP: 0010:asm_exc_int3+0x0/0x40\n[  130.433987] RIP: 0010:__schedule+0x1bd/0x9e0": "does not get past",
		// 6.1: CPU 2 stands at a static branch, and the others wait for a lock that it has.
		"[  197.063067] Code: 42 50 75 1d f6 87 29 09 00 00 01 75 14 <eb> 1b 65\n[  197.066673]  ? exc_int3+0xa/0x120\n": "is gone",
		"[  197.066377] Code: 75 f2 5b 5d 41 5c 41 5d c3 f3 90 <eb> e4\n[  197.066673]  ? exc_int3+0xa/0x120\n":          "",
		"[    9.190783] Call Trace:\n[    9.19]  asm_exc_int3+0x39/0x40\n":                                               "",
		"[   80.627070]  text_poke_bp_batch+0x29f/0x300\n":                                                               "",
	} {
		if doubt == "" {
			assert.Empty(t, breakpoint(console), console)
		} else {
			assert.Contains(t, breakpoint(console), doubt, console)
		}
	}
}

func TestNotStarted(t *testing.T) {
	vm := &VM{console: filepath.Join(t.TempDir(), "none")}
	for started, want := range map[bool]bool{false: true, true: false} {
		var f *Failure
		require.ErrorAs(t, vm.failure(&guest{vm: vm, started: started}, nil, ""), &f)
		assert.Equal(t, want, NotStarted(f.What), f.What)
	}
}

func TestEnds(t *testing.T) {
	for line, want := range map[string]bool{
		"vm: the guest stands still for 1m30s: no sign of life\n": true, "vm: | [    1.0] Call Trace:\n": true,
		"vm: by /dev/kvm: it hangs; using emulation\n": false, "vm: once more: the VM did not start a program within 2m0s\n": false, "ok\n": false,
	} {
		assert.Equal(t, want, Ends(line), line)
	}
}
