package suite

import (
	"fmt"
	"math"
	"time"
)

// histogram is a distribution of durations in a fixed amount of memory, however many they are.
type histogram struct {
	buckets  [bucketsPerOctave * octaves]uint64
	count    uint64
	min, max time.Duration
}

const (
	bucketsPerOctave = 8  // a bucket's upper bound is 9 % above its lower one
	octaves          = 36 // from 1 µs to 19 h
)

// upper is the upper bound of a bucket.
func upper(bucket int) time.Duration {
	return time.Duration(math.Exp2(float64(bucket+1)/bucketsPerOctave) * float64(time.Microsecond))
}

func (h *histogram) add(d time.Duration) {
	bucket := int(bucketsPerOctave * math.Log2(float64(max(d, time.Microsecond))/float64(time.Microsecond)))
	h.buckets[min(bucket, len(h.buckets)-1)]++
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.count++
}

// quantile is what so many percent of the durations are not above, to within the width of a bucket.
func (h *histogram) quantile(percent uint64) time.Duration {
	rank := (h.count*percent + 99) / 100
	for bucket, n := range h.buckets {
		// The last one has no upper bound.
		if rank <= n && bucket < len(h.buckets)-1 {
			return min(max(upper(bucket), h.min), h.max)
		}
		rank -= n
	}
	return h.max
}

func (h *histogram) merge(o *histogram) {
	if o.count == 0 {
		return
	}
	if h.count == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.count += o.count
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

func (h *histogram) String() string {
	return fmt.Sprintf("min %s, median %s, p99 %s, max %s", ms(h.min), ms(h.quantile(50)), ms(h.quantile(99)), ms(h.max))
}
