package suite

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestApplies(t *testing.T) {
	back := &Transition{Before: Offline, After: Online}
	away := &Transition{Before: Online, After: Offline}
	stay := &Transition{Before: Online, After: Online}
	everywhere := &Placement{}
	for _, tt := range []struct {
		inv              Invariant
		back, away, stay bool
	}{
		{Invariant{}, true, true, true},
		{Invariant{After: Online}, true, false, true},
		{Invariant{Before: Online}, false, true, true},
		{Invariant{Before: Online, After: Offline}, false, true, false},
		{Invariant{Before: Online | Offline}, true, true, true},
	} {
		assert.Equal(t, tt.back, tt.inv.applies(back, everywhere), "%+v", tt.inv)
		assert.Equal(t, tt.away, tt.inv.applies(away, everywhere), "%+v", tt.inv)
		assert.Equal(t, tt.stay, tt.inv.applies(stay, everywhere), "%+v", tt.inv)
	}
}

func TestJudge(t *testing.T) {
	busy := fmt.Errorf("offline cpu3: %w", unix.EBUSY)
	for _, tt := range []struct {
		want unix.Errno
		err  error
		says string
	}{
		{0, nil, ""},
		{unix.EBUSY, busy, ""},
		{0, busy, "the operation failed: offline cpu3: device or resource busy"},
		{unix.EBUSY, nil, "the operation succeeded, want EBUSY"},
		{unix.EPERM, busy, "offline cpu3: device or resource busy, want EPERM"},
	} {
		err := (&Transition{Err: tt.want}).judge(tt.err)
		if tt.says == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.says)
		}
	}
}

func TestUndoList(t *testing.T) {
	var order []int
	var u undoList
	for i := range 3 {
		u.add(func() error {
			order = append(order, i)
			if i == 1 {
				return unix.EBUSY
			}
			return nil
		})
	}
	assert.ErrorIs(t, u.run(), unix.EBUSY)
	assert.Equal(t, []int{2, 1, 0}, order, "everything is undone, whatever fails")
	assert.NoError(t, u.run(), "once")
	assert.Len(t, order, 3)
}

// To a cpuset of cgroup v1 a CPU that has been offline is gone.
func TestView(t *testing.T) {
	prepared := func(*Machine, int) error { return nil }
	for _, tt := range []struct {
		tr            Transition
		before, after State // from a cpuset that loses CPUs; 0: it is not looked at from there
	}{
		{Transition{Before: Offline, After: Online}, Offline, Offline},
		{Transition{Before: Online, After: Offline}, Online, Offline},
		{Transition{Before: Offline, After: Offline}, Offline, Offline},
		{Transition{Before: Online, After: Online}, Online, Online},
		{Transition{Before: Online, After: Online, RolledBack: true}, 0, 0},
		{Transition{Before: Offline, After: Online, Prepare: prepared}, 0, 0},
		{Transition{Before: Offline, After: Online, Once: true}, 0, 0},
	} {
		before, after, ok := (&Placement{DropsOffline: true}).view(&tt.tr)
		assert.Equal(t, tt.before, before)
		assert.Equal(t, tt.after, after)
		assert.Equal(t, tt.before != 0, ok)

		before, after, ok = (&Placement{}).view(&tt.tr)
		assert.Equal(t, tt.tr.Before, before)
		assert.Equal(t, tt.tr.After, after)
		assert.True(t, ok)
	}
}

// Rows are run where the machine is booted for them, and looked at from where
// they can be.
func TestSubjects(t *testing.T) {
	arm := func(*Probe) (Check, error) { return func() error { return nil }, nil }
	row := func(name string, inv Invariant) Invariant {
		inv.Name, inv.Promise, inv.Source, inv.Arm = name, "it holds", "a document", arm
		return inv
	}
	tables := Tables{Invariants: []Invariant{
		row("everywhere", Invariant{Placed: true}), row("anywhere", Invariant{}), row("online", Invariant{Placed: true, After: Online}),
		row("going", Invariant{Before: Online}), row("v1", Invariant{Placed: true, Boot: CgroupV1}), row("partition", Invariant{Partition: true}),
	}}
	online := &Transition{Name: "Online", Before: Offline, After: Online}
	names := func(child *Placement, boots ...Boot) (list []string) {
		r, _ := scriptedRunner(t, "cpus 0-3", tables)
		r.machine.Boots = boots
		x := &trial{Runner: r, tr: online, places: []*Placement{r.machine.Root, child}}
		for _, at := range x.subjects() {
			list = append(list, at.inv.Name+"/"+at.from.Name)
		}
		return list
	}
	assert.Equal(t, []string{
		"everywhere/root-cpuset", "everywhere/child", "anywhere/root-cpuset", "online/root-cpuset", "online/child",
	}, names(&Placement{Name: "child"}))
	assert.Equal(t, []string{
		"everywhere/root-cpuset", "everywhere/v1", "anywhere/root-cpuset", "online/root-cpuset", "v1/root-cpuset", "v1/v1",
	}, names(&Placement{Name: "v1", DropsOffline: true}, CgroupV1), "nothing is online to those who have lost it")
}
