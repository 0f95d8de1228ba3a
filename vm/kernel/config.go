package kernel

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Lacks returns what the kernel's configuration has instead of each of the
// options that is not built in: "CONFIG_NET is not set", "CONFIG_NET=m". It is
// empty if there is no configuration with the kernel. The options are named
// without CONFIG_.
func (img *Image) Lacks(options ...string) (lacking []string, err error) {
	if img.Config == "" {
		return nil, nil
	}
	f, err := os.Open(img.Config)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	set := make(map[string]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.HasPrefix(name, "CONFIG_") {
			set[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("kernel: %s: %w", img.Config, err)
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("kernel: %s is no configuration of a kernel", img.Config)
	}
	for _, option := range options {
		switch name := "CONFIG_" + option; set[name] {
		case "y":
		case "", "n":
			lacking = append(lacking, name+" is not set")
		default:
			lacking = append(lacking, name+"="+set[name])
		}
	}
	return lacking, nil
}
