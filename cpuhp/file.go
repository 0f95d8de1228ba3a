package cpuhp

import (
	"fmt"

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

func asIs(text string) (string, error) { return text, nil }
