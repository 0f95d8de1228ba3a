//go:build !selftest

package hotplugtest

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/suite"
)

var update = flag.Bool("update", false, "write the parts of docs/ that come from the rows")

// The docs have what the rows say: go test -short -run TestDocs . -update
// writes the parts between the lines "<!-- rows: NAME -->" and "<!-- end -->".
func TestDocs(t *testing.T) {
	tables := Default()
	parts := map[string]string{
		"transitions": transitionsDoc(tables), "invariants": invariantsDoc(tables),
		"scenarios": scenariosDoc(tables), "workloads": workloadsDoc(tables), "defects": defectsDoc(tables),
		"deferrals": deferralsDoc(), "explored": exploredDoc(t, tables), "laws": lawsDoc(),
	}
	for _, file := range []string{"docs/rows.md", "docs/findings.md", "docs/ledger.md", "docs/explorer.md"} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		want, used, err := fill(string(data), parts)
		require.NoError(t, err, file)
		for _, name := range used {
			delete(parts, name)
		}
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
			continue
		}
		if stale := firstDifference(want, string(data)); stale != "" {
			t.Errorf("%s is stale: go test -short -run TestDocs . -update\n%s", file, stale)
		}
	}
	assert.Empty(t, parts, "no file has these parts")
}

// firstDifference says where two texts differ, or "".
func firstDifference(want, is string) string {
	if want == is {
		return ""
	}
	a, b := strings.Split(want, "\n"), strings.Split(is, "\n")
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return fmt.Sprintf("line %d is   %q\nand must be %q", n+1, strings.Join(b[n:min(n+1, len(b))], ""), strings.Join(a[n:min(n+1, len(a))], ""))
}

// fill puts the parts into a text, and returns the names of those that it has.
func fill(text string, parts map[string]string) (filled string, used []string, err error) {
	const begin, end = "<!-- rows: ", "<!-- end -->\n"
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, begin)
		b.WriteString(before)
		if !ok {
			return b.String(), used, nil
		}
		name, rest, _ := strings.Cut(rest, " -->\n")
		part, known := parts[name]
		_, after, ended := strings.Cut(rest, end)
		if !known || !ended {
			return "", nil, fmt.Errorf("%q is no part, or does not end", name)
		}
		fmt.Fprintf(&b, "%s%s -->\n%s%s", begin, name, part, end)
		used, text = append(used, name), after
	}
}

// table returns a table in Markdown.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(cell, "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	line(head)
	b.WriteString("|" + strings.Repeat("---|", len(head)) + "\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// only says on which machines a row is run.
func only(boot Boot, since, until Version, except []Span, destructive bool) string {
	var words []string
	if boot != "" {
		words = append(words, fmt.Sprintf("booted with %s", boot))
	}
	if since != (Version{}) || until != (Version{}) {
		words = append(words, Span{From: since, Until: until}.String())
	}
	for _, span := range except {
		words = append(words, "not "+span.String())
	}
	if destructive {
		words = append(words, "with `-destructive`")
	}
	return strings.Join(words, "; ")
}

// exploredDoc returns the findings of the explorer, each with the sequence that
// shows it.
func exploredDoc(t *testing.T, tables Tables) string {
	recordings, err := explore.Recordings("explore/testdata/findings")
	require.NoError(t, err)
	var rows [][]string
	for _, k := range explore.KnownFindings() {
		var kernels, sequences []string
		for _, span := range k.Defect.Kernels {
			kernels = append(kernels, span.String())
		}
		if k.Row != "" {
			isRow := func(sc Scenario) bool { return "TestScenario/"+sc.Name == k.Row }
			assert.True(t, slices.ContainsFunc(tables.Scenarios, isRow), "the suite has no row %s", k.Row)
			sequences = append(sequences, "none, but the row `"+k.Row+"`")
		}
		for _, r := range recordings {
			if r.Shows(k) {
				sequences = append(sequences, r.Name)
			}
		}
		rows = append(rows, []string{strings.Join(kernels, ", "), "`" + strings.Replace(k.Key, "*", "…", 1) + "`", k.Defect.Symptom, strings.Join(sequences, ", ")})
	}
	return table([]string{"kernels", "law, and what it touches", "what is seen", "sequence"}, rows)
}

// lawsDoc returns what the explorer holds a kernel to.
func lawsDoc() string {
	var rows [][]string
	for _, law := range append(explore.Default().Laws, explore.Survives) {
		text := only("", law.Since, Version{}, nil, false)
		if law.Cgroup != 0 {
			text = strings.TrimPrefix(text+fmt.Sprintf("; cgroup v%d", law.Cgroup), "; ")
		}
		rows = append(rows, []string{"`" + law.Name + "`", law.Text, text, law.Source})
	}
	return table([]string{"law", "what is promised", "only", "source"}, rows)
}

func transitionsDoc(tables Tables) string {
	var rows [][]string
	for _, tr := range tables.Transitions {
		change := fmt.Sprintf("%v to %v", tr.Before, tr.After)
		if tr.Before == tr.After {
			change = fmt.Sprintf("stays %v", tr.Before)
		}
		if tr.Partition != nil {
			change += fmt.Sprintf(", in a partition (%s)", tr.Partition.Kind)
		}
		outcome := "succeeds"
		if tr.Err != 0 {
			outcome = unix.ErrnoName(tr.Err)
		}
		if tr.Err == errSMTOff && strings.HasPrefix(tr.Name, "SMT/") {
			outcome = "EPERM, on arm64 and riscv64 ECANCELED"
		}
		moments := "at-return"
		switch {
		case tr.Sleep:
			moments = "after-resume"
		case tr.Uevent != "":
			moments = "at-uevent, at-return"
		}
		if tr.Variants != nil {
			moments += ", for each variant"
		}
		rows = append(rows, []string{
			"`Test" + tr.Name + "`", change, outcome, moments, only(tr.Boot, tr.Since, tr.Until, tr.Except, tr.Destructive), tr.Source,
		})
	}
	return table([]string{"test", "the CPU", "outcome", "looked at", "only", "source"}, rows)
}

func invariantsDoc(tables Tables) string {
	var rows [][]string
	for _, inv := range tables.Invariants {
		after := ""
		switch {
		case inv.Before != 0 && inv.After != 0:
			after = fmt.Sprintf("%v to %v", inv.Before, inv.After)
		case inv.Before != 0:
			after = fmt.Sprintf("%v before", inv.Before)
		case inv.After != 0:
			after = fmt.Sprintf("%v after", inv.After)
		}
		from := ""
		if inv.Placed {
			from = "each cpuset"
		}
		if inv.Partition {
			from = "a partition"
		}
		rows = append(rows, []string{
			"`" + inv.Name + "`", inv.Promise, after, from, only(inv.Boot, inv.Since, inv.Until, inv.Except, false), inv.Source,
		})
	}
	return table([]string{"row", "promise", "if the CPU is", "from", "only", "source"}, rows)
}

func scenariosDoc(tables Tables) string {
	var rows [][]string
	for _, sc := range tables.Scenarios {
		rows = append(rows, []string{"`" + sc.Name + "`", sc.Promise, only("", sc.Since, sc.Until, sc.Except, sc.Destructive), sc.Source})
	}
	return table([]string{"row", "promise", "only", "source"}, rows)
}

func workloadsDoc(tables Tables) string {
	var rows [][]string
	for _, w := range tables.Workloads {
		var actors []string
		for _, a := range w.Actors {
			actors = append(actors, a.Name)
		}
		rows = append(rows, []string{"`" + w.Name + "`", strings.Join(actors, ", ")})
	}
	return table([]string{"workload", "threads"}, rows)
}

func defectsDoc(tables Tables) string {
	var rows [][]string
	listed := make(map[string]int)
	add := func(row string, known []Defect) {
		for _, d := range known {
			if i, ok := listed[d.Symptom]; ok {
				rows[i][4] += ", `" + row + "`"
				continue
			}
			listed[d.Symptom] = len(rows)
			var kernels []string
			for _, span := range d.Kernels {
				kernels = append(kernels, span.String())
			}
			rows = append(rows, []string{strings.Join(kernels, ", "), d.Symptom, d.Since, d.Link, "`" + row + "`"})
		}
	}
	for _, tr := range tables.Transitions {
		add("Test"+tr.Name, tr.Known)
	}
	for _, inv := range tables.Invariants {
		add(inv.Name, inv.Known)
	}
	for _, sc := range tables.Scenarios {
		add("TestScenario/"+sc.Name, sc.Known)
	}
	return table([]string{"kernels", "symptom", "since", "report or fix", "row"}, rows)
}

// The list of known defects that comes with the module is that of the rows.
func TestDocsKnown(t *testing.T) {
	const file = "internal/known/known.json"
	want, err := known.Format(knownEntries(Default()))
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(file, want, 0o644))
		return
	}
	is, err := os.ReadFile(file)
	require.NoError(t, err)
	if stale := firstDifference(string(want), string(is)); stale != "" {
		t.Errorf("%s is stale: go test -short -run TestDocs . -update\n%s", file, stale)
	}
}

// The signature of a defect is about the errors as they are now: here that of a
// CPU that cannot be taken offline.
func TestSignatureOfLoneIsolated(t *testing.T) {
	err := &cpuhp.Error{Package: "cpuhp", Op: "write", Path: "/sys/devices/system/cpu/cpu1/online", Value: "0", Err: unix.EBUSY}
	text := suite.Operation{Transition: &Transition{Name: "Offline"}, CPU: 1}.String() + ": the operation failed: " + err.Error()
	assert.Regexp(t, loneIsolated.Signature.Symptom, text)
}

// knownEntries are the defects of the rows that have a signature.
func knownEntries(tables Tables) (entries []known.Entry) {
	add := func(defects []Defect) {
		for _, d := range defects {
			s := d.Signature
			if s == nil || slices.ContainsFunc(entries, func(e known.Entry) bool { return e.ID == s.ID }) {
				continue
			}
			var kernels []known.Range
			for _, span := range d.Kernels {
				kernels = append(kernels, known.Range{From: release(span.From), Until: release(span.Until)})
			}
			entries = append(entries, known.Entry{
				ID: s.ID, Test: s.Test, Kernels: kernels, Profiles: s.Profiles, Symptom: s.Symptom, Beside: s.Beside,
				Crash: s.Crash, Most: s.Most, Rare: s.Rare, Why: d.Symptom, Link: d.Link, Review: s.Review,
			})
		}
	}
	for _, tr := range tables.Transitions {
		add(tr.Known)
	}
	for _, inv := range tables.Invariants {
		add(inv.Known)
	}
	for _, sc := range tables.Scenarios {
		add(sc.Known)
	}
	return entries
}

// release is a version as a list of known defects has it.
func release(v Version) string {
	if v == (Version{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d", v[0], v[1])
}

func deferralsDoc() string {
	var rows [][]string
	for _, k := range knownDeferrals {
		what := fmt.Sprintf("%s `%s`", k.Kind, k.Function)
		if k.Via != nil {
			what += fmt.Sprintf(", by `%v`", k.Via)
		}
		kernels := k.Kernels.String()
		if k.Tracer != "" {
			kernels += fmt.Sprintf(" with the tracer `%s`", k.Tracer)
		}
		when := k.When
		if k.After != 0 {
			when = strings.TrimSuffix(fmt.Sprintf("the CPU is %v after it; %s", k.After, when), "; ")
		}
		rows = append(rows, []string{what, kernels, when, k.Source, k.Why})
	}
	return table([]string{"what", "kernels", "depends on", "put off by", "why it may"}, rows)
}

func TestFill(t *testing.T) {
	parts := map[string]string{"a": "new\n"}
	filled, used, err := fill("x\n<!-- rows: a -->\nold\n<!-- end -->\ny\n", parts)
	require.NoError(t, err)
	assert.Equal(t, "x\n<!-- rows: a -->\nnew\n<!-- end -->\ny\n", filled)
	assert.Equal(t, []string{"a"}, used)
	for _, text := range []string{"<!-- rows: b -->\n<!-- end -->\n", "<!-- rows: a -->\n"} {
		_, _, err := fill(text, parts)
		assert.ErrorContains(t, err, "is no part, or does not end")
	}
}
