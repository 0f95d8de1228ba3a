package cpuset

import "strings"

// Inherit is the part of Create that a tree of ordinary files can't have: there
// mkdir makes no cpuset.cpus.
func (c *Group) Inherit(parent *Group) error { return c.inherit(parent) }

// ParseMount parses a line of mountinfo.
func ParseMount(line string) (root, point, fstype, options string, err error) {
	m, err := parseMount(line)
	return m.root, m.point, m.fstype, strings.Join(m.options, ","), err
}
