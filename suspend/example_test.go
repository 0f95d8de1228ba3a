package suspend_test

import (
	"errors"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suspend"
)

// Have tasks frozen and all CPUs but one taken offline, as a suspend does, and
// come back from there.
func ExampleFS_Enter() {
	pm := suspend.New("/")
	before, err := pm.PMTest()
	if errors.Is(err, suspend.ErrNotSupported) {
		fmt.Println("the kernel has no CONFIG_PM_DEBUG:", err)
		return
	}
	if err == nil {
		err = pm.SetPMTest("processors")
	}
	if err != nil {
		log.Fatal(err)
	}
	err = pm.Enter("mem")
	if restoreErr := pm.SetPMTest(before.Current); restoreErr != nil {
		log.Fatal(restoreErr) // or the next suspend comes back from there, too
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		fmt.Println("something has woken the machine up, or does not freeze:", err)
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("the machine is back")
	}
}
