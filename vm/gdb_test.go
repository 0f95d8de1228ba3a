package vm

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// load writes hex to a memory.
func load(memory map[uint64]byte, addr uint64, digits string) {
	data, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	for i, b := range data {
		memory[addr+uint64(i)] = b
	}
}

// fakeStub is as much of QEMU's gdb stub as apply uses.
type fakeStub struct {
	cpus     []bool // whether each maps the kernel
	greeting string
	readOnly bool
	goneAt   string // the first letter of the packet that it hangs up on

	memory   map[uint64]byte
	detached bool
	cpu      int
}

func (s *fakeStub) read(addr uint64, size int) string {
	data := make([]byte, size)
	for i := range data {
		data[i] = s.memory[addr+uint64(i)]
	}
	return hex.EncodeToString(data)
}

// serve answers one connection. The channel is closed when that has ended.
func (s *fakeStub) serve(t *testing.T, socket string) <-chan struct{} {
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer listener.Close()
		conn, err := listener.Accept()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, s.greeting)
		r := bufio.NewReader(conn)
		for {
			packet, err := r.ReadString('#')
			if err != nil {
				return
			}
			sum := make([]byte, 2)
			if _, err := io.ReadFull(r, sum); err != nil {
				return
			}
			packet = strings.TrimSuffix(strings.TrimLeft(packet, "+$"), "#")
			if want := fmt.Sprintf("%02x", checksum(packet)); want != string(sum) {
				// As the real one does, which makes the debugger send it again.
				_, _ = io.WriteString(conn, "-")
				t.Errorf("packet %q has the checksum %s, not %s", packet, sum, want)
				return
			}
			if s.goneAt != "" && strings.HasPrefix(packet, s.goneAt) {
				return
			}
			reply := s.answer(packet)
			_, _ = fmt.Fprintf(conn, "+$%s#%02x", reply, checksum(reply))
		}
	}()
	return done
}

func (s *fakeStub) answer(packet string) string {
	var addr uint64
	var size int
	switch packet[0] {
	case 'H':
		if _, err := fmt.Sscanf(packet, "Hg%x", &s.cpu); err != nil || s.cpu < 1 || s.cpu > len(s.cpus) {
			return "E22"
		}
		return "OK"
	case 'M':
		var code string
		if _, err := fmt.Sscanf(packet, "M%x,%x:%s", &addr, &size, &code); err != nil || len(code) != 2*size {
			return "E22"
		}
		if !s.cpus[s.cpu-1] {
			return "E14"
		}
		if !s.readOnly {
			load(s.memory, addr, code)
		}
		return "OK"
	case 'm':
		if _, err := fmt.Sscanf(packet, "m%x,%x", &addr, &size); err != nil || size > 2048 {
			return "E22"
		}
		if !s.cpus[s.cpu-1] {
			return "E14"
		}
		return s.read(addr, size)
	case 'D':
		s.detached = true
		return "OK"
	}
	return ""
}
