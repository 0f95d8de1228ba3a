package cli

import (
	"regexp"
	"strings"
)

// plainWord is what no shell takes for anything but itself.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./=:,+-]+$`)

// Quoted returns words as a shell reads them, each in quotes if it needs them,
// with blanks between them.
func Quoted(words ...string) string {
	list := make([]string, len(words))
	for i, word := range words {
		if !plainWord.MatchString(word) {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		list[i] = word
	}
	return strings.Join(list, " ")
}
