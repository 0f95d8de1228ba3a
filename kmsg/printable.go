package kmsg

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns a text of the kernel's with U+FFFD in place of what cannot
// be printed, except line feeds and tabs. A ^V (0x16) in the output of a test,
// for example, makes test2json take what follows for a result.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}
