package tracefs_test

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// Record who queues work, with the kernel's stack, and nothing of what others
// trace.
func ExampleFS_Create() {
	f, err := tracefs.Open("/")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	i, err := f.Create(fmt.Sprintf("mine-%d", os.Getpid()), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer i.Close() // it would outlast the process
	const event = "workqueue:workqueue_queue_work"
	if err := errors.Join(i.Enable(event, ""), i.Stacks(event, ""), i.Start()); err != nil {
		log.Fatal(err)
	}

	// … what is to be traced …

	if err := i.Stop(); err != nil {
		log.Fatal(err)
	}
	events, err := i.Read()
	if errors.Is(err, tracefs.ErrLost) {
		fmt.Println("a larger Options.BufferKB is needed; what is missing may have happened:", err)
	} else if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Println(e, e.Stack)
	}
}
