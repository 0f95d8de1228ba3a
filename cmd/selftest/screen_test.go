package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What gotestsum prints of a VM that fails has the kernel's console once, at
// the end, where all failures are.
func TestScreen(t *testing.T) {
	const (
		died   = "vm: the VM was ended: it was not done after 1s\n"
		tail   = "vm: | [    0.1] Linux version 6.1\nvm: | [    0.2] Command line\n"
		file   = "vm: the whole console is in out/console.log\n"
		failed = "FAIL hotplugtest/bookworm.TestMain (0.00s)\n"
		list   = "\n\x1b[35m=== Failed\x1b[0m\n=== FAIL: hotplugtest/bookworm TestMain (0.00s)\n"
		done   = "DONE 1 tests, 1 failure in 1.140s"
	)
	in := died + tail + file + failed + list + died + tail + file + done
	for _, size := range []int{1, 7, len(in)} {
		var b strings.Builder
		s := &screen{w: &b}
		for rest := in; rest != ""; rest = rest[min(size, len(rest)):] {
			n, err := s.Write([]byte(rest[:min(size, len(rest))]))
			require.NoError(t, err)
			assert.Equal(t, min(size, len(rest)), n)
		}
		require.NoError(t, s.flush())
		assert.Equal(t, died+file+failed+list+died+tail+file+done, b.String())
	}
}

// Known failures, which are skips for gotestsum, are a list of their own, and
// the last line counts them.
func TestScreenKnown(t *testing.T) {
	const (
		skip  = "=== SKIP: p TestA (0.01s)\n    run.go:103: no SMT\n\n"
		known = "=== SKIP: p TestB (7.25s)\n--- PASS: TestB/c (0.00s)\n    trial.go:177: EBUSY\n    --- FAIL: TestB (7.25s)\nknown: one: it is busy\n\n"
		shown = "=== KNOWN: p TestB (7.25s)\n    trial.go:177: EBUSY\nknown: one: it is busy\n\n"
		fail  = "=== Failed\n=== FAIL: p TestC (0.00s)\n    a.go:1: known: not so\n\n"
	)
	for _, tt := range []struct{ name, in, out string }{
		{"none", "PASS\n\n=== Skipped\n" + skip + "DONE 5 tests, 1 skipped in 1s\n", "PASS\n\n=== Skipped\n" + skip + "DONE 5 tests, 1 skipped in 1s\n"},
		{"only known", "PASS\n\n=== Skipped\n" + known + "DONE 5 tests, 1 skipped in 1s\n", "PASS\n\n=== Known\n" + shown + "DONE 5 tests, 1 known in 1s\n"},
		{"both", "\n=== Skipped\n" + known + skip + known + "DONE 5 tests, 3 skipped in 1s\n", "\n=== Skipped\n" + skip + "=== Known\n" + shown + shown + "DONE 5 tests, 1 skipped, 2 known in 1s\n"},
		{"and failures", "\n=== Skipped\n" + known + fail + "DONE 5 tests, 1 skipped, 1 failure in 1s\n", "\n=== Known\n" + shown + fail + "DONE 5 tests, 1 known, 1 failure in 1s\n"},
		{
			"in colour", "\n=== \x1b[33mSkipped\x1b[0m\n" + strings.Replace(known, "SKIP", "\x1b[33mSKIP\x1b[0m", 1) + "\nDONE 5 tests, 1 skipped in 1s\n",
			"\n=== Known\n" + strings.Replace(shown, "KNOWN", "\x1b[33mKNOWN\x1b[0m", 1) + "\nDONE 5 tests, 1 known in 1s\n",
		},
		{"cut short", "\n=== Skipped\n" + known + "=== SKI", "\n=== Known\n" + shown + "=== SKI"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			s := &screen{w: &b}
			_, err := s.Write([]byte(tt.in))
			require.NoError(t, err)
			require.NoError(t, s.flush())
			assert.Equal(t, tt.out, b.String())
		})
	}
}
