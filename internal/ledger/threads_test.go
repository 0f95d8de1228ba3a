package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/internal/ledger"
)

// A worker is the same while it works ("+") and when it has worked ("-").
func TestWithoutWorkqueue(t *testing.T) {
	for name, want := range map[string]string{
		"kworker/3:1-events": "kworker/3:1", "kworker/3:1H+kblockd": "kworker/3:1H", "kworker/u8:0": "kworker/u8:0", "jbd2/sda1-8": "jbd2/sda1-8",
	} {
		assert.Equal(t, want, ledger.WithoutWorkqueue(name))
	}
}
