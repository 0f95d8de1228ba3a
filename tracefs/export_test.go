package tracefs

var ParseStats = parseStats

// InstanceAt returns an instance that is a directory of the test's.
func InstanceAt(dir string) *Instance { return &Instance{dir: dir, marker: -1, pipe: -1} }
