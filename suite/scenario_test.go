package suite

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestScenarios(t *testing.T) {
	cleaned, acted := 0, false
	tables := Tables{Scenarios: []Scenario{
		{Name: "good", Promise: "it holds", Source: "a document",
			Setup: func(x *Scene) error {
				x.Data = "left by the set-up"
				x.Cleanup(func() error { cleaned++; return nil })
				return nil
			},
			Actors: []Actor{{Name: "actor", Count: func(*Scene) int { return 2 }, Begin: func(a *Act) (func() error, error) {
				acted = a.Scene.Data == "left by the set-up"
				a.Scene.Ran(7)
				return func() error { return nil }, nil
			}}},
			Hold: func(x *Scene) error {
				x.Note("measured", time.Second)
				x.Note("measured", time.Millisecond)
				if x.HaveRun(7) != 2 || x.Threads() != 2 || x.Over() || x.Elapsed() <= 0 {
					return errors.New("two threads act")
				}
				return nil
			}},
		{Name: "bad", Promise: "it holds", Source: "a document", Together: true,
			Cycle: func(x *Scene, cpu int) error {
				return errors.Join(x.Set(cpu, Offline), errors.New("it does not\nhold"))
			}},
		{Name: "broken-actor", Promise: "it holds", Source: "a document",
			Actors: []Actor{{Name: "actor", Begin: func(*Act) (func() error, error) { return nil, unix.EPERM }}}},
	}}
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, map[string]string{"Scenario/good": "pass", "Scenario/bad": "fail", "Scenario/broken-actor": "fail"}, p.verdicts, p.text)
	assert.Equal(t, 1, cleaned)
	assert.True(t, acted)
	attrs := p.attributes("Scenario/good")
	assert.Equal(t, "2", attrs["cycles"])
	assert.Equal(t, "1000.000 ms", attrs["measured"])
	assert.Equal(t, "1000000000", attrs["measured-ns"])
	assert.Contains(t, attrs, "longest-offline")
	assert.Contains(t, p.text, "bad\npromised: it holds\nseen:     cycle 1: it does not\nhold\nsource:   a document")
	assert.Contains(t, p.text, "seen:     actor: operation not permitted")
}
