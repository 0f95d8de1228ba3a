package vm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTooOld(t *testing.T) {
	for shown, want := range map[string]bool{
		"Package: qemu-system-x86\nVersion: 1:7.2+dfsg-7+deb12u18+b3\nDepends: x\n": true,
		"Package: qemu-system-x86\nVersion: 1:8.0.5\n":                              true,
		"Package: qemu-system-x86\nVersion: 1:8.1~rc1\n":                            false,
		"Package: qemu-system-x86\nVersion: 1:10.0.2+ds-2+deb13u1~bpo12+1\n":        false,
		"Package: qemu-system-x86\nVersion: unknown\n":                              false,
		"": false,
	} {
		assert.Equal(t, want, tooOld(shown), "%q", shown)
	}
}

func TestDoubt(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"echo 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)'",
			"this may be QEMU's doing: 7.2 can have a CPU run stale code where the kernel has just changed its own; 8.1 and newer do not"},
		{"echo 'QEMU emulator version 8.1.0'", ""},
		{"echo 'QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)'", ""},
		{"echo something else", ""},
		{"exit 1", ""},
	} {
		emulator := filepath.Join(t.TempDir(), "qemu")
		require.NoError(t, os.WriteFile(emulator, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755))
		assert.Equal(t, tt.want, doubt(t.Context(), emulator), tt.script)
	}
}
