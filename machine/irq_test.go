package machine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
)

// irq is an interrupt in a machine of text files: MSI vector hwirq of a device,
// or if that is "", the line hwirq of an interrupt controller.
type irq struct {
	number  int
	device  string
	hwirq   int
	actions string
	cpus    string
}

// irqs returns the files of interrupts, and takes all others away.
func irqs(list ...irq) map[string]string {
	files := map[string]string{"proc/irq": "-", "sys/bus": "-", "sys/kernel/irq": "-"}
	for _, i := range list {
		files[fmt.Sprintf("proc/irq/%d/smp_affinity_list", i.number)] = i.cpus + "\n"
		of := fmt.Sprintf("sys/kernel/irq/%d/", i.number)
		chip := "IO-APIC"
		if i.device != "" {
			chip = "PCI-MSIX-" + i.device
			files[fmt.Sprintf("sys/bus/pci/devices/%s/msi_irqs/%d", i.device, i.number)] = "msix\n"
		}
		files[of+"chip_name"], files[of+"hwirq"], files[of+"actions"] = chip+"\n", fmt.Sprintln(i.hwirq), i.actions+"\n"
	}
	return files
}

const nic, disk = "0000:00:02.0", "0000:00:03.0"

// The kernel gives interrupts other numbers in a suspend, and forgets their
// masks.
var movedIRQs = []struct {
	name          string
	before, after []irq
	diff          []string
	restored      map[int]string // masks by the number after
}{
	{"two devices have swapped their numbers, and lost their masks",
		[]irq{{24, disk, 0, "virtio2-config", "2"}, {25, disk, 1, "virtio2-req.0", "0"}, {30, nic, 0, "virtio1-config", "0-3"}, {31, nic, 1, "virtio1-input.0", "2"}},
		[]irq{{24, nic, 0, "virtio1-config", "0-3"}, {25, nic, 1, "virtio1-input.0", "0-3"}, {26, disk, 0, "virtio2-config", "0-3"}, {27, disk, 1, "virtio2-req.0", "0"}},
		[]string{
			"/proc/irq/26/smp_affinity_list (virtio2-config of 0000:00:03.0) is 0-3, was 2",
			"/proc/irq/25/smp_affinity_list (virtio1-input.0 of 0000:00:02.0) is 0-3, was 2",
		},
		map[int]string{24: "0-3", 25: "2", 26: "2", 27: "0"}},
	{"a handler has another vector",
		[]irq{{24, nic, 0, "config", "0-3"}, {25, nic, 1, "rx", "3"}},
		[]irq{{26, nic, 0, "rx", "0-3"}, {27, nic, 1, "config", "0-3"}},
		[]string{"/proc/irq/26/smp_affinity_list (rx of 0000:00:02.0) is 0-3, was 3"},
		map[int]string{26: "3", 27: "0-3"}},
	{"a handler is gone, and its vector another's",
		[]irq{{24, nic, 1, "rx", "3"}, {25, nic, 2, "tx", "0-3"}},
		[]irq{{24, nic, 1, "control", "0-3"}},
		[]string{"/proc/irq/24/smp_affinity_list (rx of 0000:00:02.0) is one with other handlers, was 3"},
		map[int]string{24: "0-3"}},
	{"a vector without a handler, which has one now",
		[]irq{{24, nic, 1, "", "3"}},
		[]irq{{28, nic, 1, "rx", "0-3"}},
		[]string{"/proc/irq/28/smp_affinity_list (rx of 0000:00:02.0) is 0-3, was 3"},
		map[int]string{28: "3"}},
	{"vectors that cannot be told apart",
		[]irq{{24, nic, 0, "rx", "3"}, {25, nic, 0, "rx", "2"}},
		[]irq{{25, nic, 0, "rx", "0-3"}, {26, nic, 0, "rx", "0-3"}},
		[]string{
			"/proc/irq/24/smp_affinity_list (rx of 0000:00:02.0) is one of several that cannot be told apart, was 3",
			"/proc/irq/25/smp_affinity_list (rx of 0000:00:02.0) is one of several that cannot be told apart, was 2",
		},
		map[int]string{25: "0-3", 26: "0-3"}},
	{"vectors that need not be told apart",
		[]irq{{24, nic, 0, "rx", "3"}, {25, nic, 0, "rx", "3"}},
		[]irq{{25, nic, 0, "rx", "0-3"}, {26, nic, 0, "rx", "3"}},
		[]string{"/proc/irq/25/smp_affinity_list (rx of 0000:00:02.0) is 0-3, was 3"},
		map[int]string{25: "3", 26: "3"}},
	{"a line that is shared no more",
		[]irq{{16, "", 16, "ehci,i801", "2"}, {17, "", 17, "", "0-3"}},
		[]irq{{16, "", 16, "ehci", "0-3"}},
		[]string{"/proc/irq/16/smp_affinity_list (ehci) is 0-3, was 2"},
		map[int]string{16: "2"}},
	{"the same line of two controllers of one name",
		[]irq{{16, "", 3, "uart", "2"}, {40, "", 3, "uart", "1"}},
		[]irq{{16, "", 3, "uart", "0-3"}, {40, "", 3, "uart", "1"}},
		[]string{"/proc/irq/16/smp_affinity_list (uart) is 0-3, was 2"},
		map[int]string{16: "2", 40: "1"}},
}

func TestMovedIRQs(t *testing.T) {
	for _, tt := range movedIRQs {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, irqs(tt.before...))
			s, err := machine.Take(root)
			require.NoError(t, err)
			s = sent(t, s)
			change(t, root, irqs(tt.after...))
			diffs, err := s.Compare()
			require.NoError(t, err)
			var text []string
			for _, d := range diffs {
				text = append(text, d.String())
			}
			assert.Equal(t, tt.diff, text)

			require.NoError(t, s.Restore())
			for number, cpus := range tt.restored {
				got, err := os.ReadFile(filepath.Join(root, fmt.Sprintf("proc/irq/%d/smp_affinity_list", number)))
				require.NoError(t, err)
				assert.Equal(t, cpus+"\n", string(got), "IRQ %d", number)
			}
		})
	}
}
