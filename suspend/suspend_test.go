package suspend_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/suspend"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestRead(t *testing.T) {
	f := suspend.New("testdata/x86")
	states, err := f.States()
	require.NoError(t, err)
	assert.Equal(t, []string{"freeze", "mem", "disk"}, states)
	mem, err := f.MemSleep()
	require.NoError(t, err)
	assert.Equal(t, suspend.Choice{Current: "deep", All: []string{"s2idle", "deep"}}, mem)
	level, err := f.PMTest()
	require.NoError(t, err)
	assert.Equal(t, "none", level.Current)
	for _, l := range suspend.Levels {
		assert.True(t, level.Has(l), l)
	}
	assert.False(t, level.Has("coffee"))
	delay, err := f.TestDelay()
	require.NoError(t, err)
	assert.Equal(t, 5, delay)
	count, err := f.WakeupCount()
	require.NoError(t, err)
	assert.EqualValues(t, 12, count)
	stats, err := f.Stats()
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"success": 3, "fail": 1}, stats)
	alarm, err := f.Alarm()
	require.NoError(t, err)
	assert.False(t, alarm)
	errno, err := f.NotifierError("PM_SUSPEND_PREPARE")
	require.NoError(t, err)
	assert.Equal(t, unix.ENOMEM, errno)
}

func TestNotSupported(t *testing.T) {
	f := suspend.New(t.TempDir())
	second := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"States": second(f.States()), "MemSleep": second(f.MemSleep()), "PMTest": second(f.PMTest()), "TestDelay": second(f.TestDelay()),
		"WakeupCount": second(f.WakeupCount()), "Stats": second(f.Stats()), "Alarm": second(f.Alarm()),
		"NotifierError": second(f.NotifierError("PM_SUSPEND_PREPARE")), "SetNotifierError": f.SetNotifierError("PM_SUSPEND_PREPARE", 0),
		"SetPMTest": f.SetPMTest("core"), "SetMemSleep": f.SetMemSleep("deep"), "SetTestDelay": f.SetTestDelay(1),
		"SetWakeupCount": f.SetWakeupCount(1), "SetAlarm": f.SetAlarm(time.Second), "Enter": f.Enter("mem"),
	} {
		assert.ErrorIs(t, err, suspend.ErrNotSupported, name)
		assert.ErrorIs(t, err, unix.ENOENT, name)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/x86")))
	f := suspend.New(dir)
	require.NoError(t, f.Enter("mem"))
	require.NoError(t, f.SetPMTest("core"))
	require.NoError(t, f.SetMemSleep("s2idle"))
	require.NoError(t, f.SetTestDelay(0))
	require.NoError(t, f.SetWakeupCount(13))
	require.NoError(t, f.SetAlarm(1500*time.Millisecond))
	require.NoError(t, f.SetNotifierError("PM_SUSPEND_PREPARE", unix.ENXIO))
	// The tree keeps what is written over, where sysfs takes each write for
	// itself.
	for name, want := range map[string]string{
		"power/state": "mem", "power/pm_test": "core", "power/mem_sleep": "s2idle", "module/suspend/parameters/pm_test_delay": "0",
		"power/wakeup_count": "13", "class/rtc/rtc0/wakealarm": "+2",
		"kernel/debug/notifier-error-inject/pm/actions/PM_SUSPEND_PREPARE/error": "-6",
	} {
		data, err := os.ReadFile(filepath.Join(dir, "sys", name))
		require.NoError(t, err)
		assert.Equal(t, want[:min(3, len(want))], string(data[:min(3, len(want))]), name)
	}
	alarm, err := f.Alarm()
	require.NoError(t, err)
	assert.True(t, alarm)
	for _, past := range []time.Duration{-1, -time.Hour} {
		assert.ErrorIs(t, f.SetAlarm(past), unix.EINVAL)
	}
	alarm, err = f.Alarm()
	require.NoError(t, err)
	assert.True(t, alarm, "the one that was set")
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{"", "s2idle deep", "[s2idle] [deep]", "[deep", "[]"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "sys/power/mem_sleep")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		_, err := suspend.New(dir).MemSleep()
		assert.ErrorContains(t, err, path, text)
		assert.ErrorContains(t, err, "does not have one value in brackets", text)
	}
}

func FuzzParseChoice(f *testing.F) {
	for _, text := range []string{"s2idle [deep]", "[none] core processors platform devices freezer", "[deep", "[]", "[a][b]", "\t[x]\v"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		choice, err := suspend.ParseChoice(text)
		if err != nil {
			require.Empty(t, choice.All)
			return
		}
		require.True(t, choice.Has(choice.Current), "%q has no %q", choice.All, choice.Current)
		var printed []string // as the kernel does
		for i, value := range choice.All {
			if i == slices.Index(choice.All, choice.Current) {
				value = "[" + value + "]"
			}
			printed = append(printed, value)
		}
		again, err := suspend.ParseChoice(strings.Join(printed, " "))
		require.NoError(t, err)
		require.Equal(t, choice, again)
	})
}

// What it does to a suspend is for the suite to see.
func TestHoldWakeup(t *testing.T) {
	release, err := suspend.HoldWakeup()
	require.NoError(t, err)
	assert.NoError(t, release())

	// These get the numbers that are free now.
	files := make([]*os.File, 2)
	for i := range files {
		files[i], err = os.Open("/dev/null")
		require.NoError(t, err)
	}
	assert.NoError(t, release(), "again")
	for _, file := range files {
		assert.NoError(t, file.Close(), "a file that somebody else has opened meanwhile")
	}
}

func TestAfterWrite(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sys/power"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sys/power/state"), nil, 0o600))
	wrote := 0
	require.NoError(t, suspend.New(dir).AfterWrite(func() { wrote++ }).Enter("mem"))
	assert.Equal(t, 1, wrote)
}
