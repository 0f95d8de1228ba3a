// Package stat has the figures that measurements are reported by.
package stat

import "slices"

// Number is what figures are made of, such as a [time.Duration].
type Number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// Quantiles returns the values below which the given percentages of all values
// are, by nearest rank: each is one of the values. 0 is the least, 100 the
// greatest. 50 is the [Median], which can be between two values. There must be
// a value.
func Quantiles[T Number](values []T, percent ...int) []T {
	sorted := slices.Sorted(slices.Values(values))
	q := make([]T, len(percent))
	for i, p := range percent {
		q[i] = sorted[max((len(sorted)*p+99)/100, 1)-1]
		if p == 50 {
			q[i] = Between(q[i], sorted[len(sorted)/2])
		}
	}
	return q
}

// Median is the value in the middle. If the values are even in number, it is
// the mean of the two in the middle.
func Median[T Number](values []T) T { return Quantiles(values, 50)[0] }

// Between is the mean of two values, of which the first is not the greater one.
func Between[T Number](a, b T) T { return a + (b-a)/2 }
