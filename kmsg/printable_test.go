package kmsg_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

func TestPrintable(t *testing.T) {
	assert.Equal(t, "\ufffd--- PASS: TestAll\n\tü\ufffd[1m\ufffd\ufffd", kmsg.Printable("\x16--- PASS: TestAll\n\tü\x1b[1m\xff\r"))
}
