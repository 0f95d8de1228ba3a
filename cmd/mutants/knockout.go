package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/lab"
)

// A knockout is what became of a kernel without one callback.
type knockout struct {
	Key    string        // what it depends on
	Tests  int           // that ran to their end
	Failed []string      // those of them that failed: the first, and what was told of with it
	Log    bool          // the first of them failed by the kernel's log, and not by what its row looks at
	Again  bool          // the first of them failed by itself as well
	Died   string        // how the VM ended, if it did not end with the suite
	NoCPU  string        // why no CPU goes offline and comes online
	Took   time.Duration // with the attempt before

	// Profile is the boot in which a test failed. "": the default one.
	Profile string `json:",omitempty"`
	// Explored says that the explorer has looked as well, as no test failed, and
	// Found what it found, if it did.
	Explored bool   `json:",omitempty"`
	Found    string `json:",omitempty"`
	// Impossible is why the callback cannot be knocked out.
	Impossible string `json:",omitempty"`
	// Functions are the callbacks, in the file of the list alone.
	Functions []string `json:",omitempty"`
}

// functions returns the list, if there is one.
func (r *knockout) functions() []string {
	if r == nil {
		return nil
	}
	return r.Functions
}

// noticed reports whether a test failed, the VM ended, or the explorer found
// something.
func (r *knockout) noticed() bool { return len(r.Failed) > 0 || r.Died != "" || r.Found != "" }

// by says who noticed: the test that failed first, the crash, the explorer, or
// nobody.
func (r *knockout) by() string {
	switch {
	case r == nil:
		return "not run"
	case r.Impossible != "":
		return "cannot be knocked out: " + r.Impossible
	case !r.noticed() && r.NoCPU == "":
		return "survived"
	}
	var words []string
	if r.NoCPU != "" {
		words = append(words, "no CPU goes and comes: "+r.NoCPU)
	}
	for _, test := range lab.Compact(r.Failed) {
		words = append(words, "`"+test+"`")
	}
	if r.Profile != "" {
		words = append(words, "with `-profile "+r.Profile+"`")
	}
	if r.Died != "" {
		words = append(words, "the VM: "+r.Died)
	}
	if r.Found != "" {
		words = append(words, "the explorer: "+strings.ReplaceAll(r.Found, "|", `\|`))
	}
	text := strings.Join(words, " ")
	if r.Log {
		text += " by the kernel's log"
	}
	if r.noticed() && r.Died == "" && !r.Again {
		text += ", not when it ran alone"
	}
	return text
}

func (r *knockout) String() string {
	if r.Impossible != "" || r.Tests == 0 {
		return r.by()
	}
	return fmt.Sprintf("%s (%d tests, %v)", r.by(), r.Tests, r.Took.Round(time.Second))
}

// resultFile is what became of one callback, in the directory of its reports.
const resultFile = "knockout.json"

// load reads what became of a callback in an earlier call. It is nil if nothing
// has, or if that was on another kernel, by other sources or with other flags.
func (k *knockouts) load(name string) (*knockout, error) {
	file := filepath.Join(k.dir, name, resultFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &knockout{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it to run that again", file, err)
	}
	if r.Key != k.key {
		return nil, nil
	}
	return r, nil
}

// save writes what became of a callback, all of it or nothing.
func (k *knockouts) save(name string, r *knockout) error {
	r.Key = k.key
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	file := filepath.Join(k.dir, name, resultFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// A function is a callback, and what became of the kernel without it.
type function struct {
	name   string
	result *knockout // nil: it was not knocked out
}

// knockoutList is all callbacks of a kernel.
type knockoutList []function

// count is how many callbacks came to each end.
type count struct{ ran, noticed, noCPU, impossible, left int }

func (l knockoutList) count() (c count) {
	for _, f := range l {
		switch r := f.result; {
		case r == nil:
			c.left++
		case r.Impossible != "":
			c.impossible++
		case r.NoCPU != "":
			c.noCPU++
		default:
			c.ran++
			if r.noticed() {
				c.noticed++
			}
		}
	}
	return c
}

// markdown is the list as a table, and its summary.
func (l knockoutList) markdown(kernel string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| callback that returns 0 at once | first noticed by |\n|---|---|\n", kernel)
	for _, f := range l {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.name, f.result.by())
	}
	c := l.count()
	fmt.Fprintf(&b, "\n%d of %d callbacks noticed", c.noticed, c.ran)
	for _, rest := range []struct {
		n    int
		text string
	}{
		{c.noCPU, "without which no CPU goes and comes"}, {c.impossible, "that cannot be knocked out"}, {c.left, "left: call it again to go on"},
	} {
		if rest.n > 0 {
			fmt.Fprintf(&b, ", %d %s", rest.n, rest.text)
		}
	}
	return b.String() + "\n"
}

// err is an error if nothing was told.
func (l knockoutList) err(kernel string) error {
	if c := l.count(); c.ran == 0 && c.noCPU == 0 {
		return &cli.Told{What: fmt.Sprintf("%s: no callback was knocked out", kernel), Status: cli.Untold}
	}
	return nil
}
