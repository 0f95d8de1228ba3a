package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// monitor is QEMU's, spoken to by its QMP: a line of JSON each way.
type monitor struct {
	line    *line
	ready   bool
	id      int    // of the last command
	partial []byte // of a line that is not complete
	limit   time.Duration
}

// monitorLimit bounds the wait for an answer. QEMU gives it at once, unless it
// is stopped.
const monitorLimit = 5 * time.Second

// call runs a command and returns its answer.
func (m *monitor) call(command string, arguments map[string]string) (json.RawMessage, error) {
	if !m.ready && command != "qmp_capabilities" {
		if _, err := m.call("qmp_capabilities", nil); err != nil {
			return nil, err
		}
		m.ready = true
	}
	m.id++
	request, err := json.Marshal(struct {
		Execute   string            `json:"execute"`
		Arguments map[string]string `json:"arguments,omitempty"`
		ID        int               `json:"id"`
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
	answer, err := m.call("human-monitor-command", map[string]string{"command-line": command})
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
