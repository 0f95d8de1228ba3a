package kernel

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

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
