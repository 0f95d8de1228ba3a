package suite

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestVersion(t *testing.T) {
	v := Version{6, 12}
	assert.True(t, v.Since(Version{5, 14}))
	assert.True(t, v.Since(Version{6, 12}))
	assert.False(t, v.Since(Version{6, 13}))
	assert.False(t, v.Since(Version{7, 0}))
	assert.True(t, Span{From: Version{6, 12}, Until: Version{6, 14}}.Has(v))
	assert.False(t, Span{From: Version{6, 2}, Until: Version{6, 12}}.Has(v))
	_, err := RunningKernel()
	assert.NoError(t, err)
}

func TestSpans(t *testing.T) {
	for want, s := range map[string]Span{
		"all kernels":      {},
		"before v6.0":      {Until: Version{6, 0}},
		"since v7.0":       {From: Version{7, 0}},
		"v6.12":            {From: Version{6, 12}, Until: Version{6, 13}},
		"v6.12 to v6.13":   {From: Version{6, 12}, Until: Version{6, 14}},
		"v6.12 until v7.0": {From: Version{6, 12}, Until: Version{7, 0}},
	} {
		assert.Equal(t, want, s.String())
	}
	for release, want := range map[string]Version{"6.1.0-50-amd64": {6, 1}, "7.2-rc1": {7, 2}} {
		v, err := parseRelease(release)
		assert.NoError(t, err)
		assert.Equal(t, want, v)
	}
	_, err := parseRelease("six")
	assert.ErrorContains(t, err, `uname: release "six"`)
}
