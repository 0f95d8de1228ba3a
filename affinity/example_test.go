package affinity_test

import (
	"errors"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Run a function on one CPU. Its thread is thrown away after that, so no other
// goroutine inherits the affinity.
func ExampleRun() {
	allowed, err := affinity.Get(0)
	if err != nil {
		log.Fatal(err)
	}
	last, _ := allowed.Last()
	err = affinity.Run(affinity.Of(last), func() error {
		cpu, _, err := affinity.Current()
		fmt.Println("on the CPU that was asked for:", cpu == last)
		return err
	})
	switch {
	case errors.Is(err, unix.EINVAL):
		fmt.Println("the CPU is offline, or the cpuset does not have it")
	case err != nil:
		log.Fatal(err)
	}
	// Output: on the CPU that was asked for: true
}

func ExampleParseList() {
	cpus, err := affinity.ParseList("0-3,64,1022-1025")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cpus.Count(), cpus.Has(1024), cpus.Without(0, 2))
	// Output: 9 true 1,3,64,1022-1025
}
