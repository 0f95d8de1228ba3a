package suite

import (
	"errors"
	"slices"
)

// undoList is what is to be undone, in reverse order.
type undoList []func() error

func (u *undoList) add(f func() error) { *u = append(*u, f) }

// run undoes everything, whatever fails of it, and empties the list.
func (u *undoList) run() error {
	var errs []error
	for _, f := range slices.Backward(*u) {
		errs = append(errs, f())
	}
	*u = nil
	return errors.Join(errs...)
}
