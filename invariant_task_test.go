//go:build !selftest

package hotplugtest

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// A task that is to run on a CPU computes from its beginning to its end, and
// ends also if it has not begun.
func TestRunningTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task := &runningTask{begun: make(chan struct{})}
		go task.run()
		synctest.Wait() // it waits
		assert.Zero(t, task.laps.Load())
		task.end()
	})

	task := &runningTask{begun: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- task.run() }()
	task.begin()
	assert.NoError(t, task.runs())
	laps := task.laps.Load()
	assert.NoError(t, task.runs())
	assert.Greater(t, task.laps.Load(), laps)
	task.end()
	assert.NoError(t, <-ended)

	task = &runningTask{begun: make(chan struct{})}
	task.end()
	assert.NoError(t, task.run())
}

// The kernel's threads of a CPU are known by their names.
func TestCPUOfThread(t *testing.T) {
	for name, want := range map[string]int{
		"ksoftirqd/3": 3, "cpuhp/12": 12, "kworker/3:1": 3, "kworker/10:0H": 10,
		"kworker/u8:1": -1, "kworker/R-rcu_g": -1, "kworker/3": -1, "rcuog/0": -1, "jbd2/vda1-8": -1, "migration": -1, "kthreadd": -1,
	} {
		cpu, ok := cpuOfThread(name)
		assert.Equal(t, want >= 0, ok, name)
		if ok {
			assert.Equal(t, want, cpu, name)
		}
	}
}
