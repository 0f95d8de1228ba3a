package explore

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Script writes a POSIX shell script that shows the finding on a machine of
// which nothing is asked but a shell with the usual tools, such as busybox. It
// exits 1 if the kernel is broken, 0 if not, and 125 if it cannot tell.
func (f *Finding) Script(w io.Writer, law Law) error {
	lines, err := parseLines(f.Steps)
	if err != nil {
		return err
	}
	s := &script{finding: f, law: law, lines: lines}
	_, err = io.WriteString(w, s.text())
	return err
}

// script is a reproducer in the making.
type script struct {
	finding *Finding
	law     Law
	lines   []Line
	b       strings.Builder
}

func (s *script) add(format string, args ...any) { fmt.Fprintf(&s.b, format+"\n", args...) }

// mostTries is how often a script tries what shows sometimes.
const mostTries = 300

func (s *script) text() string {
	v := s.finding.Violation
	s.add("#!/bin/sh")
	s.add("# Linux %s: %s.", s.finding.Kernel, v.Seen)
	s.add("# Promised: %s.", s.law.Text)
	s.add("# Source: %s.", s.law.Source)
	s.add("# As root, on a machine that nobody else uses. Exit status 1: broken. 0: not. 125: cannot tell.")
	s.preamble()
	s.undo()
	s.attempt()
	tries := 1
	if s.finding.Violation.Lasted == healed && s.finding.Shown < s.finding.Tried {
		tries = mostTries
		s.add("# It lasts for a moment only, and showed in %s runs, so it is tried often.", s.finding.Rate())
	} else if s.finding.Shown < s.finding.Tried {
		tries = min(mostTries, 5*s.finding.Tried/max(s.finding.Shown, 1))
		s.add("# It showed in %s runs, so it is tried several times.", s.finding.Rate())
	}
	s.add("n=0")
	s.add("while [ $n -lt %d ]; do", tries)
	s.add("\tn=$((n + 1)) broken=1")
	s.add("\tattempt")
	s.add("\tundo 2>/dev/null")
	s.add("\t[ $broken = 0 ] || { echo \"BROKEN at try $n: %s: %s\"; exit 1; }", quoted(v.Law), quoted(v.Touches))
	s.add("done")
	s.add("echo 'not broken'")
	return s.b.String()
}

// quoted returns a text as it may stand in double quotes.
func quoted(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(text)
}

// uses reports whether the steps or the facts have a text in them.
func (s *script) uses(text string) bool {
	return slices.ContainsFunc(s.lines, func(l Line) bool { return strings.Contains(l.String(), text) }) ||
		slices.ContainsFunc(s.finding.Violation.Facts, func(f Fact) bool { return strings.Contains(string(f.Key), text) })
}

// cgroups reports whether there is anything about cgroups in it.
func (s *script) cgroups() bool {
	return s.uses(rootGroup) || slices.ContainsFunc(topGroups, func(g string) bool { return s.uses("$" + g) })
}

// hierarchy has the lines that find the cpusets of cgroup v1, or else of v2.
var hierarchy = map[bool]string{
	true: `R=$(sed -n 's/^[^ ]* \([^ ]*\) cgroup [^ ]*cpuset.*/\1/p' /proc/mounts | head -n 1) # cgroup v1
if [ ! "$R" ]; then
	R=/tmp/cpusets-$$
	mkdir $R
	trap 'umount $R 2>/dev/null; command rmdir $R' EXIT
	mount -t cgroup -o cpuset cpuset $R
fi
if [ ! -e $R/cpuset.sched_load_balance ] || grep -q cpuset_v2_mode /proc/mounts; then
	echo 'cannot tell: there are no cpusets of cgroup v1 without cpuset_v2_mode'
	exit 125
fi
`,
	false: `R=/sys/fs/cgroup # cgroup v2
for controller in $(cat $R/cgroup.controllers); do [ $controller != cpuset ] || ready=1; done
[ "$ready" ] || { echo 'cannot tell: there is no cpuset controller of cgroup v2'; exit 125; }
echo +cpuset > $R/cgroup.subtree_control
`,
}

// preamble sets the variables.
func (s *script) preamble() {
	if s.cgroups() {
		s.b.WriteString(hierarchy[s.finding.Cgroup == 1])
		var sets []string
		for _, g := range topGroups {
			if s.uses("$" + g) {
				sets = append(sets, fmt.Sprintf("%s=$R/%s", g, strings.ToLower(g)))
			}
		}
		if len(sets) > 0 {
			s.add("%s", strings.Join(sets, " "))
		}
	}
	if s.uses("chrt ") {
		s.add("command -v chrt > /dev/null || { echo 'cannot tell: there is no chrt, which is part of util-linux'; exit 125; }")
	}
	if s.uses("dmesg#") || s.finding.Violation.Law == "kernel-log" {
		s.add("[ ! -e /sys/kernel/debug/clear_warn_once ] || echo 1 > /sys/kernel/debug/clear_warn_once # warnings that come once a boot")
		s.add("echo \"reproducer $$\" > /dev/kmsg")
	}
	for i, path := range s.restored() {
		s.add("was%d=$(cat %s)", i, path)
	}
}

// restored returns the files that the steps write to and that neither removing
// the cgroups nor bringing the CPUs online gives their old values.
func (s *script) restored() (paths []string) {
	for _, l := range s.lines {
		for _, c := range l.Commands {
			if c.Op == Write && (restorable(c.Path) || Key(c.Path) == balanceKey) && !slices.Contains(paths, c.Path) {
				if _, fail := cpuOf(Key(c.Path), "hotplug/fail"); !fail {
					paths = append(paths, c.Path)
				}
			}
		}
	}
	return paths
}

var cpuInPath = regexp.MustCompile(cpuDir + `cpu(\d+)/`)

// undo is the function that takes the machine back.
func (s *script) undo() {
	s.add("undo() {")
	for _, cpu := range s.plugged() { // first: a task may wait for one to be able to end
		s.add("\techo 1 > %scpu%s/online", cpuDir, cpu)
	}
	for _, task := range taskNames {
		if s.uses("$" + task) {
			s.add("\t[ ! \"$%s\" ] || { kill $%s; while grep -qs 'State:.[^ZX]' /proc/$%s/status; do :; done; }", task, task, task)
		}
	}
	var made []string
	for _, l := range s.lines {
		for _, c := range l.Commands {
			if c.Op == Mkdir && !slices.Contains(made, c.Path) {
				made = append(made, c.Path)
			}
		}
	}
	slices.Sort(made)
	for _, group := range slices.Backward(made) {
		s.add("\t[ ! -d %s ] || rmdir %s", group, group)
	}
	if s.uses("+cpu > " + limitControl) {
		s.add("\techo -cpu > %s", limitControl)
	}
	for i, path := range s.restored() {
		s.add("\techo \"$was%d\" > %s", i, path)
	}
	s.add("\t:")
	s.add("}")
}

// plugged returns the numbers of the CPUs whose files the steps write to.
func (s *script) plugged() (cpus []string) {
	for _, l := range s.lines {
		for _, c := range l.Commands {
			if m := cpuInPath.FindStringSubmatch(c.Path); m != nil && !slices.Contains(cpus, m[1]) {
				cpus = append(cpus, m[1])
			}
		}
	}
	return cpus
}

// tasksetCommand prints what it does.
var tasksetCommand = regexp.MustCompile(`taskset -p [0-9a-f]+ \$T[0-9]`)

// attempt is the function that takes the steps and looks.
func (s *script) attempt() {
	s.add("is() { # FILE VALUE: broken stays 1 if the file reads so")
	s.add("\tvalue=; read -r value < $1; echo \"${1##*/cgroup/} is '$value'\"; [ \"$value\" = \"$2\" ] || broken=0")
	s.add("}")
	s.add("prints() { # COMMAND VALUE: broken stays 1 if the command prints so")
	s.add("\tvalue=$(eval \"$1\"); echo \"$1 prints '$value'\"; [ \"$value\" = \"$2\" ] || broken=0")
	s.add("}")
	s.add("attempt() {")
	for _, task := range taskNames {
		switch {
		case s.uses("$"+task) && naps[task].Sec > 0:
			s.add("\t%s=$(sleep %d > /dev/null & echo $!) # a task that sleeps", task, naps[task].Sec)
		case s.uses("$" + task):
			s.add("\t%s=$(while sleep 0.02; do :; done > /dev/null & echo $!) # a task that wakes up every now and then", task)
		}
	}
	for i, l := range s.lines {
		comment := describe(l)
		if i < len(s.finding.Results) && s.finding.Results[i] != "" {
			comment += ": " + s.finding.Results[i]
		}
		text := tasksetCommand.ReplaceAllString(l.String(), "$0 > /dev/null")
		if i == len(s.lines)-1 {
			text = s.sameEnd(text, l)
		}
		s.add("\t%s # %s", text, comment)
	}
	s.look()
	s.add("}")
}

// sameEnd returns the last step so that the kernel is not called broken if it
// takes what the other refused, or refuses what that took.
func (s *script) sameEnd(text string, l Line) string {
	results := s.finding.Results
	switch {
	case len(l.Commands) != 1 || len(results) != len(s.lines) || s.law.Name == Survives.Name:
		return text
	case results[len(results)-1] == "":
		return text + " || broken=0"
	default:
		return text + " && broken=0"
	}
}

// look has the lines that look whether the kernel is broken.
func (s *script) look() {
	facts := slices.Clone(s.finding.Violation.Facts)
	switch {
	case s.law.Name == Survives.Name:
		s.add("\tbroken=0 # a healthy kernel comes here")
		return
	case len(facts) == 0:
		s.add("\techo 'cannot tell: what is wrong cannot be read by a shell'")
		s.add("\tundo 2>/dev/null")
		s.add("\texit 125")
		return
	}
	for _, task := range taskNames {
		if s.uses("$"+task+"#") || s.uses("$"+task+"/status") {
			s.add("\tkill -0 $%s || broken=0 # of a task that is gone nothing is read", task)
		}
	}
	s.add("\t# A healthy kernel does not say all of this:")
	// What the shell reads by itself comes first: it may be so for a moment only.
	slices.SortStableFunc(facts, func(a, b Fact) int { return strings.Count(string(a.Key), "#") - strings.Count(string(b.Key), "#") })
	for _, fact := range facts {
		s.add("\t%s", fact.shell(s.finding.Cgroup))
	}
}

// shell returns the line of shell that looks whether the fact is so, on a
// machine with cpusets of a version of cgroup.
func (f Fact) shell(cgroup int) string {
	what, value := string(f.Key), f.Value
	file, part, ok := strings.Cut(what, "#")
	if !ok {
		return fmt.Sprintf("is %s '%s'", what, value)
	}
	command := ""
	switch {
	case file == "dmesg":
		return fmt.Sprintf(`prints "dmesg | sed '1,/reproducer $$/d' | grep -q '%s' && echo yes" 'yes'`, part)
	case file == "/proc/stat":
		command = `echo $(sed -n 's/^cpu\([0-9][0-9]*\) .*/\1/p' /proc/stat)`
	case file == "/proc/interrupts":
		command = `echo $(sed -n '1s/CPU//gp' /proc/interrupts)`
	case file == "/proc/schedstat":
		command = `echo $(sed -n '/^` + part + ` /,/^cpu/p' /proc/schedstat | sed '1d;/^cpu/d' | sed 's/^domain[0-9]* \([A-Z]* \)*\([0-9a-f,]*\) .*/\2/')`
	case part == "allowed":
		command = "sed -n 's/^Cpus_allowed_list:.//p' " + file
	case part == "affinity":
		command = "taskset -c -p " + file + " | sed 's/.*: //'"
	case part == "cgroup":
		line := "0::"
		if cgroup == 1 {
			line = "[0-9]*:[^:]*cpuset[^:]*:"
		}
		return fmt.Sprintf(`prints 'echo $R$(sed -n "s,/$,,;s/^%s//p" /proc/%s/cgroup)' "%s"`, line, file, value)
	}
	return fmt.Sprintf("prints %s '%s'", shellQuote(command), value)
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
