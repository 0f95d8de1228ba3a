// Package cpuset finds the machine's cpuset hierarchy, of cgroup v1 or v2, and
// manages cpusets in it: creates them, puts threads into them, says which CPUs
// they have, and removes them.
//
// [New] returns the [Hierarchy]. The package example puts one thread of a
// process into a child of its root. Methods that only one version of cgroup
// needs do nothing on the other, so a program for both calls them all.
//
// Documentation/admin-guide/cgroup-v1/cpusets.rst and cgroup-v2.rst of the
// kernel describe the files.
package cpuset
