package tsc

import "time"

// read returns the counter.
func read() uint64

// window is so long that what [stamp] may be wrong by is less than 0.1 %.
const window = 50 * time.Millisecond

func measure() int {
	from, begin, ok := stamp()
	if !ok {
		return 0
	}
	time.Sleep(window)
	to, end, ok := stamp()
	if !ok {
		return 0
	}
	return int(float64(to-from)/float64(end.Sub(begin).Nanoseconds())*1000 + 0.5)
}

// stamp reads the counter and the time, both within some microseconds.
func stamp() (counter uint64, at time.Time, ok bool) {
	for range 1000 {
		before := time.Now()
		counter = read()
		if time.Since(before) < 20*time.Microsecond {
			return counter, before, true
		}
	}
	return 0, time.Time{}, false
}
