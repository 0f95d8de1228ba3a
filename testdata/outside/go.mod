module example.org/outside

go 1.25.0

require github.com/hotplugtest/hotplugtest v0.0.0

require (
	github.com/cilium/ebpf v0.22.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/hotplugtest/hotplugtest => ../..
