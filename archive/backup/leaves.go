package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"scripta/merkle"
	"scripta/merkle/tiles"
)

// perSegment is how many leaves a full file holds: it never changes, so that the
// next backup links it.
const perSegment = 1 << 14

// maxPart bounds a leaf's value or extra data that is read, bytes.
const maxPart = 1 << 20

func segmentName(n uint64) string { return fmt.Sprintf("%s/%08d", leavesDir, n) }

// leaves writes the first size leaves: for each uint32 length ‖ value ‖ uint32
// length ‖ extra data ‖ identity (32).
func (w *writer) leaves(ctx context.Context, size uint64) error {
	for n := uint64(0); n*perSegment < size; n++ {
		first, end := n*perSegment, min((n+1)*perSegment, size)
		name := segmentName(n)
		to := filepath.Join(w.stage, filepath.FromSlash(name))
		if end-first == perSegment && w.linkFull(name, to) {
			continue
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		h := sha256.New()
		buf := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<18)
		var head [4]byte
		err = w.Log.Scan(ctx, first, end, func(_ uint64, l merkle.Leaf) error {
			for _, part := range [][]byte{l.Value, l.Extra} {
				binary.BigEndian.PutUint32(head[:], uint32(len(part)))
				if _, err := buf.Write(head[:]); err != nil {
					return err
				}
				if _, err := buf.Write(part); err != nil {
					return err
				}
			}
			_, err := buf.Write(l.Identity[:])
			return err
		})
		if err == nil {
			err = buf.Flush()
		}
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("couldn't copy leaves from %d: %w", first, err)
		}
		w.sums[name] = hex.EncodeToString(h.Sum(nil))
	}
	return nil
}

// linkFull links a full segment of the backup before, which is of this log: its
// leaves are checked against the signed root like all others.
func (w *writer) linkFull(name, to string) bool {
	if w.before == "" {
		return false
	}
	info, err := readInfo(w.before)
	if err != nil || info.Origin != w.Log.Origin() {
		return false
	}
	var n uint64
	if _, err := fmt.Sscanf(name, leavesDir+"/%d", &n); err != nil || info.Size < (n+1)*perSegment {
		return false
	}
	sum, ok := w.known[name]
	if !ok || os.Link(filepath.Join(w.before, filepath.FromSlash(name)), to) != nil {
		return false
	}
	w.sums[name] = sum
	return true
}

// eachLeaf reads the leaves of a backup, in order.
func eachLeaf(dir string, size uint64, visit func(merkle.Leaf) error) error {
	for n := uint64(0); n*perSegment < size; n++ {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(segmentName(n))))
		if err != nil {
			return err
		}
		err = readLeaves(bufio.NewReaderSize(f, 1<<18), min(perSegment, size-n*perSegment), visit)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", segmentName(n), err)
		}
	}
	return nil
}

func readLeaves(r io.Reader, count uint64, visit func(merkle.Leaf) error) error {
	part := func() ([]byte, error) {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxPart {
			return nil, fmt.Errorf("a part of %d bytes", n)
		}
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	for range count {
		var l merkle.Leaf
		var err error
		if l.Value, err = part(); err == nil {
			l.Extra, err = part()
		}
		if err == nil {
			_, err = io.ReadFull(r, l.Identity[:])
		}
		if err == nil {
			err = visit(l)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != io.EOF {
		return errors.New("something follows the last leaf")
	}
	return nil
}

// rootOf is the root of a backup's leaves.
func rootOf(ctx context.Context, dir string, size uint64) ([32]byte, error) {
	var f tiles.Frontier
	err := eachLeaf(dir, size, func(l merkle.Leaf) error {
		f.Append(tiles.LeafHash(l.Value))
		return ctx.Err()
	})
	return f.Root(), err
}
