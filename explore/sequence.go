package explore

import (
	"fmt"
	"strings"
)

// ReadSequences parses the text of sequences: a line a step, as [ParseLine] has
// it, and an empty line between two sequences. A line that begins with # is a
// comment. The error names the line, and wraps [ErrLine].
func ReadSequences(text string) ([][]Line, error) {
	var all [][]Line
	var lines []Line
	end := func() {
		if len(lines) > 0 {
			all = append(all, lines)
		}
		lines = nil
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			end()
		case strings.HasPrefix(line, "#"):
		default:
			l, err := ParseLine(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			lines = append(lines, l)
		}
	}
	end()
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: there is no step in it", ErrLine)
	}
	return all, nil
}

// FormatSequences returns the text that [ReadSequences] reads.
func FormatSequences(sequences ...[]Line) string {
	var all []string
	for _, lines := range sequences {
		all = append(all, strings.Join(texts(lines), "\n")+"\n")
	}
	return strings.Join(all, "\n")
}
