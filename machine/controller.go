package machine

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

// enabledByTests are the controllers that tests give to the children of the
// root cgroup. Others that these have come to have are somebody else's doing.
var enabledByTests = []string{"cpuset", "cpu", "memory"}

// subtreeControlFile is that of the root of a v2 hierarchy.
func subtreeControlFile(s *Snapshot) []string {
	mount, _, ok := s.mount()
	if !ok {
		return nil
	}
	return []string{filepath.Join(mount, "cgroup.subtree_control")}
}

// sameControllers reports whether the children of the root cgroup have no
// controller that tests have given them and nobody uses. One that somebody has
// come to use meanwhile is theirs, as systemd does for a slice with
// AllowedCPUs=; and so is the loss of one, for tests take none away.
func sameControllers(was, now *Snapshot, path string) bool {
	return len(surplus(was, was.Settings["cgroup.subtree_control"][path], now.Settings["cgroup.subtree_control"][path])) == 0
}

// surplus returns the controllers that tests have given the children of the
// root cgroup and that nobody uses.
func surplus(s *Snapshot, was, is string) []string {
	h, err := cpuset.New(s.Root)
	if err != nil {
		return nil
	}
	var controllers []string
	for _, controller := range strings.Fields(is) {
		if slices.Contains(enabledByTests, controller) && !slices.Contains(strings.Fields(was), controller) && h.UserOf(controller, isLeftover) == "" {
			controllers = append(controllers, controller)
		}
	}
	return controllers
}

func isLeftover(name string) bool { return strings.HasPrefix(name, leftoverPrefix) }

// takeControllers takes the surplus controllers from the children of the root
// cgroup.
func takeControllers(s *Snapshot, path, was, is string) error {
	if controllers := surplus(s, was, is); len(controllers) > 0 {
		return write(s.path(path), "-"+strings.Join(controllers, " -"))
	}
	return nil
}
