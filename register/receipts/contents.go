package receipts

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"scripta/internal/durable"
	"scripta/internal/seal"
)

const contentLabel = "scripta/content/v1"

// ContentStore keeps the content of submitted messages, one sealed stream for
// each transaction, in a folder for each month. What is still coming in lies in
// a folder of its own, which is emptied on opening: no content outlives a crash
// unless it was committed.
type ContentStore struct {
	fsys   durable.FS
	dir    string
	origin string
	keys   Keys

	mu   sync.Mutex
	dirs map[uint16]*durable.Group // syncs of each month's folder, shared
}

// OpenContents opens the store in dir and deletes what a crash cut off while it
// came in.
func OpenContents(fsys durable.FS, dir, origin string, keys Keys) (*ContentStore, error) {
	c := &ContentStore{fsys: fsys, dir: dir, origin: origin, keys: keys, dirs: map[uint16]*durable.Group{}}
	if err := durable.MkdirAll(fsys, c.incoming(), 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the content store: %w", err)
	}
	entries, err := fsys.ReadDir(c.incoming())
	for _, e := range entries {
		err = errors.Join(err, fsys.Remove(filepath.Join(c.incoming(), e.Name())))
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't clean the content store: %w", err)
	}
	return c, nil
}

// ReadContents is the store in dir for reading; it touches nothing.
func ReadContents(fsys durable.FS, dir, origin string, keys Keys) *ContentStore {
	return &ContentStore{fsys: fsys, dir: dir, origin: origin, keys: keys, dirs: map[uint16]*durable.Group{}}
}

// incoming is the folder of contents that are not committed.
func (c *ContentStore) incoming() string { return filepath.Join(c.dir, "incoming") }

func (c *ContentStore) folder(month uint16) string {
	return filepath.Join(c.dir, fmt.Sprintf("%04d-%02d", month/12, month%12+1))
}

func (c *ContentStore) name(transaction [16]byte, month uint16) string {
	return filepath.Join(c.folder(month), hex.EncodeToString(transaction[:]))
}

func (c *ContentStore) additional(transaction [16]byte) []byte {
	return append(append([]byte(contentLabel), c.origin...), transaction[:]...)
}

// group returns what syncs a month's folder, making the folder durably first.
func (c *ContentStore) group(month uint16) (*durable.Group, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.dirs[month]; g != nil {
		return g, nil
	}
	dir := c.folder(month)
	if err := durable.MkdirAll(c.fsys, dir, 0o700); err != nil {
		return nil, err
	}
	g := durable.NewGroup(func() error { return c.fsys.SyncDir(dir) })
	c.dirs[month] = g
	return g, nil
}

// ContentWriter takes one message, until Commit or Abort.
type ContentWriter struct {
	store  *ContentStore
	name   string // after Commit
	f      durable.File
	buf    *bufio.Writer
	w      *seal.Writer
	dirs   *durable.Group
	synced bool
}

// Create begins the content of a transaction.
func (c *ContentStore) Create(transaction [16]byte, month uint16) (*ContentWriter, error) {
	key, err := c.keys.ReceiptKey(month)
	if err != nil {
		return nil, err
	}
	g, err := c.group(month)
	if err != nil {
		return nil, fmt.Errorf("couldn't store a message: %w", err)
	}
	name := c.name(transaction, month)
	f, err := c.fsys.OpenFile(filepath.Join(c.incoming(), filepath.Base(name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't store a message: %w", err)
	}
	buf := bufio.NewWriterSize(f, 16<<10)
	w, err := seal.NewWriter(buf, key, c.additional(transaction))
	if err != nil {
		return nil, errors.Join(err, f.Close(), c.fsys.Remove(f.Name()))
	}
	return &ContentWriter{store: c, name: name, f: f, buf: buf, w: w, dirs: g}, nil
}

// Write implements [io.Writer].
func (w *ContentWriter) Write(p []byte) (int, error) { return w.w.Write(p) }

// Sync returns when the content is whole and its bytes are on the disk. It is
// not kept before Commit.
func (w *ContentWriter) Sync() error {
	err := w.w.Close()
	if err == nil {
		err = w.buf.Flush()
	}
	if err == nil {
		err = w.f.Sync()
	}
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("couldn't store a message: %w", err)
	}
	w.synced = true
	return nil
}

// Commit gives the content its place among those that are kept, after Sync if
// that was not called, and returns when it is on the disk. Something durable must
// say by then whose content it is: nothing else will find it.
func (w *ContentWriter) Commit() error {
	if !w.synced {
		if err := w.Sync(); err != nil {
			return err
		}
	}
	err := w.store.fsys.Rename(w.f.Name(), w.name)
	if err == nil {
		err = w.dirs.Sync()
	}
	if err != nil {
		return fmt.Errorf("couldn't store a message: %w", err)
	}
	return nil
}

// Abort forgets a content that was not committed.
func (w *ContentWriter) Abort() {
	_ = w.f.Close()
	_ = w.store.fsys.Remove(w.f.Name())
}

// OpenContent opens the content of a transaction, or returns [ErrNotFound] when
// it is not kept. One that was committed was whole: [ErrMalformed] says that it
// is damaged.
func (c *ContentStore) OpenContent(transaction [16]byte, month uint16) (Content, error) {
	return c.openFile(c.name(transaction, month), transaction, month)
}

func (c *ContentStore) openFile(name string, transaction [16]byte, month uint16) (Content, error) {
	key, err := c.keys.ReceiptKey(month)
	if err != nil {
		return nil, err
	}
	f, err := c.fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the content of transaction %x", ErrNotFound, transaction)
	} else if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := seal.NewReader(f, st.Size(), key, c.additional(transaction))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: the content of transaction %x (%s): %w", ErrMalformed, transaction, f.Name(), err), f.Close())
	}
	return openContent{r, f}, nil
}

type openContent struct {
	*seal.Reader
	f io.Closer
}

func (o openContent) Close() error { return o.f.Close() }

// Remove forgets the content of a transaction, for good: it does not come back
// after a power cut. It is no error when there is none.
func (c *ContentStore) Remove(transaction [16]byte, month uint16) error {
	g, err := c.group(month)
	if err != nil {
		return fmt.Errorf("couldn't forget a message: %w", err)
	}
	if err := c.fsys.Remove(c.name(transaction, month)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return g.Sync()
}
