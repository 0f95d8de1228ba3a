// Package testpattern tells which tests the flags -run and -skip of go test
// select, as package testing does, which keeps that to itself.
package testpattern

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Pattern is the value of such a flag: alternatives, each with a regular
// expression for each level of a test's name.
type Pattern [][]*regexp.Regexp

// Parse reads a pattern. An empty one is not what an empty flag means: see
// [Selection].
func Parse(text string) (Pattern, error) {
	var p Pattern
	for _, levels := range split(text) {
		var alternative []*regexp.Regexp
		for _, level := range levels {
			re, err := regexp.Compile(rewrite(level))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", text, err)
			}
			alternative = append(alternative, re)
		}
		p = append(p, alternative)
	}
	return p, nil
}

// split returns the levels of each alternative. A slash or a bar in brackets or
// parentheses is part of a regular expression.
func split(text string) (alternatives [][]string) {
	var levels []string
	begin, brackets, parentheses := 0, 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '[':
			brackets++
		case c == ']':
			brackets = max(brackets-1, 0) // without a beginning, it is legal
		case c == '(' && brackets == 0:
			parentheses++
		case c == ')' && brackets == 0:
			parentheses--
		case (c == '/' || c == '|') && brackets == 0 && parentheses == 0:
			levels = append(levels, text[begin:i])
			begin, brackets = i+1, 0
			if c == '|' {
				alternatives, levels = append(alternatives, levels), nil
			}
		}
	}
	return append(alternatives, append(levels, text[begin:]))
}

// rewrite returns the name that package testing gives a subtest.
func rewrite(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte('_')
		case !strconv.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// matches reports whether the first alternative that fits a test fits it, and
// whether it has more levels, so that it is about subtests.
func (p Pattern) matches(test string) (ok, partial bool) {
	levels := strings.Split(rewrite(test), "/")
	for _, alternative := range p {
		if fits(alternative, levels) {
			return true, len(levels) < len(alternative)
		}
	}
	return false, false
}

// fits reports whether each level fits that has an expression.
func fits(alternative []*regexp.Regexp, levels []string) bool {
	for i := range min(len(alternative), len(levels)) {
		if !alternative[i].MatchString(levels[i]) {
			return false
		}
	}
	return true
}

// Names reports whether the pattern is about a subtest among others: whether an
// alternative fits it that says something of its last level, other than what is
// said of any name.
func (p Pattern) Names(test string) bool {
	levels := strings.Split(rewrite(test), "/")
	last := len(levels) - 1
	return slices.ContainsFunc(p, func(alternative []*regexp.Regexp) bool {
		return len(alternative) > last && fits(alternative, levels) && !slices.ContainsFunc(anyNames, alternative[last].MatchString)
	})
}

// anyNames are names that no test has. What fits one of them fits most tests.
var anyNames = []string{"", "any-other"}

// Selection is what -run and -skip say. nil selects all tests.
type Selection struct {
	run, skip Pattern
	all       bool // there is no -run
}

// Select returns what the values of -run and -skip say.
func Select(run, skip string) (s *Selection, err error) {
	s = &Selection{all: run == ""}
	if s.run, err = Parse(run); err != nil {
		return nil, fmt.Errorf("-run %w", err)
	}
	if skip != "" {
		if s.skip, err = Parse(skip); err != nil {
			return nil, fmt.Errorf("-skip %w", err)
		}
	}
	return s, nil
}

// Has reports whether a test is run, as a whole or for subtests of it.
func (s *Selection) Has(test string) bool {
	if s == nil {
		return true
	}
	if ok, _ := s.run.matches(test); !ok && !s.all {
		return false
	}
	skipped, partial := s.skip.matches(test)
	return !skipped || partial
}
