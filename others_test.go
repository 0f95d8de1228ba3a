//go:build !selftest

package hotplugtest_test

// Without the tag selftest the test binary also has the tests of the rows.
func init() { options.OtherTests = true }
