// Package index finds records: by mailbox and by message identifier, month by
// month, and the place of stored receipts.
//
// It is a projection: everything in it can be computed again from the log and
// the receipt store, so it is written without waiting for the disk, and after a
// crash the register adds what is missing from the place that [DB.Next] names.
// Keys on disk hold keyed hashes of addresses and identifiers (K_index of the
// month), never the values, so that destroying a month's secret disposes of its
// part of the index too.
//
// Keys:
//
//	't' ‖ uint16 month ‖ token (16) ‖ uint64 leaf index   → empty
//	'r' ‖ record id (22)                                  → uint32 segment ‖ uint64 offset
//	'w' ‖ name                                            → watermark
package index

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"scripta/internal/badgerfile"
)

// Token is the keyed hash under which a value is found.
type Token [16]byte

// What a token stands for.
const (
	mailbox    = 'm'
	identifier = 'i'
)

// Mailbox returns the token of a mailbox's address, which must be in lower case.
func Mailbox(key *[32]byte, address string) Token { return token(key, mailbox, address) }

// Identifier returns the token of a message identifier without angle brackets.
func Identifier(key *[32]byte, id string) Token { return token(key, identifier, id) }

func token(key *[32]byte, kind byte, value string) (t Token) {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte{kind})
	m.Write([]byte(value))
	copy(t[:], m.Sum(nil))
	return t
}

// Entry says under which tokens a leaf is found. Month is that of its record.
type Entry struct {
	Index  uint64
	Month  uint16
	Tokens []Token
}

// Location is where a stored receipt begins.
type Location struct {
	Segment uint32
	Offset  int64
}

// DB is an open index. Its methods may be called concurrently.
type DB struct {
	db  *badger.DB
	dir string
}

// reserve is how many bytes the file system must have free for the index to be
// written. Badger writes through mapped files: on a full disk that is a bus
// error, which would kill the process.
const reserve = 16 << 20

// maxChecked bounds the bytes of tables, the newest first, that opening reads
// whole. Badger passes damage over: what it does not find is not found.
const maxChecked = 4 << 30

// room returns an error that wraps [syscall.ENOSPC] when there is no room.
func (d *DB) room() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return fmt.Errorf("couldn't ask the disk for its free space: %w", err)
	}
	if st.Bavail*uint64(st.Bsize) < reserve {
		return fmt.Errorf("index: less than %d MiB are free in %s: %w", reserve>>20, d.dir, syscall.ENOSPC)
	}
	return nil
}

// Open opens the index in dir, or makes an empty one.
func Open(dir string, log *slog.Logger) (*DB, error) {
	if err := badgerfile.Check(dir, badgerfile.Options{Most: maxChecked}); err != nil {
		return nil, fmt.Errorf("couldn't open the index in %s (delete the folder: it is made again from the log and the receipts): %w", dir, err)
	}
	opt := badger.DefaultOptions(dir).WithLogger(logger{log}).WithMemTableSize(16 << 20).WithNumMemtables(3).
		WithValueLogFileSize(64 << 20).WithBlockCacheSize(32 << 20).WithDetectConflicts(false).WithMetricsEnabled(false).
		WithChecksumVerificationMode(options.OnBlockRead)
	db, err := badger.Open(opt)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the index in %s (it can be deleted: it is made again from the log): %w", dir, err)
	}
	return &DB{db, dir}, nil
}

// Close writes what is in memory and closes the database.
func (d *DB) Close() error { return d.db.Close() }

func tokenKey(month uint16, t Token, leaf uint64) []byte {
	k := make([]byte, 0, 1+2+len(t)+8)
	k = append(binary.BigEndian.AppendUint16(append(k, 't'), month), t[:]...)
	return binary.BigEndian.AppendUint64(k, leaf)
}

var keyNext = []byte("wlog")

// Next is the index of the first leaf that has not been added.
func (d *DB) Next() (next uint64, err error) {
	v, err := d.get(keyNext)
	if v == nil || err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

func (d *DB) get(key []byte) (v []byte, err error) {
	err = d.db.View(func(txn *badger.Txn) error {
		it, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		v, err = it.ValueCopy(nil)
		return err
	})
	return v, err
}

// Add adds entries and sets [DB.Next]. Adding an entry again changes nothing. A
// full disk gives syscall.ENOSPC, and changes nothing either.
func (d *DB) Add(entries []Entry, next uint64) error {
	if err := d.room(); err != nil {
		return err
	}
	w := d.db.NewWriteBatch()
	defer w.Cancel()
	for _, e := range entries {
		for _, t := range e.Tokens {
			if err := w.Set(tokenKey(e.Month, t, e.Index), nil); err != nil {
				return err
			}
		}
	}
	if err := w.Set(keyNext, binary.BigEndian.AppendUint64(nil, next)); err != nil {
		return err
	}
	return w.Flush()
}

// Search calls visit with the indices at or after from that stand under the
// token in the month, ascending, until it returns false.
func (d *DB) Search(month uint16, t Token, from uint64, visit func(leaf uint64) bool) error {
	start := tokenKey(month, t, from)
	prefix := start[:len(start)-8]
	return d.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(start); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != len(start) || !bytes.HasPrefix(k, prefix) {
				continue
			}
			if !visit(binary.BigEndian.Uint64(k[len(prefix):])) {
				return nil
			}
		}
		return nil
	})
}

// PutLocations remembers where receipts are stored, and that everything up to
// mark is known. A full disk gives syscall.ENOSPC, and changes nothing.
func (d *DB) PutLocations(at map[[22]byte]Location, mark Location) error {
	if err := d.room(); err != nil {
		return err
	}
	w := d.db.NewWriteBatch()
	defer w.Cancel()
	for id, l := range at {
		if err := w.Set(append([]byte{'r'}, id[:]...), l.encode()); err != nil {
			return err
		}
	}
	if err := w.Set(keyMark, mark.encode()); err != nil {
		return err
	}
	return w.Flush()
}

var keyMark = []byte("wreceipts")

func (l Location) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, l.Segment), uint64(l.Offset))
}

func location(v []byte) (l Location, ok bool, err error) {
	if v == nil {
		return l, false, nil
	}
	if len(v) != 12 {
		return l, false, fmt.Errorf("index: location of %d bytes; delete the index, it is made again", len(v))
	}
	return Location{binary.BigEndian.Uint32(v), int64(binary.BigEndian.Uint64(v[4:]))}, true, nil
}

// Location returns where a receipt is stored.
func (d *DB) Location(id [22]byte) (l Location, ok bool, err error) {
	v, err := d.get(append([]byte{'r'}, id[:]...))
	if err != nil {
		return l, false, err
	}
	return location(v)
}

// Mark returns the place up to which locations are known.
func (d *DB) Mark() (Location, error) {
	v, err := d.get(keyMark)
	if err != nil {
		return Location{}, err
	}
	l, _, err := location(v)
	return l, err
}

// logger passes what Badger has to say to slog: only what an operator can use.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(f string, a ...any)   { l.log.Error("badger: " + fmt.Sprintf(f, a...)) }
func (l logger) Warningf(f string, a ...any) { l.log.Warn("badger: " + fmt.Sprintf(f, a...)) }
func (l logger) Infof(string, ...any)        {}
func (l logger) Debugf(string, ...any)       {}
