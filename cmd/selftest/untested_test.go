package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// The group of a test that -run does not match passes all the same.
func TestFailUntested(t *testing.T) {
	dir := t.TempDir()
	p := &plan{Results: filepath.Join(dir, testjson.ResultsFile)}
	require.NoError(t, os.WriteFile(p.Results, []byte(`{"Action":"start","Package":"p"}
{"Action":"attr","Package":"p","Key":"kernel","Value":"6.1"}
{"Action":"run","Package":"p","Test":"TestOnline"}
{"Action":"pass","Package":"p","Test":"TestOnline"}
{"Action":"pass","Package":"p"}
`), 0o644))
	xmlFile := filepath.Join(dir, "junit.xml")
	require.NoError(t, p.failUntested(t.TempDir(), xmlFile))

	results, err := os.Open(p.Results)
	require.NoError(t, err)
	defer results.Close()
	var got []string
	for e, err := range testjson.Read(results) {
		require.NoError(t, err)
		got = append(got, e.Action+" "+e.Test+e.Key)
	}
	assert.Equal(t, []string{"start ", "attr kernel", "run TestOnline", "pass TestOnline", "run TestMain", "output TestMain", "fail TestMain", "fail "}, got)
	xml, err := os.ReadFile(xmlFile)
	require.NoError(t, err)
	assert.Contains(t, string(xml), `failures="1"`)
	assert.Contains(t, string(xml), "does -run match any")
}
