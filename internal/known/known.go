// Package known tells the failures of known defects from new ones. A list of
// known defects is a JSON file. Each entry says in which test, on which kernels
// and with which text a defect shows, and until when it may be taken as known.
//
// An entry that matches too much hides new defects. So the test's name must
// match as a whole, and everything that the test reports must be explained: one
// text that the entry does not expect makes the failure a new one.
package known

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Builtin is the name of the list that comes with the module. It is made from
// the signatures of the rows' own defects.
const Builtin = "builtin"

//go:embed known.json
var builtin []byte

// Entry is a known defect, as a file has it. Regular expressions are those of
// package regexp.
type Entry struct {
	// ID names the defect in reports: lower-case letters, digits and hyphens.
	ID string `json:"id"`

	// Test must match the whole name of the failed test.
	Test string `json:"test"`

	// Kernels are ranges of kernel releases. Suite is a Debian suite as
	// -kernel names it. One of the two must be given.
	Kernels []Range `json:"kernels,omitempty"`
	Suite   string  `json:"suite,omitempty"`

	// Arch is the GOARCH of the kernel. "": any.
	Arch string `json:"arch,omitempty"`

	// Profiles are names of boot profiles. Empty: any.
	Profiles []string `json:"profiles,omitempty"`

	// Symptom must match a text that the test reports. Of a crash, it must
	// match the kernel's console or what is said of the virtual machine.
	Symptom string `json:"symptom"`

	// Beside must match each other text that the test reports. "": there must
	// be none.
	Beside string `json:"beside,omitempty"`

	// Crash says that the virtual machine ends by the defect.
	Crash bool `json:"crash,omitempty"`

	// Most is how many tests of one virtual machine may fail by it. 0: any
	// number.
	Most int `json:"most,omitempty"`

	// Rare says that the defect does not show in each run.
	Rare bool `json:"rare,omitempty"`

	// Why says what the defect is, as a sentence.
	Why string `json:"why"`

	// Link is its report, or the commit that mended it. "": there is none.
	Link string `json:"link,omitempty"`

	// Review is the last day on which the entry counts: 2027-06-01.
	Review string `json:"review"`
}

// Range is a range of kernel releases, such as 6.12 or 6.12.30.
type Range struct {
	From  string `json:"from,omitempty"`  // the first; "": there is no first one
	Until string `json:"until,omitempty"` // the first after the last one; "": there is no last one
}

// Format returns the text of a file with these entries.
func Format(entries []Entry) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	err := e.Encode(struct {
		Known []Entry `json:"known"`
	}{entries})
	return b.Bytes(), err
}

// A Loader reads lists.
type Loader struct {
	Profiles []string // the names of the boot profiles that there are; nil: not known
	Today    time.Time

	entries []*entry
	sources map[string]string // the file of each ID
}

// Load adds the entries of a file, or of [Builtin]. The error has a line for
// each fault, with the file and the entry's ID.
func (l *Loader) Load(file string) error {
	data := builtin
	if file != Builtin {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	raw, err := split(data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var faults []error
	for i, text := range raw {
		name, c, err := l.entry(file, text)
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		for _, fault := range err {
			faults = append(faults, fmt.Errorf("%s: entry %s: %w", file, name, fault))
		}
		l.entries = append(l.entries, c)
	}
	return errors.Join(faults...)
}

// entry reads an entry. The ID is returned even if the rest is wrong.
func (l *Loader) entry(file string, text []byte) (id string, c *entry, faults []error) {
	var named struct{ ID string }
	_ = json.Unmarshal(text, &named)
	var e Entry
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return named.ID, nil, []error{errors.New(strings.TrimPrefix(err.Error(), "json: "))}
	}
	c, faults = l.compile(file, e)
	return e.ID, c, faults
}

// split reads a file, and returns the texts of its entries.
func split(data []byte) ([]json.RawMessage, error) {
	var l struct {
		Known []json.RawMessage `json:"known"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&l)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("text after the end of the list")
		}
	}
	switch {
	case err == io.EOF:
		return nil, errors.New(`it is empty, and must be {"known": […]}`)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("line %d: it ends too early", line(data, int64(len(data))))
	case err != nil:
		return nil, fmt.Errorf("line %d: %s", line(data, offset(err, d)), strings.TrimPrefix(err.Error(), "json: "))
	case l.Known == nil:
		return nil, errors.New(`it has no list "known"`)
	}
	return l.Known, nil
}

// offset is where in the input an error of a decoder is.
func offset(err error, d *json.Decoder) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &kind):
		return kind.Offset
	default:
		return d.InputOffset()
	}
}

// line is the number of the line that has the offset.
func line(data []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(data)))
	return 1 + bytes.Count(bytes.TrimRight(data[:offset], "\n"), []byte("\n"))
}
