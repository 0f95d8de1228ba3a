package testjson

import "regexp"

// KnownPrefix begins the line that says by which known defect a test failed.
const KnownPrefix = "known: "

// Frame matches the lines that package testing prints of a test and of those
// below it. What the test itself reports is between them.
var Frame = regexp.MustCompile(`^\s*(=== (RUN|NAME|PAUSE|CONT|ATTR) |--- (PASS|FAIL|SKIP): )`)

// Transition returns the part of a test's name that is about the transition:
// without the moment and what follows it, and without one of many states.
func Transition(test string) string { return moment.ReplaceAllString(test, "") }

var moment = regexp.MustCompile(`/(at-uevent|at-return|after-resume)(/.*)?$|/\d+:[^/]*$`)
