package explore

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Op is what a [Command] does.
type Op int

// The commands that a line may have.
const (
	Write   Op = iota // echo VALUE > PATH
	Mkdir             // mkdir PATH
	Rmdir             // rmdir PATH
	Taskset           // taskset -p MASK TASK
	Chrt              // chrt CLASS -p PRIORITY TASK
)

// A Command is one command of a [Line].
type Command struct {
	Op Op

	// Path is the file or directory. A variable may begin it: see [Target].
	Path string

	// Value is what is written, the mask, or the options of chrt.
	Value string

	// Task is the variable that has the process ID, such as "$T1".
	Task string
}

// String returns the command as a shell has it.
func (c Command) String() string {
	switch c.Op {
	case Mkdir:
		return "mkdir " + c.Path
	case Rmdir:
		return "rmdir " + c.Path
	case Taskset:
		return "taskset -p " + c.Value + " " + c.Task
	case Chrt:
		return "chrt " + c.Value + " " + c.Task
	default:
		return strings.TrimSpace("echo "+c.Value) + " > " + c.Path
	}
}

// A Line is one step: a line of shell that both a shell and [Target.Do] can
// perform. So what the explorer has done is what the reproducer does.
type Line struct {
	Commands []Command

	// Parallel reports whether the commands run at the same time. Otherwise each
	// begins when the one before it has ended.
	Parallel bool
}

// String returns the line of shell.
func (l Line) String() string {
	var all []string
	for _, c := range l.Commands {
		all = append(all, c.String())
	}
	if l.Parallel {
		return strings.Join(all, " & ") + " & wait"
	}
	return strings.Join(all, "; ")
}

// ErrLine is wrapped by the error of [ParseLine].
var ErrLine = errors.New("not a step")

// lineHelp says what a step may be.
const lineHelp = "a step is echo VALUE > PATH, mkdir PATH, rmdir PATH, taskset -p MASK TASK or chrt CLASS -p PRIORITY TASK, several with ; or with & and a final & wait"

// ParseLine parses a line of shell. The error wraps [ErrLine] if it is none
// that a [Target] can perform.
func ParseLine(text string) (Line, error) {
	var l Line
	text = strings.TrimSpace(text)
	sep := ";"
	if rest, ok := strings.CutSuffix(text, "& wait"); ok {
		text, sep, l.Parallel = rest, "&", true
	}
	for part := range strings.SplitSeq(text, sep) {
		c, err := parseCommand(strings.TrimSpace(part))
		if err != nil {
			return Line{}, err
		}
		l.Commands = append(l.Commands, c)
	}
	return l, nil
}

// What a command may have in it is such that no shell takes it for anything
// else.
var (
	valuePattern = regexp.MustCompile(`^(\$T[0-9]|[A-Za-z0-9+,:/. \-]*)$`)
	pathPattern  = regexp.MustCompile(`^(\$[A-Z][A-Z0-9]*|/)[A-Za-z0-9_+.:/\-]*$`)
	taskPattern  = regexp.MustCompile(`^\$T[0-9]$`)
	maskPattern  = regexp.MustCompile(`^[0-9a-f]+$`)
)

// hex returns a set of CPUs as a mask of taskset(1), which is one number.
func hex(cpus affinity.CPUSet) string { return strings.ReplaceAll(cpus.Mask(), ",", "") }

// parseHex parses a mask of taskset(1).
func parseHex(mask string) (affinity.CPUSet, error) {
	var groups []string
	for ; len(mask) > 8; mask = mask[:len(mask)-8] {
		groups = append(groups, mask[len(mask)-8:])
	}
	groups = append(groups, mask)
	slices.Reverse(groups)
	return affinity.ParseMask(strings.Join(groups, ","))
}

func parseCommand(text string) (c Command, err error) {
	bad := func(why string) (Command, error) {
		return Command{}, fmt.Errorf("%w: %q: %s", ErrLine, text, why)
	}
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "echo":
		value, path, ok := strings.Cut(rest, "> ")
		if !ok {
			return bad("there is no > PATH")
		}
		c = Command{Op: Write, Path: path, Value: strings.TrimSpace(value)}
	case "mkdir":
		c = Command{Op: Mkdir, Path: rest}
	case "rmdir":
		c = Command{Op: Rmdir, Path: rest}
	case "taskset":
		f := strings.Fields(rest)
		if len(f) != 3 || f[0] != "-p" {
			return bad("want taskset -p MASK TASK")
		}
		c = Command{Op: Taskset, Value: f[1], Task: f[2]}
		if !maskPattern.MatchString(c.Value) || !taskPattern.MatchString(c.Task) {
			return bad("want a hexadecimal MASK, and $T1 to $T9 for the TASK")
		}
		return c, nil
	case "chrt":
		i := strings.LastIndexByte(rest, ' ')
		c = Command{Op: Chrt, Value: rest[:max(i, 0)], Task: rest[i+1:]}
		if _, err := parseClass(c.Value); err != nil || !taskPattern.MatchString(c.Task) {
			return bad(classHelp)
		}
		return c, nil
	default:
		return bad(lineHelp)
	}
	if !pathPattern.MatchString(c.Path) || strings.Contains(c.Path, "..") {
		return bad("the PATH must begin with / or a variable, and may have letters, digits and _ + . : / - in it")
	}
	if word := c.Value; !valuePattern.MatchString(word) || strings.HasPrefix(word, "-n") || strings.HasPrefix(word, "-e") || strings.HasPrefix(word, "-E") {
		return bad("the VALUE may have letters, digits, blanks and + , : / . - in it")
	}
	return c, nil
}
