// Package debian runs the commands of Debian's package management, and finds
// the mirror that this machine takes its packages from.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// keyring has the keys of Debian's archive; without it, those APT trusts serve.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// SignedBy is the option of a line of APT's sources that names the keys of
// Debian's archive, or "" if only those are there that APT trusts anyway.
func SignedBy() string {
	if _, err := os.Stat(keyring); err != nil {
		return ""
	}
	return "signed-by=" + keyring
}

// ErrNoMirror is wrapped by an error if there is no Debian mirror here.
var ErrNoMirror = errors.New("no Debian mirror")

// An archive is one of Debian's: what its Release files call it, and how the URI
// of a mirror of it ends, or that of a file that lists some.
type archive struct {
	label string
	path  *regexp.Regexp
}

var (
	mainArchive     = archive{"Debian", regexp.MustCompile(`/debian(\.list)?/$`)}
	securityArchive = archive{"Debian-Security", regexp.MustCompile(`/debian-security(\.list)?/$`)}
)

// archiveOf returns the archive that has a suite.
func archiveOf(suite string) archive {
	if strings.HasSuffix(suite, "-security") {
		return securityArchive
	}
	return mainArchive
}

// Mirror returns the URI of the mirror that this machine's APT uses for the
// archive that has a suite: security updates have one of their own. The error
// wraps [ErrNoMirror] if it uses none.
func Mirror(ctx context.Context, suite string) (string, error) {
	archive := archiveOf(suite)
	// Only what the package lists are there for has an origin, or is named at
	// all in the first call. As root, APT would write its caches, if it had
	// any.
	for _, extra := range []string{"--release-info", "--no-release-info"} {
		var out bytes.Buffer
		err := Run(ctx, &out, "apt-get", "indextargets", extra, "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
			"--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)", "Created-By: Packages")
		if err != nil {
			return "", err
		}
		if uri := archive.parseMirror(out.String()); uri != "" {
			return uri, nil
		}
	}
	return "", fmt.Errorf("%w: APT has none for %s in its sources here", ErrNoMirror, suite)
}

// parseMirror picks a mirror of the archive among lines of
// URI|ORIGIN|LABEL|COMPONENT, by what it says it is, or else by its URI. It
// returns "" if there is none.
func (a archive) parseMirror(targets string) string {
	var guess string
	for line := range strings.Lines(targets) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 || f[3] != "main" {
			continue
		}
		switch uri, origin, label := f[0], f[1], f[2]; {
		case origin == "Debian" && label == a.label:
			return uri
		case guess == "" && origin == "$(ORIGIN)" && a.path.MatchString(uri):
			guess = uri
		}
	}
	return guess
}

// CommandError is a command's failure.
type CommandError struct {
	Command string // and its first argument
	Stderr  string // without white space around it
	Err     error
}

// Error has the line of stderr that matters: APT's first error, or else the
// last.
func (e *CommandError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	lines := strings.Split(e.Stderr, "\n")
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, "E: "); ok {
			return e.Command + ": " + text
		}
	}
	return e.Command + ": " + lines[len(lines)-1]
}

func (e *CommandError) Unwrap() error { return e.Err }

// Command is exec.CommandContext for a command of Debian's, which is to ask
// nothing and to speak English.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	// for what a killed command leaves behind with its output open
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a command with its output going to stdout. It fails with a
// *CommandError, or with why ctx ended.
func Run(ctx context.Context, stdout io.Writer, name string, args ...string) error {
	cmd := Command(ctx, name, args...)
	cmd.Stdout = stdout
	return Do(ctx, cmd)
}

// Do runs a command that Command made for ctx, and fails as Run does.
func Do(ctx context.Context, cmd *exec.Cmd) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		return nil
	}
	name := strings.Join(cmd.Args[:2], " ")
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	return &CommandError{name, strings.TrimSpace(stderr.String()), err}
}
