package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/vm"
)

const explored = `{"Begin":{"Number":7,"Why":"explore","Lines":["mkdir $A"]}}` + "\n" + `{"Stats":{"Sequences":1}}` + "\n"

var spoiler = strings.Replace(finding, "Finding", "Spoiler", 1)

// last has each VM of the hunt last so long, by the fake clock of a synctest
// bubble: the n-th one ends as that of boots. Beyond them, nothing is found.
func (h *hunt) last(each time.Duration, boots ...boot) (booted *int) {
	booted = new(int)
	h.runVM = func(_ context.Context, _ vm.Options, _ []string, out, _ io.Writer) (int, error) {
		time.Sleep(each)
		b := boot{said: explored}
		if *booted < len(boots) {
			b = boots[*booted]
		}
		*booted++
		if _, err := io.WriteString(out, b.said); err != nil {
			return 0, err
		}
		time.Sleep(b.silent)
		return b.code, b.err
	}
	return booted
}

// What was found is not reduced in fresh VMs once the time is over, and is told
// of all the same.
func TestTimeIsOver(t *testing.T) {
	crash := boot{said: explored + `{"Step":0}` + "\n", err: crashIn("f")}
	for _, tt := range []struct {
		name   string
		each   time.Duration
		first  boot
		booted int
		rate   string
	}{
		{"over, and the machine is spoiled", time.Minute, boot{said: explored + spoiler}, 1, "1 of 1"},
		{"over, and the kernel did not survive", time.Minute, crash, 1, "1 of 1"},
		// One that reduces, and one that explores.
		{"not over, and the machine is spoiled", 25 * time.Second, boot{said: explored + spoiler}, 3, "1 of 2"},
		{"not over, and the kernel did not survive", 25 * time.Second, crash, 3, "1 of 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHunt(t.TempDir())
				h.options.time = time.Minute
				booted := h.last(tt.each, tt.first)
				require.NoError(t, h.run(t.Context()))
				assert.Equal(t, tt.booted, *booted)
				require.Len(t, h.all.list, 1)
				assert.Equal(t, tt.rate, h.all.list[0].Rate())
			})
		})
	}
}

// Who interrupts it, or ends it by SIGTERM, is not told that no law is broken:
// neither of the kernel that is explored nor of those that would be next.
func TestInterrupted(t *testing.T) {
	for _, begun := range []bool{true, false} {
		h := newHunt(t.TempDir())
		h.options.time = time.Hour
		h.runVM = func(ctx context.Context, _ vm.Options, _ []string, out, _ io.Writer) (int, error) {
			require.True(t, begun, "a VM is booted after the interrupt")
			_, err := io.WriteString(out, explored)
			require.NoError(t, err)
			require.NoError(t, unix.Kill(os.Getpid(), unix.SIGTERM))
			<-ctx.Done()
			return 0, &vm.Failure{What: "the VM was ended: interrupted", Started: true}
		}
		status := program.Run(nil, func(ctx context.Context) error {
			if !begun {
				require.NoError(t, unix.Kill(os.Getpid(), unix.SIGTERM))
				<-ctx.Done()
			}
			return h.run(ctx)
		})
		assert.Equal(t, cli.Interrupted, status)
		assert.Empty(t, h.all.list)
	}
}

// A VM that is ended by its limit is a finding if its guest hung, but not if the
// guest was only slow to reduce what it had found.
func TestLimit(t *testing.T) {
	const broken = `{"Broken":{"Law":"domains","Touches":"it","Seen":"s"}}` + "\n"
	for _, tt := range []struct {
		name   string
		silent time.Duration // until the limit
		want   string        // the keys
	}{
		{"slow", time.Second, "domains: it"},
		{"hung", 2 * time.Minute, "domains: it\nsurvives: the VM was ended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHunt(t.TempDir())
				h.options.time = time.Minute
				limit := h.options.time + shrinkLimit
				h.last(limit-tt.silent, boot{said: explored + broken, silent: tt.silent, err: &vm.Failure{What: "the VM was ended", Started: true}})
				require.NoError(t, h.run(t.Context()))
				assert.Equal(t, tt.want, h.all.keys())
			})
		})
	}
}

// If findings cannot be written, none is reduced any more.
func TestFailedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o644))
		h := newHunt(file)
		h.options.time = time.Minute
		booted := h.last(time.Second, boot{said: explored + spoiler + finding})
		assert.ErrorContains(t, h.run(t.Context()), "not a directory")
		assert.Equal(t, 1, *booted)
	})
}
