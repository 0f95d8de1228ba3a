//go:build !selftest

package hotplugtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

func TestParsePageLists(t *testing.T) {
	zones, err := parsePageLists(`Node 0, zone    DMA32
  pages free     231
        boost    0
        min      11086
        low      13857
        high     16628
        managed  242554
  pagesets
    cpu: 0
              count:    12
              high:     4682
              batch:    63
              high_min: 3464
              high_max: 7579
  vm stats threshold: 24
Node 1, zone   Normal
  pages free     231
        low      300
    cpu: 0
              count:    12
              high:     378
              batch:    63
`)
	require.NoError(t, err)
	assert.Equal(t, map[string]pageLists{"Node 0, zone DMA32": {0, 13857, 3464, 63}, "Node 1, zone Normal": {1, 300, 0, 63}}, zones)

	_, err = parsePageLists("Node 0, zone Normal\n high_min: many\n")
	assert.ErrorContains(t, err, "Node 0, zone Normal")
}

// A kernel without CONFIG_NUMA has no nodes in sysfs, and its page lists all the
// same.
func TestNodeOf(t *testing.T) {
	for _, tt := range []struct {
		nodes string // of the CPUs 0 to 3; "-": none
		node  int
		cpus  affinity.CPUSet
	}{
		{"0011", 1, affinity.Of(2)}, // CPU 3 is offline
		{"1111", 1, affinity.Of(0, 1, 2)},
		{"----", 0, affinity.Of(0, 1, 2)},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, cpusDir)
		for cpu, node := range tt.nodes {
			name := filepath.Join(dir, "cpu"+string(rune('0'+cpu)), "node"+string(node))
			require.NoError(t, os.MkdirAll(name, 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "online"), []byte("0-2\n"), 0o644))
		sys, err := cpuhp.New(root)
		require.NoError(t, err)
		node, cpus, err := nodeOf(sys, 2)
		require.NoError(t, err, tt.nodes)
		assert.Equal(t, tt.node, node, tt.nodes)
		assert.Equal(t, tt.cpus.String(), cpus.String(), tt.nodes)
	}
}

// A zone whose lists cannot become shorter, or whose watermark has changed, tells
// nothing, and a row in which none tells is not passed.
func TestTooLong(t *testing.T) {
	const zone = "Node 0, zone Normal"
	for _, tt := range []struct {
		without, with pageLists
		zone          string
		told          int
	}{
		{pageLists{0, 3000, 1000, 63}, pageLists{0, 3000, 750, 63}, "", 1},
		{pageLists{0, 3000, 1000, 63}, pageLists{0, 3000, 1000, 63}, zone, 1},
		{pageLists{0, 3000, 252, 63}, pageLists{0, 3000, 252, 63}, "", 0},   // four batches
		{pageLists{0, 3000, 1000, 63}, pageLists{0, 5000, 1250, 63}, "", 0}, // another watermark
		{pageLists{0, 3000, 0, 63}, pageLists{0, 3000, 0, 63}, "", 0},       // not told of
		{pageLists{1, 3000, 1000, 63}, pageLists{1, 3000, 1000, 63}, "", 0}, // another node
	} {
		is, told := tooLong(map[string]pageLists{zone: tt.without}, map[string]pageLists{zone: tt.with}, 0, 4)
		assert.Equal(t, tt.zone, is, "%v %v", tt.without, tt.with)
		assert.Equal(t, tt.told, told, "%v %v", tt.without, tt.with)
	}
}

func TestAlwaysTooLong(t *testing.T) {
	long := errors.New("too long")
	type look struct {
		wrong error
		told  int
		err   error
	}
	for _, tt := range []struct {
		name  string
		looks []look
		says  string // "": it passes
	}{
		{"each time", []look{{long, 2, nil}, {long, 1, nil}, {long, 2, nil}}, "too long"},
		{"not the first time", []look{{nil, 2, nil}}, ""},
		{"not the last time", []look{{long, 2, nil}, {long, 2, nil}, {nil, 2, nil}}, ""},
		{"once, and then no zone tells", []look{{long, 1, nil}, {nil, 0, nil}, {nil, 0, nil}}, "no zone tells each time"},
		{"when it tells", []look{{nil, 0, nil}, {long, 1, nil}, {long, 1, nil}}, "no zone tells each time"},
		{"an error", []look{{nil, 0, errors.New("no such file")}}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			err := alwaysTooLong(func() (error, int, error) { n++; l := tt.looks[n-1]; return l.wrong, l.told, l.err })
			if tt.says == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tt.says)
			}
			assert.Equal(t, len(tt.looks), n)
		})
	}
}
