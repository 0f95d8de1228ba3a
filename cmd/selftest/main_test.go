package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm"
)

func TestMain(m *testing.M) {
	runAs(os.Getenv(programEnv))
	code := machine.Main(m.Run)
	endAs(os.Getenv(endEnv))
	os.Exit(code)
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"bzImage", "arch/x86/boot/bzImage", "trixie/vmlinux"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	for _, name := range []string{"sid", "linux-6.1", "linux/.config"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	in := func(path string) string { return filepath.Join(dir, path) }
	for _, tt := range []struct {
		name string
		args []string
		want func(*options) // what differs from the defaults
	}{
		{name: "defaults", want: func(*options) {}},
		{
			name: "suites",
			args: []string{"-kernel", "bookworm", "-kernel=trixie/rt"},
			want: func(o *options) { o.kernels = []string{"bookworm", "trixie/rt"} },
		},
		{
			name: "files where the user is",
			args: []string{"-kernel", "bzImage", "-kernel", "arch/x86/boot/bzImage", "-kernel", "./bzImage", "-kernel", "../other/bzImage", "-kernel", "/boot/vmlinuz"},
			want: func(o *options) {
				o.kernels = []string{in("bzImage"), in("arch/x86/boot/bzImage"), in("bzImage"), in("../other/bzImage"), "/boot/vmlinuz"}
			},
		},
		{
			name: "directories where the user is",
			args: []string{"-kernel", "sid", "-kernel", "./sid", "-kernel", "linux-6.1", "-kernel", "linux"},
			want: func(o *options) { o.kernels = []string{"sid", in("sid"), in("linux-6.1"), in("linux")} },
		},
		{
			name: "a missing file is named as it was given",
			args: []string{"-kernel", "nosuch/bzImage"},
			want: func(o *options) { o.kernels = []string{"nosuch/bzImage"} },
		},
		{
			name: "a directory does not hide the suite of its name",
			args: []string{"-kernel", "trixie"},
			want: func(o *options) { o.kernels = []string{"trixie"} },
		},
		{name: "profiles", args: []string{"-profile", "default", "-profile", "maxcpus", "-profile", "default"}, want: func(o *options) {
			o.profiles = []profile.Profile{{Name: "default"}, {Name: "maxcpus", Append: "maxcpus=2", SMP: "4"}}
		}},
		{name: "relative -out", args: []string{"-out", "a/b"}, want: func(o *options) { o.vm.Out = in("a/b") }},
		{name: "absolute -out", args: []string{"-out", "/a/b"}, want: func(o *options) { o.vm.Out = "/a/b" }},
		{
			name: "flags of the test binary",
			args: []string{"-run", "TestOnline/at-uevent", "--", "-cycles=15", "-test.v"},
			want: func(o *options) {
				o.run = "TestOnline/at-uevent"
				o.args = []string{"-cycles=15", "-test.v"}
			},
		},
		{
			name: "a soak runs by itself",
			args: []string{"-soak", "25h", "-soak-continue"},
			want: func(o *options) { o.run, o.soak, o.goOn = "^TestSoak$", 25*time.Hour, true },
		},
		{
			name: "a soak among others",
			args: []string{"-soak", "1m", "-run", "Test"},
			want: func(o *options) { o.run, o.soak = "Test", time.Minute },
		},
		{
			name: "the VM",
			args: []string{"-qemu", "-device  virtio-rng", "-arch=arm64", "-smp", "4,cores=2,threads=2", "-mem", "2G", "-append", "nosmt isolcpus=3", "-timeout", "90s", "-poke", "f=ret", "-poke", "g+4=90"},
			want: func(o *options) {
				o.arch = "arm64"
				o.vm = vm.Options{
					SMP: "4,cores=2,threads=2", Mem: "2G", Append: "nosmt isolcpus=3", Timeout: 90 * time.Second,
					Pokes: []string{"f=ret", "g+4=90"}, QEMU: []string{"-device", "virtio-rng"}, Out: in("out"),
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := &options{
				vm:       vm.Options{SMP: "4", Mem: "1G", Out: in("out")},
				kernels:  []string{vm.DefaultKernel},
				profiles: []profile.Profile{{Name: "default"}},
				arch:     runtime.GOARCH,
				dir:      cli.Dir(dir),
				args:     []string{},
			}
			tt.want(want)
			want.atOnce = atOnce(want.vm.SMP)
			got, err := parse(append([]string{"-C", dir}, tt.args...))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

// allProfiles returns how many profiles "all" are.
func allProfiles() int {
	all, _ := profile.Named("all")
	return len(all)
}

func TestParseError(t *testing.T) {
	_, badPoke := vm.ParsePoke("f")
	require.Error(t, badPoke)
	for _, tt := range []struct {
		args []string
		err  string
	}{
		{[]string{"-help"}, flag.ErrHelp.Error()},
		{[]string{"-nosuchflag"}, "flag provided but not defined: -nosuchflag"},
		{[]string{"-cpus", "2-3"}, "-cpus is a flag of the test binary: give it after --"},
		{[]string{"-soak", "-1s"}, "-soak -1s: a soak takes time"},
		{[]string{"-j", "-1"}, "-j -1: it takes one virtual machine or more"},
		{[]string{"-sha256", "abc"}, "-sha256 abc: it must be 64 hexadecimal digits"},
		{[]string{"-sha256", strings.Repeat("a", 64), "-kernel", "sid", "-kernel", "trixie"}, "-sha256 with 2 kernels: give one"},
		{[]string{"-gdb", "-profile", "all"}, fmt.Sprintf("-gdb with %d virtual machines: give one kernel and one profile", allProfiles())},
		{[]string{"-shell", "-kernel", "sid", "-kernel", "trixie"}, "-shell with 2 virtual machines: give one kernel and one profile"},
		{[]string{"-shell", "-retry", "1"}, "-shell with -retry: a test is tried again without anybody"},
		{[]string{"-shard", "5"}, `invalid value "5" for flag -shard: it must be a part and the number of parts, such as 2/5`},
		{[]string{"-retry", "-1"}, "-retry -1: a test can be run again once or more"},
		{[]string{"-run", "TestA/("}, "-run TestA/(: error parsing regexp: missing closing ): `(`"},
		{[]string{"-retry", "1", "-soak", "1h"}, "-retry with -soak: a soak is not run again"},
		{[]string{"-soak-continue"}, "-soak-continue without -soak"},
		{[]string{"-timeout", "soon"}, `invalid value "soon" for flag -timeout: parse error`},
		{[]string{"-timeout", "-5s"}, `invalid value "-5s" for flag -timeout: a virtual machine takes time`},
		{[]string{"-timeout", "0s"}, `invalid value "0s" for flag -timeout: a virtual machine takes time`},
		{
			[]string{"-profile", "isolcpu"},
			`invalid value "isolcpu" for flag -profile: there is no such profile, only default, isolcpus, isolcpus-one, isolcpus-suspend, nohz_full, nohz_full-maxcpus, threadirqs, lowres, amd, smt, nosmt, nosmt-maxcpus, maxcpus, hot-add, numa, modules, lowres-modules, msr, cgroup-v1, cgroup-v1-v2mode, sched-ext, sleep, and all`,
		},
		{[]string{"-arch", "arm64", "-profile", "hot-add"}, "-profile hot-add: it is for amd64, not for arm64"},
		{[]string{"-poke", "f"}, `invalid value "f" for flag -poke: ` + badPoke.Error()},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := parse(tt.args)
			assert.EqualError(t, err, tt.err)
		})
	}
}

func TestOneCPU(t *testing.T) {
	for smp, want := range map[string]bool{
		"1": true, "cpus=1": true, "1,maxcpus=4": true, "cpus=1,maxcpus=4": true,
		"2": false, "4": false, "10": false, "16,cores=1": false, "cpus=12": false, "4,cores=2,threads=2": false, "cores=1,cpus=4": false,
	} {
		assert.Equal(t, want, oneCPU.MatchString(smp), smp)
	}
}

func TestFileNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/bzImage", "b/bzImage", "trixie/rt"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	for _, tt := range []struct{ kernels, want []string }{
		{[]string{"bookworm"}, []string{"bookworm"}},
		{[]string{"bookworm", "trixie/rt", "trixie/cloud"}, []string{"bookworm", "trixie-rt", "trixie-cloud"}},
		{[]string{filepath.Join(dir, "a/bzImage")}, []string{"bzImage"}},
		{
			[]string{filepath.Join(dir, "a/bzImage"), filepath.Join(dir, "b/bzImage"), "bookworm", filepath.Join(dir, "a/bzImage")},
			[]string{"bzImage", "bzImage-2", "bookworm", "bzImage-3"},
		},
		{[]string{"sid", "sid-2", "sid"}, []string{"sid", "sid-2", "sid-3"}},
	} {
		assert.Equal(t, tt.want, fileNames(tt.kernels))
	}
}

func TestForReports(t *testing.T) {
	const (
		run      = `{"Action":"run","Test":"TestA"}` + "\n"
		echo     = `{"Action":"output","Test":"TestA","Output":"=== ATTR  TestA kernel 6.1\n"}` + "\n"
		attr     = `{"Action":"attr","Test":"TestA","Key":"kernel","Value":"6.1"}` + "\n"
		artifact = `{"Action":"artifacts","Test":"TestA","Path":"/tmp/a"}` + "\n"
		soak     = `{"Action":"output","Test":"TestA","Output":"soak: 5s of 10s\n"}` + "\n"
		output   = `{"Action":"output","Test":"TestA","Output":"it says === ATTR \n"}` + "\n"
		pass     = `{"Action":"pass","Test":"TestA","Elapsed":0.1}` + "\n"
		notJSON  = "artifacts\n"
	)
	in := run + echo + attr + soak + output + artifact + pass + notJSON
	for _, size := range []int{1, 7, 100, len(in)} {
		t.Run(fmt.Sprintf("%d bytes a time", size), func(t *testing.T) {
			var b, progress strings.Builder
			w := &forReports{w: &b, results: io.Discard, progress: &progress}
			for rest := in; rest != ""; rest = rest[min(size, len(rest)):] {
				chunk := rest[:min(size, len(rest))]
				n, err := w.Write([]byte(chunk))
				require.NoError(t, err)
				assert.Equal(t, len(chunk), n)
			}
			assert.Equal(t, run+attr+soak+output+pass+notJSON, b.String())
			assert.Equal(t, "soak: 5s of 10s\n", progress.String())
		})
	}
	t.Run("a failure outside of tests", func(t *testing.T) {
		const (
			passed = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
			vm     = `{"Action":"output","Package":"p","Output":"vm: the kernel panicked\n"}` + "\n"
			other  = `{"Action":"output","Package":"p","Output":"exit status 1\n"}` + "\n"
			kvm    = `{"Action":"output","Package":"p","Output":"vm: by /dev/kvm: it hangs; using emulation\n"}` + "\n"
			failed = `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n"
			fail   = `{"Time":"2026-01-01T00:00:00Z","Action":"fail","Package":"p","Elapsed":1}` + "\n"
			whole  = `{"Time":"2026-01-01T00:00:00Z","Action":"run","Package":"p","Test":"TestMain"}` + "\n" +
				`{"Time":"2026-01-01T00:00:00Z","Action":"output","Package":"p","Test":"TestMain","Output":"vm: the kernel panicked\n"}` + "\n" +
				`{"Time":"2026-01-01T00:00:00Z","Action":"fail","Package":"p","Test":"TestMain"}` + "\n"
		)
		for in, want := range map[string]string{
			passed + vm + other + fail: passed + other + whole + fail,
			failed + vm + other + fail: failed + other + whole + fail,
			failed + other + fail:      failed + other + fail,
			failed + kvm + fail:        failed + kvm + fail,
		} {
			var b strings.Builder
			var results strings.Builder
			_, err := (&forReports{w: &b, results: &results}).Write([]byte(in))
			assert.NoError(t, err)
			assert.Equal(t, want, b.String())
			assert.Equal(t, want, results.String())
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		_, err := (&forReports{w: failing{}, results: io.Discard}).Write([]byte(run))
		assert.ErrorIs(t, err, errGone)
	})
}

var errGone = errors.New("gone")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errGone }

func TestJudge(t *testing.T) {
	const (
		passed = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		child  = `{"Action":"skip","Package":"p","Test":"TestA/b"}` + "\n"
		failed = `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n"
		none   = `{"Action":"output","Package":"p","Output":"testing: warning: no tests to run\n"}` + "\n"
		pass   = `{"Action":"pass","Package":"p"}` + "\n"
		fail   = `{"Action":"fail","Package":"p"}` + "\n"
		known  = `{"Action":"attr","Package":"p","Test":"TestA","Key":"known","Value":"x"}` + "\n"
		wrong  = `{"Action":"attr","Package":"p","Test":"TestA","Key":"wrong-option","Value":"-cpus 9: no"}` + "\n"
		main   = `{"Action":"fail","Package":"p","Test":"TestMain"}` + "\n"
	)
	for _, tt := range []struct {
		name, results  string
		passed, failed bool
	}{
		{"one passed", `{"Action":"start"}` + "\n" + passed + pass, true, false},
		{"no line end", strings.TrimSpace(passed), true, false},
		{"nothing", "", false, false},
		{"only the package passed", pass, false, false},
		{"all below it skipped", child + passed + pass, false, false},
		{"what is to run below it is not there", passed + none + pass, false, false},
		{"of one kernel just", none + pass + strings.ReplaceAll(passed, `"p"`, `"q"`), true, false},
		{"one failed", failed + fail, false, true},
		{"one failed, and another passed", failed + strings.ReplaceAll(passed, "TestA", "TestB"), true, true},
		{"the machine was left changed", passed + fail, true, true},
		{"the kernel did not boot", fail, false, false},
		{"the kernel did not boot, as it is reported", strings.ReplaceAll(failed, "TestA", "TestMain") + fail, false, false},
		{"the second kernel did not boot", passed + pass + strings.ReplaceAll(fail, `"p"`, `"q"`), true, false},
		{"a known one failed", known + failed + fail, false, false},
		{"a known one failed, and another passed", known + failed + strings.ReplaceAll(passed, "TestA", "TestB") + fail, true, false},
		{"a known one failed, and another failed", known + failed + strings.ReplaceAll(failed, "TestA", "TestB") + fail, false, true},
		{"a known one failed, and the machine was left changed", known + failed + main + fail, false, true},
		{"a known one failed, and the machine was left changed on another kernel", known + failed + fail + strings.ReplaceAll(passed+main+fail, `"p"`, `"q"`), true, true},
		{"it is known in another kernel", strings.ReplaceAll(known+failed+fail, `"p"`, `"q"`) + failed + fail, false, true},
		{"a CPU that is not there", wrong + failed + strings.ReplaceAll(wrong+failed, "TestA", "TestB") + fail, false, false},
		{"a CPU that is not there on one kernel", wrong + failed + fail + strings.ReplaceAll(failed+fail, `"p"`, `"q"`), false, true},
		{"a test prints such a line", `{"Action":"output","Test":"TestA","Output":"{\"Action\":\"pass\",\"Test\":\"TestB\"}\n"}` + "\n", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := judge(strings.NewReader(tt.results), io.Discard)
			require.NoError(t, err)
			assert.Equal(t, tt.passed, v.passed(), "passed")
			assert.Equal(t, tt.failed, v.failed, "failed")
		})
	}
	t.Run("cut short", func(t *testing.T) {
		_, err := judge(strings.NewReader(passed+fail[:20]), io.Discard)
		assert.ErrorContains(t, err, "is no test event")
	})
}

// The times of each kernel have a head of their own. A test that prints such
// lines is passed over.
func TestJudgeTimes(t *testing.T) {
	const line = `{"Action":"output","Package":"%s","Test":"%s","Output":"%s\n"}` + "\n"
	var in, out strings.Builder
	for _, l := range [][3]string{
		{"a", "", "times: x 1"}, {"a", "TestA", "times: forged"}, {"a", "", "PASS"}, {"a", "", "times: y 2"}, {"b", "", "times: z 3"},
	} {
		fmt.Fprintf(&in, line, l[0], l[1], l[2])
	}
	_, err := judge(strings.NewReader(in.String()), &out)
	assert.NoError(t, err)
	assert.Equal(t, "\n=== Times: a\nx 1\ny 2\n\n=== Times: b\nz 3\n", out.String())
}

// Whatever comes, in whatever pieces: lines are passed on whole or not at all,
// in their order.
func FuzzForReports(f *testing.F) {
	f.Add([]byte(`{"Action":"artifacts"}`+"\n"+`{"Action":"pass","Test":"TestA"}`+"\n"), 7)
	f.Add([]byte("\n\n{\n\x00"), 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = max(size, 1)
		var passed bytes.Buffer
		w := &forReports{w: &passed, results: io.Discard, progress: io.Discard}
		for rest := data; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			n, err := w.Write(rest[:min(size, len(rest))])
			require.NoError(t, err)
			require.Equal(t, min(size, len(rest)), n)
		}
		lines := slices.Collect(bytes.Lines(data))
		for line := range bytes.Lines(passed.Bytes()) {
			if bytes.Contains(line, []byte(`"Test":"TestMain"`)) {
				continue // its own word
			}
			at := slices.IndexFunc(lines, func(l []byte) bool { return bytes.Equal(l, line) })
			require.GreaterOrEqual(t, at, 0, "%q", line)
			require.True(t, bytes.HasSuffix(line, []byte("\n")), "%q", line)
			lines = lines[at+1:]
		}
	})
}

// The command fits the architecture, and waits if the socket is not there yet.
func TestTellDebug(t *testing.T) {
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	for _, tt := range []struct {
		arch, symbols string
		pokes         []string
		when, command string
	}{
		{runtime.GOARCH, "/x/vm linux", nil, "before its first instruction", "gdb -ex 'target remote /out/gdb.socket' '/x/vm linux'"},
		{runtime.GOARCH, "", []string{"f=ret"}, "when the kernel has booted and its text is changed", "until [ -S /out/gdb.socket ]; do sleep 1; done; gdb -ex 'target remote /out/gdb.socket'"},
		{other, "", nil, "before its first instruction", "gdb-multiarch -ex 'set architecture " + gdbArchitectures[other] + "' -ex 'target remote /out/gdb.socket'"},
	} {
		var b strings.Builder
		o := &options{gdb: true, arch: tt.arch}
		o.tellDebug(&b, vm.Options{GDB: "/out/gdb.socket", Pokes: tt.pokes}, tt.symbols)
		assert.Equal(t, "gdb: "+tt.when+", the virtual machine waits for this, and for continue:\n\n    "+tt.command+"\n\n", b.String())
	}
	for _, arch := range vm.Architectures() {
		assert.Contains(t, gdbArchitectures, arch)
	}
}
