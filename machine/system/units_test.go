package system_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// asUnit runs a command of root's in a transient unit, and returns what it
// printed and how it ended.
func asUnit(t *testing.T, g *guest, command string, properties ...string) (out string, code int) {
	t.Helper()
	args := []string{"systemd-run --quiet --wait --pipe --collect --unit=qa-suite -p WorkingDirectory=/root"}
	for _, p := range properties {
		args = append(args, "-p", p)
	}
	return g.run(t, "root", strings.Join(args, " ")+" /root/"+strings.TrimPrefix(command, "./"))
}

func oneshot(t *testing.T, g *guest) {
	out, code := asUnit(t, g, static(brief), "Type=oneshot")
	passes(t, out, code)
}

// hardened is a unit in which something cannot be restored: what is to be known
// before anything is changed.
func hardened(property string) func(*testing.T, *guest) {
	return func(t *testing.T, g *guest) {
		out, code := asUnit(t, g, static(brief), property+"=yes")
		testsNothing(t, out, code, `read-only|cannot be written|EROFS`)
		assert.NotContains(t, out, "not as it was found")
	}
}

// limitedUnit has fewer CPUs than there are, and not much memory. The suite
// leaves its cgroup.
func limitedUnit(t *testing.T, g *guest) {
	out, code := asUnit(t, g, static(brief), "AllowedCPUs=0-1", "CPUAffinity=0", "MemoryMax=200M")
	passes(t, out, code)
}

// stoppedUnit is systemctl stop in the middle.
func stoppedUnit(t *testing.T, g *guest) {
	s := g.start(t, "root", "systemd-run --quiet --unit=qa-suite -p WorkingDirectory=/root /root/"+strings.TrimPrefix(static(long), "./")+
		" && journalctl --follow --no-tail --output=cat --unit=qa-suite")
	s.await(t, middle)
	g.must(t, "root", "systemctl stop qa-suite")
	s.await(t, `hotplugtest: the machine is as it was`)
	g.must(t, "root", "systemctl reset-failed qa-suite 2>/dev/null || :")
}

// cron starts it at the next minute.
func cron(t *testing.T, g *guest) {
	const script = `
cat >/root/cron.sh <<'END'
rm /etc/cron.d/qa-suite
cd /root
COMMAND >cron.out 2>&1
echo $? >cron.status
END
mkfifo /root/cron.done 2>/dev/null
rm -f /root/cron.status
echo '* * * * * root sh /root/cron.sh; echo >/root/cron.done' >/etc/cron.d/qa-suite
read done </root/cron.done
cat /root/cron.out
exit $(cat /root/cron.status)`
	out, code := g.run(t, "root", strings.ReplaceAll(script, "COMMAND", static(brief)))
	passes(t, out, code)
}
