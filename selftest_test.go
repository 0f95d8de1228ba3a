package hotplugtest_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/machine"
)

var options = func() *hotplugtest.Options {
	o := &hotplugtest.Options{MustTest: true}
	o.Flags(flag.CommandLine)
	return o
}()

// suite opens the machine once for all tests.
var suite = sync.OnceValues(func() (*hotplugtest.Runner, error) { return hotplugtest.Open(*options) })

var opened bool

var restore = flag.Bool("restore", false, "restore the machine after a run that was killed together with its supervisor, and run no test")

func TestMain(m *testing.M) {
	flag.Parse()
	if err := refused(); err != nil {
		fmt.Fprintln(os.Stderr, "hotplugtest:", err)
		os.Exit(2) // as for a flag that there is not
	}
	if *restore {
		if err := machine.Recover(os.Stdout); err != nil {
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				err = fmt.Errorf("%w: -restore needs root: run with sudo", err)
			}
			fmt.Fprintln(os.Stderr, "hotplugtest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if code, ok := recorded(); ok {
		os.Exit(code)
	}
	// A test that was not asked for is not one that was skipped.
	if skip := flag.Lookup("test.skip").Value; options.Soak == 0 {
		_ = skip.Set(strings.TrimPrefix(skip.String()+"|^TestSoak$", "|"))
	}
	if skip := flag.Lookup("test.skip").Value; *exploreFor == 0 {
		_ = skip.Set(strings.TrimPrefix(skip.String()+"|^TestExplore$", "|"))
	}
	os.Exit(options.Conclude(machine.Main(func() int {
		code := m.Run()
		if opened {
			if s, err := suite(); err == nil {
				fmt.Print(s.Times())
				for _, note := range s.Notes() {
					fmt.Println(note)
				}
				if err := s.Close(); err != nil {
					fmt.Println("FAIL: the machine is not as it was found:", err)
					code = 1
				}
			}
		}
		return code
	})))
}

// refused says what is wrong with the command line.
func refused() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected %q: flags after it would not count, and tests are named by -run, or -test.run of the binary itself", flag.Arg(0))
	}
	if *restore {
		return nil // the other flags are not used, and the machine is to be put back
	}
	return options.CheckFlags(flag.CommandLine)
}

// neverCached keeps go test from answering for a kernel that has not been
// tested: it takes results from its cache as long as the files of the module
// that a test opened are unchanged. This is one that never is: a link to a file
// in /proc that is as old as the process that looks.
func neverCached() {
	if f, err := os.Open("testdata/never-cached"); err == nil {
		f.Close()
	}
}

// open is the suite on this machine, or the end of the test.
func open(t *testing.T) *hotplugtest.Runner {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the suite takes CPUs offline")
	}
	neverCached()
	opened = true
	s, err := suite()
	if err != nil {
		hotplugtest.SkipOrFail(t, err, *options)
	}
	return s
}

func run(t *testing.T, name string) {
	t.Helper()
	open(t).Run(t, name)
}

func TestOnline(t *testing.T)     { run(t, "Online") }
func TestOffline(t *testing.T)    { run(t, "Offline") }
func TestSameValue(t *testing.T)  { run(t, "SameValue") }
func TestSameTarget(t *testing.T) { run(t, "SameTarget") }
func TestRollback(t *testing.T)   { run(t, "Rollback") }
func TestSMT(t *testing.T)        { run(t, "SMT") }
func TestPartition(t *testing.T)  { run(t, "Partition") }
func TestScenario(t *testing.T)   { open(t).RunScenarios(t) }
func TestSoak(t *testing.T)       { open(t).Soak(t) }

// The last ones: rows of theirs may take a broken kernel down.
func TestSuspend(t *testing.T) { run(t, "Suspend") }
func TestRefused(t *testing.T) { run(t, "Refused") }
func TestMemory(t *testing.T)  { run(t, "Memory") }
