package tracefs

var ParseLost = parseLost
