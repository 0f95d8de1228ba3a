package cpuhp_test

import (
	"errors"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// Take the last CPU that allows it offline and bring it back. The kernel has
// reasons to refuse, which are no faults.
func ExampleFS_SetOnline() {
	sys, err := cpuhp.New("/")
	if err != nil {
		log.Fatal(err)
	}
	cpus, why, err := sys.Hotpluggable()
	if err != nil {
		log.Fatal(err)
	}
	last, ok := cpus.Last()
	if !ok {
		log.Fatalf("no CPU can go offline: %v", why)
	}
	switch err := sys.SetOnline(last, false); {
	case errors.Is(err, unix.EBUSY):
		fmt.Println("it is the last CPU online, or something needs it")
		return
	case err != nil:
		log.Fatal(err)
	}
	// When SetOnline has returned, the operation is done.
	online, err := sys.Online()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("cpu%d is offline, %s are online\n", last, online)
	if err := sys.SetOnline(last, true); err != nil {
		log.Fatal(err)
	}
}
