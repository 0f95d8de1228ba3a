package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shard is the part of the VMs that this run has: number i of n. The zero value
// is all of them.
type shard struct{ i, n int }

// parseShard reads "2/5".
func parseShard(text string) (shard, error) {
	var s shard
	first, last, ok := strings.Cut(text, "/")
	i, err := strconv.Atoi(first)
	n, lastErr := strconv.Atoi(last)
	if s = (shard{i, n}); !ok || err != nil || lastErr != nil || i < 1 || i > n {
		return shard{}, fmt.Errorf("it must be a part and the number of parts, such as 2/5")
	}
	return s, nil
}

// has reports whether VM number k, from 0, is in the shard.
func (s shard) has(k int) bool { return s.n == 0 || k%s.n == s.i-1 }

// check says whether the shard would have no VM.
func (s shard) check(vms int) error {
	if s.i <= vms {
		return nil
	}
	return fmt.Errorf("-shard %d/%d: there is nothing to do: -kernel and -profile make %d virtual machines", s.i, s.n, vms)
}

// cpusOf is the number of CPUs of a -smp.
var cpusOf = regexp.MustCompile(`^(?:cpus=)?(\d+)`)

// atOnce is how many VMs this machine carries at once: one for as many
// processors as a VM has CPUs.
func atOnce(smp string) int {
	m := cpusOf.FindStringSubmatch(smp)
	if m == nil {
		return 1
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 {
		return 1
	}
	return max(1, runtime.NumCPU()/n)
}

// fitting is how many of the VMs this machine carries at once, whichever of
// them: a profile can have more CPUs than -smp says.
func (o *options) fitting() int {
	n := runtime.NumCPU()
	for _, p := range o.profiles {
		n = min(n, atOnce(p.Options(o.vm).SMP))
	}
	return n
}

// turns lets several writers write to the same places, each all of its output
// in one piece, in the order in which they were made. That whose turn it is
// writes at once.
type turns struct {
	mu      sync.Mutex
	to      []io.Writer
	waiting []*piece // the first of which has its turn
	err     error    // by which some of the output was lost
}

// piece is what one of them writes.
type piece struct {
	turns *turns
	kept  []bytes.Buffer // for each of turns.to, until it is its turn
	ended bool
}

// piece makes the next writer.
func (t *turns) piece() *piece {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &piece{turns: t, kept: make([]bytes.Buffer, len(t.to))}
	t.waiting = append(t.waiting, p)
	return p
}

// to is the writer to place number i.
func (p *piece) to(i int) io.Writer { return pieceWriter{p, i} }

type pieceWriter struct {
	piece *piece
	i     int
}

func (w pieceWriter) Write(data []byte) (int, error) {
	t := w.piece.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[0] == w.piece {
		return t.to[w.i].Write(data)
	}
	return w.piece.kept[w.i].Write(data)
}

// end says that the writer has nothing more to write.
func (p *piece) end() {
	t := p.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	p.ended = true
	for len(t.waiting) > 0 && t.waiting[0].ended {
		t.waiting = t.waiting[1:]
		if len(t.waiting) > 0 {
			t.waiting[0].flush()
		}
	}
}

// flush writes what was kept.
func (p *piece) flush() {
	for i := range p.kept {
		_, err := p.kept[i].WriteTo(p.turns.to[i])
		p.turns.err = errors.Join(p.turns.err, err)
	}
}

// took is what is known of the VMs of earlier runs, by what they ran.
type took map[string]tookOnce

// tookOnce is what is known of the last of them.
type tookOnce struct {
	earlier
	At time.Time
}

// mostTook is how many of them are kept, the latest.
const mostTook = 1000

// tookFile is where it is kept.
func tookFile() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "hotplugtest", "took.json"), err
}

// readTook reads it. Without it, VMs are started in the order of the command
// line.
func readTook(file string) took {
	t := make(took)
	data, err := os.ReadFile(file)
	if err == nil {
		_ = json.Unmarshal(data, &t)
	}
	return t
}

func (t took) write(file string) error {
	keys := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return t[b].At.Compare(t[a].At) })
	for _, key := range keys[min(len(keys), mostTook):] {
		delete(t, key)
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	// Another run may read it at the same time.
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// of is what is known of each of the VMs.
func (t took) of(vms []guest) (list []earlier) {
	for _, g := range vms {
		list = append(list, t[g.key()].earlier)
	}
	return list
}

// key names what a VM runs: a kernel with flags.
func (g *guest) key() string {
	return strings.Join(slices.Concat(
		[]string{g.Package, g.Origin.Kernel}, g.Origin.Flags, g.Origin.Broken, g.Argv[min(1, len(g.Argv)):],
	), " ")
}

// order is the order to start VMs in: the longest first, if there are several
// at once. What has not run yet may be long.
func (t took) order(vms []guest, atOnce int) []int {
	order := make([]int, len(vms))
	for i := range order {
		order[i] = i
	}
	if atOnce > 1 {
		const unknown = 24 * time.Hour
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Compare(cmp.Or(t[vms[b].key()].Took, unknown), cmp.Or(t[vms[a].key()].Took, unknown))
		})
	}
	return order
}
