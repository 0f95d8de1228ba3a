package record

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/report"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// consoleFile is what the kernel logged.
const consoleFile = "console.log"

// Options say what to run.
type Options struct {
	Binary  string
	Args    []string // of the test binary, without what makes it record
	Dir     string   // for the files; it is made
	Name    string   // the package that results go under
	Verbose bool     // print all output; otherwise that of tests that fail, and what no test prints
	Kmsg    string   // the path of the kernel's log; "": there is no console.log
}

// Run runs the test binary, prints its output on w, and writes the files. It
// returns the status to exit with: the binary's, or 1 if a file could not be
// written. The binary ends with this process.
func Run(o Options, w io.Writer) int {
	code, err := o.run(w)
	if err != nil {
		fmt.Fprintln(w, "hotplugtest:", err)
		code = max(code, 1)
	}
	return code
}

func (o Options) run(w io.Writer) (code int, err error) {
	if err := o.makeDir(); err != nil {
		return 0, err
	}
	log, logErr := o.openLog()
	if logErr == nil && log != nil {
		defer log.Close()
	}
	results, err := os.Create(filepath.Join(o.Dir, testjson.ResultsFile))
	if err != nil {
		return 0, err
	}
	screen := &screen{w: w, all: o.Verbose}
	e := &events{pkg: o.Name, began: time.Now(), emit: func(event testjson.Event) error {
		return errors.Join(screen.take(event), testjson.Write(results, event))
	}}
	// Whoever kills this process may not be root, and wants to remove them.
	if err := o.giveAway(); err != nil {
		return 0, errors.Join(err, results.Close())
	}
	code, sent, runErr := o.execute(e)
	err = errors.Join(runErr, e.end(code, sent), results.Close())
	if log != nil {
		err = errors.Join(err, saveLog(log, filepath.Join(o.Dir, consoleFile)))
	}
	return code, errors.Join(err, writeJUnit(o.Dir, results.Name()), o.page(w), o.giveAway())
}

// Without returns the arguments of a command line without flags of these names
// and their values.
func Without(args []string, names ...string) (rest []string) {
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if args[i] == "--" {
			return append(rest, args[i:]...)
		}
		switch {
		case !strings.HasPrefix(args[i], "-") || !slices.Contains(names, name):
			rest = append(rest, args[i])
		case !hasValue && !isBool(name):
			i++
		}
	}
	return rest
}

// isBool reports whether a flag needs no value.
func isBool(name string) bool {
	f := flag.Lookup(name)
	if f == nil {
		return false
	}
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// makeDir makes the directory, without reports of an earlier run. Those above it
// that it makes are the user's, too.
func (o Options) makeDir() error {
	var made []string
	for dir := filepath.Dir(filepath.Clean(o.Dir)); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	if err := chownAll(made); err != nil {
		return err
	}
	for _, name := range []string{testjson.ResultsFile, junit.File, consoleFile, report.PageFile, report.SummaryFile} {
		if err := os.Remove(filepath.Join(o.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// execute runs the binary, and returns its exit status, and the signal that it
// was sent first, or nil.
func (o Options) execute(out io.Writer) (code int, sent os.Signal, err error) {
	// It ends with this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(o.Binary, append([]string{"-test.v=test2json"}, o.Args...)...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, nil, err
	}
	var first atomic.Value
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				first.CompareAndSwap(nil, s)
				// A terminal has sent it to both. A second one does no harm.
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	sent, _ = first.Load().(os.Signal)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), sent, nil
	}
	if err != nil {
		return 1, sent, err
	}
	return 0, sent, nil
}

// openLog opens the kernel's log at its end.
func (o Options) openLog() (*kmsg.Log, error) {
	if o.Kmsg == "" {
		return nil, nil
	}
	return kmsg.Open(o.Kmsg, kmsg.FromEnd)
}

// saveLog writes what the kernel has logged since. If some of it was lost, that
// is said in its place.
func saveLog(log *kmsg.Log, path string) error {
	records, err := log.Read()
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
	}
	for _, r := range records {
		fmt.Fprintln(&b, kmsg.Printable(r.String()))
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// page writes the page and the summary.
func (o Options) page(w io.Writer) error {
	err := report.Write(o.Dir)
	switch {
	case errors.Is(err, report.ErrNoTest):
		return nil
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(w, "page: %s\n", filepath.Join(o.Dir, report.PageFile))
	return err
}

// giveAway makes the directory and the files those of the user who called sudo.
func (o Options) giveAway() error {
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	paths := []string{o.Dir}
	for _, e := range entries {
		switch e.Name() {
		case testjson.ResultsFile, junit.File, consoleFile, report.PageFile, report.SummaryFile:
			paths = append(paths, filepath.Join(o.Dir, e.Name()))
		}
	}
	return chownAll(paths)
}

// chownAll makes files those of the user who called sudo, if somebody did.
func chownAll(paths []string) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, gidErr := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil || gidErr != nil || os.Geteuid() != 0 {
		return nil
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.Lchown(path, uid, gid))
	}
	return errors.Join(errs...)
}

// screen prints output as go test does.
type screen struct {
	w    io.Writer
	all  bool
	kept map[string]*strings.Builder // of tests that run
}

func (s *screen) take(e testjson.Event) error {
	switch {
	case e.Test == testjson.Main: // it is there already
	case e.Action == "output" && (s.all || e.Test == ""):
		_, err := io.WriteString(s.w, e.Output)
		return err
	case s.all || e.Test == "":
	case e.Action == "output":
		if s.kept == nil {
			s.kept = make(map[string]*strings.Builder)
		}
		if s.kept[e.Test] == nil {
			s.kept[e.Test] = &strings.Builder{}
		}
		if !strings.HasPrefix(e.Output, "=== ") {
			s.kept[e.Test].WriteString(e.Output)
		}
	case e.Verdict():
		kept := s.kept[e.Test]
		delete(s.kept, e.Test)
		if e.Action == "fail" && kept != nil {
			_, err := io.WriteString(s.w, kept.String())
			return err
		}
	}
	return nil
}
