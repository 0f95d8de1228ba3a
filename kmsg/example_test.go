package kmsg_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// See whether the kernel complains of itself while something is done.
func ExampleLog_Read() {
	l, err := kmsg.Open("/dev/kmsg", kmsg.FromEnd)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	// … what is to be watched …

	// Read does not wait. What an operation logged before it returned is there.
	records, err := l.Read()
	var overrun *kmsg.Overrun
	if errors.As(err, &overrun) {
		fmt.Printf("%d records are lost, these are left\n", overrun.Lost)
	} else if err != nil {
		log.Fatal(err)
	}
	for _, r := range records {
		if problem := r.Problem(); problem != "" {
			fmt.Printf("%s: %v\n", problem, r)
		}
	}
}
