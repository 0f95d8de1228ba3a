package cpuset_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

// The cpuset of the calling thread, on cgroup v1 or v2.
func ExampleNew() {
	h, err := cpuset.New("/")
	if errors.Is(err, cpuset.ErrNotFound) {
		fmt.Println("no cpuset controller is mounted:", err)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	mine, err := h.Of(0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("cgroup v%d on %s, cpuset %s\n", h.Version(), h.Mount(), mine.Name())
}
