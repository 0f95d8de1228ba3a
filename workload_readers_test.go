//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// What a file answers that went with its CPU is no failure. Another file that
// answers so is one.
func TestGone(t *testing.T) {
	const online, topology, domain, irq = "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/cpu1/topology/core_id", "/sys/kernel/debug/sched/domains/cpu2/domain0/flags", "/proc/irq/30/spurious"
	for file, err := range map[string]error{online: unix.ENODEV, topology: unix.ENOENT, domain: unix.EIO, irq: unix.EIO} {
		assert.NoError(t, gone(file, "read", err), file)
	}
	for file, err := range map[string]error{online: unix.EIO, topology: unix.EPERM, domain: unix.EPERM, irq: unix.EPERM} {
		assert.ErrorIs(t, gone(file, "read", err), err, file)
	}
}

// A value that the kernel refuses is no reason to fail.
func TestOtherThresh(t *testing.T) {
	for was, want := range map[int]int{0: 0, 1: 2, 10: 11, 59: 60, 60: 59} {
		assert.Equal(t, want, otherThresh(was), was)
	}
}
