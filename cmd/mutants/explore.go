package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// explorer is the command explore, built for this run.
type explorer struct{ dir, program string }

func newExplorer(ctx context.Context) (*explorer, error) {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	e := &explorer{dir, filepath.Join(dir, "explore")}
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", e.program, "./cmd/explore")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("building the explorer: %w", err), e.Close())
	}
	return e, nil
}

// Close removes the command.
func (e *explorer) Close() error { return os.RemoveAll(e.dir) }

// exploreAll explores each mutant for a time, and prints which of them the
// explorer finds by itself.
func (l *bench) exploreAll(ctx context.Context) (err error) {
	e, err := newExplorer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var summary, table strings.Builder
	table.WriteString("| kernel | mutant | broken | found |\n|---|---|---|---|\n")
	for _, k := range l.kernels {
		chosen := l.chosen(k)
		if len(chosen) == 0 {
			continue
		}
		if l.healthy {
			found, err := e.explore(ctx, k.suite, l.reports(k, "healthy"), l.exploreTime, l.args...)
			if err == nil && found != "" {
				err = fmt.Errorf("the explorer finds something on the healthy kernel, so it says nothing of the broken ones: %s", found)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		n := 0
		for _, m := range chosen {
			found, err := e.explore(ctx, k.suite, l.reports(k, m.name), l.exploreTime, append(l.explorerFlags(k, m), l.args...)...)
			switch {
			case err != nil:
				return fmt.Errorf("%s of %s: %w", m.name, k.name, err)
			case found == "":
				found = "survived"
			default:
				n++
			}
			fmt.Printf("%-5s %s: %s\n", k.name, m.name, found)
			fmt.Fprintf(&table, "| %s | `%s` | %s | %s |\n", k.name, m.name, m.breaks, strings.ReplaceAll(found, "|", `\|`))
		}
		fmt.Fprintf(&summary, "%-5s %d of %d mutants found by the explorer\n", k.name, n, len(chosen))
	}
	if summary.Len() == 0 {
		return errors.New("there is no such mutant")
	}
	fmt.Print(summary.String())
	if l.markdown == "" {
		return nil
	}
	return os.WriteFile(l.markdown, []byte(table.String()), 0o644)
}

// explorerFlags returns the flags of a mutant that the explorer has as well.
func (l *bench) explorerFlags(k series, m *mutant) []string {
	flags := l.breaking(k, m)
	if i := slices.Index(flags, "-run"); i >= 0 { // it has no tests
		flags = slices.Delete(flags, i, i+2)
	}
	return flags
}

// explore explores one kernel for a time, until something is found, and returns
// what that is and after how long, or "". It is not reduced: the kernel is
// broken on purpose.
func (e *explorer) explore(ctx context.Context, kernel, out string, length time.Duration, flags ...string) (found string, err error) {
	args := append([]string{"-kernel", kernel, "-for", length.String(), "-scripts=false", "-out", out}, flags...)
	cmd := exec.CommandContext(ctx, e.program, args...)
	interrupt := func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.Cancel, cmd.Stderr = interrupt, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	found, err = firstFound(stdout, interrupt)
	waited := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case found != "" || err != nil:
		return found, err
	case waited != nil:
		return "", fmt.Errorf("the explorer did not come to its end: %w", waited)
	}
	return "", nil
}

// foundLine is what the explorer prints of what it stands by: of a law that is
// broken, of a crash that it reduces, and of a finding that it does not reduce. A
// crash of which it only says in which step it came may be the emulator's doing.
var foundLine = regexp.MustCompile(`^\S+: (?:after (\d+) s: (.*); reducing it|reducing (.*) in fresh VMs|BROKEN: (.*) \(\d+ of \d+(?:, not again)?, \d+ steps of \d+\))$`)

// firstFound reads all that the explorer prints, and calls enough at the first
// thing that it has found. That is what is returned.
func firstFound(output io.Reader, enough func() error) (found string, err error) {
	lines := bufio.NewScanner(output)
	// Who does not read on keeps the explorer from its end.
	lines.Buffer(nil, math.MaxInt)
	for lines.Scan() {
		m := foundLine.FindStringSubmatch(lines.Text())
		if m == nil || found != "" {
			continue
		}
		found = m[3] + m[4]
		if m[1] != "" {
			found = fmt.Sprintf("after %s s: %s", m[1], m[2])
		}
		// It may have come to its end by itself.
		if told := enough(); !errors.Is(told, os.ErrProcessDone) {
			err = told
		}
	}
	return found, errors.Join(err, lines.Err())
}
