package hotplugtest

// partitioned is a transition of a CPU in a partition. It takes other CPUs
// along, as the partition takes them from all other cpusets.
func partitioned(p Partition, except ...Span) Transition {
	return Transition{
		Source: docCgroup + ": cpuset.cpus.partition", Partition: &p, Together: true,
		Except: append([]Span{partitionsTakeKthreads}, except...),
	}
}

// Kernels on which partitions are no subject.
var (
	partitionsTakeKthreads = Span{
		Until: Version{6, 0},
		Why:   "before v6.0 a partition also takes its CPUs from the kernel's own threads that are bound to them",
	}
	unemptiable = Span{
		From: Version{6, 12}, Until: Version{6, 14},
		Why: "v6.12 and v6.13 refuse to empty a partition, as the bandwidth of the CPU's deadline server would not fit: EBUSY, until 53916d5fd3c0 (v6.14)",
	}
)
