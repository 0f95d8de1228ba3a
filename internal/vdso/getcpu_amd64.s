#include "textflag.h"

// func getcpu(entry uintptr, cpu, node *uint32)
//
// __vdso_getcpu is a leaf, which needs next to no stack. C wants the stack
// aligned to 16 bytes.
TEXT ·getcpu(SB), NOSPLIT, $128-24
	MOVQ entry+0(FP), AX
	MOVQ cpu+8(FP), DI
	MOVQ node+16(FP), SI
	XORL DX, DX
	MOVQ SP, BX // C keeps BX
	ANDQ $~15, SP
	CALL AX
	MOVQ BX, SP
	RET
