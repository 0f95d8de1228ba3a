package kmsg_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// What programs write into a kernel's log comes back; when they have written more than it holds, the loss is reported, and
// reading goes on.
func TestKernelOverrun(t *testing.T) {
	machine.Claim(t)
	const unlimited = "/proc/sys/kernel/printk_devkmsg"
	was, err := os.ReadFile(unlimited)
	require.NoError(t, err)
	if os.WriteFile(unlimited, []byte("on"), 0) != nil {
		t.Skip("the kernel's command line limits how much programs may write into its log")
	}
	t.Cleanup(func() { assert.NoError(t, os.WriteFile(unlimited, was, 0)) })
	log, err := kmsg.Open("/dev/kmsg", kmsg.FromEnd)
	require.NoError(t, err)
	defer log.Close()
	say := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile("/dev/kmsg", []byte(text), 0))
	}
	own := func(records []kmsg.Record) (texts []string) {
		for _, r := range records {
			if r.Facility != 0 {
				texts = append(texts, r.Text)
			}
		}
		return texts
	}

	say("hotplugtest: one")
	say("<2>WARNING: two")
	records, err := log.Read()
	require.NoError(t, err)
	require.Equal(t, []string{"hotplugtest: one", "WARNING: two"}, own(records))
	for _, r := range records {
		assert.Empty(t, r.Problem(), "%v", r)
	}

	// A log of more than 16 MiB is not what anybody tests with.
	text := "<7>hotplugtest: " + strings.Repeat("x", 900)
	const count = 16 << 10
	for range count {
		say(text)
	}
	records, err = log.Read()
	var overrun *kmsg.Overrun
	require.ErrorAs(t, err, &overrun)
	assert.GreaterOrEqual(t, overrun.Lost+uint64(len(records)), uint64(count))
	assert.NotEmpty(t, records)

	say("hotplugtest: last")
	records, err = log.Read()
	require.NoError(t, err)
	assert.Equal(t, []string{"hotplugtest: last"}, own(records))
}
