package suite

import (
	"errors"
	"fmt"
)

// Unsupported is the error that says why something cannot be done on this
// machine, though nothing is wrong with the kernel. A test that meets it is
// skipped.
type Unsupported struct{ Reason string }

func (u *Unsupported) Error() string { return u.Reason }

// Unsupportedf returns an [*Unsupported] whose reason is formatted as by
// [fmt.Sprintf].
func Unsupportedf(format string, args ...any) error {
	return &Unsupported{fmt.Sprintf(format, args...)}
}

// IsUnsupported reports whether err is an [*Unsupported], or one with more
// context. An error that was joined with others is not: a skip must not hide
// what else went wrong.
func IsUnsupported(err error) bool {
	for err != nil {
		if _, ok := err.(*Unsupported); ok {
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}

// both joins two errors. Unlike [errors.Join] it leaves a single error as it
// is, so that an [*Unsupported] stays one.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	default:
		return errors.Join(a, b)
	}
}
