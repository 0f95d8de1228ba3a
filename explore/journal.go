package explore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A Journal has the sequence that is under way on disk, each step before it is
// performed: what is left of a machine that dies. [ReadSequences] reads the
// file. The zero Journal has no file, and keeps nothing.
type Journal struct {
	file  *os.File
	lines []string
}

// OpenJournal creates or empties the file of a journal, and its directory. The
// error is an [*os.PathError].
func OpenJournal(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Journal{file: f}, nil
}

// Begin begins a sequence: that before is dropped.
func (j *Journal) Begin(b Begin) error {
	j.lines = b.Lines
	if j.file == nil {
		return nil
	}
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if _, err := j.file.Seek(0, 0); err != nil {
		return err
	}
	return j.add(fmt.Sprintf("# sequence %d (%s)", b.Number, b.Why))
}

// Step notes that a step is about to be performed, by its number. It returns
// when the note is on disk.
func (j *Journal) Step(n int) error {
	if n >= len(j.lines) {
		return j.add("# the machine is taken back")
	}
	return j.add(j.lines[n])
}

func (j *Journal) add(line string) error {
	if j.file == nil {
		return nil
	}
	_, err := j.file.WriteString(line + "\n")
	return errors.Join(err, j.file.Sync())
}

// Close closes the file.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
