package vm

import (
	"context"
	"fmt"
	"strings"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

func modulePath(name string) string { return "/lib/modules/" + name + ".ko" }

// findModules finds the modules of the options, and those that they need.
func (vm *VM) findModules(ctx context.Context) error {
	var names []string
	params := make(map[string]string)
	for _, text := range vm.opts.Modules {
		name, p, _ := strings.Cut(strings.Join(strings.Fields(text), " "), " ")
		name = strings.ReplaceAll(name, "-", "_")
		names = append(names, name)
		params[name] = p
	}
	var err error
	if vm.modules, err = vm.image.Modules(ctx, names...); err != nil {
		return fmt.Errorf("kernel %s: %w", vm.opts.Kernel, err)
	}
	for _, m := range vm.modules {
		vm.job.Modules = append(vm.job.Modules, wire.Module{Path: modulePath(m.Name), Params: params[m.Name]})
	}
	return nil
}
