package tracefs

var ParseStats = parseStats

// NewInstance returns an instance that is a directory of files, with these
// descriptors in place of trace_marker and trace_pipe.
func NewInstance(dir string, marker, pipe int) *Instance {
	return &Instance{dir: dir, marker: marker, pipe: pipe}
}

// HasStacks is what Stacks does, apart from the kernel's part.
func (i *Instance) HasStacks(name string) { i.hasStacks(name, "") }
