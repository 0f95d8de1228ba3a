package explore

import (
	"fmt"
	"slices"
)

// The documents of the two versions of cgroup.
const (
	cgroupDoc  = "Documentation/admin-guide/cgroup-v2.rst"
	cpusetsDoc = "Documentation/admin-guide/cgroup-v1/cpusets.rst"
)

var logLaw = Law{
	Name:   "kernel-log",
	Text:   "the kernel does not complain of itself in its log",
	Source: "Documentation/process/coding-style.rst, \"Do not WARN lightly\": WARN is for what must not happen",
	Check:  checkLog,
}

var laws = slices.Concat([]Law{
	logLaw,
	{
		Name:   "effective-online",
		Text:   "cpuset.cpus.effective has online CPUs alone",
		Source: cgroupDoc + ", cpuset.cpus.effective: \"It lists the onlined CPUs that are actually granted to this cgroup by its parent\"",
		Cgroup: 2,
		State:  true,
		Check: func(c *Case) []Violation {
			var broken []Violation
			online := c.After.Online()
			for _, g := range c.After.All() {
				if stale := g.Effective().Difference(online); !stale.Empty() {
					broken = append(broken, Violation{
						Touches: "a " + g.Kind(),
						Seen:    fmt.Sprintf("%s has %v, which is not online", g.Key("effective"), stale),
						Facts:   c.After.facts(g.Key("effective"), onlineKey),
					})
				}
			}
			return broken
		},
	},
}, cpuLaws, machineLaws, partitionLaws, invalidLaws, v1Laws, []Law{balanceLaw}, taskLaws, []Law{ueventLaw, roadLaw})
