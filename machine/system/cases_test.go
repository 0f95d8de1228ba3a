package system_test

import "testing"

var cases = []testCase{
	{name: "nothing", run: func(t *testing.T, g *guest) {}, v1: true},
}
