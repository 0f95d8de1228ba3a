package found_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMovedIRQs is about interrupts that have other numbers at the end of a run
// than at its start. Drivers that free their MSI vectors for a suspend do that
// with every run, but in Debian's kernels those are modules, which the VM has
// not. The driver of PCIe ports is built in: here it gives two ports' vectors
// back in the middle of a run, and takes them in the other order. The kernel
// forgets the masks with that, so each must get its own back.
//
// It assumes a machine with two PCIe root ports, which ci/asfound gives the VM.
func TestMovedIRQs(t *testing.T) {
	needVM(t)
	const driver = "/sys/bus/pci/drivers/pcieport"
	vectors, err := filepath.Glob(driver + "/*/msi_irqs/*")
	require.NoError(t, err)
	require.Len(t, vectors, 2, "not two PCIe ports with an MSI vector each: %v", vectors)
	ports := []string{filepath.Dir(filepath.Dir(vectors[0])), filepath.Dir(filepath.Dir(vectors[1]))}
	masks := []int{victim, exclusive}
	numbers := []string{vector(t, ports[0]), vector(t, ports[1])}
	for i, number := range numbers {
		require.NoError(t, os.WriteFile(maskFile(number), []byte(strconv.Itoa(masks[i])), 0))
	}

	swap := func() {
		for _, file := range []string{"unbind", "bind"} {
			for _, port := range []string{ports[1], ports[0]} {
				assert.NoError(t, os.WriteFile(filepath.Join(driver, file), []byte(filepath.Base(port)), 0))
			}
		}
	}
	// The kernel refuses to take a CPU offline while it probes a PCI device, so
	// that is done in the last transition, which takes none offline.
	cmd := suite("-test.run=TestSuite/^(Online|Offline)$/at-return/^affinity$|TestSuite/SameValue/online/at-return/^affinity$")
	code, said := runWhile(t, cmd, "=== RUN   TestSuite/SameValue/online/at-return", swap)
	assert.Zero(t, code, said)
	assert.NotContains(t, said, "the machine is not as it was found")
	for i, port := range ports {
		now := vector(t, port)
		assert.Equal(t, numbers[1-i], now, "the vectors of the ports were not swapped, so this was no test")
		mask, err := os.ReadFile(maskFile(now))
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(masks[i]), strings.TrimSpace(string(mask)), "IRQ %s of %s, which was number %s", now, filepath.Base(port), numbers[i])
	}
}

// vector returns the number of a PCI device's one MSI interrupt.
func vector(t *testing.T, device string) string {
	t.Helper()
	found, err := filepath.Glob(device + "/msi_irqs/*")
	require.NoError(t, err)
	require.Len(t, found, 1, device)
	return filepath.Base(found[0])
}

func maskFile(irq string) string { return "/proc/irq/" + irq + "/smp_affinity_list" }

// A trigger is an output that does something when a text has come.
type trigger struct {
	said bytes.Buffer
	text string
	do   func() // nil: it is done
}

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.said.Write(p)
	if w.do != nil && bytes.Contains(w.said.Bytes(), []byte(w.text)) {
		w.do()
		w.do = nil
	}
	return n, err
}
