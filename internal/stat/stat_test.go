package stat_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/stat"
)

func TestQuantiles(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, tt := range []struct{ values, want []int }{
		{[]int{7}, []int{7, 7, 7, 7}},
		{[]int{9, 1}, []int{1, 5, 9, 9}},
		{[]int{3, 1, 2}, []int{1, 2, 3, 3}},
		{[]int{70, 10, 20, 40}, []int{10, 30, 70, 70}},
		{[]int{math.MaxInt, math.MaxInt - 2}, []int{math.MaxInt - 2, math.MaxInt - 1, math.MaxInt, math.MaxInt}},
		{hundred, []int{1, 50, 99, 100}},
	} {
		given := slices.Clone(tt.values)
		assert.Equal(t, tt.want, stat.Quantiles(given, 0, 50, 99, 100))
		assert.Equal(t, tt.values, given, "the values keep their order")
		assert.Equal(t, tt.want[1], stat.Median(given))
	}
	assert.Equal(t, 58_874_500*time.Nanosecond, stat.Median([]time.Duration{58_008_000, 59_741_000}))
	assert.Equal(t, 1.5, stat.Median([]float64{2, 1}))
	require.Panics(t, func() { stat.Median([]int{}) })
}
