package explore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A Verdict is what the reproducer said on one kernel.
type Verdict struct {
	Kernel string // the kernel, for people
	Status string // "broken", "not broken", "crashed", or why it is not known
	Output string // what the script printed
}

// Report writes the finding in the form that a kernel's mailing list likes:
// plain text, what was tried first.
func (f *Finding) Report(w io.Writer, law Law, verdicts []Verdict) error {
	var b strings.Builder
	v := f.Violation
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", v.Key(), capital(v.Seen))
	fmt.Fprintf(&b, "Promised: %s.  \nSource: %s.\n\n", law.Text, law.Source)
	fmt.Fprintf(&b, "Found in Linux %s, shown in %s runs of the steps below (%d before they were reduced; seed %d, sequence %d).",
		f.Kernel, f.Rate(), f.Original, f.Seed, f.Number)
	if v.Lasted != "" {
		fmt.Fprintf(&b, " Half a second later it %s.", map[string]string{stayed: "was still so", healed: "was so no more"}[v.Lasted])
	}
	b.WriteString("\n\n")
	if len(verdicts) > 0 {
		b.WriteString("| kernel | repro.sh |\n|---|---|\n")
		for _, verdict := range verdicts {
			fmt.Fprintf(&b, "| %s | %s |\n", verdict.Kernel, verdict.Status)
		}
		b.WriteByte('\n')
	}
	b.WriteString("Steps, and the error of each that was refused:\n\n")
	for i, step := range f.Steps {
		fmt.Fprintf(&b, "    %s", step)
		if i < len(f.Results) && f.Results[i] != "" {
			fmt.Fprintf(&b, "  # %s", f.Results[i])
		}
		b.WriteByte('\n')
	}
	if len(v.Facts) > 0 {
		b.WriteString("\nWhat was read after that, which cannot all be right:\n\n")
		for _, fact := range v.Facts {
			fmt.Fprintf(&b, "    %s: %s\n", fact.Key, fact.Value)
		}
	}
	if len(f.Log) > 0 {
		b.WriteString("\nThe kernel's log of the last step:\n\n")
		for _, line := range f.Log {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(line, "\n", "\n    "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Save writes repro.sh, report.md and sequence.txt into the directory of the
// finding below dir, which it makes.
func (f *Finding) Save(dir string, law Law, verdicts []Verdict) error {
	dir = filepath.Join(dir, f.Slug())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var script, report strings.Builder
	if err := errors.Join(f.Script(&script, law), f.Report(&report, law, verdicts)); err != nil {
		return err
	}
	sequence := "# " + f.Violation.Key() + "\n" + strings.Join(f.Steps, "\n") + "\n"
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "repro.sh"), []byte(script.String()), 0o755),
		os.WriteFile(filepath.Join(dir, "report.md"), []byte(report.String()), 0o644),
		os.WriteFile(filepath.Join(dir, "sequence.txt"), []byte(sequence), 0o644),
	)
}

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
