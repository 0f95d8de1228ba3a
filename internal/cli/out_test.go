package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of two commands with one -out, the second one ends at once. One below that
// directory has a directory of its own.
func TestLockOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/out")
	unlock, err := LockOut(dir)
	require.NoError(t, err)
	_, err = LockOut(dir)
	assert.ErrorAs(t, err, new(*InUse))
	sid, trixie := filepath.Join(dir, "sid"), filepath.Join(dir, "trixie")
	below, err := LockOut(sid, trixie, sid)
	require.NoError(t, err)
	below()
	_, err = LockOut(sid, dir, trixie)
	assert.ErrorAs(t, err, new(*InUse))
	below, err = LockOut(sid)
	require.NoError(t, err, "none is locked if one cannot be")
	below()

	// 1 would be for a test that failed.
	var said strings.Builder
	p := &Program{Name: "x", err: &said}
	assert.Equal(t, Untold, p.Run(nil, func(context.Context) error {
		_, err := LockOut(dir)
		return err
	}))
	assert.Equal(t, "x: another run writes its reports to "+dir+": wait for its end, or give another -out\n", said.String())

	unlock()
	unlock, err = LockOut(dir)
	require.NoError(t, err)
	unlock()
	_, err = LockOut("/proc/none")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.False(t, errors.As(err, new(*InUse)))
}
