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
	// Link is the report of it, or the commit that mended it. "": there is none.
	Link string
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

// known returns the lines of a report about those defects that kernel v has.
func known(defects []Defect, v Version) string {
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
