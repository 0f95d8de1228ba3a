package cpuset_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

func TestNew(t *testing.T) {
	tests := []struct {
		tree    string
		version int
		v2Mode  bool
		mount   string
	}{
		{"v2", 2, false, "sys/fs/cgroup"},
		{"v1", 1, false, "sys/fs/cgroup/cpuset"},
		{"hybrid", 1, true, "sys/fs/cgroup/cpuset"},
		{"hybrid-v2", 2, false, "sys/fs/cgroup/unified"},
	}
	for _, tt := range tests {
		t.Run(tt.tree, func(t *testing.T) {
			h, err := cpuset.New(filepath.Join("testdata", tt.tree))
			require.NoError(t, err)
			assert.Equal(t, tt.version, h.Version())
			assert.Equal(t, tt.v2Mode, h.V2Mode())
			assert.Equal(t, filepath.Join("testdata", tt.tree, tt.mount), h.Mount())
			assert.Equal(t, h.Mount(), h.Root().Path())
			assert.Equal(t, "/", h.Root().Name())
		})
	}
}

func TestNewNone(t *testing.T) {
	_, err := cpuset.New("testdata/none")
	assert.ErrorIs(t, err, cpuset.ErrNotFound)
	assert.ErrorContains(t, err, "testdata/none/proc/self/mountinfo")
}

// A mount that cannot be read, being below another one, is not all that there
// is.
func TestNewBehindAHiddenMount(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{
		"proc/self/mountinfo":       "30 22 0:25 / /hidden rw - cgroup2 none rw\n31 22 0:26 / /cgroup rw - cgroup2 none rw\n",
		"cgroup/cgroup.controllers": "cpuset\n",
	})
	h, err := cpuset.New(root)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(root, "cgroup"), h.Mount())
}

func TestNewErrors(t *testing.T) {
	tests := []struct {
		name      string
		mountinfo string // "" for none
		file      string
		text      string
	}{
		{"no mountinfo", "", "proc/self/mountinfo", "ENOENT"},
		{"no cgroup.controllers", "30 22 0:25 / /cgroup rw - cgroup2 none rw\n", "cgroup/cgroup.controllers", "ENOENT"},
		{"malformed", "30 22 0:25 / /cgroup rw - cgroup2 none rw\n31 22 0:26 /\n", "proc/self/mountinfo", `malformed line "31 22 0:26 /"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if tt.mountinfo != "" {
				writeTree(t, root, map[string]string{"proc/self/mountinfo": tt.mountinfo})
			}
			_, err := cpuset.New(root)
			e := requireError(t, err)
			assert.Equal(t, "read", e.Op)
			assert.Equal(t, filepath.Join(root, tt.file), e.Path)
			assert.ErrorContains(t, err, tt.text)
			assert.NotErrorIs(t, err, cpuset.ErrNotFound)
		})
	}
}

var mounts = []struct {
	line                         string
	root, point, fstype, options string
}{
	{"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
		"/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"},
	{"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 none rw", // no tags
		"/", "/sys/fs/cgroup", "cgroup2", "rw"},
	{"30 23 0:26 / /sys/fs/cgroup rw shared:1 master:2 propagate_from:3 - cgroup2 none rw",
		"/", "/sys/fs/cgroup", "cgroup2", "rw"},
	{"30 23 0:26 / /sys/fs/cgroup rw - cgroup2  rw", // no source
		"/", "/sys/fs/cgroup", "cgroup2", "rw"},
	{"30 23 0:26 /docker/4f /sys/fs/cgroup/cpuset ro master:3 - cgroup cgroup rw,cpuset",
		"/docker/4f", "/sys/fs/cgroup/cpuset", "cgroup", "rw,cpuset"},
	{`30 23 0:26 /a\040b /c\011d\012e\134040 rw - cgroup2 none rw`,
		"/a b", "/c\td\ne\\040", "cgroup2", "rw"},
	{`30 23 0:26 / /\0 rw - cgroup2 none rw`, // no escape
		"/", `/\0`, "cgroup2", "rw"},
	{`30 23 0:26 / /\999\777\ rw - cgroup2 none rw`,
		"/", `/\999\777\`, "cgroup2", "rw"},
}

func TestParseMount(t *testing.T) {
	for _, tt := range mounts {
		t.Run(tt.line, func(t *testing.T) {
			root, point, fstype, options, err := cpuset.ParseMount(tt.line)
			require.NoError(t, err)
			assert.Equal(t, tt.root, root)
			assert.Equal(t, tt.point, point)
			assert.Equal(t, tt.fstype, fstype)
			assert.Equal(t, tt.options, options)
		})
	}
}

func TestParseMountMalformed(t *testing.T) {
	for _, line := range []string{
		"",
		"30",
		"30 23 0:26 / /sys/fs/cgroup rw",
		"30 23 0:26 / /sys/fs/cgroup rw shared:9 cgroup2 cgroup2 rw", // no dash
		// a dash too early
		"30 23 0:26 / - rw shared:9 cgroup2 cgroup2 rw",
		"30 23 0:26 / /sys/fs/cgroup rw -",
		"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2",
	} {
		t.Run(line, func(t *testing.T) {
			_, _, _, _, err := cpuset.ParseMount(line)
			assert.ErrorContains(t, err, "malformed line")
		})
	}
}

func FuzzParseMount(f *testing.F) {
	for _, tt := range mounts {
		f.Add(tt.line)
	}
	f.Add("30 23 0:26 / - rw shared:9 cgroup2 cgroup2 rw")
	f.Fuzz(func(t *testing.T, line string) {
		root, point, fstype, options, err := cpuset.ParseMount(line)
		if err != nil {
			return
		}
		escape := strings.NewReplacer(`\`, `\134`, " ", `\040`).Replace
		root2, point2, fstype2, options2, err := cpuset.ParseMount(
			"1 2 3:4 " + escape(root) + " " + escape(point) + " rw - " + fstype + " src " + options)
		require.NoError(t, err)
		require.Equal(t, []string{root, point, fstype, options}, []string{root2, point2, fstype2, options2})
	})
}

func TestOf(t *testing.T) {
	tests := []struct {
		tree string
		tid  int
		want string
	}{
		{"v2", 0, "/"},
		{"v2", 42, "/child"},
		{"v1", 0, "/"},
		{"v1", 42, "/child"},
		{"hybrid", 0, "/v1"},
		{"hybrid-v2", 0, "/v2"},
	}
	for _, tt := range tests {
		t.Run(tt.tree+tt.want, func(t *testing.T) {
			h := find(t, filepath.Join("testdata", tt.tree))
			c, err := h.Of(tt.tid)
			require.NoError(t, err)
			assert.Equal(t, tt.want, c.Name())
			assert.Equal(t, filepath.Join(h.Mount(), tt.want), c.Path())
		})
	}
}

// In a container the mount may show a part of the hierarchy only.
func TestOfBelowMountedCgroup(t *testing.T) {
	tests := []struct {
		mounted, cgroup string
		want            string // "" for an error
	}{
		{"/docker/4f", "/docker/4f", "/"},
		{"/docker/4f", "/docker/4f/child", "/child"},
		{"/docker/4f", "/docker/4f2", ""},
		{"/docker/4f", "/", ""},
		{"/", "/a:b", "/a:b"},
		{"/", "/../outside", ""}, // of the cgroup namespace
		{"/..", "/../outside", "/outside"},
		{"/..", "/inside", ""},
		{"/", "/..not-a-parent", "/..not-a-parent"},
	}
	for _, tt := range tests {
		t.Run(tt.cgroup+" at "+tt.mounted, func(t *testing.T) {
			root := t.TempDir()
			writeTree(t, root, map[string]string{
				"proc/self/mountinfo":     "30 22 0:25 " + tt.mounted + " /cg rw - cgroup none rw,cpuset\n",
				"proc/thread-self/cgroup": "7:cpuset:" + tt.cgroup + "\n",
			})
			c, err := find(t, root).Of(0)
			if tt.want == "" {
				assert.ErrorContains(t, err, tt.cgroup+" is not below "+tt.mounted)
				assert.ErrorContains(t, err, filepath.Join(root, "proc/thread-self/cgroup"))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, c.Name())
		})
	}
}

func TestOfErrors(t *testing.T) {
	h := find(t, "testdata/v2")
	_, err := h.Of(43)
	assert.ErrorIs(t, err, unix.ENOENT)
	assert.EqualError(t, err, "cpuset: read testdata/v2/proc/43/cgroup: ENOENT (no such file or directory)")

	for text, want := range map[string]string{
		"":                      "no line for the cpuset hierarchy",
		"8:memory:/\n1:cpu:/\n": "no line for the cpuset hierarchy",
		"8:cpusets:/\n":         "no line for the cpuset hierarchy",
		"0::/\n":                "no line for the cpuset hierarchy",
		"0:\n":                  "malformed line",
		"\n8:cpu:/\n":           "malformed line",
	} {
		root := t.TempDir()
		writeTree(t, root, map[string]string{
			"proc/self/mountinfo":     "30 22 0:25 / /cg rw - cgroup none rw,cpuset\n",
			"proc/thread-self/cgroup": text,
		})
		_, err := find(t, root).Of(0)
		requireError(t, err)
		assert.ErrorContains(t, err, want)
	}
}

func FuzzOf(f *testing.F) {
	for _, text := range []string{"0::/\n", "8:cpuset:/a:b\n", "5:cpu,cpuset:/docker/4f/child\n0::/\n", "8:cpuset:/../x", "::"} {
		f.Add(text)
	}
	root := f.TempDir()
	writeTree(f, root, map[string]string{
		"proc/self/mountinfo":     "30 22 0:25 / /cg rw - cgroup none rw,cpuset\n",
		"proc/thread-self/cgroup": "",
	})
	h := find(f, root)
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(root, "proc/thread-self/cgroup"), []byte(text), 0o666))
		c, err := h.Of(0)
		if err != nil {
			requireError(t, err)
			return
		}
		path, err := filepath.Rel(h.Mount(), c.Path())
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(path), "%s is not below %s", c.Path(), h.Mount())
	})
}

func TestEnableController(t *testing.T) {
	root := tree(t, "v2")
	h := find(t, root)
	file := filepath.Join(root, "sys/fs/cgroup/cgroup.subtree_control")

	// No kernel here: the file is what was written last.
	restore, err := h.EnableController()
	require.NoError(t, err)
	assert.Equal(t, "+cpuset\n", content(t, file))
	require.NoError(t, restore())
	assert.Equal(t, "-cpuset\n", content(t, file))
}

func TestEnableControllerWhenEnabled(t *testing.T) {
	root := tree(t, "v2")
	const enabled = "cpuset cpu\n"
	writeTree(t, root, map[string]string{"sys/fs/cgroup/cgroup.subtree_control": enabled})

	restore, err := find(t, root).EnableController()
	require.NoError(t, err)
	require.NoError(t, restore())
	assert.Equal(t, enabled, content(t, filepath.Join(root, "sys/fs/cgroup/cgroup.subtree_control")))
}

func TestEnableControllerOnV1(t *testing.T) {
	restore, err := find(t, "testdata/v1").EnableController()
	require.NoError(t, err)
	require.NoError(t, restore())
}

func TestEnableControllerErrors(t *testing.T) {
	root := tree(t, "v2")
	file := filepath.Join(root, "sys/fs/cgroup/cgroup.subtree_control")
	h := find(t, root)
	restore, err := h.EnableController()
	require.NoError(t, err)

	require.NoError(t, os.Remove(file))
	assert.EqualError(t, restore(), `cpuset: write "-cpuset" to `+file+": ENOENT (no such file or directory)")
	_, err = h.EnableController()
	assert.EqualError(t, err, "cpuset: read "+file+": ENOENT (no such file or directory)")
}
