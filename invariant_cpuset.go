package hotplugtest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// armEmptied puts a task into a cpuset that has the CPU alone.
func armEmptied(p *Probe) (Check, error) {
	h, err := cpuset.New("/")
	if err != nil {
		return nil, err
	}
	only, err := h.Root().Create(fmt.Sprintf("hotplugtest-%d-cpu%d-%s", os.Getpid(), p.CPU, p.Moment))
	if err != nil {
		return nil, err
	}
	p.Cleanup(func() { _ = only.Remove() })
	var tid int
	stop := make(chan struct{})
	err = only.SetCPUs(affinity.Of(p.CPU))
	if err == nil {
		err = p.SpawnIn(func() error {
			tid = unix.Gettid()
			return only.AttachThread(0)
		}, func() error { <-stop; return nil }, func() { close(stop) })
	}
	return func() error {
		c, err := h.Of(tid)
		if err == nil && c.Name() != h.Root().Name() {
			err = fmt.Errorf("thread %d is still in %s", tid, c.Name())
		}
		return err
	}, err
}

// armPartition checks that a partition is one while it has a CPU, and only
// then.
func armPartition(p *Probe) (Check, error) {
	want := p.From.Partition
	kind := want.Kind
	if want.Single && p.State == Offline {
		kind += " invalid"
	}
	return func() error {
		is, reason, err := p.From.Group.Partition()
		if err == nil && is != kind {
			err = fmt.Errorf("the partition is %q, want %q", is, kind)
			if reason != "" {
				err = fmt.Errorf("%w: %s", err, reason)
			}
		}
		return err
	}, nil
}
