package explore

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// A Finding is a law that a sequence breaks.
type Finding struct {
	// Violation is that of the last step.
	Violation Violation

	// Also are the keys of the other laws that Steps break.
	Also []string

	// Steps are the lines that show it, as short as could be found.
	Steps []string

	// Results are the errors of the steps, "" for success. nil: they are not
	// known.
	Results []string

	// Original is the number of steps before they were reduced.
	Original int

	// Shown of Tried runs of Steps broke the law.
	Shown, Tried int

	// Seed and Number are those of the sequence: see [Sequence].
	Seed, Number uint64

	// Kernel is the release of the kernel.
	Kernel string

	// Cgroup is the version of cgroup that its cpusets were of: 1, or otherwise 2.
	Cgroup int `json:",omitempty"`

	// Log is what the kernel logged in the last step.
	Log []string
}

// Rate says in how many runs the finding shows.
func (f *Finding) Rate() string { return fmt.Sprintf("%d of %d", f.Shown, f.Tried) }

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// maxSlug bounds the length of a directory's name.
const maxSlug = 100

// Slug returns the name of the directory of the finding, which those with other
// keys do not have.
func (f *Finding) Slug() string {
	slug := strings.Trim(notWord.ReplaceAllString(strings.ToLower(f.Violation.Key()), "-"), "-")
	if len(slug) <= maxSlug {
		return slug
	}
	sum := fnv.New32a()
	sum.Write([]byte(f.Violation.Key()))
	return fmt.Sprintf("%s-%08x", strings.Trim(slug[:maxSlug-9], "-"), sum.Sum32())
}

// texts returns the lines as they are written.
func texts(lines []Line) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.String())
	}
	return all
}

// parseLines parses texts that [Line.String] has made.
func parseLines(texts []string) ([]Line, error) {
	var lines []Line
	for _, text := range texts {
		l, err := ParseLine(text)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}
