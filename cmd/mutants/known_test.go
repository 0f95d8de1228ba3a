package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLeaveOut(t *testing.T) {
	for kernel, want := range map[string]string{
		"bullseye": "^TestScenario$/^(io-workers|memory-policy|memory-counters)$", "bookworm": "^TestScenario$/^(io-workers|memory-policy)$",
		"trixie/rt": "^TestScenario$/^(io-workers)$", "sid": "^TestScenario$/^(io-workers)$",
		"arch/x86/boot/bzImage": "^TestScenario$/^(io-workers|memory-policy|memory-counters)$",
	} {
		assert.Equal(t, []string{"-test.skip", want}, leaveOut(kernel), kernel)
	}
	for _, k := range kernels {
		assert.Contains(t, versions, k.suite)
	}
}
