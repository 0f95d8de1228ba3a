package suite

import (
	"fmt"
	"strings"
)

// Defect is a fault of some kernels that a row is known to find. It stays a
// failure; the report of the failure names it.
type Defect struct {
	// Kernels are those in which it was seen.
	Kernels []Span
	// Symptom is what is seen of it, as a sentence.
	Symptom string
	// Since says what brought it in: a commit or a version. "": unknown.
	Since string
	// Link is the report of it, or the commit that mended it. "": there is
	// none.
	Link string
	// Signature tells its failures from others. nil: they cannot be told
	// apart, so that the defect only explains a failure.
	Signature *Signature
}

// Signature is what a failure must show to be one of a known [Defect], in the
// kernels of the defect. The regular expressions are those of package regexp.
type Signature struct {
	// ID names the defect in reports: lower-case words with hyphens.
	ID string
	// Test must match the whole name of the failed test.
	Test string
	// Symptom must match the text of the failure, or of the kernel's console
	// if Crash is set. A match anywhere in it is enough.
	Symptom string
	// Beside must match what else the test reports. "": there must be nothing
	// else.
	Beside string
	// Crash says that the defect ends the virtual machine.
	Crash bool
	// Profiles are the boot profiles in which it is seen. nil: all.
	Profiles []string
	// Most is how many tests of a run may fail by it. 0: any number.
	Most int
	// Rare says that it is not seen in each run.
	Rare bool
	// Review is the day after which it is no longer known, unless somebody
	// has looked at it again: 2027-06-01.
	Review string
}

// String returns the defect in one line.
func (d Defect) String() string {
	var kernels []string
	for _, span := range d.Kernels {
		kernels = append(kernels, span.String())
	}
	text := fmt.Sprintf("%s: %s", strings.Join(kernels, ", "), d.Symptom)
	if d.Since != "" {
		text += "; since " + d.Since
	}
	if d.Link != "" {
		text += "; " + d.Link
	}
	return text
}

// knownText returns the lines of a report about those defects that kernel v has.
func knownText(defects []Defect, v Version) string {
	var b strings.Builder
	for _, d := range defects {
		for _, span := range d.Kernels {
			if span.Has(v) {
				fmt.Fprintf(&b, "\n    known:    %v", d)
				break
			}
		}
	}
	return b.String()
}
