package cpuset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Hierarchy is the cgroup hierarchy that the cpuset controller is in. There
// is at most one.
type Hierarchy struct {
	root    string // of the file system, "/" but for tests
	mount   string // where the hierarchy is mounted, below root
	top     string // the cgroup that is at mount, as in /proc/PID/cgroup
	version int
	v2Mode  bool
	prefix  string // of the names of the controller's files
}

// New returns the cpuset hierarchy of the machine whose file system is at root,
// "/" except in tests. It is the cgroup v1 mount with the cpuset
// controller if <root>/proc/self/mountinfo has one, else the cgroup v2 mount
// with cpuset in its cgroup.controllers.
//
// The error is an [*Error], or wraps [ErrNotFound].
func New(root string) (*Hierarchy, error) {
	path := filepath.Join(root, "proc/self/mountinfo")
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var unified []*Hierarchy
	for line := range strings.Lines(text) {
		m, err := parseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, failed("read", path, err)
		}
		h := &Hierarchy{root: root, mount: filepath.Join(root, filepath.Join("/", m.point)), top: m.root, prefix: "cpuset."}
		switch {
		case m.fstype == "cgroup" && slices.Contains(m.options, "cpuset"):
			h.version = 1
			h.v2Mode = slices.Contains(m.options, "cpuset_v2_mode")
			// What mount -t cpuset makes: a cgroup mount with this option.
			if slices.Contains(m.options, "noprefix") {
				h.prefix = ""
			}
			return h, nil
		case m.fstype == "cgroup2":
			h.version = 2
			unified = append(unified, h)
		}
	}
	var unreadable error
	for _, h := range unified {
		controllers, err := readFile(h.Root().file("cgroup.controllers"))
		if err != nil {
			unreadable = err // hidden by another mount, say
			continue
		}
		if slices.Contains(strings.Fields(controllers), "cpuset") {
			return h, nil
		}
	}
	if unreadable != nil {
		return nil, unreadable
	}
	return nil, fmt.Errorf("%w: not in a cgroup v1 mount of %s, nor in cgroup.controllers of a cgroup v2 mount",
		ErrNotFound, path)
}

// Version returns the version of cgroup, 1 or 2.
func (h *Hierarchy) Version() int { return h.version }

// V2Mode reports whether this is a cgroup v1 mount with the option
// cpuset_v2_mode, where a cpuset keeps its configured CPUs when they go
// offline, as on v2, and gets them back.
func (h *Hierarchy) V2Mode() bool { return h.v2Mode }

// FileName returns the name that a file of the controller has in each cgroup:
// "cpuset.cpus" for "cpus", but "cpus" on a v1 mount with the option noprefix.
func (h *Hierarchy) FileName(name string) string { return h.prefix + name }

// Mount returns the directory where the hierarchy is mounted.
func (h *Hierarchy) Mount() string { return h.mount }

// Root returns the cpuset at the mount point, which has all CPUs that are
// online. In a container it may be a child of the machine's.
func (h *Hierarchy) Root() *Group { return &Group{h, "/"} }

// Of returns the cpuset that thread tid is in, from /proc/TID/cgroup. A tid of
// 0 is the calling thread. On v2 it is the thread's cgroup, whether or not the
// cpuset controller is enabled for that: if not, it has no CPUs of its own, and
// those of the nearest ancestor with the controller count.
//
// The error is an [*Error]. It wraps [unix.ENOENT] when there is no such
// thread, and [unix.ESRCH] when that ends meanwhile.
func (h *Hierarchy) Of(tid int) (*Group, error) {
	thread := "thread-self"
	if tid != 0 {
		thread = strconv.Itoa(tid)
	}
	path := filepath.Join(h.root, "proc", thread, "cgroup")
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	cgroup, err := h.cgroup(text)
	if err != nil {
		return nil, failed("read", path, err)
	}
	name, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(h.top, "/"))
	if !ok || name != "" && name[0] != '/' || slices.Contains(strings.Split(name, "/"), "..") {
		return nil, &Error{Package: "cpuset", Op: "read", Path: path,
			Err: fmt.Errorf("%s is not below %s, the cgroup that is mounted at %s", cgroup, h.top, h.mount)}
	}
	return &Group{h, filepath.Join("/", name)}, nil
}

// EnableController gives the children of the root the cpuset controller, if
// they don't have it yet: it is Enable("cpuset").
func (h *Hierarchy) EnableController() (restore func() error, err error) {
	return h.Enable("cpuset")
}

// Enable gives the children of the root a controller, such as "cpu", if they
// don't have it yet, by writing "+cpu" to cgroup.subtree_control of the root.
//
// Calling restore takes it from them again, unless one of them has come to use
// it: see [Hierarchy.UserOf]. On v1, where all cgroups of a hierarchy have its
// controllers, both do nothing.
//
// The errors are of type [*Error].
func (h *Hierarchy) Enable(controller string) (restore func() error, err error) {
	nothing := func() error { return nil }
	if h.version == 1 {
		return nothing, nil
	}
	path := h.Root().file("cgroup.subtree_control")
	enabled, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if slices.Contains(strings.Fields(enabled), controller) {
		return nothing, nil
	}
	if err := writeFile(path, "+"+controller); err != nil {
		return nil, err
	}
	return func() error {
		if h.UserOf(controller, nil) != "" {
			return nil
		}
		return writeFile(path, "-"+controller)
	}, nil
}

// defaults are what the files of a controller have in a cgroup that nobody has
// configured, by cgroup-v2.rst.
var defaults = map[string]map[string]string{
	"cpuset": {
		"cpuset.cpus":           "",
		"cpuset.cpus.exclusive": "",
		"cpuset.cpus.partition": "member",
		"cpuset.mems":           "",
	},
	"cpu": {
		"cpu.idle":       "0",
		"cpu.max":        "max 100000",
		"cpu.max.burst":  "0",
		"cpu.uclamp.max": "max",
		"cpu.uclamp.min": "0.00",
		"cpu.weight":     "100",
	},
	"memory": {
		"memory.high":      "max",
		"memory.low":       "0",
		"memory.max":       "max",
		"memory.min":       "0",
		"memory.oom.group": "0",
		"memory.swap.high": "max",
		"memory.swap.max":  "max",
		"memory.zswap.max": "max",
	},
}

// UserOf returns the directory of a child of the root that uses a controller
// of cgroup v2, or "" if there is none: one whose children have the controller,
// or, of the controllers cpuset, cpu and memory, one with a setting that is not the
// default. These would lose it if the root took the controller from them.
// Children whose name is ignored, if that is not nil, don't count.
func (h *Hierarchy) UserOf(controller string, ignored func(name string) bool) string {
	entries, err := os.ReadDir(h.mount)
	if err != nil {
		return ""
	}
	for _, entry := range entries {
		if !entry.IsDir() || ignored != nil && ignored(entry.Name()) {
			continue
		}
		dir := filepath.Join(h.mount, entry.Name())
		// A cgroup that ends meanwhile uses nothing.
		below, _ := readFile(filepath.Join(dir, "cgroup.subtree_control"))
		if slices.Contains(strings.Fields(below), controller) {
			return dir
		}
		for file, value := range defaults[controller] {
			if is, err := readFile(filepath.Join(dir, file)); err == nil && strings.TrimSpace(is) != value {
				return dir
			}
		}
	}
	return ""
}

// cgroup returns the path that text, a /proc/PID/cgroup, has for the hierarchy.
// A line is "ID:CONTROLLERS:PATH"; that of v2 has ID 0.
func (h *Hierarchy) cgroup(text string) (string, error) {
	for line := range strings.Lines(text) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, cgroup, ok := strings.Cut(rest, ":")
		if !ok {
			return "", fmt.Errorf("malformed line %q", line)
		}
		if h.version == 2 && id == "0" ||
			h.version == 1 && slices.Contains(strings.Split(controllers, ","), "cpuset") {
			return cgroup, nil
		}
	}
	return "", errors.New("no line for the cpuset hierarchy")
}

// A mount is a line of /proc/PID/mountinfo.
type mount struct {
	root    string // what of the file system is mounted
	point   string // where it is mounted
	fstype  string
	options []string // of the superblock
}

// parseMount parses a line of /proc/PID/mountinfo, proc_pid_mountinfo(5):
//
//	31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
//
// Between the options of the mount and the dash is any number of tags. The
// source, after the type of the file system, may be empty.
func parseMount(line string) (mount, error) {
	fields := strings.Split(line, " ")
	dash := -1
	if len(fields) > 6 {
		dash = slices.Index(fields[6:], "-")
	}
	if dash < 0 || len(fields) < 6+dash+4 {
		return mount{}, fmt.Errorf("malformed line %q", line)
	}
	super := fields[6+dash+1:]
	return mount{
		root:    unescape(fields[3]),
		point:   unescape(fields[4]),
		fstype:  super[0],
		options: strings.Split(super[2], ","),
	}, nil
}

// unescape replaces the octal escapes that the kernel's seq_escape() writes for
// space, tab, newline and backslash.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if len(after) >= 3 {
			if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[3:]
				continue
			}
		}
		b.WriteByte('\\')
		s = after
	}
}
