package vm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// The code that waits, for amd64. The entry of a delayed function calls its
// thunk, which pushes the wait and jumps to the waiter. The waiter saves all
// registers that a call may change, waits, and returns into the function.
//
// Whether a call may sleep is decided when it comes, because a function may be
// called with a spinlock held and without one. It may sleep if
//
//   - interrupts are enabled, and
//   - the kernel's count of what forbids preemption is zero: no spinlock is
//     held, and this is no interrupt, softirq or idle thread, and
//   - it is in no read-side critical section of a preemptible RCU, in which
//     the kernel would warn, and
//   - it is not called by a sleep of this code.
//
// A kernel without CONFIG_PREEMPT_COUNT, such as Debian's 5.10, does not count
// spinlocks. There, a call may sleep if its caller is one of [callers], which
// hold none when they call.
//
// A task that has set its state because it is about to sleep wakes up early
// then. Each waiter in the kernel must bear that.

// stubSymbols are what the stub calls or looks at. The first two must exist.
var stubSymbols = []string{"msleep", "__udelay", "preempt_schedule", "__rcu_read_lock", "__preempt_count", "pcpu_hot"}

// callers call work and the callbacks of hotplug states. They hold no spinlock
// then, and the callbacks that may not sleep run with interrupts disabled.
var callers = []string{"process_one_work", "cpuhp_invoke_callback"}

// A sleepRule is how the waiter tells whether a call may sleep.
type sleepRule struct {
	// counted says that the kernel counts what forbids preemption, in the
	// per-CPU variable at count.
	counted bool
	count   uint32
	// nesting is the offset in the task of the number of RCU's read-side
	// critical sections, if the kernel has it there. The task is in the
	// per-CPU variable at current.
	nested           bool
	current, nesting uint32
	// callers are functions whose calls may sleep, if the kernel does not count.
	callers []wire.Symbol
}

// newSleepRule finds out what the kernel counts. read reads its text.
func newSleepRule(read func(at, size uint64) ([]byte, error), symbols symbolTable) (r sleepRule, err error) {
	// CONFIG_PREEMPTION selects CONFIG_PREEMPT_COUNT.
	r.counted = len(symbols["preempt_schedule"]) == 1
	switch {
	case len(symbols["__preempt_count"]) == 1:
		r.count = uint32(symbols["__preempt_count"][0].Address)
	case len(symbols["pcpu_hot"]) == 1: // v6.2 to v6.14
		r.count = uint32(symbols["pcpu_hot"][0].Address) + 8
	default: // without CONFIG_KALLSYMS_ALL
		r.counted = false
	}
	if lock := symbols["__rcu_read_lock"]; r.counted && len(lock) == 1 {
		text, err := read(lock[0].Address, min(lock[0].End-lock[0].Address, 64))
		if err != nil {
			return r, fmt.Errorf("reading __rcu_read_lock at %#x: %w", lock[0].Address, err)
		}
		r.current, r.nesting, r.nested = findNesting(text, lock[0].Address)
		r.counted = r.nested
	}
	if !r.counted {
		for _, name := range callers {
			r.callers = append(r.callers, symbols[name]...)
		}
	}
	return r, nil
}

// findNesting finds, in the text of __rcu_read_lock() at an address, where the
// running task is and where in it the number is that the function adds 1 to:
//
//	mov %gs:current_task, %rdx
//	mov nesting(%rdx), %eax, or addl $1, nesting(%rdx), or incl nesting(%rdx)
func findNesting(text []byte, at uint64) (current, nesting uint32, ok bool) {
	const size = 4 // of an address or a distance
	for i := range text {
		rest := text[i:]
		if len(rest) < 4 || !bytes.HasPrefix(rest, []byte{0x65, 0x48, 0x8b}) {
			continue
		}
		var behind int
		switch rest[3] &^ 0x38 {
		case 0x04: // an address
			behind, current = 5+size, 0
		case 0x05: // a distance from what is behind it
			behind = 4 + size
			current = uint32(at) + uint32(i+behind)
		default:
			continue
		}
		if len(rest) < behind+2+size {
			break
		}
		current += binary.LittleEndian.Uint32(rest[behind-size:])
		task := rest[3] >> 3 & 7 // the register
		opcode, operand := rest[behind], rest[behind+1]
		isLoad := opcode == 0x8b && operand&^0x38 == 0x80|task
		isAdd := (opcode == 0x83 || opcode == 0xff) && operand == 0x80|task
		if isLoad || isAdd {
			return current, binary.LittleEndian.Uint32(rest[behind+2:]), true
		}
	}
	return 0, 0, false
}

// Where the waiter finds what the thunk and the calls before it have pushed,
// from the stack pointer. It has pushed the flags and nine registers itself.
const (
	flagsAt  = 9 * 8
	waitAt   = flagsAt + 8 // milliseconds
	callerAt = waitAt + 16 // the address that the function returns to
)

// stackSize is the size of a task's stack, and what it is aligned to.
// CONFIG_KASAN doubles it: then half of a stack is searched.
const stackSize = 16 << 10

// assembleCall makes the code over the five bytes at the entry of a function.
func assembleCall(at, thunk uint64) []byte {
	a := &assembler{at: at}
	a.jump("e8", thunk)
	return a.code
}

// assembleThunk makes the code that the entry of a function calls.
func assembleThunk(at, waiter uint64, wait time.Duration) []byte {
	a := &assembler{at: at}
	a.imm32("68", uint32(wait.Milliseconds())) // push
	a.jump("e9", waiter)
	return a.code
}

// assembleWaiter makes the code that waits.
func assembleWaiter(at uint64, r sleepRule, symbols symbolTable) ([]byte, error) {
	msleep, err := symbols.one("msleep")
	if err != nil {
		return nil, err
	}
	udelay, err := symbols.one("__udelay")
	if err != nil {
		return nil, err
	}
	a := &assembler{at: at}
	// pushf; push %rax, %rcx, %rdx, %rsi, %rdi, %r8 to %r11
	a.hex("9c 50 51 52 56 57 4150 4151 4152 4153")
	a.maySleep(r)
	a.sleep(msleep.Address)
	a.branch("eb", "out")
	a.label("busy")
	a.busyWait(udelay.Address)
	a.label("out")
	// pop %r11 to %r8, %rdi, %rsi, %rdx, %rcx, %rax; popf
	a.hex("415b 415a 4159 4158 5f 5e 5a 59 58 9d")
	// lea 8(%rsp), %rsp, which drops the wait; ret
	a.hex("488d642408 c3")
	return a.resolve()
}

// maySleep adds a branch to "busy", if the call may not sleep.
func (a *assembler) maySleep(r sleepRule) {
	// testb $2, flags+1(%rsp): are interrupts enabled?
	a.hex(fmt.Sprintf("f64424%02x02", flagsAt+1))
	a.branch("74", "busy")
	if r.counted {
		a.imm32("658b0425", r.count) // mov %gs:count, %eax
		a.hex("01c0")                // add %eax, %eax: all but PREEMPT_NEED_RESCHED
		a.branch("75", "busy")
	} else {
		a.calledBy(r.callers)
	}
	if r.nested {
		a.imm32("65488b0425", r.current) // mov %gs:current, %rax
		a.imm32("83b8", r.nesting)       // cmpl $0, nesting(%rax)
		a.hex("00")
		a.branch("75", "busy")
	}
}

// sleep adds a call of msleep() at an address. If its return address is on this
// stack already, the call is part of that sleep: then a branch to "out".
func (a *assembler) sleep(msleep uint64) {
	a.distance("488d15", "slept")  // lea slept(%rip), %rdx
	a.hex("4889e1")                // mov %rsp, %rcx
	a.imm32("4881c9", stackSize-1) // or $(stackSize-1), %rcx
	a.hex("4889e0")                // mov %rsp, %rax
	a.label("search")
	a.hex("483910") // cmp %rdx, (%rax)
	a.branch("74", "out")
	a.hex("4883c008 4839c8") // add $8, %rax; cmp %rcx, %rax
	a.branch("72", "search")
	a.hex(fmt.Sprintf("8b7c24%02x", waitAt)) // mov wait(%rsp), %edi
	a.jump("e8", msleep)
	a.label("slept")
	// movq $0, -8(%rsp): nobody must find the address later.
	a.hex("48c74424f800000000")
}

// busyWait adds calls of __udelay() at an address, one for each millisecond.
func (a *assembler) busyWait(udelay uint64) {
	most := MaxBusyWait.Milliseconds()
	a.hex("53")                                // push %rbx
	a.hex(fmt.Sprintf("8b5c24%02x", waitAt+8)) // mov wait+8(%rsp), %ebx
	a.hex(fmt.Sprintf("83fb%02x", most))       // cmp $most, %ebx
	a.branch("76", "wait")                     // jbe wait
	a.imm32("bb", uint32(most))                // mov $most, %ebx
	a.label("wait")
	a.imm32("bf", 1000) // mov $1000, %edi
	a.jump("e8", udelay)
	a.hex("ffcb") // dec %ebx
	a.branch("75", "wait")
	a.hex("5b") // pop %rbx
}

// calledBy adds a branch to "busy", if the delayed function was not called by
// one of the functions.
func (a *assembler) calledBy(functions []wire.Symbol) {
	a.hex(fmt.Sprintf("488b4c24%02x", callerAt)) // mov caller(%rsp), %rcx
	for _, f := range functions {
		a.jump("488d05", f.Address)                // lea f(%rip), %rax
		a.hex("4889ca 4829c2")                     // mov %rcx, %rdx; sub %rax, %rdx
		a.imm32("4881fa", uint32(f.End-f.Address)) // cmp $size, %rdx
		a.branch("72", "called")                   // jb called
	}
	a.branch("eb", "busy")
	a.label("called")
}

// An assembler puts code for amd64 together.
type assembler struct {
	at     uint64 // address of the code
	code   []byte
	labels map[string]int
	fixes  []fix
}

// A fix is a distance to a label that was not known.
type fix struct {
	behind, size int // the end of its bytes in the code, and their number
	label        string
}

// hex adds bytes, which may be separated by blanks.
func (a *assembler) hex(digits string) {
	code, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		panic(err)
	}
	a.code = append(a.code, code...)
}

// imm32 adds an instruction that ends with 32 bits.
func (a *assembler) imm32(opcode string, value uint32) {
	a.hex(opcode)
	a.code = binary.LittleEndian.AppendUint32(a.code, value)
}

// jump adds an instruction that ends with the distance to an address.
func (a *assembler) jump(opcode string, to uint64) {
	a.hex(opcode)
	behind := a.at + uint64(len(a.code)) + 4
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(to-behind))
}

// branch adds a short jump to a label.
func (a *assembler) branch(opcode, label string) {
	a.hex(opcode + "00")
	a.fixes = append(a.fixes, fix{len(a.code), 1, label})
}

// distance adds an instruction that ends with the 32-bit distance to a label.
func (a *assembler) distance(opcode, label string) {
	a.hex(opcode + "00000000")
	a.fixes = append(a.fixes, fix{len(a.code), 4, label})
}

func (a *assembler) label(name string) {
	if a.labels == nil {
		a.labels = make(map[string]int)
	}
	a.labels[name] = len(a.code)
}

// resolve returns the code with all distances.
func (a *assembler) resolve() ([]byte, error) {
	for _, f := range a.fixes {
		to, ok := a.labels[f.label]
		distance := to - f.behind
		switch {
		case !ok:
			return nil, fmt.Errorf("no label %s", f.label)
		case f.size == 4:
			binary.LittleEndian.PutUint32(a.code[f.behind-4:], uint32(distance))
		case distance != int(int8(distance)):
			return nil, fmt.Errorf("%s is %d bytes away", f.label, distance)
		default:
			a.code[f.behind-1] = byte(distance)
		}
	}
	return a.code, nil
}
