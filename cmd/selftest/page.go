package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hotplugtest/hotplugtest/internal/report"
)

// writePage writes the page and the summary, and says where the page is. Of a
// run without any test there is none.
func writePage(out string, screen io.Writer) error {
	err := report.Write(out)
	switch {
	case errors.Is(err, report.ErrNoTest):
		return nil // the exit status tells
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(screen, "\npage: %s\n", filepath.Join(out, report.PageFile))
	return err
}
