package vm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What QEMU would end with in words of its own, or wait for in vain, is told.
func TestCheck(t *testing.T) {
	for _, o := range []Options{
		{}, {SMP: "4"}, {SMP: "3,maxcpus=32"}, {SMP: "cpus=4,cores=2,threads=2"}, {SMP: "sockets=2,cores=2"},
		{Mem: "1G"}, {Mem: "64"}, {Mem: "65536K"}, {Mem: "size=512M,slots=2,maxmem=2G"}, {Mem: "1T"}, {Mem: "2g"}, {Mem: "512m"}, {Mem: "1.5G"},
	} {
		assert.NoError(t, o.Check(), "%+v", o)
	}
	for text, o := range map[string]Options{
		"-smp zero: it must be a number of CPUs":             {SMP: "zero"},
		"-smp 4 cores=2: it must be a number of CPUs":        {SMP: "4 cores=2"},
		"-smp 0: it must be a number of CPUs":                {SMP: "0"},
		"-smp 4,foo=2: it must be a number of CPUs":          {SMP: "4,foo=2"},
		"-smp cpus=2,cores=0: it must be a number of CPUs":   {SMP: "cpus=2,cores=0"},
		"-smp -1: it must be a number of CPUs":               {SMP: "-1"},
		"-mem much: it must be an amount of memory":          {Mem: "much"},
		"-mem 1 G: it must be an amount of memory":           {Mem: "1 G"},
		"-mem 1: a virtual machine takes 64M or more":        {Mem: "1"},
		"-mem 65535K: a virtual machine takes 64M or more":   {Mem: "65535K"},
		"-mem size=16M: a virtual machine takes 64M or more": {Mem: "size=16M"},
		"-mem 0G: a virtual machine takes 64M or more":       {Mem: "0G"},
	} {
		assert.ErrorContains(t, o.Check(), text)
	}
}
