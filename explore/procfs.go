package explore

import (
	"bytes"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// proc reads the parts of long files of /proc that are about CPUs.
func (o *Observer) proc(cpus, domains bool) error {
	if cpus {
		text, err := o.reader.read(o.stat)
		if err != nil {
			return err
		}
		o.set(o.stat.key, statCPUs(text))
		if text, err := o.reader.read(o.interrupts); err == nil {
			o.set(o.interrupts.key, interruptCPUs(text))
		}
	}
	if !domains || o.schedstat.absent {
		return nil
	}
	text, err := o.reader.read(o.schedstat)
	if err != nil {
		return nil // without CONFIG_SCHEDSTATS
	}
	all := domainsOf(text)
	for _, key := range o.domainKeys {
		if _, ok := all[key]; !ok {
			o.drop(key)
		}
	}
	o.domainKeys = slices.Collect(maps.Keys(all))
	for key, masks := range all {
		o.set(key, masks)
	}
	return nil
}

// hexMask matches a CPU mask. The names of domains are in capitals.
var hexMask = regexp.MustCompile(`^[0-9a-f,]+$`)

// statCPUs returns the CPUs that have a line in a text like that of /proc/stat,
// with blanks between.
func statCPUs(stat []byte) string {
	var cpus []byte
	for line := range bytes.Lines(stat) {
		word, _, _ := bytes.Cut(line, []byte(" "))
		n, ok := bytes.CutPrefix(word, []byte("cpu"))
		if !ok {
			break // they come first
		}
		if len(n) > 0 {
			cpus = append(append(cpus, ' '), n...)
		}
	}
	return string(bytes.TrimSpace(cpus))
}

// interruptCPUs returns the CPUs that have a column in a text like that of
// /proc/interrupts, with blanks between.
func interruptCPUs(interrupts []byte) string {
	first, _, _ := bytes.Cut(interrupts, []byte("\n"))
	return string(bytes.Join(bytes.Fields(bytes.ReplaceAll(first, []byte("CPU"), nil)), []byte(" ")))
}

// domainsOf returns the masks of the scheduling domains of each CPU in a text
// like that of /proc/schedstat, by their keys. The mask is the second word, or
// the third since v6.14, where the second is the domain's name.
func domainsOf(schedstat []byte) map[Key]string {
	all := make(map[Key]string)
	key := Key("")
	for line := range bytes.Lines(schedstat) {
		word, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		switch {
		case len(rest) > 0 && bytes.HasPrefix(word, []byte("cpu")):
			key = domainKey(string(word))
			all[key] = ""
		case len(rest) > 0 && bytes.HasPrefix(word, []byte("domain")):
			mask, rest, _ := bytes.Cut(rest, []byte(" "))
			if !hexMask.Match(mask) {
				mask, _, _ = bytes.Cut(rest, []byte(" "))
			}
			all[key] = strings.TrimSpace(all[key] + " " + string(mask))
		}
	}
	return all
}

func domainKey(cpu string) Key { return Key("/proc/schedstat#" + cpu) }

// describe has snapshots tell what the machine says of CPUs besides their state,
// as far as it does.
func (o *Observer) describe(present affinity.CPUSet) {
	for cpu := range present.All() {
		for _, file := range append(slices.Clone(described), cacheID) {
			o.described = o.add(o.described, string(describedKey(cpu, file)))
		}
	}
	nodes, _ := filepath.Glob(o.target.Path("/sys/devices/system/node/node*/cpulist"))
	for _, path := range nodes {
		o.described = o.add(o.described, "/sys/devices/system/node/"+filepath.Base(filepath.Dir(path))+"/cpulist")
	}
}

// wrote has snapshots tell which masks the interrupts have that a line has
// written to.
func (o *Observer) wrote(l Line) {
	for _, c := range l.Commands {
		if irqMask.MatchString(c.Path) && o.irqs[c.Path] == nil {
			o.irqs[c.Path] = newFile(Key(c.Path), o.target.Path(c.Path))
		}
	}
}
