package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The files that [Write] writes.
const (
	PageFile    = "report.html"
	SummaryFile = "summary.md"
)

// StepSummary names the variable with the file that a CI system shows beside a
// job: what is appended to it is Markdown.
const StepSummary = "GITHUB_STEP_SUMMARY"

// mostSummary is how long a CI system's summary may be.
const mostSummary = 1 << 20

// Write writes the page and the summary of a run into its own directory, and
// appends the summary to the file that the variable [StepSummary] names.
func Write(dir string) error {
	r, err := Read([]string{dir})
	if err != nil {
		return err
	}
	var page, summary bytes.Buffer
	if err := errors.Join(r.HTML(&page, dir), r.Markdown(&summary)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, PageFile), page.Bytes(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), summary.Bytes(), 0o644); err != nil {
		return err
	}
	step := os.Getenv(StepSummary)
	if step == "" || summary.Len() > mostSummary {
		return nil
	}
	f, err := os.OpenFile(step, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("%s: %w", StepSummary, err)
	}
	_, err = f.Write(summary.Bytes())
	return errors.Join(err, f.Close())
}
