package kernel

import (
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
		assert.Equal(t, tt.want, parseMirror(tt.targets), tt.name)
	}
}

func TestParseStanza(t *testing.T) {
	have := parseStanza("\nPackage: linux-image-amd64\nVersion: 6.1.176-1\nEmpty:\nDepends: a,\n b (= 1)\nHomepage: https://www.kernel.org/\nnot a field\n\nPackage: other\n")
	assert.Equal(t, map[string]string{
		"Package": "linux-image-amd64", "Version": "6.1.176-1", "Empty": "", "Depends": "a,\nb (= 1)", "Homepage": "https://www.kernel.org/",
	}, have)
}

func TestKernelDependency(t *testing.T) {
	for depends, want := range map[string]string{
		"": "",
		"kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool":                           "",
		"linux-image-6.1.0-47-amd64 (= 6.1.170-1)":                                                                       "linux-image-6.1.0-47-amd64",
		"linux-base-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-amd64 (= 7.2.13-1)":                                     "linux-image-7.2.13+deb14-amd64",
		"linux-image-x:arm64, linux-binary-7.2.13+deb14-amd64:amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-amd64":      "linux-binary-7.2.13+deb14-amd64",
		"initramfs-tools,\n linux-image-5.10.0-32-amd64 (= 5.10.223-1)":                                                  "linux-image-5.10.0-32-amd64",
		"linux-image-6.1.0-47-amd64 (= 6.1.170-1) | linux-image-6.1.0-47-amd64-unsigned (= 6.1.170-1), linux-binary-foo": "linux-binary-foo",
	} {
		assert.Equal(t, want, kernelDependency(depends), depends)
	}
}

func FuzzParseMirror(f *testing.F) {
	f.Add("http://mirror.example/debian/|Debian|Debian|main\n")
	f.Add("mirror+file:/etc/apt/mirrors/debian.list/|$(ORIGIN)|$(LABEL)|main\nx|y")
	f.Fuzz(func(t *testing.T, targets string) {
		assert.Contains(t, targets, parseMirror(targets))
	})
}

func FuzzParseStanza(f *testing.F) {
	f.Add("Package: linux-image-amd64\nDepends: linux-image-6.1.0-47-amd64 (= 6.1.170-1),\n linux-binary-x:any | y\n\nPackage: other\n")
	f.Add("\n continued\n: nameless\nx")
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range parseStanza(text) {
			assert.NotContains(t, name, "\n")
			if pkg := kernelDependency(value); pkg != "" {
				assert.Regexp(t, `^linux-(binary|image)-`, pkg)
				assert.NotContains(t, pkg, ",")
			}
		}
	})
}
