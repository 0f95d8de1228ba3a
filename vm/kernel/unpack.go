package kernel

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// keep is how many unpacked kernels stay in the cache, of about 60 MB each.
const keep = 10

// maxSize bounds what a kernel may unpack to, in bytes.
const maxSize = 1 << 30

// unpacked returns the path and the layout of the kernel inside f, whose layout
// is k. It is kept in dir under the checksum of f.
func unpacked(f *os.File, k *layout, dir string) (string, *layout, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, all(f)); err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%x", sum.Sum(nil)))
	if inner, err := inspectInner(path); err == nil {
		now := time.Now()
		return path, inner, os.Chtimes(path, now, now)
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	tmp, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(tmp.Name())
	err = errors.Join(k.unpack(tmp), tmp.Close())
	if err != nil {
		return "", nil, err
	}
	inner, err := inspectInner(tmp.Name())
	if err != nil {
		return "", nil, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", nil, err
	}
	return path, inner, prune(dir, keep)
}

// inspectInner reads the layout of an unpacked kernel. It fails with
// ErrNotKernel also where that is packed again.
func inspectInner(path string) (*layout, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	k, err := inspect(f)
	if err != nil {
		return nil, fmt.Errorf("what is packed in it: %w", err)
	}
	if k.packed != nil {
		return nil, fmt.Errorf("what is packed in it: %w: packed again", ErrNotKernel)
	}
	return k, nil
}

// prune removes all but the n entries of dir that were used last.
func prune(dir string, n int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	used := make(map[string]time.Time, len(entries))
	for _, e := range entries {
		if fi, err := e.Info(); err == nil { // else another process was first
			used[e.Name()] = fi.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return used[b.Name()].Compare(used[a.Name()]) })
	for _, e := range entries[min(n, len(entries)):] {
		os.RemoveAll(filepath.Join(dir, e.Name()))
	}
	return nil
}

// unpack writes the kernel inside to w.
func (k *layout) unpack(w io.Writer) error {
	if k.size > maxSize {
		return fmt.Errorf("unpacking: to %d bytes, says the header", k.size)
	}
	r, err := decompress(k.packed)
	if err != nil {
		return err
	}
	limit := int64(maxSize)
	if k.size > 0 {
		limit = k.size
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("unpacking: %w", err)
	case n > limit:
		return fmt.Errorf("unpacking: more than %d bytes", limit)
	case n < k.size:
		return fmt.Errorf("unpacking: %d bytes, %d expected", n, k.size)
	}
	return nil
}

// maybeDecompress is [decompress] for what may be a tar archive that is not
// packed.
func maybeDecompress(r io.Reader) (io.Reader, error) {
	const at, magic = 257, "ustar"
	b := bufio.NewReader(r)
	if head, _ := b.Peek(at + len(magic)); len(head) == at+len(magic) && string(head[at:]) == magic {
		return b, nil
	}
	return decompress(b)
}

// decompress returns a reader of the one compressed stream that r holds, in one
// of the formats that kernels are built with.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(6)
	is := func(s string) bool { return strings.HasPrefix(string(magic), s) }
	switch {
	case is("\x1f\x8b"):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case is("\xfd7zXZ\x00"):
		z, err := xz.NewReader(b, 0)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case is("\x28\xb5\x2f\xfd"):
		// As the kernel's build packs, and its own unpacker takes.
		const window = 1 << 27
		return zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	case is("BZh"):
		return bzip2.NewReader(b), nil
	case is("\x02\x21\x4c\x18"):
		return nil, fmt.Errorf("packed with lz4: %w", errors.ErrUnsupported)
	case is("\x89LZO"):
		return nil, fmt.Errorf("packed with lzo: %w", errors.ErrUnsupported)
	case is("\x5d\x00\x00"):
		return nil, fmt.Errorf("packed with lzma: %w", errors.ErrUnsupported)
	}
	return nil, fmt.Errorf("packed in an unknown format: %w", errors.ErrUnsupported)
}
