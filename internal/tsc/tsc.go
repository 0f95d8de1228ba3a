// Package tsc tells guests that are emulated how fast their time stamp counter
// is, which is the host's.
package tsc

import (
	"fmt"
	"sync"
)

// mhz is the frequency of this machine's counter, or 0 if there is none, or the
// machine is too busy to measure it.
var mhz = sync.OnceValue(measure)

// BootArg is the parameter of the kernel's command line that gives an emulated
// kernel the frequency, or "". Without it, the kernel compares the counter with
// a timer that is emulated, too. On a busy host it may find a tenth of what it is
// then, once in some hundred boots; its clock runs ten times as fast, and it
// complains of CPUs that did nothing for seconds.
//
// It is for a guest of this machine's architecture that is emulated, not for one
// under KVM, which has a clock of its own. Kernels have the parameter since v5.8,
// and others leave it alone (Documentation/admin-guide/kernel-parameters.txt).
func BootArg() string {
	if mhz() == 0 {
		return ""
	}
	return fmt.Sprintf("tsc_early_khz=%d", 1000*mhz())
}
