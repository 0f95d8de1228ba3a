package suite

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// knownDefects tells failures of known defects from others: see
// [Options.Known]. A nil one knows of none.
type knownDefects struct {
	mu      sync.Mutex
	matcher *known.Matcher
	expired []string
	found   map[testing.TB]string // the IDs of the defects that tests which run have failed by
	names   map[string]string     // what tests are called in this module's own suite, with all below them
}

// loadKnown reads lists of known defects, of which those of the running kernel
// count.
func loadKnown(files []string) (*knownDefects, error) {
	if len(files) == 0 {
		return nil, nil
	}
	loader := &known.Loader{Today: time.Now()}
	for _, file := range files {
		if err := loader.Load(file); err != nil {
			return nil, fmt.Errorf("-known %w", err)
		}
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, err
	}
	k := &knownDefects{matcher: loader.Matcher(known.Where{Arch: runtime.GOARCH}), expired: loader.Expired(), found: make(map[testing.TB]string), names: make(map[string]string)}
	k.matcher.Kernel(unix.ByteSliceToString(uname.Release[:]))
	return k, nil
}

// booted tells how the machine is booted, which entries may be about.
func (k *knownDefects) booted(boots []Boot) {
	if k == nil {
		return
	}
	var profiles []string
	for _, b := range boots {
		profiles = append(profiles, string(b)) // which has its name
	}
	k.matcher.Booted(profiles)
}

// call has lists match t, and the tests below it, by a name that is not t's. It
// is for a suite in somebody's own test.
func (k *knownDefects) call(t testing.TB, name string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.names[t.Name()] = name
}

// listed is the name by which lists match a test.
func (k *knownDefects) listed(test string) string {
	for above := test; ; {
		if name, ok := k.names[above]; ok {
			return name + test[len(above):]
		}
		end := strings.LastIndexByte(above, '/')
		if end < 0 {
			return test
		}
		above = above[:end]
	}
}

// watch notes that t passes, if it does, and marks it in the results if it
// fails by a known defect. It must be called before what can fail t in a
// cleanup.
func (k *knownDefects) watch(t testing.TB) {
	if k == nil {
		return
	}
	t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		id := k.found[t]
		delete(k.found, t)
		switch {
		case t.Failed(): // by something else as well
		case id != "":
			t.Attr(testjson.Known, id)
			t.Attr(testjson.OriginalResult, "fail")
		case !t.Skipped():
			k.matcher.Passed(k.listed(t.Name()))
		}
	})
}

// skip ends t as skipped if the texts are the only reasons for it to fail, and
// a known defect explains them. Otherwise it returns false. There may be none.
// In a cleanup, t must have no subtests: package testing does not tell their
// parent of a test that a cleanup ends then.
func (k *knownDefects) skip(t testing.TB, texts ...string) (known bool) {
	t.Helper()
	defect := k.explain(t, texts)
	if defect != nil {
		t.Skip(skipText(defect, texts))
	}
	return false
}

// log reports whether a known defect explains the texts, and logs which one.
func (k *knownDefects) log(t testing.TB, texts ...string) (known bool) {
	t.Helper()
	defect := k.explain(t, texts)
	if defect != nil {
		t.Log(skipText(defect, texts))
	}
	return defect != nil
}

// skipText says by which known defect a test fails, and how.
func skipText(defect *known.Entry, texts []string) string {
	return fmt.Sprintf("%s%s: %s\n%s", testjson.KnownPrefix, defect.ID, defect.Why, strings.Join(texts, "\n"))
}

// explain returns the known defect that t fails by, or nil.
func (k *knownDefects) explain(t testing.TB, texts []string) *known.Entry {
	if k == nil || len(texts) == 0 || t.Failed() || t.Skipped() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defect := k.matcher.Failed(k.listed(t.Name()), printed(texts))
	if defect != nil {
		counted.known(t, defect.ID)
		k.found[t] = defect.ID
	}
	return defect
}

// of returns the known defect that explains what a test of that name sees, or
// nil. It counts nothing.
func (k *knownDefects) of(test, text string) *known.Entry {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.matcher.Explains(k.listed(test), printed([]string{text}))
}

// printed is what package testing prints of texts that a test reports.
func printed(texts []string) string {
	var output strings.Builder
	for _, text := range texts {
		fmt.Fprintf(&output, "    suite.go:1: %s\n", strings.ReplaceAll(text, "\n", "\n        "))
	}
	return output.String()
}

// notes says which entries are to be looked at again.
func (k *knownDefects) notes() (notes []string) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, line := range k.expired {
		notes = append(notes, NotePrefix+line)
	}
	for _, id := range k.matcher.Gone() {
		notes = append(notes, NotePrefix+"no longer: "+id)
	}
	return notes
}
