// Package stat has the figures that measurements are reported by.
package stat

import (
	"cmp"
	"slices"
)

// Quantiles returns the values below which the given percentages of all values
// are, by nearest rank: each is one of the values. 0 is the least, 100 the
// greatest. There must be a value.
func Quantiles[T cmp.Ordered](values []T, percent ...int) []T {
	sorted := slices.Sorted(slices.Values(values))
	q := make([]T, len(percent))
	for i, p := range percent {
		q[i] = sorted[max((len(sorted)*p+99)/100, 1)-1]
	}
	return q
}

// Median is the quantile of 50 percent.
func Median[T cmp.Ordered](values []T) T { return Quantiles(values, 50)[0] }
