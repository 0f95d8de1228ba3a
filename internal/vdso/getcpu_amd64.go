package vdso

const supported = true

// getcpu calls the function at entry, which is C, with two pointers and nil.
//
//go:noescape
func getcpu(entry uintptr, cpu, node *uint32)
