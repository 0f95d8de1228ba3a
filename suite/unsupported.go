package suite

import (
	"fmt"
	"slices"
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

// wrongOption is the error that says what was asked for wrongly. Nothing is
// wrong with the kernel, but the test fails: a skip would hide it.
type wrongOption struct{ text string }

func (w *wrongOption) Error() string { return w.text }

// IsUnsupported reports whether err is an [*Unsupported], or one with more
// context. Errors that were joined must all be: a skip must not hide what else
// went wrong.
func IsUnsupported(err error) bool {
	switch err := err.(type) {
	case *Unsupported:
		return true
	case interface{ Unwrap() error }:
		return IsUnsupported(err.Unwrap())
	case interface{ Unwrap() []error }:
		all := err.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !IsUnsupported(err) })
	}
	return false
}
