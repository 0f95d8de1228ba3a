package main

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

// mkswap(8) writes the same for 64 MB, but for a UUID.
func TestSwapHeader(t *testing.T) {
	page := swapHeader(4096)
	assert.Len(t, page, 4096)
	assert.Equal(t, "SWAPSPACE2", string(page[4086:]))
	assert.EqualValues(t, 1, binary.NativeEndian.Uint32(page[1024:]))
	assert.EqualValues(t, 16383, binary.NativeEndian.Uint32(page[1028:]))
}
