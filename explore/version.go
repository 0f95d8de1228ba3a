package explore

import "github.com/hotplugtest/hotplugtest/suite"

// Version is that of a kernel: see [suite.Version].
type Version = suite.Version
