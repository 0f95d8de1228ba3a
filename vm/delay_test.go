package vm

import (
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseDelay(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Delay
		err  string
	}{
		{in: "cpuset_hotplug_workfn=200ms", want: Delay{"cpuset_hotplug_workfn", 200 * time.Millisecond}},
		{in: "f.isra.0=1ms", want: Delay{"f.isra.0", time.Millisecond}},
		{in: "f=10s", want: Delay{"f", 10 * time.Second}},
		{in: "msleep=1s", want: Delay{"msleep", time.Second}},
		{in: "", err: "no '='"},
		{in: "f", err: "no '='"},
		{in: "=1s", err: "no symbol of a function"},
		{in: "f+4=1s", err: "no symbol of a function"},
		{in: "f:g=1s", err: "no symbol of a function"},
		{in: "f g=1s", err: "no symbol of a function"},
		{in: "f=", err: "bad duration"},
		{in: "f=200", err: "bad duration"},
		{in: "f=1s=1s", err: "bad duration"},
		{in: "f=0", err: "0s is not between 1ms and 10s"},
		{in: "f=-1s", err: "-1s is not between 1ms and 10s"},
		{in: "f=11s", err: "11s is not between 1ms and 10s"},
		{in: "f=1500us", err: "1.5ms is not in whole milliseconds"},
		{in: "__udelay=1s", err: "the wait itself calls it"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			d, err := ParseDelay(tt.in)
			if tt.err != "" {
				assert.EqualError(t, err, fmt.Sprintf("delay %q: %s; %s", tt.in, tt.err, delaySyntax))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, d)
		})
	}
	_, err := parseDelays([]string{"f=1s", "g=1s", "f=2s"})
	assert.EqualError(t, err, `delay "f=2s": f is delayed already`)
}

// What is accepted can be written down again from what was understood.
func FuzzParseDelay(f *testing.F) {
	for _, s := range []string{"cpuset_hotplug_workfn=200ms", "f.isra.0=1s", "=1s", "f=", "f=1h", "f=-1s", "f=0.0015s", "f+1=1s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDelay(s)
		if err != nil {
			assert.Equal(t, Delay{}, d)
			assert.NotContains(t, err.Error(), "\n", "the error is one line")
			return
		}
		again, err := ParseDelay(fmt.Sprintf("%s=%v", d.Symbol, d.Wait))
		require.NoError(t, err)
		assert.Equal(t, d, again)
	})
}

// The NOP of ftrace is found behind what the kernel puts before it, and
// nowhere else.
func TestFtraceEntry(t *testing.T) {
	for text, want := range map[string]int{
		"0f1f440000" + "41574156":              0,
		"6666666690" + "41574156":              0,
		"f30f1efa" + "0f1f440000":              4,
		"0f1f4000" + "0f1f440000":              4,
		"660f1f00" + "0f1f440000":              4,
		"0f1f40d6" + "0f1f440000":              4,
		"f30f1efa" + "e800000000":              -1, // somebody traces it
		"e800000000" + "90909090":              -1,
		"c30f1efa" + "0f1f440000":              -1, // poked
		"f30f1efa" + "4157415641" + "0f1f4400": -1,
		"f30f1efa":                             -1,
	} {
		code, err := hex.DecodeString(text)
		require.NoError(t, err)
		offset, ok := ftraceEntry(code)
		if want < 0 {
			assert.False(t, ok, text)
		} else {
			assert.True(t, ok, text)
			assert.Equal(t, want, offset, text)
		}
	}
}

// The texts of __rcu_read_lock() of Debian's kernels, and others.
func TestFindNesting(t *testing.T) {
	for _, tt := range []struct {
		name, text       string
		at               uint64
		current, nesting uint32
		missing          bool
	}{
		{name: "6.1", text: "0f1f440000" + "65488b142580fb0100" + "8b82f4070000" + "83c001", current: 0x1fb80, nesting: 0x7f4},
		{name: "7.2", text: "f30f1efa0f1f440000" + "65488b0507139a02" + "83807c09000001" + "e993", at: 0xffffffff82680000, current: 0x85021318, nesting: 0x97c},
		{name: "6.12", text: "f30f1efa0f1f440000" + "65488b15bfdbeb7e" + "8b82fc070000", at: 0xffffffff811775f0, current: 0x351c0, nesting: 0x7fc},
		{name: "by an increment", text: "65488b0c2580fb0100" + "ff8130030000", current: 0x1fb80, nesting: 0x330},
		{name: "of another register", text: "65488b0c2580fb0100" + "ff8030030000", missing: true},
		{name: "of another register, loaded", text: "65488b142580fb0100" + "8b80f4070000", missing: true},
		{name: "something between", text: "65488b042580fb0100" + "90" + "83807c09000001", missing: true},
		{name: "cut short", text: "65488b042580fb0100" + "83807c0900", missing: true},
		{name: "nothing", missing: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := hex.DecodeString(tt.text)
			require.NoError(t, err)
			current, nesting, ok := findNesting(text, tt.at)
			assert.Equal(t, !tt.missing, ok)
			assert.Equal(t, tt.current, current)
			assert.Equal(t, tt.nesting, nesting)
		})
	}
}

// Where the symbols of a kernel are that counts.
const (
	delayed = 0xffffffff81000000
	room    = 0xffffffff81001000
)

func delayTable() symbolTable {
	return symbolTable{
		"f":                    {{Address: delayed, End: delayed + 0x20}},
		"g":                    {{Address: delayed + 0x20, End: delayed + 0x40}},
		"assembly":             {{Address: delayed + 0x40, End: delayed + 0x60}},
		"twice":                {{Address: delayed}, {Address: delayed + 0x20}},
		"msleep":               {{Address: 0xffffffff81100000}},
		"__udelay":             {{Address: 0xffffffff81200000}},
		"preempt_schedule":     {{Address: 0xffffffff81300000}},
		"pcpu_hot":             {{Address: 0x1fb80}},
		"__rcu_read_lock":      {{Address: delayed + 0x60, End: delayed + 0x80}},
		"process_one_work":     {{Address: 0xffffffff81400000, End: 0xffffffff81400400}},
		"machine_real_restart": {{Address: room, End: room + 0x200}},
	}
}

func delayMemory() map[uint64]byte {
	memory := make(map[uint64]byte)
	for i := range uint64(0x2000) {
		memory[delayed+i] = 0xcc
	}
	load(memory, delayed, "f30f1efa"+"0f1f440000"+"c3")
	load(memory, delayed+0x20, "0f1f440000"+"c3")
	load(memory, delayed+0x60, "f30f1efa"+"0f1f440000"+"65488b042580fb0100"+"83807c09000001")
	return memory
}

// applyDelays applies delays, separated by blanks, to what stub has.
func applyDelays(t *testing.T, stub *fakeStub, symbols symbolTable, texts string) error {
	parsed, err := parseDelays(strings.Fields(texts))
	require.NoError(t, err)
	socket := filepath.Join(t.TempDir(), "gdb")
	done := stub.serve(t, socket)
	err = apply(nil, parsed, machines["amd64"], symbols, socket)
	<-done
	return err
}

func TestApplyDelays(t *testing.T) {
	stub := &fakeStub{cpus: []bool{true}, memory: delayMemory()}
	require.NoError(t, applyDelays(t, stub, delayTable(), "f=200ms g=1s"))
	assert.True(t, stub.detached)
	waiter := 155 // bytes
	thunk := func(n int) uint64 { return room + roomHead + uint64(waiter+10*n) }
	assert.Equal(t, strings.Repeat("cc", roomHead)+"9c50", stub.read(uint64(room), roomHead+2), "the waiter")
	for n, want := range []struct {
		entry   uint64
		ms, was string
	}{{delayed + 4, "c8000000", "f30f1efa"}, {delayed + 0x20, "e8030000", "cccccccc"}} {
		assert.Equal(t, want.was, stub.read(want.entry-4, 4))
		assert.Equal(t, hex.EncodeToString(assembleCall(want.entry, thunk(n)))+"c3", stub.read(want.entry, callSize+1))
		jump := hex.EncodeToString(assembleCall(thunk(n)+5, uint64(room+roomHead)))
		assert.Equal(t, "68"+want.ms+"e9"+jump[2:], stub.read(thunk(n), 10))
	}
	assert.Equal(t, "cc", stub.read(thunk(2), 1), "nothing after it")
}

func TestApplyDelaysErrors(t *testing.T) {
	for _, tt := range []struct {
		name, delays string
		change       func(symbolTable, *fakeStub)
		err          string
	}{
		{name: "no such symbol", delays: "nosuchsymbol=1s", err: "delay: this kernel has no symbol nosuchsymbol"},
		{name: "ambiguous", delays: "twice=1s", err: "delay: this kernel has 2 symbols twice, which one is not clear"},
		{
			name: "no entry of ftrace's", delays: "assembly=1s",
			err: "delay: assembly begins with cccccccccccccccccc, not with the NOP that ftrace keeps there: it is no function, not traceable, or changed by a poke",
		},
		{
			name: "no room", delays: "f=1s", change: func(s symbolTable, _ *fakeStub) { delete(s, "machine_real_restart") },
			err: "delay: the code that waits: no 155 bytes are free in machine_real_restart, machine_kexec, native_machine_crash_shutdown of this kernel: give fewer delays",
		},
		{
			name: "no room for two", delays: "f=1s g=1s",
			change: func(s symbolTable, _ *fakeStub) { s["machine_real_restart"][0].End = room + roomHead + 155 + 15 },
			err:    "delay: g: no 10 bytes are free in machine_real_restart, machine_kexec, native_machine_crash_shutdown of this kernel: give fewer delays",
		},
		{
			name: "no msleep", delays: "f=1s", change: func(s symbolTable, _ *fakeStub) { delete(s, "msleep") },
			err: "delay: the code that waits: this kernel has no symbol msleep",
		},
		{
			name: "the write does not last", delays: "f=1s", change: func(_ symbolTable, s *fakeStub) { s.readOnly = true },
			err: "delay: the code that waits: wrote ",
		},
		{
			name: "no CPU maps it", delays: "f=1s", change: func(_ symbolTable, s *fakeStub) { s.cpus = []bool{false} },
			err: "delay: reading f at 0xffffffff81000000: no CPU maps it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stub, symbols := &fakeStub{cpus: []bool{true}, memory: delayMemory()}, delayTable()
			if tt.change != nil {
				tt.change(symbols, stub)
			}
			err := applyDelays(t, stub, symbols, tt.delays)
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), tt.err), err.Error())
		})
	}
	_, err := Prepare(t.Context(), Options{Kernel: "bookworm", Delays: []string{"f=1s"}}, "arm64", io.Discard)
	assert.EqualError(t, err, "-delay: only for amd64, not for arm64")
}

// Which kernel is asked for what.
func TestSleepRule(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(symbolTable)
		want   sleepRule
	}{
		{"v6.2 to v6.14", func(symbolTable) {}, sleepRule{counted: true, count: 0x1fb88, nested: true, current: 0x1fb80, nesting: 0x97c}},
		{
			"v6.1, v6.15 and later",
			func(s symbolTable) { s["__preempt_count"] = s["msleep"] },
			sleepRule{counted: true, count: 0x81100000, nested: true, current: 0x1fb80, nesting: 0x97c},
		},
		{"without a preemptible RCU", func(s symbolTable) { delete(s, "__rcu_read_lock") }, sleepRule{counted: true, count: 0x1fb88}},
		{
			"without CONFIG_PREEMPT_COUNT",
			func(s symbolTable) { delete(s, "preempt_schedule") },
			sleepRule{count: 0x1fb88, callers: delayTable()["process_one_work"]},
		},
		{
			"without CONFIG_KALLSYMS_ALL",
			func(s symbolTable) { delete(s, "pcpu_hot") },
			sleepRule{callers: delayTable()["process_one_work"]},
		},
		{
			"with an __rcu_read_lock() that is not understood",
			func(s symbolTable) { s["__rcu_read_lock"] = s["f"] },
			sleepRule{count: 0x1fb88, callers: delayTable()["process_one_work"]},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			symbols := delayTable()
			tt.change(symbols)
			stub := &fakeStub{memory: delayMemory()}
			r, err := newSleepRule(func(at, size uint64) ([]byte, error) { return hex.DecodeString(stub.read(at, int(size))) }, symbols)
			require.NoError(t, err)
			assert.Equal(t, tt.want, r)
			_, err = assembleWaiter(room, r, symbols)
			assert.NoError(t, err)
		})
	}
}
