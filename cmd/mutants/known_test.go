package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLeaveOut(t *testing.T) {
	for kernel, want := range map[string]string{
		"bullseye": "^TestScenario$/^(io-workers|memory-policy|memory-counters|deadline-taken-back)$", "bookworm": "^TestScenario$/^(io-workers|memory-policy|deadline-taken-back)$",
		"trixie/rt": "^TestScenario$/^(io-workers|deadline-taken-back)$", "sid": "^TestScenario$/^(io-workers|deadline-taken-back)$",
		"arch/x86/boot/bzImage": "^TestScenario$/^(io-workers|memory-policy|memory-counters|deadline-taken-back)$",
	} {
		assert.Equal(t, []string{"-test.skip", want}, leaveOut(kernel), kernel)
	}
	for _, k := range kernels {
		assert.Contains(t, versions, k.suite)
	}
}
