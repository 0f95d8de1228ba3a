package suite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHistogram(t *testing.T) {
	var h, other histogram
	for i := range 1000 {
		d := time.Duration(i+1) * time.Millisecond
		if i%2 == 0 {
			h.add(d)
		} else {
			other.add(d)
		}
	}
	h.merge(&other)
	h.merge(&histogram{})
	assert.EqualValues(t, 1000, h.count)
	assert.InEpsilon(t, 500*time.Millisecond, h.quantile(50), 0.1)
	assert.InEpsilon(t, 990*time.Millisecond, h.quantile(99), 0.1)
	assert.Equal(t, time.Second, h.quantile(100))
	assert.Equal(t, "min 1.000 ms", h.String()[:12])

	var one histogram
	one.add(0)
	one.add(1000 * time.Hour)
	assert.Equal(t, 1000*time.Hour, one.quantile(100))
}

func TestSamples(t *testing.T) {
	few := samplesOf(3, 1, 2)
	assert.Equal(t, "1 2 3", few.String())
	var d []time.Duration
	for i := range 5000 {
		d = append(d, time.Duration(i+1)*time.Millisecond)
	}
	many := samplesOf(d...)
	assert.Less(t, len(many.String()), 2000, "it is bounded")
	var count uint64
	for i, s := range many {
		count += s.Count
		if i > 0 {
			assert.Greater(t, s.Value, many[i-1].Value)
		}
	}
	assert.EqualValues(t, 5000, count)
	assert.Equal(t, Sample{time.Millisecond, 1}, many[0])
	assert.Equal(t, 5*time.Second, many[len(many)-1].Value)
	for _, s := range []Samples{nil, few, many, {{7, 3}}} {
		parsed, err := ParseSamples(s.String())
		assert.NoError(t, err)
		assert.Equal(t, s, parsed)
	}
	assert.Equal(t, "7*3", Samples{{7, 3}}.String())
	for _, text := range []string{"x", "-1", "1*0", "1*x", "1**2"} {
		_, err := ParseSamples(text)
		assert.ErrorContains(t, err, "is not NANOSECONDS or NANOSECONDS*COUNT", text)
	}
}

func FuzzParseSamples(f *testing.F) {
	f.Add("1 2*3 9000000")
	f.Add("1**2 -1 x")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSamples(text)
		if err != nil {
			return
		}
		again, err := ParseSamples(s.String())
		require.NoError(t, err)
		assert.Equal(t, s, again)
	})
}
