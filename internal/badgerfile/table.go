package badgerfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"
)

const (
	// maxSum bounds the length of a checksum, which is a message of two fields.
	maxSum = 64
	// maxIndex bounds the index of a table, bytes: 64 MiB of small blocks have
	// an index of a few percent.
	maxIndex = 256 << 20
	// maxBlock bounds a block, bytes: a value as large as they get has one of its
	// own.
	maxBlock = 64 << 20
)

// Check checks a table: its index and, if all, every block. pace, if not
// nil, is called before n bytes are read, and its error ends the check. The error
// is a DamageError, or fs.ErrNotExist for a table that a compaction has removed.
func (x Table) Check(all bool, pace func(n int) error) error {
	f, err := os.Open(x.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return x.check(f, st.Size(), all, pace)
}

func (x Table) check(r io.ReaderAt, size int64, all bool, pace func(int) error) (err error) {
	t := &table{f: r, name: x.Name, size: size, compression: x.Compression}
	index, err := t.index()
	if err != nil || !all {
		return err
	}
	// A flatbuffer is read without bounds; its checksum is right, but who knows.
	defer func() {
		if p := recover(); p != nil {
			err = t.damaged(t.start, "the index cannot be read: %v", p)
		}
	}()
	return t.blocks(fb.GetRootAsTableIndex(index, 0), pace)
}

// table is a file
//
//	blocks ‖ index (flatbuffer) ‖ uint32 its length ‖ checksum ‖ uint32 its length
type table struct {
	f     io.ReaderAt
	name  string
	size  int64
	start int64 // of the index

	compression options.CompressionType
}

func (t *table) damaged(at int64, format string, a ...any) error {
	return &DamageError{File: t.name, Offset: at, Reason: fmt.Sprintf(format, a...)}
}

// before reads n bytes that end at end.
func (t *table) before(end, n int64) ([]byte, error) {
	if n < 0 || n > end {
		return nil, t.damaged(end, "it is too short")
	}
	b := make([]byte, n)
	if _, err := t.f.ReadAt(b, end-n); err != nil {
		return nil, fmt.Errorf("couldn't read %s at %d: %w", t.name, end-n, err)
	}
	return b, nil
}

// uint32Before reads a length that ends at end.
func (t *table) uint32Before(end int64, most uint32, what string) (int64, error) {
	b, err := t.before(end, 4)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > most {
		return 0, t.damaged(end-4, "%s is said to have %d bytes", what, n)
	}
	return int64(n), nil
}

// index reads and checks the table's index.
func (t *table) index() ([]byte, error) {
	end := t.size
	n, err := t.uint32Before(end, maxSum, "the checksum of the index")
	if err != nil {
		return nil, err
	}
	end -= 4
	sum, err := t.before(end, n)
	if err != nil {
		return nil, err
	}
	end -= n
	if n, err = t.uint32Before(end, maxIndex, "the index"); err != nil {
		return nil, err
	}
	end -= 4
	b, err := t.before(end, n)
	if err != nil {
		return nil, err
	}
	t.start = end - n
	if err := verify(b, sum); err != nil {
		return nil, t.damaged(t.start, "the index: %v", err)
	}
	return b, nil
}

// errSum says that bytes have another checksum than was written.
var errSum = errors.New("wrong checksum")

// verify checks bytes against a checksum as Badger writes it.
func verify(b, sum []byte) error {
	var c pb.Checksum
	if err := proto.Unmarshal(sum, &c); err != nil {
		return fmt.Errorf("unreadable checksum: %w", err)
	}
	if len(sum) == 0 { // which would be right for no bytes at all
		return errors.New("no checksum")
	}
	if c.Algo != pb.Checksum_CRC32C {
		return fmt.Errorf("checksum of kind %d", c.Algo)
	}
	if want := uint64(crcOf(b)); c.Sum != want {
		return errSum
	}
	return nil
}

// blocks checks that the blocks are what the index says and leave no gap.
func (t *table) blocks(index *fb.TableIndex, pace func(int) error) error {
	r := bufio.NewReaderSize(io.NewSectionReader(t.f, 0, t.start), int(min(t.start, 1<<20)))
	var at int64
	var buf []byte
	for i := range index.OffsetsLength() {
		var o fb.BlockOffset
		if !index.Offsets(&o, i) || int64(o.Offset()) != at || o.Len() > maxBlock || at+int64(o.Len()) > t.start {
			return t.damaged(at, "the index does not say where block %d is", i)
		}
		n := int(o.Len())
		if pace != nil {
			if err := pace(n); err != nil {
				return err
			}
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("couldn't read %s at %d: %w", t.name, at, err)
		}
		plain := buf
		switch t.compression {
		case options.None:
		case options.Snappy:
			var err error
			if size, derr := snappy.DecodedLen(buf); derr != nil || size > maxBlock {
				err = fmt.Errorf("it expands to %d bytes: %w", size, derr)
			} else {
				plain, err = snappy.Decode(nil, buf)
			}
			if err != nil {
				return t.damaged(at, "block %d: %v", i, err)
			}
		default:
			plain = nil
		}
		if err := checkBlock(plain); err != nil && plain != nil {
			return t.damaged(at, "block %d: %v", i, err)
		}
		at += int64(n)
	}
	if at != t.start {
		return t.damaged(at, "there is more than the index says")
	}
	return nil
}

// checkBlock checks a block, which is
//
//	entries ‖ uint32 offset of each ‖ uint32 their number ‖ checksum ‖ uint32 its length
//
// with the checksum over all that stands before it.
func checkBlock(b []byte) error {
	if len(b) < 8 {
		return errors.New("too short")
	}
	end := len(b) - 4
	n := binary.BigEndian.Uint32(b[end:])
	if n > maxSum || int(n) > end-4 {
		return fmt.Errorf("its checksum is said to have %d bytes", n)
	}
	body := b[:end-int(n)]
	if entries := binary.BigEndian.Uint32(body[len(body)-4:]); uint64(entries)*4 > uint64(len(body)-4) {
		return fmt.Errorf("it is said to have %d entries", entries)
	}
	return verify(body, b[end-int(n):end])
}
