//go:build selftest

package hotplugtest_test

func recorded() (code int, ok bool) { return 0, false }
