//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHaveWorkers(t *testing.T) {
	named := func(names ...string) (threads []kernelThread) {
		for _, name := range names {
			threads = append(threads, kernelThread{name: name})
		}
		return threads
	}
	assert.NoError(t, haveWorkers(3, named("ksoftirqd/3", "kworker/3:1H", "kworker/3:0")))
	assert.EqualError(t, haveWorkers(3, named("kworker/3:0H", "kworker/33:0")),
		"cpu3 is online, and no worker of its pool of normal priority is there, such as kworker/3:0")
	assert.EqualError(t, haveWorkers(3, named("kworker/3:0")), "cpu3 is online, and no worker of its pool of high priority is there, such as kworker/3:0H")
}
