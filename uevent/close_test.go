package uevent_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// receiveError receives events until there is an error.
func receiveError(ctx context.Context, c *uevent.Conn) error {
	var ev uevent.Event
	for {
		if err := c.ReceiveInto(ctx, &ev); err != nil {
			return err
		}
	}
}

func TestReceiveContext(t *testing.T) {
	c := open(t)
	t.Run("done before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, receiveError(ctx, c), context.Canceled)
	})
	// More than once, since one wait must not leave a trace in the next.
	for range 3 {
		t.Run("cancelled", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error)
			go func() { errs <- receiveError(ctx, c) }()
			waitUntil(t, c.Waiting)
			cancel()
			assert.ErrorIs(t, <-errs, context.Canceled)
			assertNotInterrupted(t, c)
		})
		t.Run("deadline", func(t *testing.T) {
			const timeout = 20 * time.Millisecond
			start := time.Now() // before the timeout begins
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			assert.ErrorIs(t, receiveError(ctx, c), context.DeadlineExceeded)
			assert.GreaterOrEqual(t, time.Since(start), timeout)
			assertNotInterrupted(t, c)
		})
	}
}

// assertNotInterrupted fails the test if the next receive would spin.
func assertNotInterrupted(tb testing.TB, c *uevent.Conn) {
	tb.Helper()
	interrupted, err := c.Interrupted()
	assert.NoError(tb, err)
	assert.False(tb, interrupted, "a context that is done still ends waits")
}

// Contexts that end one after the other each end their own receiver only.
func TestReceiveContextOfOther(t *testing.T) {
	c := open(t)
	type result struct {
		i   int
		err error
	}
	const receivers = 8
	results := make(chan result)
	var cancels [receivers]context.CancelFunc
	for i := range receivers {
		var ctx context.Context
		ctx, cancels[i] = context.WithCancel(t.Context())
		go func() { results <- result{i, receiveError(ctx, c)} }()
	}
	for i, cancel := range cancels {
		waitUntil(t, c.Waiting)
		cancel()
		r := <-results
		assert.Equal(t, i, r.i)
		assert.ErrorIs(t, r.err, context.Canceled)
	}
}

func TestClose(t *testing.T) {
	c, err := uevent.Open(nil)
	require.NoError(t, err)
	const receivers = 8
	errs := make(chan error)
	for i := range receivers {
		ctx := context.Background()
		if i%2 == 0 { // the two ways to wait
			ctx = t.Context()
		}
		go func() { errs <- receiveError(ctx, c) }()
	}
	waitUntil(t, c.Waiting)
	require.NoError(t, c.Close())
	for range receivers {
		assert.ErrorIs(t, <-errs, uevent.ErrClosed)
	}

	var ev uevent.Event
	_, err = c.TryReceiveInto(&ev)
	assert.ErrorIs(t, err, uevent.ErrClosed)
	_, err = c.Receive(t.Context())
	assert.ErrorIs(t, err, uevent.ErrClosed)
	assert.NoError(t, c.Close(), "again")
}

// Close at any moment of a receive, and next to another Close.
func TestCloseRace(t *testing.T) {
	before := descriptors(t)
	for range 200 {
		c, err := uevent.Open(nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := receiveError(ctx, c)
			assert.True(t, errors.Is(err, uevent.ErrClosed) || errors.Is(err, context.Canceled), err)
		})
		wg.Go(func() { assert.NoError(t, c.Close()) })
		wg.Go(func() { c.Stats() })
		wg.Go(cancel)
		assert.NoError(t, c.Close())
		wg.Wait()
	}
	assert.Equal(t, before, descriptors(t), "descriptors left open")
}

// descriptors returns how many the process has open.
func descriptors(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(tb, err)
	return len(entries)
}

func TestOpenError(t *testing.T) {
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	lowest, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(lowest))
	before := descriptors(t)
	for name, free := range map[string]int{"socket": 0, "eventfd": 1} {
		t.Run(name, func(t *testing.T) {
			limit := old
			limit.Cur = uint64(lowest + free)
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			c, err := uevent.Open(nil)
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
			require.ErrorIs(t, err, unix.EMFILE)
			assert.ErrorContains(t, err, "uevent: "+name+": ")
			assert.Nil(t, c)
			assert.Equal(t, before, descriptors(t), "descriptors left open")
		})
	}
	_, err = uevent.Open(&uevent.Options{Buffer: -1})
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.Equal(t, before, descriptors(t), "descriptors left open")
}
