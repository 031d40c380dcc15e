package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"scripta/internal/durable"
)

// A run is a file of postings, sorted by token and leaf, that is never changed:
//
//	"scripta index 2\n"
//	blocks    of about 4 KiB: entries
//	blockRef  of each block: token and leaf of its first posting, uint64 offset, uint32 length, uint32 CRC-32C
//	span      of each group of 256 leaves: uint64 group, uint64 first and last time
//	footer    uint64 number of postings, first leaf, last leaf, offset of the first blockRef; uint32 blocks, spans;
//	          uint32 CRC-32C of all from the first blockRef on
//
// Integers are big-endian. An entry is
//
//	uvarint token − the block's token before it (its first token for the first)
//	uvarint n, uvarint leaf − the run's first leaf, (n − 1) × uvarint leaf − the leaf before it
//
// A token with many leaves goes on in the next block.
const (
	runMagic   = "scripta index 2\n"
	blockSize  = 4 << 10
	refSize    = 32
	spanSize   = 24
	footerSize = 44
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged says that the index on the disk is not what was written. The next
// opening makes it again from the log; so does "scripta register reindex".
var ErrDamaged = errors.New("index: damaged; restart the provider, or run scripta register reindex: it is made again from the log")

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w (%s)", ErrDamaged, fmt.Sprintf(format, a...))
}

// blockRef says where a block is.
type blockRef struct {
	token  Token // of the first posting
	leaf   uint64
	offset uint64
	length uint32
	sum    uint32
}

// runInfo is what the manifest tells of a run.
type runInfo struct {
	Month    uint16 `json:"month"`
	Number   uint64 `json:"number"`
	Size     int64  `json:"size"` // bytes
	Postings uint64 `json:"postings"`
	First    uint64 `json:"first"` // leaf
	Last     uint64 `json:"last"`
	Sum      uint32 `json:"crc32c"` // as in the footer
}

// run is an open run. It is closed when the last of its users has let go.
type run struct {
	runInfo
	file   durable.File
	blocks []blockRef
	times  []span
	users  atomic.Int32
}

func (r *run) hold() { r.users.Add(1) }

func (r *run) release() {
	if r.users.Add(-1) == 0 {
		_ = r.file.Close() // it was only read
	}
}

// maxDirectory bounds what an opening reads into memory of one run.
const maxDirectory = 1 << 30

// openRun opens a run and checks all but its blocks. Its user is the caller.
func openRun(fsys durable.FS, name string, info runInfo) (_ *run, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("%s is missing", name)
	} else if err != nil {
		return nil, fmt.Errorf("couldn't open a run of the index: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	if size != info.Size || size < int64(len(runMagic)+footerSize) {
		return nil, damaged("%s has %d bytes, not %d", name, size, info.Size)
	}
	head, foot := make([]byte, len(runMagic)), make([]byte, footerSize)
	if err := readAt(f, head, 0); err != nil {
		return nil, err
	}
	if err := readAt(f, foot, size-footerSize); err != nil {
		return nil, err
	}
	start, blocks, spans := binary.BigEndian.Uint64(foot[24:]), uint64(binary.BigEndian.Uint32(foot[32:])), uint64(binary.BigEndian.Uint32(foot[36:]))
	length := blocks*refSize + spans*spanSize + footerSize
	if string(head) != runMagic || length > maxDirectory || start+length != uint64(size) {
		return nil, damaged("%s is no run", name)
	}
	dir := make([]byte, length)
	if err := readAt(f, dir, int64(start)); err != nil {
		return nil, err
	}
	sum := binary.BigEndian.Uint32(dir[length-4:])
	r := &run{runInfo: runInfo{Month: info.Month, Number: info.Number, Size: size, Postings: binary.BigEndian.Uint64(foot),
		First: binary.BigEndian.Uint64(foot[8:]), Last: binary.BigEndian.Uint64(foot[16:]), Sum: sum}, file: f}
	if crc32.Checksum(dir[:length-4], castagnoli) != sum || r.runInfo != info {
		return nil, damaged("the directory of %s is not the one that was written", name)
	}
	next := uint64(len(runMagic))
	for i := range blocks {
		b := dir[i*refSize:]
		ref := blockRef{Token(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])}
		if ref.offset != next || uint64(ref.length) > start-next {
			return nil, damaged("the blocks of %s do not follow one another", name)
		}
		next += uint64(ref.length)
		r.blocks = append(r.blocks, ref)
	}
	if next != start {
		return nil, damaged("the blocks of %s do not fill it", name)
	}
	for i := range spans {
		b := dir[blocks*refSize+i*spanSize:]
		r.times = append(r.times, span{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))})
	}
	r.users.Store(1)
	return r, nil
}

// readAt fills b, or says that the file is shorter than it was.
func readAt(f durable.File, b []byte, off int64) error {
	_, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		return damaged("%s is cut short", f.Name())
	} else if errors.Is(err, syscall.EIO) { // a bad sector keeps nobody from starting
		return damaged("%s cannot be read: %v", f.Name(), err)
	} else if err != nil {
		return fmt.Errorf("couldn't read the index: %w", err)
	}
	return nil
}

// block reads a block and checks it.
func (r *run) block(i int) ([]byte, error) {
	ref := r.blocks[i]
	b := make([]byte, ref.length)
	if err := readAt(r.file, b, int64(ref.offset)); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != ref.sum {
		return nil, damaged("block %d of %s is not the one that was written", i, r.file.Name())
	}
	return b, nil
}

// entries takes the entries of a block apart.
type entries struct {
	b     []byte
	first uint64 // the run's first leaf
	token Token  // of the entry that next came to
	n     uint64 // its leaves that leaves has not taken
}

// next comes to the next entry, passing over what is left of the last; ok is
// false at the block's end.
func (e *entries) next() (ok bool, err error) {
	for ; e.n > 0; e.n-- {
		if _, err := e.uvarint(); err != nil {
			return false, err
		}
	}
	if len(e.b) == 0 {
		return false, nil
	}
	d, err := e.uvarint()
	if err != nil {
		return false, err
	}
	e.token += Token(d)
	if e.n, err = e.uvarint(); err == nil && (e.n == 0 || e.n > uint64(len(e.b))) {
		err = damaged("an entry of %d leaves", e.n)
	}
	return err == nil, err
}

// leaves appends the entry's leaves to to.
func (e *entries) leaves(to []uint64) ([]uint64, error) {
	leaf := e.first
	for ; e.n > 0; e.n-- {
		d, err := e.uvarint()
		if err != nil {
			return nil, err
		}
		leaf += d
		to = append(to, leaf)
	}
	return to, nil
}

func (e *entries) uvarint() (uint64, error) {
	v, n := binary.Uvarint(e.b)
	if n <= 0 {
		return 0, damaged("a number is cut short")
	}
	e.b = e.b[n:]
	return v, nil
}

// entries begins with a block.
func (r *run) entries(block int) (*entries, error) {
	b, err := r.block(block)
	return &entries{b: b, first: r.First, token: r.blocks[block].token}, err
}

// reader goes through a run from its beginning.
type reader struct {
	run    *run
	block  int // the next
	e      entries
	token  Token
	leaves []uint64 // until the next next
}

// next comes to the next token and leaves; a token whose leaves lie in several
// entries comes several times. ok is false at the end.
func (x *reader) next() (ok bool, err error) {
	for {
		if ok, err = x.e.next(); err != nil {
			return false, err
		} else if ok {
			break
		}
		if x.block == len(x.run.blocks) {
			return false, nil
		}
		e, err := x.run.entries(x.block)
		if err != nil {
			return false, err
		}
		x.e, x.block = *e, x.block+1
	}
	x.token = x.e.token
	x.leaves, err = x.e.leaves(x.leaves[:0])
	return err == nil, err
}
