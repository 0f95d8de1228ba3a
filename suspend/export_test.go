package suspend

var ParseChoice = parseChoice
