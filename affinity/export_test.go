package affinity

var Grow = grow
