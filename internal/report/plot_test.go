package report

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/suite"
)

func TestMiddle(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"7":       7,
		"0 4":     2,
		"1 2 9":   2,
		"1*2 9*2": 5,
		"1*3 9":   1,
		"1 8*3":   8,
	} {
		samples, err := suite.ParseSamples(text)
		require.NoError(t, err)
		var count uint64
		for _, s := range samples {
			count += s.Count
		}
		assert.Equal(t, want, middle(samples, count), text)
	}
}
