//go:build !amd64

package vdso

const supported = false

func getcpu(uintptr, *uint32, *uint32) {}
