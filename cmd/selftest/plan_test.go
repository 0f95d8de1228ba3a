package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/vm"
)

// Whatever names a kernel says how it was changed.
func TestChangedKernel(t *testing.T) {
	const debian = "Debian bookworm linux-image-6.1"
	o := vm.Options{SMP: "4"}
	boot := &profile.Profile{Name: "maxcpus", Append: "maxcpus=2"}
	assert.Equal(t, "bookworm/maxcpus: "+debian+", 4 CPUs, maxcpus=2\n", heading("bookworm", debian, o, boot))
	assert.Len(t, (&guest{Options: o}).facts(), 2)
	o.Pokes, o.Delays = []string{"f=ret", "g=e8{h}"}, []string{"i=1s"}
	const flags = "-poke f=ret -poke 'g=e8{h}' -delay i=1s"
	assert.Equal(t, "bookworm/maxcpus: "+debian+" changed by "+flags+", 4 CPUs, maxcpus=2\n", heading("bookworm", debian, o, boot))
	assert.Contains(t, (&guest{Options: o}).facts(), junit.Property{Name: "kernel-changed", Value: flags})
}
