package explore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Recording is a sequence that shows known findings on one kernel. It is the
// text of a sequence after these lines, the first two of which it must have:
//
//	# KEY
//	# on KERNEL, Linux 6.12
//	# also KEY
//	# profile NAME
type Recording struct {
	Name string // of the file, without .txt

	// Key is that of the finding which the last step shows, and Also those of
	// others that show with it.
	Key  string
	Also []string

	// Kernel is a kernel as for ci/explore -kernel, and Version what that was.
	Kernel  string
	Version Version

	// Profile is as for ci/explore -profile. "": none.
	Profile string
}

// Recordings returns those of the files DIR/*.txt.
func Recordings(dir string) ([]*Recording, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []*Recording
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := &Recording{Name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		if err := r.parse(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func (r *Recording) parse(text string) error {
	if _, err := ReadSequences(text); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			continue
		}
		switch word, rest, _ := strings.Cut(comment, " "); word {
		case "also":
			r.Also = append(r.Also, rest)
		case "profile":
			r.Profile = rest
		case "on":
			kernel, version, _ := strings.Cut(rest, ", ")
			if _, err := fmt.Sscanf(version, "Linux %d.%d", &r.Version[0], &r.Version[1]); err != nil {
				return fmt.Errorf("%q: want # on KERNEL, Linux VERSION", line)
			}
			r.Kernel = kernel
		default:
			if r.Key != "" {
				return fmt.Errorf("%q: the key is %q, and another begins with also", line, r.Key)
			}
			r.Key = comment
		}
	}
	if r.Key == "" || r.Kernel == "" {
		return fmt.Errorf("want # KEY and # on KERNEL, Linux VERSION")
	}
	return nil
}

// Shows reports whether the recording shows a finding, in a kernel in which it
// is known.
func (r *Recording) Shows(k Known) bool {
	if !k.In(r.Version) {
		return false
	}
	for _, key := range append([]string{r.Key}, r.Also...) {
		if k.Has(key) {
			return true
		}
	}
	return false
}
