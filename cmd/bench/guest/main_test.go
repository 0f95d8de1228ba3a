package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTraced(t *testing.T) {
	for line, want := range map[string][]string{
		"          <...>-121     [002] .....    12.004567: sent: (netlink_broadcast+0x0/0x30)\n":                      {"121", "12", "004567", "sent"},
		"   guest-sub-1-99      [000] d..1.  1234.000001: sys_sched_setaffinity(pid: 0, len: 8, user_mask_ptr: c0)\n": {"99", "1234", "000001", "sys_sched_setaffinity"},
		"# entries-in-buffer/entries-written: 2/2   #P:4\n":                                                           nil,
	} {
		m := traced.FindStringSubmatch(line)
		if want == nil {
			assert.Nil(t, m, line)
		} else if assert.NotNil(t, m, line) {
			assert.Equal(t, want, m[1:])
		}
	}
}
