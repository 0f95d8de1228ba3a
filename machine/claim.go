package machine

import (
	"errors"
	"os"
	"testing"
)

// Claim is for tests that change the machine: it has a [Guard] until the test
// ends. It skips the test, and says why, with -short, without root, and where
// the machine is [Unsuitable] or could not be restored.
func Claim(tb testing.TB) {
	tb.Helper()
	skipUnlessOurs(tb)
	release, err := Guard(tb.Output())
	if errors.Is(err, ErrUnwritable) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := release(); err != nil {
			tb.Error(err)
		}
	})
}

// skipUnlessOurs skips a test that must not change this machine.
func skipUnlessOurs(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("-short: this test changes the machine")
	}
	if os.Geteuid() != 0 {
		tb.Skip("not root: this test changes the machine; run with sudo")
	}
	if why := Unsuitable("/"); why != "" {
		tb.Skip(why)
	}
}
