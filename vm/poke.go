package vm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// Poke is a change of the guest kernel's text: it brings an old bug back, or
// breaks something on purpose.
type Poke struct {
	Symbol string // a function
	Offset uint64 // from its start, in bytes
	Callee string // change each call of this function in Symbol; "": change what is at the offset
	Code   string // what to write, as in ParsePoke
}

const pokeSyntax = "want SYMBOL[+OFFSET]=CODE or CALLER:CALLEE=CODE, where CODE is hex with {SYMBOL} for a distance, " +
	"ret or ret0 for a symbol, nop for a call"

// callSize is the size of a call in bytes: of its opcode and the distance to
// go.
const callSize = 5

// ParsePoke reads SYMBOL[+OFFSET]=CODE or CALLER:CALLEE=CODE. OFFSET is decimal
// or 0x….
//
// CODE is hex, in memory order. {SYMBOL} in it stands for four bytes: the
// distance to the symbol from behind them, as in e8{SYMBOL}, a call. In the
// place of a call CODE has its five bytes. Names for CODE are:
//   - ret, for a function: return at once.
//   - ret0, for a function: return 0 at once.
//   - nop, for a call: don't. What the caller takes for the result is what was in the register.
//
// A call is also a jump by which the caller ends. All calls of CALLEE are
// changed, and there must be one. What the compiler moved out of a function is
// a function of its own: f.cold, f.part.0.
func ParsePoke(s string) (Poke, error) {
	bad := func(what string) (Poke, error) {
		return Poke{}, fmt.Errorf("poke %q: %s; %s", s, what, pokeSyntax)
	}
	where, code, ok := strings.Cut(s, "=")
	if !ok {
		return bad("no '='")
	}
	p := Poke{Code: code}
	var call, plus bool
	var offset string
	p.Symbol, p.Callee, call = strings.Cut(where, ":")
	if !call {
		p.Symbol, offset, plus = strings.Cut(where, "+")
	}
	if p.Symbol == "" || call && p.Callee == "" {
		return bad("no symbol")
	}
	if plus {
		var err error
		if p.Offset, err = strconv.ParseUint(offset, 0, 32); err != nil {
			return bad("bad offset")
		}
	}
	switch {
	case code == "nop" && call, (code == "ret" || code == "ret0") && !call:
		return p, nil
	}
	size := 0
	for piece := range pieces(code) {
		switch {
		case piece.symbol != "":
			size += 4
		case len(piece.bytes) == 0:
			return bad("bad code")
		}
		size += len(piece.bytes)
	}
	if size == 0 {
		return bad("bad code")
	}
	if call && size != callSize {
		return bad(fmt.Sprintf("%d bytes for a call of %d", size, callSize))
	}
	return p, nil
}

// piece is a part of a poke's code: bytes, or the distance to a symbol. One
// that is neither is not understood.
type piece struct {
	bytes  []byte
	symbol string
}

// pieces takes hex with {SYMBOL} apart.
func pieces(code string) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for code != "" {
			var p piece
			if name, ok := strings.CutPrefix(code, "{"); ok {
				if p.symbol, code, ok = strings.Cut(name, "}"); !ok {
					p.symbol = ""
				}
			} else {
				digits := code
				if at := strings.IndexByte(code, '{'); at >= 0 {
					digits = code[:at]
				}
				code = code[len(digits):]
				var err error
				if p.bytes, err = hex.DecodeString(digits); err != nil {
					p.bytes = nil
				}
			}
			if !yield(p) {
				return
			}
		}
	}
}

// symbols are those that the poke needs the addresses of.
func (p *Poke) symbols() []string {
	names := []string{p.Symbol}
	if p.Callee != "" {
		names = append(names, p.Callee)
	}
	switch p.Code {
	case "ret", "ret0", "nop":
		return names
	}
	for piece := range pieces(p.Code) {
		if piece.symbol != "" {
			names = append(names, piece.symbol)
		}
	}
	return names
}

// symbolTable is where the guest has the symbols that were asked for.
type symbolTable map[string][]wire.Symbol

// one returns the symbol of a name that only one has.
func (t symbolTable) one(name string) (wire.Symbol, error) {
	switch at := t[name]; len(at) {
	case 1:
		return at[0], nil
	case 0:
		return wire.Symbol{}, fmt.Errorf("this kernel has no symbol %s", name)
	default:
		return wire.Symbol{}, fmt.Errorf("this kernel has %d symbols %s, which one is not clear", len(at), name)
	}
}

// apply writes the pokes, and after them the delays, into the running guest,
// through QEMU's gdb stub at the Unix socket gdb. The guest stands still
// meanwhile.
func apply(pokes []Poke, delays delays, m machine, symbols symbolTable, gdb string) error {
	conn, err := net.Dial("unix", gdb)
	if err != nil {
		return fmt.Errorf("poke: QEMU's gdb stub: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	stub := &gdbStub{conn: conn, r: bufio.NewReader(conn)}
	for _, p := range pokes {
		if err := p.apply(stub, m, symbols); err != nil {
			return fmt.Errorf("poke: %w", err)
		}
	}
	if len(delays) > 0 {
		if err := delays.apply(stub, symbols); err != nil {
			return err
		}
	}
	if _, err := stub.call("D"); err != nil {
		return fmt.Errorf("poke: detach from the gdb stub: %w", err)
	}
	return nil
}

func (p *Poke) apply(stub *gdbStub, m machine, symbols symbolTable) error {
	symbol, err := symbols.one(p.Symbol)
	if err != nil {
		return err
	}
	if p.Callee == "" {
		at := symbol.Address + p.Offset
		code, err := p.assemble(m, symbols, at, false)
		if err != nil {
			return err
		}
		if err := stub.write(at, code); err != nil {
			return fmt.Errorf("%s+%#x at %#x: %w", p.Symbol, p.Offset, at, err)
		}
		return nil
	}

	if !m.calls {
		return fmt.Errorf("%s:%s: only of amd64 it is known how calls look", p.Symbol, p.Callee)
	}
	if len(symbols[p.Callee]) == 0 {
		return fmt.Errorf("this kernel has no symbol %s", p.Callee)
	}
	// A function has a bound that no function reaches: what comes next in
	// memory can be far behind the last one.
	text, err := stub.read(symbol.Address, min(symbol.End-symbol.Address, 1<<16))
	if err != nil {
		return fmt.Errorf("reading %s at %#x: %w", p.Symbol, symbol.Address, err)
	}
	calls := findCalls(text, symbol.Address, symbols[p.Callee])
	if len(calls) == 0 {
		return fmt.Errorf("%s, %d bytes at %#x, does not call %s: is that inlined, or called by %[1]s.cold?", p.Symbol, len(text), symbol.Address, p.Callee)
	}
	for _, call := range calls {
		code, err := p.assemble(m, symbols, call.at, call.jump)
		if err != nil {
			return err
		}
		if err := stub.write(call.at, code); err != nil {
			return fmt.Errorf("%s:%s at %#x: %w", p.Symbol, p.Callee, call.at, err)
		}
	}
	return nil
}

// assemble makes the bytes to write at an address, where jump tells that they
// replace the caller's last instruction.
func (p *Poke) assemble(m machine, symbols symbolTable, at uint64, jump bool) ([]byte, error) {
	switch p.Code {
	case "ret":
		return m.ret, nil
	case "ret0":
		if m.ret0 == nil {
			return nil, fmt.Errorf("%s=ret0: of this architecture only ret is known", p.Symbol)
		}
		return m.ret0, nil
	case "nop":
		if jump {
			return append(bytes.Clone(m.ret), 0x90, 0x90, 0x90, 0x90), nil
		}
		return []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}, nil
	}
	var code []byte
	for piece := range pieces(p.Code) {
		code = append(code, piece.bytes...)
		if piece.symbol == "" {
			continue
		}
		if !m.calls {
			return nil, fmt.Errorf("{%s}: only of amd64 it is known how distances are written", piece.symbol)
		}
		to, err := symbols.one(piece.symbol)
		if err != nil {
			return nil, err
		}
		behind := at + uint64(len(code)) + 4
		code = binary.LittleEndian.AppendUint32(code, uint32(to.Address-behind))
	}
	return code, nil
}

// call is where a function calls another one.
type call struct {
	at   uint64
	jump bool // it does not come back
}

// findCalls finds the calls of any of the callees in text that is at an
// address: the opcodes of x86 with the distance to one of them. In the middle
// of another instruction these five bytes do not occur by chance.
func findCalls(text []byte, at uint64, callees []wire.Symbol) (calls []call) {
	for i := 0; i+callSize <= len(text); i++ {
		if text[i] != 0xe8 && text[i] != 0xe9 {
			continue
		}
		distance := int32(binary.LittleEndian.Uint32(text[i+1:]))
		to := at + uint64(i) + callSize + uint64(int64(distance))
		if slices.ContainsFunc(callees, func(s wire.Symbol) bool { return s.Address == to }) {
			calls = append(calls, call{at + uint64(i), text[i] == 0xe9})
		}
	}
	return calls
}

// gdbStub speaks the GDB remote serial protocol: $DATA#CHECKSUM, each packet
// acknowledged by a plus sign.
type gdbStub struct {
	conn net.Conn
	r    *bufio.Reader
}

func (g *gdbStub) call(packet string) (string, error) {
	if _, err := fmt.Fprintf(g.conn, "$%s#%02x", packet, checksum(packet)); err != nil {
		return "", err
	}
	for {
		if _, err := g.r.ReadString('$'); err != nil {
			return "", err
		}
		reply, err := g.r.ReadString('#')
		if err != nil {
			return "", err
		}
		if _, err := g.r.Discard(2); err != nil {
			return "", err
		}
		if _, err := g.conn.Write([]byte("+")); err != nil {
			return "", err
		}
		// A stop notice is no reply: attaching sends one on some versions.
		if reply[0] != 'T' && reply[0] != 'S' {
			return strings.TrimSuffix(reply, "#"), nil
		}
	}
}

// onAnyCPU tries f with one CPU selected after the other, until it has done
// what it should. Any CPU's page tables may serve: one that runs a user process
// on a kernel with page table isolation does not map the kernel.
func (g *gdbStub) onAnyCPU(f func() (done bool, err error)) error {
	for cpu := 1; ; cpu++ {
		reply, err := g.call(fmt.Sprintf("Hg%x", cpu))
		if err != nil {
			return err
		}
		if reply != "OK" {
			return errors.New("no CPU maps it")
		}
		if done, err := f(); done || err != nil {
			return err
		}
	}
}

// write writes to a virtual address and reads it back.
func (g *gdbStub) write(addr uint64, code []byte) error {
	return g.onAnyCPU(func() (bool, error) {
		reply, err := g.call(fmt.Sprintf("M%x,%x:%x", addr, len(code), code))
		if err != nil || reply != "OK" {
			return false, err
		}
		back, err := g.call(fmt.Sprintf("m%x,%x", addr, len(code)))
		if err != nil {
			return false, err
		}
		if got, _ := hex.DecodeString(back); !bytes.Equal(got, code) {
			return false, fmt.Errorf("wrote %x, but it reads %s", code, back)
		}
		return true, nil
	})
}

// readSize is how much is read at once. QEMU's packets have 4096 hex digits at
// most.
const readSize = 1024

// read reads from a virtual address.
func (g *gdbStub) read(addr, size uint64) (text []byte, err error) {
	err = g.onAnyCPU(func() (bool, error) {
		text = text[:0]
		for uint64(len(text)) < size {
			want := min(readSize, size-uint64(len(text)))
			reply, err := g.call(fmt.Sprintf("m%x,%x", addr+uint64(len(text)), want))
			if err != nil {
				return false, err
			}
			part, err := hex.DecodeString(reply)
			if err != nil || uint64(len(part)) != want {
				return false, nil // an error reply: not mapped
			}
			text = append(text, part...)
		}
		return true, nil
	})
	return text, err
}

func checksum(s string) (sum byte) {
	for i := range len(s) {
		sum += s[i]
	}
	return sum
}
