package vm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// A Delay makes each call of a kernel function wait first. A call that may
// sleep sleeps. All others busy-wait, for [MaxBusyWait] at most.
type Delay struct {
	// Symbol is the function.
	Symbol string
	// Wait is how long each call waits, in whole milliseconds.
	Wait time.Duration
}

// Bounds of what a call waits.
const (
	MinDelay = time.Millisecond // the kernel's msleep() knows no less
	MaxDelay = 10 * time.Second // a sixth of the suite's own limit for an operation
	// MaxBusyWait bounds the wait of a call that may not sleep. An interrupt
	// handler that takes longer loses timer ticks of a kernel with HZ=250.
	MaxBusyWait = 20 * time.Millisecond
)

const delaySyntax = "want SYMBOL=DURATION, such as cpuset_hotplug_workfn=200ms"

// waitItself are the functions that a busy wait runs. If one of them waited, it
// would call itself.
var waitItself = []string{"__udelay", "__const_udelay", "__delay", "delay_tsc", "delay_loop", "delay_halt", "delay_halt_tpause"}

// ParseDelay parses SYMBOL=DURATION, where DURATION is as in
// [time.ParseDuration].
func ParseDelay(s string) (Delay, error) {
	bad := func(format string, args ...any) (Delay, error) {
		return Delay{}, fmt.Errorf("delay %q: %s; %s", s, fmt.Sprintf(format, args...), delaySyntax)
	}
	symbol, text, ok := strings.Cut(s, "=")
	if !ok {
		return bad("no '='")
	}
	if symbol == "" || strings.ContainsAny(symbol, " \t\n+:{}") {
		return bad("no symbol of a function")
	}
	wait, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return bad("bad duration")
	case wait < MinDelay || wait > MaxDelay:
		return bad("%v is not between %v and %v", wait, MinDelay, MaxDelay)
	case wait%time.Millisecond != 0:
		return bad("%v is not in whole milliseconds", wait)
	case slices.Contains(waitItself, symbol):
		return bad("the wait itself calls it")
	}
	return Delay{symbol, wait}, nil
}

// parseDelays parses the delays of one VM.
func parseDelays(texts []string) (delays, error) {
	var all delays
	for _, text := range texts {
		d, err := ParseDelay(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other Delay) bool { return other.Symbol == d.Symbol }) {
			return nil, fmt.Errorf("delay %q: %s is delayed already", text, d.Symbol)
		}
		all = append(all, d)
	}
	return all, nil
}

// delays are all delays of one VM. They share the code that waits.
type delays []Delay

// symbols returns the symbols that the delays need the addresses of, if the
// kernel has them.
func (d delays) symbols() []string {
	if len(d) == 0 {
		return nil
	}
	names := slices.Concat(stubSymbols, callers, rooms)
	for _, delay := range d {
		names = append(names, delay.Symbol)
	}
	return names
}

// The five bytes that a function keeps for ftrace: a NOP, in the forms that
// kernels on CPUs of Intel and AMD choose.
var ftraceNOPs = [][]byte{
	{0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x66, 0x66, 0x66, 0x66, 0x90}, // v5.10 without NOPL
}

// What comes before them in a kernel that is built with CONFIG_X86_KERNEL_IBT:
// ENDBR64, or what the kernel writes over it if nobody calls the function by
// its address.
var endbrs = [][]byte{
	{0xf3, 0x0f, 0x1e, 0xfa},
	{0x0f, 0x1f, 0x40, 0x00}, // nopl 0(%rax)
	{0x66, 0x0f, 0x1f, 0x00}, // nopw (%rax), v5.18
	{0x0f, 0x1f, 0x40, 0xd6}, // nopl -42(%rax), v6.15
}

// ftraceEntry returns the offset of the five bytes in the text of a function.
func ftraceEntry(text []byte) (offset int, ok bool) {
	for _, endbr := range endbrs {
		if bytes.HasPrefix(text, endbr) {
			offset = len(endbr)
		}
	}
	text = text[offset:]
	return offset, slices.ContainsFunc(ftraceNOPs, func(nop []byte) bool { return bytes.HasPrefix(text, nop) })
}

// entrySize is how much of a function ftraceEntry needs to see.
const entrySize = 4 + callSize

// apply writes the code that waits into text that nothing uses, and a call of
// it over the five bytes of each function. The guest stands still meanwhile.
func (d delays) apply(stub *gdbStub, symbols symbolTable) error {
	entries := make([]uint64, len(d))
	for i, delay := range d {
		var err error
		if entries[i], err = delay.entry(stub, symbols); err != nil {
			return fmt.Errorf("delay: %w", err)
		}
	}
	rule, err := newSleepRule(stub.read, symbols)
	if err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	free := freeText(symbols)
	write := func(assemble func(at uint64) ([]byte, error)) (at uint64, err error) {
		code, err := assemble(0) // for its size
		if err != nil {
			return 0, err
		}
		if at, err = free.take(len(code)); err != nil {
			return 0, err
		}
		if code, err = assemble(at); err != nil {
			return 0, err
		}
		return at, stub.write(at, code)
	}
	waiter, err := write(func(at uint64) ([]byte, error) { return assembleWaiter(at, rule, symbols) })
	if err != nil {
		return fmt.Errorf("delay: the code that waits: %w", err)
	}
	for i, delay := range d {
		at, err := write(func(at uint64) ([]byte, error) { return assembleThunk(at, waiter, delay.Wait), nil })
		if err == nil {
			err = stub.write(entries[i], assembleCall(entries[i], at))
		}
		if err != nil {
			return fmt.Errorf("delay: %s: %w", delay.Symbol, err)
		}
	}
	return nil
}

// entry returns the address of the five bytes at the entry of the function.
func (d Delay) entry(stub *gdbStub, symbols symbolTable) (uint64, error) {
	symbol, err := symbols.one(d.Symbol)
	if err != nil {
		return 0, err
	}
	text, err := stub.read(symbol.Address, entrySize)
	if err != nil {
		return 0, fmt.Errorf("reading %s at %#x: %w", d.Symbol, symbol.Address, err)
	}
	offset, ok := ftraceEntry(text)
	if !ok {
		return 0, fmt.Errorf("%s begins with %s, not with the NOP that ftrace keeps there: it is no function, not traceable, or changed by a poke",
			d.Symbol, hex.EncodeToString(text))
	}
	return symbol.Address + uint64(offset), nil
}

// rooms are functions whose text nothing runs in the guest: they reboot by the
// BIOS, which QEMU's machine does not need, or run another kernel by kexec,
// which the guest does not have.
var rooms = []string{"machine_real_restart", "machine_kexec", "native_machine_crash_shutdown"}

// roomHead is kept of each room: ftrace knows of the NOP in it.
const roomHead = 16

// freeRooms are what is left of the rooms.
type freeRooms []wire.Symbol

func freeText(symbols symbolTable) freeRooms {
	var free freeRooms
	for _, name := range rooms {
		for _, s := range symbols[name] {
			if s.End > s.Address+roomHead {
				free = append(free, wire.Symbol{Address: s.Address + roomHead, End: s.End})
			}
		}
	}
	return free
}

// take returns the address of room for so many bytes.
func (f freeRooms) take(size int) (uint64, error) {
	for i := range f {
		if f[i].End-f[i].Address >= uint64(size) {
			at := f[i].Address
			f[i].Address += uint64(size)
			return at, nil
		}
	}
	return 0, fmt.Errorf("no %d bytes are free in %s of this kernel: give fewer delays", size, strings.Join(rooms, ", "))
}
