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
)

// knownDefects tells failures of known defects from others: see
// [Options.Known]. A nil one knows of none.
type knownDefects struct {
	mu      sync.Mutex
	matcher *known.Matcher
	expired []string
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
	k := &knownDefects{matcher: loader.Matcher(known.Where{Arch: runtime.GOARCH}), expired: loader.Expired()}
	k.matcher.Kernel(unix.ByteSliceToString(uname.Release[:]))
	return k, nil
}

// watch notes that t passes, if it does.
func (k *knownDefects) watch(t testing.TB) {
	if k == nil {
		return
	}
	t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !t.Failed() && !t.Skipped() {
			k.matcher.Passed(t.Name())
		}
	})
}

// skip ends t as skipped if the text is the only reason for it to fail, and a
// known defect explains it. The text may be "".
func (k *knownDefects) skip(t testing.TB, text string) {
	t.Helper()
	if k == nil || text == "" || t.Failed() {
		return
	}
	k.mu.Lock()
	defect := k.matcher.Failed(t.Name(), "    suite.go:1: "+strings.ReplaceAll(text, "\n", "\n        ")+"\n")
	k.mu.Unlock()
	if defect != nil {
		counted.known(t, defect.ID)
		t.Skipf("%s%s: %s\n%s", knownPrefix, defect.ID, defect.Why, text)
	}
}

// knownPrefix begins why a test is skipped whose failure is known.
const knownPrefix = "known: "

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
