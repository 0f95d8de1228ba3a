package junit

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A known failure, which is a skip for gotestsum, says which one it is. Of
// another skip, and of a failure, the message is the reason.
func TestMark(t *testing.T) {
	const report = xml.Header + `<testsuites tests="5" failures="3" errors="0" time="2.000000">
	<testsuite tests="5" failures="3" skipped="1" time="1.000000" name="hotplugtest/trixie" timestamp="2026-11-26T19:26:01Z">
		<properties>
			<property name="go.version" value="go1.26.8 linux/amd64"></property>
		</properties>
		<testcase classname="hotplugtest/trixie" name="TestC" time="0.100000">
			<failure message="%s" type="">%s    a.go:1: cpu0, at the uevent of Online: &lt;lost&gt;&#xA;            seen:     EINVAL&#xA;</failure>
		</testcase>
		<testcase classname="hotplugtest/trixie" name="TestGroup" time="0.100000">
			<failure message="Failed" type="">%s</failure>
		</testcase>
		<testcase classname="hotplugtest/trixie" name="TestMain" time="0.100000">
			<failure message="%s" type="">vm: the kernel panicked&#xA;vm: | a line of the console&#xA;</failure>
		</testcase>
		<testcase classname="hotplugtest/trixie" name="TestA" time="7.250000">
			<properties>
				<property name="known" value="busy"></property>
				<property name="original-result" value="fail"></property>
			</properties>
			<skipped message="%s"></skipped>%s
		</testcase>
		<testcase classname="hotplugtest/trixie" name="TestB" time="0.100000">
			<skipped message="%s"></skipped>
		</testcase>
	</testsuite>
</testsuites>`
	file := filepath.Join(t.TempDir(), "junit.xml")
	require.NoError(t, Mark(file, Notes{}), "there is none")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, report, "Failed", "=== RUN   TestC&#xA;", "=== RUN   TestGroup&#xA;--- FAIL: TestGroup (0.10s)&#xA;", "Failed", "=== RUN   TestA&#xA;    a.go:1: EBUSY&#xA;--- SKIP: TestA (7.25s)&#xA;known: busy: it is busy&#xA;", "",
		"=== RUN   TestB&#xA;    run.go:106: no SMT&#xA;--- SKIP: TestB (0.10s)&#xA;"), 0o644))
	require.NoError(t, Mark(file, Notes{}))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf(report, "cpu0, at the uevent of Online: &lt;lost&gt;; seen: EINVAL", "", "", "vm: the kernel panicked", "known: busy", "\n\t\t\t<system-out>    a.go:1: EBUSY&#xA;known: busy: it is busy&#xA;</system-out>", "run.go:106: no SMT"), string(data))

	require.NoError(t, os.WriteFile(file, data[:100], 0o644))
	assert.ErrorContains(t, Mark(file, Notes{}), "parse "+file+": XML syntax error")
}
