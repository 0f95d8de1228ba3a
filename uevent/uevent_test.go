package uevent_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// message returns the datagram that text shows, in which a line stands for a
// string with a NUL at its end.
func message(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\x00")) }

// fixture returns the datagram in a file of testdata.
func fixture(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return message(string(text))
}

func TestUnmarshalBinary(t *testing.T) {
	const none = -1
	for _, tt := range []struct {
		file                       string
		action, devpath, subsystem string
		seqnum                     uint64
		cpu                        int
		props                      map[string]string
	}{
		{"cpu-online.uevent", "online", "/devices/system/cpu/cpu1", "cpu", 2714, 1,
			map[string]string{"DRIVER": "processor", "SEQNUM": "2714", "ACTION": "online"}},
		{"cpu-offline.uevent", "offline", "/devices/system/cpu/cpu127", "cpu", 1<<64 - 1, 127,
			map[string]string{"OF_FULLNAME": "/cpus/cpu@7f00", "SUBSYSTEM": "cpu"}},
		{"cpuidle-add.uevent", "add", "/devices/system/cpu/cpu1/cpuidle", "cpuidle", 2715, none, nil},
		{"platform-soc.uevent", "add", "/devices/platform/soc@0/30800000.bus/30a20000.i2c/i2c-0/0-0025", "i2c", 1042, none,
			map[string]string{"MODALIAS": "of:NpmicT(null)Cnxp,pca9450c"}},
		{"module-add.uevent", "add", "/module/msr", "module", 1893, none, nil},
		{"net-add.uevent", "add", "/devices/virtual/net/veth0", "net", 3001, none,
			map[string]string{"INTERFACE": "veth0", "IFINDEX": "7"}},
		{"synthetic.uevent", "change", "/devices/system/cpu/cpu0", "cpu", 2716, 0,
			map[string]string{"SYNTH_UUID": "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed", "SYNTH_ARG_B": "abc"}},
		{"equals-in-value.uevent", "change", "/fs/ext4/dm-0", "ext4", 4711, none,
			map[string]string{"TRIGGER": "uuid=fe4d7c9d,label=", "LABEL": ""}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			var ev uevent.Event
			require.NoError(t, ev.UnmarshalBinary(fixture(t, tt.file)))
			assert.Equal(t, tt.action, ev.Action())
			assert.Equal(t, tt.devpath, ev.DevPath())
			assert.Equal(t, tt.subsystem, ev.Subsystem())
			assert.Equal(t, tt.seqnum, ev.Seqnum())
			cpu, ok := ev.CPU()
			assert.Equal(t, tt.cpu != none, ok, "is about a CPU")
			if ok {
				assert.Equal(t, tt.cpu, cpu)
			}
			for key, want := range tt.props {
				value, ok := ev.Lookup(key)
				assert.True(t, ok, key)
				assert.Equal(t, want, value, key)
			}
			_, ok = ev.Lookup("ABSENT")
			assert.False(t, ok)
			assert.Equal(t, fixture(t, tt.file), marshal(&ev))
		})
	}
}

// marshal writes ev as the kernel does.
func marshal(ev *uevent.Event) []byte {
	b := []byte(ev.Action() + "@" + ev.DevPath() + "\x00")
	for key, value := range ev.All() {
		b = append(b, key+"="+value+"\x00"...)
	}
	return b
}

// What Receive returns is printed as it is, not as bytes.
func TestEventPrinted(t *testing.T) {
	var ev uevent.Event
	require.NoError(t, ev.UnmarshalBinary(fixture(t, "cpu-online.uevent")))
	const want = "online@/devices/system/cpu/cpu1 SEQNUM=2714"
	assert.Equal(t, want, fmt.Sprint(ev))
	assert.Equal(t, want, fmt.Sprint(&ev))
	assert.Equal(t, "@ SEQNUM=0", fmt.Sprint(uevent.Event{}))
}

func TestUnmarshalBinaryMalformed(t *testing.T) {
	const good = "online@/devices/system/cpu/cpu1\nACTION=online\nDEVPATH=/devices/system/cpu/cpu1\nSUBSYSTEM=cpu\nSEQNUM=7\n"
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, tt := range []struct {
		name, text, want string
	}{
		{"empty", "", "0 bytes without a NUL at the end"},
		{"cut short", good[:len(good)-1], "bytes without a NUL at the end"},
		{"header only", "online@/devices/system/cpu/cpu1\n", `ACTION=""`},
		{"no @", replace("@", ""), `header "online/devices/system/cpu/cpu1" is not ACTION@DEVPATH`},
		{"no action", replace("online@", "@"), `is not ACTION@DEVPATH`},
		{"udevd's", "libudev\n" + good, `property "online@/devices/system/cpu/cpu1" is not KEY=VALUE`},
		{"ACTION differs", replace("=online", "=offline"), `header "online@/devices/system/cpu/cpu1", but ACTION="offline"`},
		{"DEVPATH differs", replace("cpu1\nSUB", "cpu2\nSUB"), `DEVPATH="/devices/system/cpu/cpu2"`},
		{"no ACTION", replace("ACTION=online\n", ""), `ACTION=""`},
		{"no SUBSYSTEM", replace("SUBSYSTEM=cpu\n", ""), "no SUBSYSTEM"},
		{"no SEQNUM", replace("SEQNUM=7\n", ""), `SEQNUM="" is not a number`},
		{"SEQNUM no number", replace("=7", "=7a"), `SEQNUM="7a" is not a number`},
		{"SEQNUM negative", replace("=7", "=-7"), `SEQNUM="-7" is not a number`},
		{"SEQNUM of 65 bits", replace("=7", "=18446744073709551616"), `is not a number`},
		{"SEQNUM twice", replace("SEQNUM=7", "SEQNUM=7\nSEQNUM=8"), `property SEQNUM twice: "7" and "8"`},
		{"property without =", replace("SEQNUM", "FOO\nSEQNUM"), `property "FOO" is not KEY=VALUE`},
		{"property without key", replace("SEQNUM", "=foo\nSEQNUM"), `property "=foo" is not KEY=VALUE`},
		{"empty property", replace("SEQNUM", "\nSEQNUM"), `property "" is not KEY=VALUE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ev uevent.Event
			require.NoError(t, ev.UnmarshalBinary(message(good)))
			err := ev.UnmarshalBinary(message(tt.text))
			require.ErrorIs(t, err, uevent.ErrMalformed)
			assert.ErrorContains(t, err, tt.want)
			assert.Zero(t, ev.Seqnum())
			assert.Empty(t, ev.Action()+ev.DevPath()+ev.Subsystem())
			for key := range ev.All() {
				assert.Fail(t, "still has a property", key)
			}
		})
	}
}

func TestEventCPU(t *testing.T) {
	for _, tt := range []struct {
		devpath, subsystem string
		cpu                int
		ok                 bool
	}{
		{"/devices/system/cpu/cpu0", "cpu", 0, true},
		{"/devices/system/cpu/cpu4095", "cpu", 4095, true},
		{"/devices/system/cpu/cpu", "cpu", 0, false},
		{"/devices/system/cpu/cpu01", "cpu", 0, false},
		{"/devices/system/cpu/cpu+1", "cpu", 0, false},
		{"/devices/system/cpu/cpu1/cpuidle", "cpu", 0, false},
		{"/devices/system/cpu/cpu99999999999", "cpu", 0, false},
		{"/devices/system/cpu/cpufreq", "cpu", 0, false},
		{"/devices/system/cpu", "cpu", 0, false},
		{"/devices/system/cpu/cpu1", "node", 0, false},
	} {
		t.Run(tt.subsystem+tt.devpath, func(t *testing.T) {
			var ev uevent.Event
			require.NoError(t, ev.UnmarshalBinary(message("add@"+tt.devpath+"\nACTION=add\nDEVPATH="+tt.devpath+
				"\nSUBSYSTEM="+tt.subsystem+"\nSEQNUM=1\n")))
			cpu, ok := ev.CPU()
			assert.Equal(t, tt.ok, ok)
			if tt.ok {
				assert.Equal(t, tt.cpu, cpu)
			}
		})
	}
	var empty uevent.Event
	_, ok := empty.CPU()
	assert.False(t, ok, "the zero Event is about no CPU")
}

// What an Event returned stays as it was when the Event's memory is used again.
func TestEventReuse(t *testing.T) {
	online, net := fixture(t, "cpu-online.uevent"), fixture(t, "net-add.uevent")
	var ev uevent.Event
	require.NoError(t, ev.UnmarshalBinary(online))
	devpath, subsystem := ev.DevPath(), ev.Subsystem()
	driver, _ := ev.Lookup("DRIVER")

	require.NoError(t, ev.UnmarshalBinary(net))
	assert.Equal(t, "/devices/system/cpu/cpu1", devpath)
	assert.Equal(t, "cpu", subsystem)
	assert.Equal(t, "processor", driver)
	assert.Equal(t, "add@/devices/virtual/net/veth0 SEQNUM=3001", ev.String())
	_, ok := ev.Lookup("DRIVER")
	assert.False(t, ok, "a property of the event before")

	clear(net)
	assert.Equal(t, "/devices/virtual/net/veth0", ev.DevPath(), "the caller's buffer is the caller's")
}

func TestUnmarshalBinaryAllocs(t *testing.T) {
	online, soc := fixture(t, "cpu-online.uevent"), fixture(t, "platform-soc.uevent")
	var ev uevent.Event
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_ = ev.UnmarshalBinary(online)
		_ = ev.UnmarshalBinary(soc)
		_, _ = ev.CPU()
	}))
}

func FuzzUnmarshalBinary(f *testing.F) {
	files, err := filepath.Glob("testdata/*.uevent")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		f.Add(fixture(f, filepath.Base(file)))
	}
	f.Add(message("a@/a@0=b\nACTION=a\nDEVPATH=/a@0=b\nSUBSYSTEM=s\nSEQNUM=0\n"))
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var ev uevent.Event
		if err := ev.UnmarshalBinary(msg); err != nil {
			require.ErrorIs(t, err, uevent.ErrMalformed)
			require.Empty(t, ev.Action())
			return
		}
		require.True(t, bytes.Equal(msg, marshal(&ev)), "%q read as %q", msg, marshal(&ev))
		for key, want := range map[string]string{
			"ACTION": ev.Action(), "DEVPATH": ev.DevPath(), "SUBSYSTEM": ev.Subsystem(),
		} {
			got, ok := ev.Lookup(key)
			require.True(t, ok && got == want, "%s is %q, and %q looked up", key, want, got)
		}
		if cpu, ok := ev.CPU(); ok {
			require.Equal(t, fmt.Sprintf("/devices/system/cpu/cpu%d", cpu), ev.DevPath())
		}
	})
}

func BenchmarkUnmarshalBinary(b *testing.B) {
	msg := fixture(b, "cpu-online.uevent")
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	var ev uevent.Event
	for b.Loop() {
		if err := ev.UnmarshalBinary(msg); err != nil {
			b.Fatal(err)
		}
	}
}
