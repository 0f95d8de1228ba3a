package suite

import (
	"flag"
	"os"
	"testing"

	"github.com/hotplugtest/hotplugtest/machine"
)

var options = func() *Options {
	o := &Options{MustTest: true, Tables: &Tables{}}
	o.Flags(flag.CommandLine)
	return o
}()

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(options.Conclude(machine.Main(m.Run)))
}

// TestOnline is a test of the suite's for those of its last line. Nobody runs it
// who could take CPUs offline.
func TestOnline(t *testing.T) {
	if testing.Short() || os.Getenv(scriptEnv) == "" || os.Geteuid() == 0 {
		t.Skip("this is what TestConclude runs, as an ordinary user")
	}
	_, err := Open(*options)
	SkipOrFail(t, err, *options)
}
