package testjson_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

const (
	run  = `{"Time":"2026-01-02T03:04:05.25Z","Action":"run","Package":"p","Test":"TestA"}`
	attr = `{"Action":"attr","Package":"p","Test":"TestA","Key":"probes","Value":"4"}`
	pass = `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}`
)

func TestRead(t *testing.T) {
	// The last line may have no end.
	var got []testjson.Event
	for e, err := range testjson.Read(strings.NewReader(run + "\n" + attr + "\n" + pass)) {
		require.NoError(t, err)
		got = append(got, e)
	}
	assert.Equal(t, []testjson.Event{
		{Time: time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC), Action: "run", Package: "p", Test: "TestA"},
		{Action: "attr", Package: "p", Test: "TestA", Key: "probes", Value: "4"},
		{Action: "pass", Package: "p", Test: "TestA", Elapsed: 0.1},
	}, got)
	assert.False(t, got[1].Verdict())
	assert.True(t, got[2].Verdict())
}

// Nothing comes after an error, which says what was read.
func TestReadError(t *testing.T) {
	gone := errors.New("gone")
	for _, tt := range []struct {
		in   io.Reader
		want string
	}{
		{strings.NewReader(run + "\n" + run[:20] + "\n" + pass), `"{\"Time\":\"2026-01-02T\n" is no test event: invalid character '\n' in string literal`},
		{io.MultiReader(strings.NewReader(run+"\n"), iotest.ErrReader(gone)), "gone"},
	} {
		events := 0
		var last error
		for _, err := range testjson.Read(tt.in) {
			require.NoError(t, last)
			if last = err; err == nil {
				events++
			}
		}
		assert.Equal(t, 1, events)
		assert.EqualError(t, last, tt.want)
	}
	for range testjson.Read(strings.NewReader(run + "\n" + run)) {
		break
	}
}

func TestWrite(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{run, attr} {
		e, err := testjson.Parse([]byte(line))
		require.NoError(t, err)
		require.NoError(t, testjson.Write(&b, e))
	}
	assert.Equal(t, run+"\n"+attr+"\n", b.String())
}

// What can be read is what was written.
func FuzzParse(f *testing.F) {
	f.Add([]byte(run))
	f.Add([]byte(`{"Output":"\u0016--- PASS\n"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := testjson.Parse(line)
		if err != nil {
			return
		}
		var b strings.Builder
		if testjson.Write(&b, e) != nil {
			return // a year of five digits
		}
		again, err := testjson.Parse([]byte(b.String()))
		require.NoError(t, err)
		assert.True(t, e.Time.Equal(again.Time))
		e.Time, again.Time = time.Time{}, time.Time{}
		assert.Equal(t, e, again)
	})
}
