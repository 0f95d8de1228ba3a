package machine

import (
	"os"
	"testing"
)

// Claim is for tests that change the machine: it takes the [Lock] until the test ends. It skips the test, and says why,
// with -short and without root.
func Claim(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("-short: this test changes the machine")
	}
	if os.Geteuid() != 0 {
		tb.Skip("not root: this test changes the machine; run with sudo")
	}
	unlock, err := Lock(tb.Output())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unlock(); err != nil {
			tb.Error(err)
		}
	})
}
