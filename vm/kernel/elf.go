package kernel

import "debug/elf"

// Architecture returns the architecture of an ELF file by the name that Go has
// for it, or "" if there is none here.
func Architecture(h elf.FileHeader) string {
	if h.Class != elf.ELFCLASS64 {
		return ""
	}
	switch h.Machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_PPC64:
		if h.Data == elf.ELFDATA2LSB {
			return "ppc64le"
		}
	case elf.EM_RISCV:
		return "riscv64"
	}
	return ""
}
