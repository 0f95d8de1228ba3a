package main

import (
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest"
)

// versions are the kernels of Debian's suites.
var versions = map[string]hotplugtest.Version{"bullseye": {5, 10}, "bookworm": {6, 1}, "trixie": {6, 12}, "sid": {7, 2}}

// leaveOut are arguments for the test binary that leave out the scenarios which
// fail on a kernel as it is, in the default boot profile: they tell nothing of
// a broken one. Of a kernel that is no suite of Debian's, these are the
// scenarios that fail on any. What a kernel panics in ci/selftest leaves out.
func leaveOut(kernel string) []string {
	suite, _, _ := strings.Cut(kernel, "/")
	version, named := versions[suite]
	var names []string
	for _, sc := range hotplugtest.Default().Scenarios {
		for _, d := range sc.Known {
			has := slices.ContainsFunc(d.Kernels, func(s hotplugtest.Span) bool { return !named || s.Has(version) })
			if has && d.Signature != nil && d.Signature.Profiles == nil && !d.Signature.Rare && !d.Signature.Crash && !slices.Contains(names, sc.Name) {
				names = append(names, sc.Name)
			}
		}
	}
	if names == nil {
		return nil
	}
	return []string{"-test.skip", "^TestScenario$/^(" + strings.Join(names, "|") + ")$"}
}
