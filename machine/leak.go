package machine

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Stock is what a process has that it can leak: descriptors, goroutines,
// child processes, threads in a state that nothing else can use them in,
// cgroups and trace instances named hotplugtest-PID or hotplugtest-PID-NAME,
// and mounts of tracefs whose source is hotplugtest-PID.
type Stock struct {
	files      map[string]string // by descriptor
	goroutines map[string]string // by "goroutine N": the stack
	children   map[string]string // by "child process N": its name
	threads    map[string]string // by "thread N": its mask, where that is not the process's
	cgroups    map[string]string
	tracing    map[string]string
}

// Main is for TestMain: it calls run, which is the Run of a [testing.M] or
// calls it, and returns the status to exit with. That is run's, or 1 if
// anything is left that [Stock.Leaks] finds; what it is, is said on standard
// output.
//
//	func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }
func Main(run func() int) int {
	stock := TakeStock()
	code := run()
	for _, leak := range stock.Leaks() {
		fmt.Println("FAIL: leaked", leak)
		code = max(code, 1)
	}
	return code
}

// TakeStock notes what the process has.
func TakeStock() *Stock {
	return &Stock{files: files(), goroutines: goroutines(), children: children(), threads: strayThreads(), cgroups: ownCgroups(),
		tracing: ownTracing()}
}

// leakGrace is how long goroutines, threads and children have for their end. It
// is used up only where there is a leak. Tests have less patience.
var leakGrace = 3 * time.Second

// Leaks says what the process has now and had not then, a line each. What is
// there for a moment only is no leak, such as a goroutine in which the runtime
// runs finalizers.
func (s *Stock) Leaks() []string {
	before := s.more(TakeStock())
	for deadline := time.Now().Add(leakGrace); ; runtime.Gosched() {
		now := s.more(TakeStock())
		maps.DeleteFunc(now, func(name, _ string) bool {
			_, stays := before[name]
			return !stays
		})
		if len(now) == 0 || time.Now().After(deadline) {
			var leaks []string
			for _, name := range slices.Sorted(maps.Keys(now)) {
				leaks = append(leaks, name+": "+now[name])
			}
			return leaks
		}
		before = now
	}
}

// more returns what the process has now and had not then, by its name.
func (s *Stock) more(now *Stock) map[string]string {
	leaks := make(map[string]string)
	for _, kind := range []struct{ before, after map[string]string }{
		{s.files, now.files}, {s.goroutines, now.goroutines}, {s.children, now.children}, {s.threads, now.threads}, {s.cgroups, now.cgroups},
		{s.tracing, now.tracing},
	} {
		poller := maps.Clone(runtimePoller)
		for _, file := range kind.before {
			delete(poller, file)
		}
		for _, name := range slices.Sorted(maps.Keys(kind.after)) {
			if _, ok := kind.before[name]; ok {
				continue
			}
			if file := kind.after[name]; poller[file] {
				delete(poller, file)
			} else {
				leaks[name] = file
			}
		}
	}
	return leaks
}

// runtimePoller are descriptors of which the runtime opens one each by itself,
// when it begins to poll.
var runtimePoller = map[string]bool{"anon_inode:[eventpoll]": true, "anon_inode:[eventfd]": true}

// files are the open descriptors.
func files() map[string]string {
	found := make(map[string]string)
	for _, fd := range numbers("/proc/self/fd") {
		// The directory that is being read is no more when its link is.
		file, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil || file == cpuProfile() {
			continue
		}
		found["descriptor "+strconv.Itoa(fd)] = file
	}
	return found
}

// cpuProfile is the file of -test.cpuprofile, which package testing leaves
// open.
func cpuProfile() string {
	value := func(name string) string {
		if f := flag.Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	file := value("test.cpuprofile")
	if file != "" && !filepath.IsAbs(file) {
		file = filepath.Join(value("test.outputdir"), file)
	}
	return file
}

// goroutines are all but the calling one.
func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	found := make(map[string]string)
	for i, stack := range strings.Split(string(buf[:n]), "\n\n") {
		// The first is the one that asks. One for signals is started with the
		// first signal.Notify and stays.
		if i == 0 || strings.Contains(stack, "os/signal.") {
			continue
		}
		name, rest, _ := strings.Cut(stack, " [")
		found[name] = "[" + rest
	}
	return found
}

func children() map[string]string {
	found := make(map[string]string)
	for _, pid := range numbers("/proc") {
		stat, err := read(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		end := strings.LastIndexByte(stat, ')')
		if fields := strings.Fields(stat[end+1:]); len(fields) > 1 && fields[1] == strconv.Itoa(unix.Getpid()) {
			name, _, _, _ := parseStat(stat)
			found["child process "+strconv.Itoa(pid)] = name
		}
	}
	return found
}

// strayThreads are those which may not run where the process may, so that a
// goroutine that gets one may not either. Threads as such are no leak: the
// runtime keeps those that it does not need.
func strayThreads() map[string]string {
	found := make(map[string]string)
	status, _ := read("/proc/self/status")
	want := field(status, "Cpus_allowed_list")
	for _, tid := range numbers("/proc/self/task") {
		status, err := read(fmt.Sprintf("/proc/self/task/%d/status", tid))
		if mask := field(status, "Cpus_allowed_list"); err == nil && mask != want {
			found["thread "+strconv.Itoa(tid)] = fmt.Sprintf("may run on CPUs %s, the process on %s", mask, want)
		}
	}
	return found
}

func ownCgroups() map[string]string {
	s := &Snapshot{Root: "/"}
	_ = leftovers{}.take(s)
	found := make(map[string]string)
	for _, dir := range s.Leftovers {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), leftoverPrefix), "-")
		if owner == strconv.Itoa(unix.Getpid()) {
			found["cgroup "+dir] = "not removed"
		}
	}
	return found
}
