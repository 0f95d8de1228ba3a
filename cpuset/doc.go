// Package cpuset finds the machine's cpuset hierarchy, of cgroup v1 or v2, and
// manages cpusets in it: creates them, puts threads into them, says which CPUs
// they have, and removes them.
//
// [Find] returns the [Hierarchy]. To put single threads of a process into a
// child of its root:
//
//	restore, err := h.EnableController()
//	child, err := h.Root().Create("child")
//	err = child.MakeThreaded()
//	err = child.AttachThread(0)
//
// What only one version of cgroup needs does nothing on the other, so this does
// for both. On v2 the process has to be in the root for it: threads of one
// process can only be in threaded cgroups below one and the same domain.
//
// Documentation/admin-guide/cgroup-v1/cpusets.rst and cgroup-v2.rst of the
// kernel describe the files.
package cpuset
