package uevent_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/uevent"
)

func TestReceiveAllocs(t *testing.T) {
	n := newNetwork(t, nil)
	const runs = 100
	for i := range 3 * (runs + 1) { // AllocsPerRun warms up with one more
		n.change(i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ev uevent.Event
	assert.LessOrEqual(t, testing.AllocsPerRun(runs, func() { _, _ = n.Receive(ctx) }), 2.0, "Receive")
	assert.Zero(t, testing.AllocsPerRun(runs, func() { _ = n.ReceiveInto(ctx, &ev) }), "ReceiveInto")
	assert.Zero(t, testing.AllocsPerRun(runs, func() { _, _ = n.TryReceiveInto(&ev) }), "TryReceiveInto")
}

// BenchmarkReceive measures the return trip: the kernel is asked for a uevent,
// and it is received.
func BenchmarkReceive(b *testing.B) {
	for _, bb := range []struct {
		name    string
		receive func(context.Context, *uevent.Conn, *uevent.Event) error
	}{
		{"Receive", func(ctx context.Context, c *uevent.Conn, _ *uevent.Event) error {
			_, err := c.Receive(ctx)
			return err
		}},
		{"ReceiveInto", func(ctx context.Context, c *uevent.Conn, ev *uevent.Event) error {
			return c.ReceiveInto(ctx, ev)
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			n := newNetwork(b, nil)
			var ev uevent.Event
			b.ReportAllocs()
			for left := 0; b.Loop(); left-- {
				if left == 0 {
					b.StopTimer()
					for left = range 10_000 {
						n.change(left)
					}
					b.StartTimer()
				}
				if err := bb.receive(b.Context(), n.Conn, &ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWake measures from asking the kernel for a uevent until a receiver
// that waits has it.
func BenchmarkWake(b *testing.B) {
	n := newNetwork(b, nil)
	received := make(chan error)
	go func() {
		defer close(received)
		var ev uevent.Event
		for {
			err := n.ReceiveInto(context.Background(), &ev)
			if errors.Is(err, uevent.ErrClosed) {
				return
			}
			received <- err
		}
	}()
	for b.Loop() {
		n.change(0)
		if err := <-received; err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, n.Close())
	<-received
}
