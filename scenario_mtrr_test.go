//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOtherTypes(t *testing.T) {
	want := map[int64]uint64{0xfe: 0x508, 0x2ff: 0xc06}
	assert.NoError(t, otherTypes(map[int64]uint64{0xfe: 0x508, 0x2ff: 0xc06, 0x277: 1}, want, "its", "was"))
	assert.EqualError(t, otherTypes(map[int64]uint64{0x2ff: 0}, want, "its", "that was"),
		"its 0xfe cannot be read, and that was 0x508\nits 0x2ff is 0x0, and that was 0xc06")
}
