package kmsg

var Parse = parse
