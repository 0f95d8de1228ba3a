package hotplugtest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/bpf"
	"github.com/hotplugtest/hotplugtest/suite"
)

// bpfScenarios are about what BPF has of a CPU that goes offline.
var bpfScenarios = []Scenario{
	{
		Name: "bpf-maps",
		Promise: "a BPF program that is run on a CPU counts in the values of that CPU alone; " +
			"while the CPU is offline it cannot be run there, ENXIO, and its values in per-CPU maps can be read and written; when the CPU is back the program counts on from there",
		Source: "Documentation/bpf/map_array.rst, map_hash.rst: the values of all possible CPUs; include/uapi/linux/bpf.h: BPF_F_TEST_RUN_ON_CPU, since v5.10",
		Since:  Version{5, 10},
		Needs:  allOf(needsStaying, needsBPF),
		Cycle:  mapsLast,
	},
}

// needsBPF is for a kernel that runs BPF programs.
func needsBPF(*Machine) error {
	c, err := bpf.NewCounter()
	if err != nil {
		return unsupportedBPF(err)
	}
	return c.Close()
}

// unsupportedBPF makes what the kernel does not have a reason to skip.
func unsupportedBPF(err error) error {
	if errors.Is(err, bpf.ErrNotSupported) {
		return suite.Unsupportedf("%v", err)
	}
	return err
}

// bpfKeys is how many keys a hash has room for. The elements that a CPU has
// freed are on a list of this CPU.
const bpfKeys = 64

// mapsLast looks at the values of the CPU, and of all others, when the CPU is
// online, offline, and back.
func mapsLast(x *Scene, cpu int) (err error) {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	possible, err := x.Machine.CPUs.Possible()
	if err != nil {
		return err
	}
	c, err := bpf.NewCounter()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	keys, err := freedOn(x, cpu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()

	v := &bpfValues{counter: c, possible: possible, want: make(map[int]uint64)}
	err = errors.Join(v.set(1000), v.run(cpu, "before"), v.run(stays, "before"))
	if err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	when := fmt.Sprintf("while cpu%d is offline", cpu)
	err = errors.Join(v.are(when), v.refused(cpu), v.run(stays, when), v.set(2000), v.are(when), refilled(keys, when))
	if err = errors.Join(err, x.Set(cpu, Online)); err != nil {
		return err
	}
	when = fmt.Sprintf("when cpu%d is back", cpu)
	return errors.Join(v.are(when), v.run(cpu, when), v.run(stays, when))
}

// freedOn returns a hash whose keys were all deleted on the CPU.
func freedOn(x *Scene, cpu int) (keys *bpf.PerCPU, err error) {
	if keys, err = bpf.NewHash(bpfKeys); err != nil {
		return nil, err
	}
	err = x.Do("deleting keys of a BPF map", func() error {
		if err := suite.Pin(cpu); err != nil {
			return err
		}
		if err := fillKeys(keys); err != nil {
			return err
		}
		for key := range bpfKeys {
			if err := keys.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return keys, nil
}

// fillKeys puts all keys that there is room for into a hash.
func fillKeys(keys *bpf.PerCPU) error {
	values := make([]uint64, keys.Values())
	for key := range bpfKeys {
		if err := keys.Set(key, values); err != nil {
			return err
		}
	}
	return nil
}

// refilled checks that a hash still has room for all keys.
func refilled(keys *bpf.PerCPU, when string) error {
	if err := fillKeys(keys); err != nil {
		return fmt.Errorf("%s, a per-CPU hash of %d keys that were deleted on it has no room for them: %w", when, bpfKeys, err)
	}
	return nil
}

// bpfValues are the values that a counter should have.
type bpfValues struct {
	counter  *bpf.Counter
	possible affinity.CPUSet
	want     map[int]uint64 // by CPU
}

// set writes a value for each possible CPU, from base on.
func (v *bpfValues) set(base uint64) error {
	var values []uint64
	for cpu := range v.possible.All() {
		v.want[cpu] = base * uint64(cpu+1)
		values = append(values, v.want[cpu])
	}
	return errors.Join(v.counter.Array.Set(0, values), v.counter.Hash.Set(0, values))
}

// run has the program count on a CPU.
func (v *bpfValues) run(cpu int, when string) error {
	const runs = 3
	for range runs {
		ran, err := v.counter.RunOn(cpu)
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		if ran != cpu {
			return fmt.Errorf("%s, a program that is run on cpu%d says that it has run on cpu%d", when, cpu, ran)
		}
	}
	v.want[cpu] += runs
	return v.are(fmt.Sprintf("%s, after %d runs on cpu%d", when, runs, cpu))
}

// refused checks that the program cannot be run on the CPU, which is offline.
func (v *bpfValues) refused(cpu int) error {
	switch ran, err := v.counter.RunOn(cpu); {
	case err == nil:
		return fmt.Errorf("a program was run on cpu%d, which is offline, and says that it has run on cpu%d, want ENXIO", cpu, ran)
	case !errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w, want ENXIO, since the CPU is offline", err)
	}
	return nil
}

// are checks the values of all possible CPUs.
func (v *bpfValues) are(when string) error {
	array, err := v.counter.Array.Get(0)
	hash, failed := v.counter.Hash.Get(0)
	return errors.Join(err, failed, v.compare(array, "array", when), v.compare(hash, "hash", when))
}

func (v *bpfValues) compare(values []uint64, kind, when string) (err error) {
	if len(values) != v.possible.Count() {
		return fmt.Errorf("%s, the per-CPU %s has %d values, and CPUs %v are possible", when, kind, len(values), v.possible)
	}
	i := 0
	for cpu := range v.possible.All() {
		if values[i] != v.want[cpu] {
			err = errors.Join(err, fmt.Errorf("%s, the value of cpu%d in the per-CPU %s is %d, want %d", when, cpu, kind, values[i], v.want[cpu]))
		}
		i++
	}
	return err
}
