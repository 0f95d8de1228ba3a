package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// monitor is QEMU's, spoken to by its QMP: a line of JSON each way. One command
// at a time is under way.
type monitor struct {
	mu      sync.Mutex
	line    *line
	ready   bool
	id      int    // of the last command
	cpus    int    // that the machine has had, once one was added
	partial []byte // of a line that is not complete
	limit   time.Duration
}

// monitorLimit bounds the wait for an answer. QEMU gives it at once, unless it
// is stopped.
const monitorLimit = 5 * time.Second

// call runs a command and returns its answer.
func (m *monitor) call(command string, arguments map[string]any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		if _, err := m.ask("qmp_capabilities", nil); err != nil {
			return nil, err
		}
		m.ready = true
	}
	return m.ask(command, arguments)
}

// ask sends a command and waits for its answer.
func (m *monitor) ask(command string, arguments map[string]any) (json.RawMessage, error) {
	m.id++
	request, err := json.Marshal(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
		ID        int            `json:"id"`
	}{command, arguments, m.id})
	if err != nil {
		return nil, err
	}
	if _, err := m.line.Write(append(request, '\n')); err != nil {
		return nil, err
	}
	if err := m.line.out.SetReadDeadline(time.Now().Add(m.limit)); err != nil {
		return nil, err
	}
	// Before the answer there may be a greeting, events, and answers that came
	// too late.
	for {
		text, err := m.receive()
		if err != nil {
			return nil, fmt.Errorf("QEMU's monitor: %s: %w", command, err)
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
			ID     int
		}
		if err := json.Unmarshal(text, &answer); err != nil || answer.ID != m.id {
			continue
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("QEMU's monitor: %s: %s", command, answer.Error.Desc)
		}
		return answer.Return, nil
	}
}

// human runs a command for people and returns what it says, in a line: there
// are faults, too.
func (m *monitor) human(command string) (string, error) {
	answer, err := m.call("human-monitor-command", map[string]any{"command-line": command})
	if err != nil {
		return "", err
	}
	var text string
	err = json.Unmarshal(answer, &text)
	return strings.Join(strings.Fields(text), " "), err
}

// receive returns the next line. What came of it before an error is kept.
func (m *monitor) receive() ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		if line, rest, ok := bytes.Cut(m.partial, []byte("\n")); ok {
			m.partial = rest
			return line, nil
		}
		n, err := m.line.Read(buf)
		m.partial = append(m.partial, buf[:n]...)
		if err != nil {
			return nil, err
		}
	}
}

// running reports whether QEMU says that the guest runs. While it sleeps (S3),
// and while QEMU itself is stopped, it does not.
func (m *monitor) running() bool {
	answer, err := m.call("query-status", nil)
	if err != nil {
		return false
	}
	var status struct{ Running bool }
	return json.Unmarshal(answer, &status) == nil && status.Running
}

// A slot is a place for a CPU.
type slot struct {
	Type  string         `json:"type"`
	Props map[string]any `json:"props"`
	Path  string         `json:"qom-path"` // of the CPU in it; "": it is free
}

// addCPU plugs a CPU into the first slot that is free. The guest learns of it
// by ACPI. QEMU dies of one CPU more than -smp …,maxcpus= says, counted from
// its start: TCG keeps what a thread of a CPU had when that is gone.
func (m *monitor) addCPU() error {
	answer, err := m.call("query-hotpluggable-cpus", nil)
	if err != nil {
		return err
	}
	var slots []slot
	if err := json.Unmarshal(answer, &slots); err != nil {
		return fmt.Errorf("QEMU's monitor: query-hotpluggable-cpus: %w", err)
	}
	slices.Reverse(slots) // QEMU lists the last first
	free := slices.IndexFunc(slots, func(s slot) bool { return s.Path == "" })
	if m.cpus == 0 {
		for _, s := range slots {
			if s.Path != "" {
				m.cpus++
			}
		}
	}
	if free < 0 || m.cpus >= len(slots) {
		return fmt.Errorf("a CPU was asked for, and the machine has had %d, which is all that QEMU has room for: give -smp N,maxcpus=MORE", m.cpus)
	}
	m.cpus++
	device := maps.Clone(slots[free].Props)
	device["driver"] = slots[free].Type
	_, err = m.call("device_add", device)
	return err
}
