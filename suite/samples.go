package suite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Samples are measured durations, as the attributes of a test have them, whose
// names end with "-ns". Many of them become a histogram, so that the size is
// bounded.
type Samples []Sample

// Sample is a duration that was measured, or a range of a histogram.
type Sample struct {
	Value time.Duration // of a range, its upper bound
	Count uint64        // how often it was measured
}

// exact is how many samples are kept as they are.
const exact = 100

// samplesOf returns the samples of durations, in ascending order.
func samplesOf(d ...time.Duration) Samples {
	if len(d) <= exact {
		var s Samples
		for _, value := range slices.Sorted(slices.Values(d)) {
			s = append(s, Sample{value, 1})
		}
		return s
	}
	var h histogram
	for _, value := range d {
		h.add(value)
	}
	return h.samples()
}

// samples returns the ranges that have any. The least and the greatest value
// are exact.
func (h *histogram) samples() Samples {
	var s Samples
	left := h.count
	for bucket, n := range h.buckets {
		if n == 0 {
			continue
		}
		value := upper(bucket)
		if left -= n; left == 0 {
			value = h.max
		}
		value = min(max(value, h.min), h.max)
		switch {
		case s != nil || value == h.min:
		case n == 1:
			value = h.min
		default:
			s = append(s, Sample{h.min, 1})
			n--
		}
		s = append(s, Sample{value, n})
	}
	return s
}

// String returns the samples as an attribute has them: nanoseconds in ascending
// order, separated by spaces, each with "*" and its count if that is not 1:
//
//	52890000 53120000*2 60001000
func (s Samples) String() string {
	var b strings.Builder
	for i, sample := range s {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatInt(sample.Value.Nanoseconds(), 10))
		if sample.Count != 1 {
			fmt.Fprintf(&b, "*%d", sample.Count)
		}
	}
	return b.String()
}

// ParseSamples is the reverse of [Samples.String].
func ParseSamples(text string) (Samples, error) {
	var s Samples
	for word := range strings.FieldsSeq(text) {
		value, count, many := strings.Cut(word, "*")
		ns, err := strconv.ParseInt(value, 10, 64)
		if err != nil || ns < 0 {
			return nil, fmt.Errorf("samples: %q is not NANOSECONDS or NANOSECONDS*COUNT", word)
		}
		n := uint64(1)
		if many {
			if n, err = strconv.ParseUint(count, 10, 64); err != nil || n == 0 {
				return nil, fmt.Errorf("samples: %q is not NANOSECONDS or NANOSECONDS*COUNT", word)
			}
		}
		s = append(s, Sample{time.Duration(ns), n})
	}
	return s, nil
}
