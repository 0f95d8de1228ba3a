package cpuhp

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// read parses what is in the file.
func read[T any](path string, parse func(string) (T, error)) (T, error) {
	v, err := sysfs.Read(path, parse)
	if err != nil {
		return v, fmt.Errorf("cpuhp: %w", err)
	}
	return v, nil
}

// notSupported makes the error of a file that is not there one that wraps
// [ErrNotSupported], which names the package already.
func notSupported(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotSupported, errors.Unwrap(err))
	}
	return err
}

func asIs(text string) (string, error) { return text, nil }
