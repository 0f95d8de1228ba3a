package tracefs

var ParseStats = parseStats
