package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// File is one entry of a container.
type File struct {
	Name string
	Size int64
	Open func() (io.ReadCloser, error) // the same bytes every time
	at   io.ReaderAt                   // of an entry that was read: its bytes
}

// NewFile is an entry held in memory.
func NewFile(name string, b []byte) File { return bytesFile(name, b) }

func bytesFile(name string, b []byte) File {
	return File{Name: name, Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// sums reads an entry once for what must be known before it is written.
func (f *File) sums() (crc uint32, digest [32]byte, err error) {
	r, err := f.Open()
	if err != nil {
		return 0, digest, err
	}
	defer r.Close()
	c, s := crc32.NewIEEE(), sha256.New()
	n, err := io.Copy(io.MultiWriter(c, s), r)
	if err != nil {
		return 0, digest, fmt.Errorf("couldn't read %s: %w", f.Name, err)
	}
	if n != f.Size {
		return 0, digest, fmt.Errorf("couldn't read %s: it has %d bytes, not %d", f.Name, n, f.Size)
	}
	s.Sum(digest[:0])
	return c.Sum32(), digest, nil
}

// writeContainer writes the canonical archive of the entries, in their order.
func writeContainer(w io.Writer, files []File) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	z := zip.NewWriter(buf)
	for _, f := range files {
		crc, _, err := f.sums()
		if err != nil {
			return err
		}
		out, err := z.CreateRaw(&zip.FileHeader{Name: f.Name, Method: zip.Store, CRC32: crc, CompressedSize64: uint64(f.Size), UncompressedSize64: uint64(f.Size)})
		if err != nil {
			return fmt.Errorf("couldn't write %s: %w", f.Name, err)
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("couldn't write %s: %w", f.Name, err)
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// Bounds of a container that is read.
const (
	maxEntries = 1 << 20
	maxJSON    = 64 << 20 // manifest.json; a record has far less
)

var errNotCanonical = errors.New("the container is not in its canonical form")

// readContainer lists the entries of an archive.
func readContainer(r io.ReaderAt, size int64) ([]File, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("not an evidence file: %w", err)
	}
	if len(z.File) > maxEntries {
		return nil, fmt.Errorf("not an evidence file: %d entries", len(z.File))
	}
	files := make([]File, 0, len(z.File))
	left := uint64(size) // entries may not overlap: reading all costs no more than the file's size
	for _, e := range z.File {
		if e.Method != zip.Store || e.UncompressedSize64 > left {
			return nil, fmt.Errorf("not an evidence file: entry %.80q is compressed, or the entries are larger than the file", e.Name)
		}
		left -= e.UncompressedSize64
		offset, err := e.DataOffset()
		files = append(files, File{Name: e.Name, Size: int64(e.UncompressedSize64), Open: e.Open, at: section(r, offset, err, int64(e.UncompressedSize64))})
	}
	return files, nil
}

// checkCanonical rebuilds the archive and compares it with what was read.
func checkCanonical(r io.ReaderAt, size int64, files []File) error {
	c := &comparer{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10)}
	if err := writeContainer(c, files); err != nil {
		if errors.Is(err, errNotCanonical) {
			return fmt.Errorf("%w: it differs at byte %d", errNotCanonical, c.at)
		}
		return fmt.Errorf("%w: %w", errNotCanonical, err)
	}
	if c.at != size {
		return fmt.Errorf("%w: %d bytes follow its end", errNotCanonical, size-c.at)
	}
	return nil
}

// comparer is a writer that fails at the first byte that differs from r's.
type comparer struct {
	r   io.Reader
	at  int64
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	b := c.buf[:len(p)]
	n, err := io.ReadFull(c.r, b)
	for i := range n {
		if b[i] != p[i] {
			c.at += int64(i)
			return i, errNotCanonical
		}
	}
	c.at += int64(n)
	if err != nil {
		return n, errNotCanonical
	}
	return n, nil
}

// readAll reads a whole entry of at most limit bytes.
func (f *File) readAll(limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", f.Name, f.Size, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", f.Name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", f.Name, err)
	}
	return b, nil
}
