package uevent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// Follow the CPUs for a minute. A receiver that is too slow is told that
// messages were lost, and goes on: only what it knew of the CPUs is stale.
func ExampleConn_ReceiveInto() {
	c, err := uevent.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var ev uevent.Event // its memory is used for each event
	for {
		err := c.ReceiveInto(ctx, &ev)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return
		case errors.Is(err, uevent.ErrOverrun):
			fmt.Printf("%d uevents lost: read /sys/devices/system/cpu/online again\n", c.Stats().Lost)
			continue
		case errors.Is(err, uevent.ErrMalformed), errors.Is(err, uevent.ErrTruncated):
			fmt.Println("dropped:", err)
			continue
		case err != nil:
			log.Fatal(err)
		}
		if cpu, ok := ev.CPU(); ok {
			fmt.Println(ev.Action(), cpu)
		}
	}
}

// A uevent is in the queue when the write that caused it has returned, so
// there is nothing to wait for.
func ExampleConn_TryReceiveInto() {
	c, err := uevent.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// … take a CPU offline …

	var ev uevent.Event
	for {
		ok, err := c.TryReceiveInto(&ev)
		if err != nil {
			log.Fatal(err)
		}
		if !ok {
			return // the queue is empty
		}
		fmt.Println(&ev)
	}
}
