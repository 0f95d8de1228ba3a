package vm

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	leaks "github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

// fakeEnv names the scenario by which the test binary plays an emulator instead
// of running tests.
const fakeEnv = "QEMU_TEST_SCENARIO"

func TestMain(m *testing.M) {
	if name := os.Getenv(fakeEnv); name != "" {
		os.Exit(playQEMU(name, os.Args[1:]))
	}
	if len(os.Args) == 3 && os.Args[1] == wedgeArg {
		wedge(os.Args[2])
	}
	os.Exit(leaks.Main(m.Run))
}

func TestReadTestFlags(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want testFlags
	}{
		{name: "none", want: testFlags{timeout: 10 * time.Minute}},
		{name: "timeout", args: []string{"-test.v=true", "-test.timeout=90s"}, want: testFlags{timeout: 90 * time.Second}},
		{name: "two dashes", args: []string{"--test.timeout=90s"}, want: testFlags{timeout: 90 * time.Second}},
		{name: "for ever", args: []string{"-test.timeout=0"}, want: testFlags{timeout: 10 * time.Minute}},
		{name: "not a time", args: []string{"-test.timeout=soon"}, want: testFlags{timeout: 10 * time.Minute}},
		{
			name: "relative to the package",
			args: []string{"-test.cpuprofile=cpu.out"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/src/pkg/cpu.out"}, mkdir: []string{"/src/pkg"}},
		},
		{
			name: "relative to -outputdir, wherever that stands",
			args: []string{"-test.coverprofile=c.out", "-test.outputdir=/out", "-test.trace=sub/t.out"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/out/c.out", "/out/sub/t.out"}, mkdir: []string{"/out", "/out/sub"}},
		},
		{
			name: "a relative -outputdir",
			args: []string{"-test.outputdir=../out/", "-test.memprofile=m.out"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/src/out/m.out"}, mkdir: []string{"/src/out"}},
		},
		{
			name: "as two words, the last of them lacking",
			args: []string{"-test.timeout", "30m", "-test.trace", "t.out", "-test.cpuprofile"},
			want: testFlags{timeout: 30 * time.Minute, files: []string{"/src/pkg/t.out"}, mkdir: []string{"/src/pkg"}},
		},
		{
			name: "absolute",
			args: []string{"-test.outputdir=/out", "-test.blockprofile=/tmp/b.out", "-test.mutexprofile=/tmp//m.out"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/tmp/b.out", "/tmp/m.out"}, mkdir: []string{"/tmp", "/tmp"}},
		},
		{
			name: "a directory of coverage data",
			args: []string{"-test.gocoverdir=/tmp/cover/"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/tmp/cover"}, mkdir: []string{"/tmp/cover"}},
		},
		{
			name: "a relative one, which -outputdir is not for",
			args: []string{"-test.outputdir=/out", "-test.gocoverdir=cover"},
			want: testFlags{timeout: 10 * time.Minute, files: []string{"/src/pkg/cover"}, mkdir: []string{"/src/pkg/cover"}},
		},
		{
			name: "go test's cache has no use for the log of a test elsewhere",
			args: []string{"-test.testlogfile=/tmp/b001/testlog.txt"},
			want: testFlags{timeout: 10 * time.Minute, mkdir: []string{"/tmp/b001"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, readTestFlags(tt.args, "/src/pkg")) })
	}
}

func TestSave(t *testing.T) {
	for _, tt := range []struct {
		path string // in place of DIR: a directory of the host's
		ok   bool
	}{
		{path: "DIR/cpu.out", ok: true},
		{path: "DIR/cover/covmeta.1", ok: true},
		{path: "DIR/cover/sub/covmeta.2", ok: true},
		{path: "DIR/mem.out"},
		{path: "DIR/cpu.out.x"},
		{path: "DIR/coverage"},
		{path: "DIR/cover/"},
		{path: "DIR/cover/.."},
		{path: "DIR/cover/../mem.out"},
		{path: "DIR/cover/sub/../../mem.out"},
		{path: "DIR/cover//etc/passwd"},
		{path: "DIR/x/../cpu.out"},
		{path: "/etc/passwd"},
		{path: "mem.out"}, // in the working directory
		{path: "sub/mem.out"},
		{path: "../mem.out"},
		{path: ""},
	} {
		t.Run(strings.ReplaceAll(tt.path, "/", "|"), func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			for _, sub := range []string{"cover/sub", "sub", "x"} {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
			}
			before := tree(t, dir)
			g := &guest{vm: &VM{job: wire.Job{Collect: []string{dir + "/cpu.out", dir + "/cover"}}}}
			path := strings.Replace(tt.path, "DIR", dir, 1)
			err := g.save(wire.File{Path: path, Data: []byte("x")})
			if !tt.ok {
				assert.EqualError(t, err, "the guest sent a file nobody asked for: "+path)
				assert.Equal(t, before, tree(t, dir), "nothing was written")
				return
			}
			require.NoError(t, err)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, "x", string(data))
		})
	}
}

// tree lists what is in a directory and its parent.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(filepath.Dir(dir), func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	}))
	return paths
}

// The emulator is this test binary, which plays the scenario of the name and
// ends or is ended. Where it does neither by itself, it says so, and then its
// time is up.
func TestStart(t *testing.T) {
	for _, tt := range []struct {
		scenario string

		started bool
		code    int
		out     string
		err     string
		console string // in the failure; "": the error is another
		doubt   string
	}{
		{scenario: "exits 0", started: true, out: "hi\n"},
		{scenario: "exits 3", started: true, out: "hi\n", code: 3},
		{scenario: "cannot exec", started: true, code: 127, out: "vm: /bin/p: no such file or directory\n"},
		{scenario: "refuses arguments", err: "qemu: -smp: bad"},
		{scenario: "panics at boot", err: "the kernel panicked before the program started", console: "Kernel panic - not syncing: VFS"},
		{scenario: "panics", started: true, out: "hi\n", err: "the kernel panicked while the program ran (Linux 6.1)", console: "Kernel panic - not syncing: VFS"},
		{scenario: "resets", started: true, out: "hi\n", err: "the VM ended while the program ran (Linux 6.1)", console: "boot"},
		{scenario: "is killed", started: true, out: "hi\n", err: "the VM ended while the program ran: QEMU: signal: killed (Linux 6.1)", console: "boot", doubt: killed},
		{scenario: "sends a file", started: true, out: "hi\n", err: "the guest sent a file nobody asked for: /etc/passwd"},
		{scenario: "says hello twice", started: true, err: "the guest says hello other than once and first"},
		{scenario: "exits before hello", started: true, err: "the guest says hello other than once and first"},
		{scenario: "is released under a false name", started: true, out: "hi\n", err: "the VM ended while the program ran (Linux 6.1--- PASS: TestAll (0.00s))", console: "boot"},
		{scenario: "does not boot", err: "the VM was ended: it took too long", console: "boot"},
		{scenario: "hangs", started: true, out: "hi\n", err: "the VM was ended: it took too long", console: "boot"},
		// A program can write to the line. The VM does not end by that, and is
		// ended.
		{scenario: "is deaf", started: true, out: "hi\n", err: "the guest stands still for 1.8s: no sign of life (Linux 6.1)", console: "sysrq: Show Blocked State"},
		{scenario: "hears an NMI alone", started: true, out: "hi\n", err: "the guest stands still for 1.8s: no sign of life (Linux 6.1)", console: "Kernel panic - not syncing: NMI"},
		{scenario: "hears nothing", started: true, out: "hi\n", err: "the guest stands still for 1.8s: no sign of life (Linux 6.1)", console: "boot", doubt: deaf},
		{scenario: "is stuck", started: true, out: "hi\n", err: "the guest stands still for 1.8s: its program has printed nothing, and its kernel has not ended a, b (Linux 6.1)", console: "sysrq: Show Blocked State"},
		// These do not stand still, though they are silent for longer.
		{scenario: "computes", started: true, out: "hi\n"},
		{scenario: "sleeps", started: true, out: "hi\n"},
		{scenario: "talks nonsense", err: "the guest's line says what nobody understands: flate: corrupt input before offset 5", console: "boot"},
	} {
		t.Run(tt.scenario, func(t *testing.T) {
			vm := fakeVM(t, tt.scenario)
			if strings.Contains(tt.err, "stands still") || tt.scenario == "computes" || tt.scenario == "sleeps" {
				vm.stall = 1800 * time.Millisecond
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			hangs, err := net.Listen("unix", filepath.Join(filepath.Dir(vm.line), "hangs"))
			require.NoError(t, err)
			defer hangs.Close()
			go func() {
				if conn, err := hangs.Accept(); err == nil {
					conn.Close()
					cancel(errors.New("it took too long"))
				}
			}()
			var out bytes.Buffer
			code, started, err := vm.start(ctx, tcg, time.Minute, &out)
			assert.Equal(t, tt.out, out.String())
			assert.Equal(t, tt.started, started)
			assert.Equal(t, tt.code, code)
			if tt.err == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, tt.err)
			var failure *Failure
			if errors.As(err, &failure) {
				assert.Equal(t, tt.console, failure.Console)
				assert.Equal(t, tt.doubt, failure.Doubt)
			} else {
				assert.Empty(t, tt.console)
			}
		})
	}
}

// A VM is given the time to boot even if nobody bounds the run.
func TestStartBootLimit(t *testing.T) {
	vm := fakeVM(t, "does not boot")
	_, started, err := vm.start(t.Context(), tcg, 10*time.Millisecond, io.Discard)
	assert.EqualError(t, err, "the VM did not start a program within 10ms")
	assert.False(t, started)
}

// An emulated boot that does not end is tried once more.
func TestEmulateBootLimit(t *testing.T) {
	vm := fakeVM(t, "does not boot")
	var log bytes.Buffer
	vm.log = &log
	_, started, err := vm.emulateWithin(t.Context(), 10*time.Millisecond, io.Discard)
	assert.EqualError(t, err, "the VM did not start a program within 10ms")
	assert.False(t, started)
	assert.Equal(t, "vm: once more: the VM did not start a program within 10ms\n", log.String())
}

// fakeVM is a VM that this test binary plays the emulator of.
func fakeVM(t *testing.T, scenario string) *VM {
	t.Setenv(fakeEnv, scenario)
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	return &VM{
		emulator: self,
		machine:  machines["amd64"],
		image:    &kernel.Image{},
		console:  filepath.Join(dir, "console.log"),
		line:     filepath.Join(dir, "line"),
		keys:     filepath.Join(dir, "keys"),
		qmp:      filepath.Join(dir, "qmp"),
		stall:    stallLimit,
		job:      wire.Job{Argv: []string{"/bin/p"}},
	}
}

// A guest's root may write anything to the line. It gets no file that was not
// asked for, and ends nobody but itself. What is mutated is the text that goes
// through the compression.
func FuzzConverse(f *testing.F) {
	for _, messages := range [][]wire.Guest{
		{{Hello: &wire.Hello{Release: "6.1", Symbols: map[string][]wire.Symbol{"f": {{Address: 1, End: 2}}}}}, {Output: []byte("hi")}, {Exit: &wire.Exit{Code: 3}}},
		{{Hello: &wire.Hello{}}, {File: &wire.File{Path: "/tmp/out", Data: []byte("x")}}},
		{{Hello: &wire.Hello{}}, {Hello: &wire.Hello{}}},
		{{Exit: &wire.Exit{}}},
		{{Hello: &wire.Hello{}}, {}},
	} {
		var line bytes.Buffer
		encoder := gob.NewEncoder(&line)
		for _, m := range messages {
			require.NoError(f, encoder.Encode(m))
		}
		f.Add(line.Bytes())
	}
	f.Add([]byte("--- PASS: TestAll (0.00s)\nPASS\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, flate.BestSpeed)
		require.NoError(t, err)
		_, err = w.Write(said)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		line := struct {
			io.Reader
			io.Writer
		}{&packed, io.Discard}
		g := &guest{vm: &VM{}, out: io.Discard}
		hello := make(chan struct{})
		err = g.converse(line, hello)
		require.Equal(t, err == nil, g.exit != nil, "it ends without an error when the guest says so")
		select {
		case <-hello:
			require.True(t, g.started)
		default:
			require.False(t, g.started)
		}
		require.True(t, g.started || g.exit == nil, "exits before hello")
	})
}
