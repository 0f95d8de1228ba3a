package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/vm"
)

// Shards have each VM once, and all of them together have all.
func TestShard(t *testing.T) {
	for n := 1; n <= 7; n++ {
		times := make([]int, 7)
		for i := 1; i <= n; i++ {
			s, err := parseShard(fmt.Sprintf("%d/%d", i, n))
			require.NoError(t, err)
			assert.NoError(t, s.check(7))
			for k := range times {
				if s.has(k) {
					times[k]++
				}
			}
		}
		assert.Equal(t, []int{1, 1, 1, 1, 1, 1, 1}, times, "%d shards", n)
	}
	assert.True(t, shard{}.has(3), "without -shard")
	for _, text := range []string{"", "1", "0/2", "3/2", "-1/2", "1/x", "1/2/3", "1/0"} {
		_, err := parseShard(text)
		assert.EqualError(t, err, "it must be a part and the number of parts, such as 2/5", text)
	}
	_, err := parse([]string{"-shard", "3/5", "-kernel", "sid", "-kernel", "trixie"})
	assert.EqualError(t, err, "-shard 3/5: there is nothing to do: -kernel and -profile make 2 virtual machines")
}

func TestAtOnce(t *testing.T) {
	cores := runtime.NumCPU()
	for smp, want := range map[string]int{
		"1": cores, "cpus=1": cores, fmt.Sprint(cores): 1, fmt.Sprintf("cpus=%d,threads=2", cores): 1,
		fmt.Sprintf("%d,cores=2", 8*cores): 1, "cores=2": 1, "0": 1,
	} {
		assert.Equal(t, want, atOnce(smp), smp)
	}
}

// A profile's own CPUs count, and the most of all profiles.
func TestFitting(t *testing.T) {
	cores := runtime.NumCPU()
	smp := fmt.Sprint(cores)
	for _, tt := range []struct {
		smp      string
		profiles []profile.Profile
		want     int
	}{
		{"1", []profile.Profile{{}}, cores},
		{smp, []profile.Profile{{}}, 1},
		{"1", []profile.Profile{{}, {SMP: smp}, {SMP: "1"}}, 1},
		{smp, []profile.Profile{{SMP: "1"}}, cores},
		{smp, []profile.Profile{{SMP: "1"}, {}}, 1},
	} {
		o := &options{profiles: tt.profiles, vm: vm.Options{SMP: tt.smp}}
		o.complete()
		assert.Equal(t, tt.want, o.atOnce, "%s %v", tt.smp, tt.profiles)
	}
}

// Each writer's output is in one piece, in the order in which they were made.
// That of the first is there at once.
func TestTurns(t *testing.T) {
	var a, b strings.Builder
	turns := &turns{to: []io.Writer{&a, &b}}
	one, two, three := turns.piece(), turns.piece(), turns.piece()
	say := func(p *piece, text string) {
		for i := range 2 {
			_, err := io.WriteString(p.to(i), fmt.Sprintf("%s%d ", text, i))
			require.NoError(t, err)
		}
	}
	say(two, "two")
	say(one, "one")
	assert.Equal(t, "one0 ", a.String())
	say(three, "three")
	three.end()
	say(one, "one")
	one.end()
	assert.Equal(t, "one0 one0 two0 ", a.String())
	say(two, "two")
	assert.Equal(t, "one0 one0 two0 two0 ", a.String())
	two.end()
	assert.Equal(t, "one0 one0 two0 two0 three0 ", a.String())
	assert.Equal(t, "one1 one1 two1 two1 three1 ", b.String())
	assert.NoError(t, turns.err)

	four := turns.piece()
	say(four, "four")
	four.end()
	assert.True(t, strings.HasSuffix(a.String(), "three0 four0 "), "nobody is before it any more")
}

// Output that is lost as it is passed on later is an error.
func TestTurnsError(t *testing.T) {
	turns := &turns{to: []io.Writer{failing{}}}
	one, two := turns.piece(), turns.piece()
	_, err := io.WriteString(two.to(0), "x")
	require.NoError(t, err)
	two.end()
	one.end()
	assert.ErrorIs(t, turns.err, errGone)
}

func TestTurnsAtOnce(t *testing.T) {
	var out strings.Builder
	turns := &turns{to: []io.Writer{&out}}
	var wg sync.WaitGroup
	var want strings.Builder
	for i := range 20 {
		p := turns.piece()
		want.WriteString(strings.Repeat(fmt.Sprintf("%d\n", i), 50))
		wg.Go(func() {
			defer p.end()
			for range 50 {
				fmt.Fprintf(p.to(0), "%d\n", i)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, want.String(), out.String())
}

// The longest VM is the first, if there are several at once. One that has not
// run yet may be long.
func TestOrder(t *testing.T) {
	vms := []guest{{Package: "a", Argv: []string{"binary", "-x"}}, {Package: "b"}, {Package: "c"}, {Package: "d"}}
	times := make(took)
	for i, d := range map[int]time.Duration{0: time.Second, 1: time.Minute, 3: time.Hour} {
		times[vms[i].key()] = tookOnce{earlier: earlier{Took: d, Tests: i + 1}}
	}
	assert.Equal(t, []int{2, 3, 1, 0}, times.order(vms, 2))
	assert.Equal(t, []int{0, 1, 2, 3}, times.order(vms, 1), "as the command line has them")
	other := vms[0]
	other.Argv = []string{"elsewhere", "-x"}
	assert.Equal(t, vms[0].key(), other.key(), "wherever the binary is")
	other.Argv = []string{"binary", "-y"}
	assert.NotEqual(t, vms[0].key(), other.key())
	for _, from := range []origin{{Kernel: "sid"}, {Flags: []string{"-smp", "8"}}, {Broken: []string{"-poke", "f=ret"}}} {
		other := vms[0]
		other.Origin = from
		assert.NotEqual(t, vms[0].key(), other.key(), "%v", from)
	}

	file := filepath.Join(t.TempDir(), "cache", "took.json")
	assert.Empty(t, readTook(file))
	require.NoError(t, times.write(file))
	assert.Equal(t, times, readTook(file))
	require.NoError(t, os.WriteFile(file, []byte(`{"a": 1`), 0o644))
	assert.Empty(t, readTook(file), "damaged")
}

// The file does not grow for ever: what ran last is kept.
func TestTookBound(t *testing.T) {
	const more = 10
	file := filepath.Join(t.TempDir(), "took.json")
	times := make(took)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range mostTook + more {
		times[fmt.Sprint(i)] = tookOnce{earlier{time.Second, i}, begin.Add(time.Duration(i) * time.Hour)}
	}
	require.NoError(t, times.write(file))
	kept := readTook(file)
	assert.Len(t, kept, mostTook)
	assert.NotContains(t, kept, fmt.Sprint(more-1))
	assert.Contains(t, kept, fmt.Sprint(more))
}
