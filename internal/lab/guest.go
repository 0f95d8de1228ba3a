package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hotplugtest/hotplugtest/vm"
)

// An ExitError is a guest's program that did not end well.
type ExitError struct {
	Status int
	Output string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit status %d: %s", e.Status, strings.TrimSpace(e.Output))
}

// Guest builds the command in a package of this module, runs it in a virtual
// machine with arguments, and returns what it printed. The error is an
// [*ExitError] if the program's exit status is not 0, and a [*vm.Failure] if
// the machine did not come to the program's end.
func Guest(ctx context.Context, opts vm.Options, pkg string, args ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "guest")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the guest's program: %w", err)
	}
	var out bytes.Buffer
	code, err := vm.Run(ctx, opts, append([]string{program}, args...), &out, os.Stderr)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, &ExitError{code, out.String()}
	}
	return out.Bytes(), nil
}
