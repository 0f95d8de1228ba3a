package vm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

func TestEmulation(t *testing.T) {
	assert.Equal(t, "tcg,thread=multi", (&Options{}).emulation())
	assert.Equal(t, "tcg,thread=single", (&Options{OneThread: true}).emulation())
}

func TestCommandLine(t *testing.T) {
	vm := func(change func(*VM)) *VM {
		vm := &VM{
			machine: machines["amd64"],
			opts:    Options{SMP: "4,cores=2,threads=2", Mem: "1G"},
			image:   &kernel.Image{Boot: "/cache/vmlinux", Given: "/boot/vmlinuz"},
			initrd:  "/tmp/vm-1/initramfs",
			console: "/tmp/vm-1/console.log",
			line:    "/tmp/vm-1/line",
			gdb:     "/tmp/vm-1/gdb",
		}
		change(vm)
		return vm
	}
	for _, tt := range []struct {
		name   string
		vm     *VM
		accel  string
		has    [][]string // arguments that follow one another
		hasNot []string
	}{
		{
			name:  "emulation",
			vm:    vm(func(*VM) {}),
			accel: tcg,
			has: [][]string{
				{"-accel", "tcg,thread=multi"},
				{"-cpu", "max,vendor=GenuineIntel,family=6,model=54,-monitor"},
				{"-smp", "4,cores=2,threads=2", "-m", "1G"},
				{"-kernel", "/cache/vmlinux", "-initrd", "/tmp/vm-1/initramfs"},
				{"-append", "console=ttyS0 " + bootArgs},
				// The console is the first line, the conversation the second.
				{"-serial", "chardev:console", "-chardev", "pipe,id=line,path=/tmp/vm-1/line", "-serial", "chardev:line"},
				{"-nodefaults"}, {"-no-user-config"},
				{"-no-reboot"}, // or a panic boots for ever
			},
			hasNot: []string{"-gdb"},
		},
		{
			name:  "no options",
			vm:    vm(func(vm *VM) { vm.opts = Options{} }),
			accel: tcg,
			has:   [][]string{{"-smp", "4", "-m", "1G"}},
		},
		{
			name:  "KVM",
			vm:    vm(func(vm *VM) { vm.clock = "tsc_early_khz=2600000" }),
			accel: kvm,
			has:   [][]string{{"-accel", "kvm"}, {"-cpu", "host"}, {"-append", "console=ttyS0 " + bootArgs}},
		},
		{
			name:  "a clock that is known",
			vm:    vm(func(vm *VM) { vm.clock = "tsc_early_khz=2600000" }),
			accel: tcg,
			has:   [][]string{{"-append", "console=ttyS0 " + bootArgs + " tsc_early_khz=2600000"}},
		},
		{
			name: "arm64",
			vm: vm(func(vm *VM) {
				vm.machine = machines["arm64"]
				vm.image = &kernel.Image{Boot: "/cache/Image"}
			}),
			accel: tcg,
			has: [][]string{
				{"-machine", "virt", "-cpu", "cortex-a72"},
				{"-kernel", "/cache/Image"},
				{"-append", "console=ttyAMA0 " + bootArgs},
			},
		},
		{
			name:  "the kernel's command line",
			vm:    vm(func(vm *VM) { vm.opts.Append = "isolcpus=0-2 panic=1" }),
			accel: tcg,
			has:   [][]string{{"-append", "console=ttyS0 " + bootArgs + " isolcpus=0-2 panic=1"}},
		},
		{
			name:  "a kernel that is not unpacked",
			vm:    vm(func(vm *VM) { vm.opts.Packed = true }),
			accel: tcg,
			has:   [][]string{{"-kernel", "/boot/vmlinuz", "-initrd", "/tmp/vm-1/initramfs"}},
		},
		{
			name:  "more arguments",
			vm:    vm(func(vm *VM) { vm.opts.QEMU = []string{"-numa", "node,cpus=0-1"} }),
			accel: tcg,
			has:   [][]string{{"-numa", "node,cpus=0-1"}},
		},
		{
			name:  "a poke needs the gdb stub",
			vm:    vm(func(vm *VM) { vm.pokes = []Poke{{Symbol: "f"}} }),
			accel: tcg,
			has:   [][]string{{"-gdb", "unix:/tmp/vm-1/gdb,server=on,wait=off"}},
		},
		{
			name:  "a debugger",
			vm:    vm(func(vm *VM) { vm.opts.GDB = "/out/gdb.socket" }),
			accel: tcg,
			has: [][]string{
				{"-append", "console=ttyS0 " + bootArgs + " nokaslr"}, {"-S", "-gdb", "unix:/out/gdb.socket,server=on,wait=off"},
			},
		},
		{
			name: "a debugger, after a poke",
			vm: vm(func(vm *VM) {
				vm.opts.GDB, vm.pokes = "/out/gdb.socket", []Poke{{Symbol: "f"}}
			}),
			accel: tcg,
			has: [][]string{
				{"-append", "console=ttyS0 " + bootArgs + " nokaslr"}, {"-gdb", "unix:/tmp/vm-1/gdb,server=on,wait=off"},
			},
			hasNot: []string{"-S"},
		},
		{
			name: "a comma in a path is not one between options",
			vm: vm(func(vm *VM) {
				vm.console, vm.line, vm.gdb = "/jobs/a=1,b=2/console.log", "/t,mp/line", "/t,mp/gdb"
				vm.keys, vm.qmp = "/t,mp/keys", "/t,mp/qmp"
				vm.pokes = []Poke{{Symbol: "f"}}
			}),
			accel: tcg,
			has: [][]string{
				{"-chardev", "file,id=console,path=/jobs/a=1,,b=2/console.log,input-path=/t,,mp/keys.in"},
				{"-chardev", "pipe,id=line,path=/t,,mp/line"},
				{"-chardev", "pipe,id=monitor,path=/t,,mp/qmp"},
				{"-gdb", "unix:/t,,mp/gdb,server=on,wait=off"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.vm.machine.commandLine(tt.vm, tt.accel)
			all := "\n" + strings.Join(args, "\n") + "\n"
			for _, want := range tt.has {
				assert.Contains(t, all, "\n"+strings.Join(want, "\n")+"\n")
			}
			for _, not := range tt.hasNot {
				assert.NotContains(t, args, not)
			}
		})
	}
}
