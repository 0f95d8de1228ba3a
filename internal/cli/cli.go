// Package cli is the start and the end of a command: its flags, its help, the
// signals that end it, and its exit status.
package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Exit statuses of the commands.
const (
	Failed      = 1
	BadUsage    = 2
	Untold      = 125 // no test reached a verdict: git bisect run skips the commit
	Interrupted = 130
)

// Program describes a command.
type Program struct {
	// Name begins each message: "selftest".
	Name string

	// Call is how people call it: "ci/selftest".
	Call string

	// Synopsis is what follows Call in the help: "[flags] [-- flags of the test
	// binary]".
	Synopsis string

	// About is what the help says before the flags.
	About string

	// Stray says how to give what was given as an argument that is no flag.
	// Then arguments are allowed after "--" only, and if Synopsis has none, not
	// at all. "": arguments may follow the flags.
	Stray string

	// Failure is the exit status if the command fails. 0: Failed.
	Failure int

	out, err io.Writer // default: standard output and standard error
}

// Parse reads the command line into flags, and returns the arguments after
// them. With -help it prints the help; the error is [flag.ErrHelp] then.
func (p *Program) Parse(flags *flag.FlagSet, args []string) ([]string, error) {
	flags.SetOutput(io.Discard)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		p.Help(cmp.Or(p.out, io.Writer(os.Stdout)), flags)
		return nil, err
	case err != nil:
		return nil, err
	}
	rest := flags.Args()
	if p.Stray == "" || len(rest) == 0 {
		return rest, nil
	}
	dashes := len(args) - len(rest) - 1
	if dashes < 0 || args[dashes] != "--" || !strings.Contains(p.Synopsis, "--") {
		return nil, fmt.Errorf("unexpected %q: %s", rest[0], p.Stray)
	}
	return rest, nil
}

// Help prints the help.
func (p *Program) Help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "usage: %s %s\n", p.Call, p.Synopsis)
	if p.About != "" {
		fmt.Fprintf(w, "\n%s\n\n", p.About)
	}
	flags.SetOutput(w)
	flags.PrintDefaults()
}

// Told is an error that people have been told of already.
type Told struct {
	What   string
	Status int // the exit status. 0: the program's Failure
}

func (t *Told) Error() string { return t.What }

// Run does what the command is for, unless its command line was wrong: parseErr
// says how. It returns the exit status. The context ends with SIGINT, SIGTERM
// or SIGHUP.
func (p *Program) Run(parseErr error, do func(context.Context) error) int {
	if parseErr != nil {
		return p.Refuse(parseErr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	err := do(ctx)
	var told *Told
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &told):
		p.say(err.Error())
		told = &Told{}
		if errors.As(err, new(*InUse)) {
			told.Status = Untold
		}
	}
	if ctx.Err() != nil {
		// Also after a verdict: the interrupt may have made a test fail.
		return Interrupted
	}
	return cmp.Or(told.Status, p.Failure, Failed)
}

// Refuse says what is wrong with a command line, and returns the exit status.
func (p *Program) Refuse(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	p.say(fmt.Sprintf("%v (%s -help lists the flags)", err, p.Call))
	return BadUsage
}

func (p *Program) say(what string) {
	fmt.Fprintf(cmp.Or(p.err, io.Writer(os.Stderr)), "%s: %s\n", p.Name, what)
}

// Dir is the directory that the paths of a command line are relative to. A
// script that starts a command elsewhere gives its own working directory.
type Dir string

// Flag defines the flag -C.
func (d *Dir) Flag(flags *flag.FlagSet) {
	flags.StringVar((*string)(d), "C", ".", "`directory` that paths are relative to; the script gives the working directory")
}

// Path returns a path of the command line's, as it is from here.
func (d Dir) Path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(string(d), path)
}
