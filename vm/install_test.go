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

// lockElsewhere has a test take turns with none but itself.
func lockElsewhere(t *testing.T) {
	was := installLock
	installLock = filepath.Join(t.TempDir(), "lock")
	t.Cleanup(func() { installLock = was })
}

// A QEMU that would make kernels look bad is refused, in one line.
func TestUnsound(t *testing.T) {
	lockElsewhere(t)
	for _, tt := range []struct{ script, want string }{
		{"echo 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)'", " is QEMU 7.2, which may run code from before the kernel has changed it, and takes no input-path: 8.1 or newer is needed: "},
		{"echo 'QEMU emulator version 8.1.0'", ""},
		{"echo 'QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)'", ""},
		{"echo something else", ""},
		{"exit 1", " --version: exit status 1"},
	} {
		dir := t.TempDir()
		emulator := filepath.Join(dir, "qemu-test")
		require.NoError(t, os.WriteFile(emulator, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755))
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		path, err := machine{qemu: "qemu-test"}.find(t.Context(), t.Output())
		if tt.want == "" {
			assert.NoError(t, err, tt.script)
			assert.Equal(t, emulator, path, tt.script)
			continue
		}
		require.ErrorContains(t, err, emulator+tt.want, tt.script)
		assert.NotContains(t, err.Error(), "\n", tt.script)
	}
}

// A QEMU that APT has just installed is no better than one that was there.
func TestUnsoundInstalled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root installs anything")
	}
	lockElsewhere(t)
	dir := t.TempDir()
	for name, script := range map[string]string{
		"apt-get":   `case "$*" in *install*) printf '#!/bin/sh\necho QEMU emulator version 6.2.0\n' >` + dir + `/qemu-test; chmod +x ` + dir + `/qemu-test;; esac`,
		"apt-cache": "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, err := machine{qemu: "qemu-test", pkg: "qemu-package"}.find(t.Context(), t.Output())
	require.ErrorContains(t, err, dir+"/qemu-test is QEMU 6.2, which may run code from before the kernel has changed it, and takes no input-path")
}

// Two that find no QEMU at the same time install it once.
func TestInstallTwice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root installs anything")
	}
	lockElsewhere(t)
	dir := t.TempDir()
	for name, script := range map[string]string{
		"apt-get": `case "$*" in
*install*)
	mkdir ` + dir + `/installed || exit 1
	printf '#!/bin/sh\necho QEMU emulator version 10.0.0\n' >` + dir + `/made
	chmod +x ` + dir + `/made
	mv ` + dir + `/made ` + dir + `/qemu-test
esac`,
		"apt-cache": "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	found := make(chan error)
	for range 2 {
		go func() {
			_, err := machine{qemu: "qemu-test", pkg: "qemu-package"}.find(t.Context(), t.Output())
			found <- err
		}()
	}
	assert.NoError(t, <-found)
	assert.NoError(t, <-found)
}
