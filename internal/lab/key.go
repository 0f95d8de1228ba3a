package lab

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Key names what each result of a kernel depends on: the kernel, which people
// call so and which is in the file, and the sources of this module, in the
// working directory. A path may be that of another kernel after a make.
func Key(kernel, file string) (string, error) {
	sum := sha256.New()
	add := func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(sum, f)
		return err
	}
	if err := add(file); err != nil {
		return "", err
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && path != "." && strings.HasPrefix(name, "."):
			return fs.SkipDir
		case d.Type().IsRegular() && (filepath.Ext(name) == ".go" || name == "go.mod" || name == "go.sum"):
			fmt.Fprintf(sum, "\n%s\n", path)
			return add(path)
		}
		return nil
	})
	return fmt.Sprintf("%s %x", kernel, sum.Sum(nil)), err
}
