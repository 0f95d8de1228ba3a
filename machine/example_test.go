package machine_test

import (
	"log"
	"os"
	"testing"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/machine"
)

// Change the machine and have it restored, also if this process is killed.
func ExampleGuard() {
	if why := machine.Unsuitable("/"); why != "" {
		log.Fatal(why)
	}
	release, err := machine.Guard(os.Stderr)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := cpuhp.New("/")
	if err == nil {
		err = sys.SetOnline(1, false)
	}
	// … what is to be seen with CPU 1 offline …
	if restoreErr := release(); restoreErr != nil {
		log.Fatal(restoreErr) // it names what is different from before
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A test that changes the machine claims it.
func ExampleClaim() {
	_ = func(t *testing.T) {
		machine.Claim(t) // skips without root, in a container and with -short
		sys, err := cpuhp.New("/")
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.SetOnline(1, false); err != nil {
			t.Fatal(err)
		}
		// CPU 1 is brought online again when the test ends.
	}
}
