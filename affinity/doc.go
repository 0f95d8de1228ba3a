// Package affinity deals with which CPUs a thread may run on: sets of CPUs of
// any size, in the kernel's own two spellings; sched_setaffinity(2) and
// sched_getaffinity(2) on machines of more than 1024 CPUs; and goroutines that
// have a thread, and thereby a CPU, to themselves.
//
// An affinity belongs to a thread, and the Go runtime moves goroutines from
// thread to thread. So whatever concerns the calling thread, [Set] and [Get]
// with tid 0 and [Current], belongs inside [Run] or [Thread], or after
// [runtime.LockOSThread].
package affinity
