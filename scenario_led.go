package hotplugtest

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// ledScenarios are about the lights of a machine. A keyboard's are enough.
var ledScenarios = []Scenario{
	{
		Name:    "led",
		Promise: "a LED with the trigger cpuN is lit while the CPU is online and computes, and not while it is offline",
		Source: `drivers/leds/trigger/Kconfig: LEDS_TRIGGER_CPU; 8f88731d052d ("led-triggers: create a trigger for CPU activity", v3.7); ` +
			"Documentation/ABI/testing/sysfs-class-led: brightness, trigger",
		Needs:    needsLED,
		Together: true,
		Cycle:    ledFollows,
	},
}

// led is a directory of /sys/class/leds.
type led string

// kbdTrigger matches triggers that show the state of the keyboard. Without
// parameters, they are what they were when they are written again.
var kbdTrigger = regexp.MustCompile(`\[kbd-\w+\]`)

// spareLED returns a LED that can be another trigger's for a while: nothing is
// lost by that. The error is an [*Unsupported] if there is none.
func spareLED() (led, error) {
	if !exists("/sys/class/leds") {
		return "", suite.Unsupportedf("there is no /sys/class/leds: the kernel has no CONFIG_LEDS_CLASS")
	}
	files, err := filepath.Glob("/sys/class/leds/*/trigger")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		l := led(filepath.Dir(file))
		triggers, err := l.read("trigger")
		if err != nil {
			continue // a keyboard that has been unplugged
		}
		off := false
		if strings.Contains(triggers, "[none]") {
			brightness, err := l.brightness()
			off = err == nil && brightness == 0
		}
		if strings.Contains(triggers, " cpu0") && (off || kbdTrigger.MatchString(triggers)) {
			return l, nil
		}
	}
	return "", suite.Unsupportedf("no LED in /sys/class/leds is off, or the keyboard's, and has a trigger cpu0 (CONFIG_LEDS_TRIGGER_CPU)")
}

func needsLED(*Machine) error {
	_, err := spareLED()
	return err
}

func (l led) read(name string) (string, error) { return sysfs.ReadFile(filepath.Join(string(l), name)) }

func (l led) write(name, value string) error {
	return sysfs.WriteFile(filepath.Join(string(l), name), value)
}

func (l led) brightness() (int, error) {
	return sysfs.Read(filepath.Join(string(l), "brightness"), strconv.Atoi)
}

// becomes waits until the LED is lit, or not, and reports whether it is so: some
// drivers set it from a workqueue.
func (l led) becomes(lit bool) (done bool, err error) {
	done = suite.WaitFor(suite.TaskTimeout, func() bool {
		var brightness int
		brightness, err = l.brightness()
		return err != nil || (brightness > 0) == lit
	})
	return done, err
}

// is checks that the LED is lit, or not.
func (l led) is(lit bool, when string) error {
	done, err := l.becomes(lit)
	if err == nil && !done {
		err = fmt.Errorf("%s, %s is lit: %t, want %t", when, l, !lit, lit)
	}
	return err
}

// needsLight returns an [*Unsupported] if the LED is not lit, and has been told to
// be.
func (l led) needsLight() error {
	lit, err := l.becomes(true)
	if err == nil && !lit {
		err = suite.Unsupportedf("%s cannot be lit: a program has its keyboard for itself (EVIOCGRAB)", l)
	}
	return err
}

// ledCPU returns the last of the CPUs that a LED has a trigger of. Since v6.7 only
// the first eight CPUs have one.
func ledCPU(triggers []string, cpus []int) (cpu int, ok bool) {
	for _, cpu := range slices.Backward(cpus) {
		if slices.Contains(triggers, fmt.Sprintf("cpu%d", cpu)) {
			return cpu, true
		}
	}
	return 0, false
}

// ledFollows gives a LED the trigger of a CPU, and lights it: not all kernels do
// when the trigger is set. It looks for the light on the CPU itself, since 32-bit
// Arm turns it off while the CPU is idle (arch_cpu_idle_enter()).
func ledFollows(x *Scene, _ int) (err error) {
	l, err := spareLED()
	if err != nil {
		return err
	}
	text, err := l.read("trigger")
	if err != nil {
		return err
	}
	triggers := strings.Fields(text)
	cpu, ok := ledCPU(triggers, x.Targets())
	if !ok {
		return suite.Unsupportedf("%s has no trigger of CPUs %v: since v6.7, kernels have those of the first eight", l, x.Targets())
	}
	chosen := slices.IndexFunc(triggers, func(t string) bool { return strings.HasPrefix(t, "[") })
	if chosen < 0 {
		return fmt.Errorf("%s/trigger is %q", l, text)
	}
	before := strings.Trim(triggers[chosen], "[]")
	if err := errors.Join(l.write("trigger", fmt.Sprintf("cpu%d", cpu)), l.write("brightness", "1")); err != nil {
		return errors.Join(err, l.write("trigger", before))
	}
	defer func() { err = errors.Join(err, l.write("trigger", before)) }()
	onCPU := func(f func() error) error { return affinity.Run(affinity.Of(cpu), f) }
	if err := onCPU(l.needsLight); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = l.is(false, fmt.Sprintf("while cpu%d is offline, of which it has the trigger", cpu))
	if err := errors.Join(err, x.Set(cpu, Online)); err != nil {
		return err
	}
	return onCPU(func() error { return l.is(true, fmt.Sprintf("when cpu%d is back, of which it has the trigger", cpu)) })
}
