package qemu

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// find returns the path of the emulator. Where it is missing it is installed, if this is root on a machine with APT.
func (m machine) find(ctx context.Context, log io.Writer) (string, error) {
	if path, err := exec.LookPath(m.qemu); err == nil {
		return path, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("%s is not installed, and there is no apt-get to install it with: install QEMU by other means", m.qemu)
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%s is not installed: run sudo apt-get install %s", m.qemu, m.pkg)
	}
	fmt.Fprintf(log, "vm: installing %s\n", m.pkg)
	for _, args := range [][]string{
		{"update"},
		{"install", "--yes", "--no-install-recommends", m.pkg},
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-qq"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLine(string(out)))
		}
	}
	return exec.LookPath(m.qemu)
}
