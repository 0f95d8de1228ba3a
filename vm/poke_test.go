package vm

import (
	"fmt"
	"math/bits"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePoke(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Poke
		err  string
	}{
		{in: "cpuset_wait_for_hotplug=ret", want: Poke{Symbol: "cpuset_wait_for_hotplug", Code: "ret"}},
		{in: "_cpu_up+0x1a3=9090909090", want: Poke{Symbol: "_cpu_up", Offset: 0x1a3, Code: "9090909090"}},
		{in: "_cpu_up+16=C3", want: Poke{Symbol: "_cpu_up", Offset: 16, Code: "C3"}},
		{in: "f+0=ret0", want: Poke{Symbol: "f", Code: "ret0"}},
		{in: "f.isra.0=c3", want: Poke{Symbol: "f.isra.0", Code: "c3"}},
		{in: "_cpu_up:cpuset_wait_for_hotplug=nop", want: Poke{Symbol: "_cpu_up", Callee: "cpuset_wait_for_hotplug", Code: "nop"}},
		{in: "f.cold:g.part.0=b801000000", want: Poke{Symbol: "f.cold", Callee: "g.part.0", Code: "b801000000"}},
		{in: "f:g=e8{h}", want: Poke{Symbol: "f", Callee: "g", Code: "e8{h}"}},
		{in: "f=57e8{g}5fe9{h.isra.0}", want: Poke{Symbol: "f", Code: "57e8{g}5fe9{h.isra.0}"}},
		{in: "", err: "no '='"},
		{in: "cpuset_wait_for_hotplug", err: "no '='"},
		{in: "=ret", err: "no symbol"},
		{in: "+4=ret", err: "no symbol"},
		{in: ":g=nop", err: "no symbol"},
		{in: "f:=nop", err: "no symbol"},
		{in: "f+=ret", err: "bad offset"},
		{in: "f+-4=ret", err: "bad offset"},
		{in: "f+four=ret", err: "bad offset"},
		{in: "f+0x100000000=ret", err: "bad offset"},
		{in: "f=", err: "bad code"},
		{in: "f=c", err: "bad code"},
		{in: "f=0xc3", err: "bad code"},
		{in: "f=return", err: "bad code"},
		{in: "f=ret=ret", err: "bad code"},
		{in: "f=nop", err: "bad code"},
		{in: "f:g=ret", err: "bad code"},
		{in: "f=e8{}", err: "bad code"},
		{in: "f=e8{g", err: "bad code"},
		{in: "f=e8g}", err: "bad code"},
		{in: "f:g=90", err: "1 bytes for a call of 5"},
		{in: "f:g=e8{h}90", err: "6 bytes for a call of 5"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			p, err := ParsePoke(tt.in)
			if tt.err != "" {
				assert.EqualError(t, err, fmt.Sprintf("poke %q: %s; %s", tt.in, tt.err, pokeSyntax))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, p)
		})
	}
}

// What is accepted can be written down again from what was understood.
func FuzzParsePoke(f *testing.F) {
	for _, s := range []string{
		"cpuset_wait_for_hotplug=ret", "_cpu_up+0x1a3=9090", "_cpu_up+16=C3", "f+0=ret", "=ret", "f+=ret", "f=", "+", "f+1_0=00",
		"f:g=nop", "f:g=e8{h}", "f=57e8{g}5fc3", "f={}", "f={{g}}", "f=}{",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePoke(s)
		if err != nil {
			assert.Equal(t, Poke{}, p)
			assert.NotContains(t, err.Error(), "\n", "the error is one line")
			return
		}
		assert.NotContains(t, p.symbols(), "")
		assert.NotEmpty(t, p.Code)
		where := fmt.Sprintf("%s+%d", p.Symbol, p.Offset)
		if p.Callee != "" {
			where = p.Symbol + ":" + p.Callee
		}
		again, err := ParsePoke(where + "=" + p.Code)
		require.NoError(t, err)
		assert.Equal(t, p, again)
	})
}

func TestApply(t *testing.T) {
	const at = 0xffffffff81234560
	symbols := symbolTable{
		"f":     {{Address: at, End: at + 0x20}},
		"g":     {{Address: at + 0x100, End: at + 0x110}},
		"twice": {{Address: at, End: at + 0x20}, {Address: at + 8, End: at + 0x20}},
		// Distances from what is behind the calls below.
		"near":  {{Address: at - 0xb, End: at}},
		"far":   {{Address: at + 0x10a + 0x1000, End: at + 0x2000}},
		"empty": {{Address: at + 0x110, End: at + 0x110}},
	}
	// f calls near twice, at 0 and at 6; the second time as the last thing it
	// does. g calls far at 5.
	memory := func() map[uint64]byte {
		m := make(map[uint64]byte)
		for i := range uint64(0x200) {
			m[at+i] = 0xcc
		}
		load(m, at, "e8f0ffffff"+"90"+"e9eaffffff")
		load(m, at+0x105, "e800100000")
		return m
	}
	amd64 := machine{ret: []byte{0xc3}, ret0: []byte{0x31, 0xc0, 0xc3}, calls: true}
	one := []bool{true}
	for _, tt := range []struct {
		name    string
		pokes   string // separated by blanks
		machine *machine
		stub    fakeStub
		want    map[uint64]string // memory after it
		err     string
	}{
		{
			name:  "return at once",
			pokes: "f=ret",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at: "c3f0"},
		},
		{
			name:  "return 0 at once",
			pokes: "f=ret0",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at: "31c0c3ff"},
		},
		{
			name:  "two, one with an offset and bytes",
			pokes: "f+5=9024 g=ret",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at + 5: "9024", at + 0x100: "c3cc"},
		},
		{
			name:  "distances to symbols",
			pokes: "g=57e8{near}e9{far}",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at + 0x100: "57" + "e8effeffff" + "e9ff0f0000" + "cc"},
		},
		{
			name:  "no call",
			pokes: "g:far=nop",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at + 0x104: "cc" + "0f1f440000" + "cc"},
		},
		{
			name:  "no calls, one of them a jump",
			pokes: "f:near=nop",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at: "0f1f440000" + "90" + "c390909090" + "cc"},
		},
		{
			name:  "another call",
			pokes: "g:far=e8{near}",
			stub:  fakeStub{cpus: one},
			want:  map[uint64]string{at + 0x104: "cc" + "e8ebfeffff" + "cc"},
		},
		{
			name:  "only the third CPU maps it",
			pokes: "f:near=nop",
			stub:  fakeStub{cpus: []bool{false, false, true}},
			want:  map[uint64]string{at: "0f1f440000"},
		},
		{
			name:  "a stop notice comes first",
			pokes: "f=ret",
			stub:  fakeStub{cpus: one, greeting: "$T05thread:01;#07"},
			want:  map[uint64]string{at: "c3"},
		},
		{
			name:  "no CPU maps it",
			pokes: "f=ret",
			stub:  fakeStub{cpus: []bool{false, false}},
			err:   "poke: f+0x0 at 0xffffffff81234560: no CPU maps it",
		},
		{
			name:  "no CPU maps the caller",
			pokes: "f:near=nop",
			stub:  fakeStub{cpus: []bool{false}},
			err:   "poke: reading f at 0xffffffff81234560: no CPU maps it",
		},
		{
			name:  "the write does not last",
			pokes: "f+2=c3",
			stub:  fakeStub{cpus: one, readOnly: true},
			err:   "poke: f+0x2 at 0xffffffff81234562: wrote c3, but it reads ff",
		},
		{
			name:  "no such symbol",
			pokes: "nosuchsymbol=ret",
			stub:  fakeStub{cpus: one},
			err:   "poke: this kernel has no symbol nosuchsymbol",
		},
		{
			name:  "no such callee",
			pokes: "f:nosuchsymbol=nop",
			stub:  fakeStub{cpus: one},
			err:   "poke: this kernel has no symbol nosuchsymbol",
		},
		{
			name:  "no such symbol to call instead",
			pokes: "g:far=e8{nosuchsymbol}",
			stub:  fakeStub{cpus: one},
			err:   "poke: this kernel has no symbol nosuchsymbol",
		},
		{
			name:  "ambiguous symbol",
			pokes: "twice=ret",
			stub:  fakeStub{cpus: one},
			err:   "poke: this kernel has 2 symbols twice, which one is not clear",
		},
		{
			name:  "not called",
			pokes: "f:far=nop",
			stub:  fakeStub{cpus: one},
			err:   "poke: f, 32 bytes at 0xffffffff81234560, does not call far: is that inlined, or called by f.cold?",
		},
		{
			name:  "a function of no size",
			pokes: "empty:far=nop",
			stub:  fakeStub{cpus: one},
			err:   "poke: empty, 0 bytes at 0xffffffff81234670, does not call far: is that inlined, or called by empty.cold?",
		},
		{
			name:    "calls of another architecture",
			pokes:   "f:near=nop",
			machine: &machine{ret: []byte{0x07, 0xfe}},
			stub:    fakeStub{cpus: one},
			err:     "poke: f:near: only of amd64 it is known how calls look",
		},
		{
			name:    "distances of another architecture",
			pokes:   "f=00{near}",
			machine: &machine{ret: []byte{0x07, 0xfe}},
			stub:    fakeStub{cpus: one},
			err:     "poke: {near}: only of amd64 it is known how distances are written",
		},
		{
			name:    "0 of another architecture",
			pokes:   "f=ret0",
			machine: &machine{ret: []byte{0x07, 0xfe}},
			stub:    fakeStub{cpus: one},
			err:     "poke: f=ret0: of this architecture only ret is known",
		},
		{
			name:  "the stub goes away at once",
			pokes: "f=ret",
			stub:  fakeStub{cpus: one, goneAt: "H"},
			err:   "poke: f+0x0 at 0xffffffff81234560: EOF",
		},
		{
			name:  "the stub goes away at the write",
			pokes: "f=ret",
			stub:  fakeStub{cpus: one, goneAt: "M"},
			err:   "poke: f+0x0 at 0xffffffff81234560: EOF",
		},
		{
			name:  "the stub goes away at the read",
			pokes: "f:near=nop",
			stub:  fakeStub{cpus: one, goneAt: "m"},
			err:   "poke: reading f at 0xffffffff81234560: EOF",
		},
		{
			name:  "the stub goes away before it lets the guest go on",
			pokes: "f=ret",
			stub:  fakeStub{cpus: one, goneAt: "D"},
			err:   "poke: detach from the gdb stub: EOF",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pokes []Poke
			for text := range strings.FieldsSeq(tt.pokes) {
				p, err := ParsePoke(text)
				require.NoError(t, err)
				pokes = append(pokes, p)
			}
			m := amd64
			if tt.machine != nil {
				m = *tt.machine
			}
			socket := filepath.Join(t.TempDir(), "gdb")
			tt.stub.memory = memory()
			done := tt.stub.serve(t, socket)
			err := apply(pokes, nil, m, symbols, socket)
			<-done
			if tt.err != "" {
				assert.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			for addr, want := range tt.want {
				assert.Equalf(t, want, tt.stub.read(addr, len(want)/2), "at %#x", addr)
			}
			assert.True(t, tt.stub.detached, "the guest stands still until the debugger detaches")
		})
	}
	t.Run("no stub", func(t *testing.T) {
		err := apply([]Poke{{Symbol: "f", Code: "ret"}}, nil, amd64, symbols, filepath.Join(t.TempDir(), "gdb"))
		assert.ErrorContains(t, err, "poke: QEMU's gdb stub: dial unix ")
		assert.ErrorContains(t, err, "no such file or directory")
	})
}

// A function can be larger than what the stub reads at once.
func TestFindInLargeFunction(t *testing.T) {
	const at, size = 0xffffffff81000000, 3*readSize + 100
	stub := fakeStub{cpus: []bool{true}, memory: make(map[uint64]byte)}
	for i := range uint64(size) {
		stub.memory[at+i] = 0x90
	}
	// Across the end of a read.
	const calls = at + 2*readSize - 3
	load(stub.memory, calls, "e8"+fmt.Sprintf("%08x", bits.ReverseBytes32(size-2*readSize-2)))
	socket := filepath.Join(t.TempDir(), "gdb")
	done := stub.serve(t, socket)
	symbols := symbolTable{"f": {{Address: at, End: at + size}}, "g": {{Address: at + size, End: at + size + 1}}}
	err := apply([]Poke{{Symbol: "f", Callee: "g", Code: "nop"}}, nil, machines["amd64"], symbols, socket)
	<-done
	require.NoError(t, err)
	assert.Equal(t, "90"+"0f1f440000"+"90", stub.read(calls-1, 7))
}

func TestSymbols(t *testing.T) {
	for in, want := range map[string][]string{
		"f=ret":               {"f"},
		"f+4=c3":              {"f"},
		"f:g=nop":             {"f", "g"},
		"f:g=e8{h}":           {"f", "g", "h"},
		"f=57e8{g}5fe9{h}":    {"f", "g", "h"},
		"f.cold:g.isra.0=nop": {"f.cold", "g.isra.0"},
	} {
		p, err := ParsePoke(in)
		require.NoError(t, err)
		assert.Equal(t, want, p.symbols(), in)
	}
}

// The examples are from GDB's manual and from QEMU.
func TestChecksum(t *testing.T) {
	for packet, want := range map[string]byte{"": 0, "OK": 0x9a, "E22": 0xa9, "D": 0x44, "T05thread:01;": 0x07} {
		assert.Equalf(t, want, checksum(packet), "%q", packet)
	}
}
