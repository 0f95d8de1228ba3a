package cpuhp

var ParseStates = parseStates
