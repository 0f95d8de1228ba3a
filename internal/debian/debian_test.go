package debian

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseMirror(t *testing.T) {
	for _, tt := range []struct{ name, targets, want string }{
		{"by what it is", "https://download.docker.com/linux/debian/|Docker|Docker CE|stable\n" +
			"http://mirror.example/debian-security/|Debian|Debian-Security|main\n" +
			"http://archive.example/archive/debian/20250520T000000Z/|Debian|Debian|main\n" +
			"http://other.example/debian/|Debian|Debian|main\n", "http://archive.example/archive/debian/20250520T000000Z/"},
		{"by its URI", "https://download.docker.com/linux/debian/|$(ORIGIN)|$(LABEL)|stable\n" +
			"http://mirror.example/debian-security/|$(ORIGIN)|$(LABEL)|main\n" +
			"http://mirror.example/debian/|$(ORIGIN)|$(LABEL)|main\n" +
			"http://other.example/debian/|$(ORIGIN)|$(LABEL)|main\n", "http://mirror.example/debian/"},
		{"known before guessed", "http://guess.example/debian/|$(ORIGIN)|$(LABEL)|main\nftp://ftp.example/pub/|Debian|Debian|main\n", "ftp://ftp.example/pub/"},
		{"a list of mirrors", "mirror+file:/etc/apt/mirrors/debian.list/|$(ORIGIN)|$(LABEL)|main\n", "mirror+file:/etc/apt/mirrors/debian.list/"},
		{"a known other", "http://example.org/debian/|Raspbian|Raspbian|main\n", ""},
		{"components but main", "http://mirror.example/debian/|Debian|Debian|contrib\n", ""},
		{"no lines", "", ""},
		{"short line", "http://mirror.example/debian/|Debian\n", ""},
	} {
		assert.Equal(t, tt.want, mainArchive.parseMirror(tt.targets), tt.name)
	}
}

// Security updates are in an archive of their own, of which the machine may use
// another mirror.
func TestParseSecurityMirror(t *testing.T) {
	const targets = "http://mirror.example/debian/|Debian|Debian|main\nhttp://security.example/debian-security/|Debian|Debian-Security|main\n"
	assert.Equal(t, "http://security.example/debian-security/", archiveOf("bookworm-security").parseMirror(targets))
	assert.Equal(t, "http://mirror.example/debian/", archiveOf("bookworm-backports").parseMirror(targets))
	const unread = "http://mirror.example/debian/|$(ORIGIN)|$(LABEL)|main\nhttp://mirror.example/debian-security/|$(ORIGIN)|$(LABEL)|main\n"
	assert.Equal(t, "http://mirror.example/debian-security/", archiveOf("bookworm-security").parseMirror(unread))
	assert.Empty(t, archiveOf("trixie-security").parseMirror("http://mirror.example/debian/|Debian|Debian|main\n"))
}

// What a command says of its failure is APT's first error, or else its last
// line.
func TestRunError(t *testing.T) {
	for script, want := range map[string]string{
		"echo W: slow >&2; echo E: no such package >&2; echo E: giving up >&2; exit 100": "sh -c: no such package",
		"echo one >&2; echo two >&2; exit 1":                                             "sh -c: two",
		"exit 3":                                                                         "sh -c: exit status 3",
	} {
		err := Run(t.Context(), io.Discard, "sh", "-c", script)
		assert.EqualError(t, err, want)
		assert.ErrorAs(t, err, new(*CommandError))
	}
	var out bytes.Buffer
	assert.NoError(t, Run(t.Context(), &out, "sh", "-c", "echo $LC_ALL $DEBIAN_FRONTEND"))
	assert.Equal(t, "C noninteractive\n", out.String())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	assert.EqualError(t, Run(ctx, io.Discard, "sh", "-c", "exit 1"), "sh -c: enough")
}

func FuzzParseMirror(f *testing.F) {
	f.Add("http://mirror.example/debian/|Debian|Debian|main\n")
	f.Add("mirror+file:/etc/apt/mirrors/debian.list/|$(ORIGIN)|$(LABEL)|main\nx|y")
	f.Fuzz(func(t *testing.T, targets string) {
		assert.Contains(t, targets, mainArchive.parseMirror(targets))
	})
}
