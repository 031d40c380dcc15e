package badgerlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"scripta/merkle/tiles"
)

const (
	// behindEvery is how long Badger may stay behind the leaf files when little
	// is added, so that many commits share one of Badger's.
	behindEvery = 100 * time.Millisecond
	// behindEnough is from how many leaves on Badger is written to at once, and
	// behindMost how many may wait: then commits wait too. It bounds the memory
	// and what opening after a crash reads again.
	behindEnough = 4096
	behindMost   = 8 * behindEnough
	// perTransaction bounds the keys of one Badger transaction.
	perTransaction = 8192
)

// identityKey is an identity hash as far as keys have it.
type identityKey struct {
	tree int64
	half [identityInKey]byte
}

func keyOfIdentity(tree int64, identity []byte) identityKey {
	return identityKey{tree, [identityInKey]byte(identity)}
}

// delta is what commits add to Badger: values by key, identities apart because
// they are many.
type delta struct {
	identities map[identityKey]uint64 // the leaf's index
	values     map[string][]byte
	mark       place // up to which the leaf files are covered, with what was before
}

func newDelta() *delta {
	return &delta{identities: map[identityKey]uint64{}, values: map[string][]byte{}}
}

func (d *delta) clear() {
	clear(d.identities)
	clear(d.values)
	d.mark = 0
}

// behind is what is durable in the leaf files, and not yet in Badger. Readers
// look here first, and then into Badger.
//
// It is lost by a crash and made again on opening, from the leaf files: Badger
// keeps, in the same transaction, up to which place it has them.
type behind struct {
	mu      sync.RWMutex // guards what follows
	filling *delta       // gets what is committed
	writing *delta       // on its way into Badger

	wake    chan struct{} // has room for one: filling is not empty
	enough  chan struct{} // has room for one: filling has behindEnough leaves
	drained chan struct{} // has room for one: filling was emptied
}

func newBehind() *behind {
	return &behind{filling: newDelta(), writing: newDelta(), wake: make(chan struct{}, 1), enough: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add puts in what a commit added, from its leaves and their first index on.
func (b *behind) add(tree int64, first uint64, leaves []*pending, values map[string][]byte, mark place) {
	b.mu.Lock()
	for i, p := range leaves {
		b.filling.identities[keyOfIdentity(tree, p.identity[:])] = first + uint64(i)
	}
	for k, v := range values {
		b.filling.values[k] = v
	}
	b.filling.mark = mark
	n := len(b.filling.identities)
	b.mu.Unlock()
	signal(b.wake)
	if n >= behindEnough {
		signal(b.enough)
	}
}

// full reports whether commits must wait.
func (b *behind) full() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.filling.identities) >= behindMost
}

func (b *behind) value(key []byte) ([]byte, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok := b.filling.values[string(key)]
	if !ok {
		v, ok = b.writing.values[string(key)]
	}
	return v, ok
}

func (b *behind) identity(key identityKey) (uint64, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	index, ok := b.filling.identities[key]
	if !ok {
		index, ok = b.writing.identities[key]
	}
	return index, ok
}

// swap begins a new filling and returns the one so far, nil if it is empty.
func (b *behind) swap() *delta {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filling.mark == 0 {
		return nil
	}
	b.filling, b.writing = b.writing, b.filling
	signal(b.drained)
	return b.writing
}

// written forgets what reached Badger.
func (b *behind) written() {
	b.mu.Lock()
	b.writing.clear()
	b.mu.Unlock()
}

// catchUp writes to Badger what the leaf files have, until stop is closed, and
// then a last time. A failure stops the database; nothing is lost by it.
func (db *DB) catchUp() {
	defer close(db.caughtUp)
	for stopped := false; !stopped; {
		select {
		case <-db.behind.wake:
			pause := time.NewTimer(behindEvery)
			select {
			case <-pause.C:
			case <-db.behind.enough:
			case <-db.stopCatchUp:
			}
			pause.Stop()
		case <-db.stopCatchUp:
			stopped = true
		}
		for !db.roomToFlush() {
			select {
			case <-time.After(behindEvery):
				continue
			case <-db.stopCatchUp:
			}
			db.opt.Logger.Warn("the disk is full: the database stays behind the leaf files, and the next opening brings it up to date", "dir", db.opt.Dir)
			return
		}
		if err := db.flush(); err != nil {
			return // db.fail was called; Close says so
		}
	}
}

// roomToFlush reports whether the disk has room for what a flush writes. Badger
// writes through mapped files, where a full disk would kill the process; what it
// does not get now is safe in the leaf files.
func (db *DB) roomToFlush() bool {
	free, ok := freeSpace(db.opt.Dir)
	return !ok || free >= db.opt.MinFree/2
}

// flush writes to Badger what is behind now. The place up to which Badger has
// the leaf files, and what stands for a moment of the log rather than for ever
// (roots, unfinished blocks of places), is in the last transaction: a crash
// before it leaves keys that are written again.
func (db *DB) flush() error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if err := db.err(); err != nil {
		return err
	}
	d := db.behind.swap()
	if d == nil {
		return nil
	}
	txn, n := db.newWrite(), 0
	next := func() error {
		if n++; n%perTransaction != 0 {
			return nil
		}
		err := db.commit(txn)
		txn.Discard()
		txn = db.newWrite()
		return err
	}
	defer func() { txn.Discard() }()
	for k, index := range d.identities {
		b := make([]byte, 0, 1+8+identityInKey+binary.MaxVarintLen64)
		b = appendIdentityKey(b, k.tree, k.half[:])
		err := txn.Set(b, binary.AppendUvarint(b[len(b):], index))
		if err == nil {
			err = next()
		}
		if err != nil {
			return db.fail(fmt.Errorf("couldn't write the index of a leaf: %w", err))
		}
	}
	for _, last := range []bool{false, true} {
		for k, v := range d.values {
			if (k[0] == kindRoot || k[0] == kindPlaces) != last {
				continue
			}
			err := txn.Set([]byte(k), v)
			if err == nil && !last {
				err = next()
			}
			if err != nil {
				return db.fail(fmt.Errorf("couldn't write what follows from the leaves: %w", err))
			}
		}
	}
	if err := txn.Set([]byte{kindMark}, binary.BigEndian.AppendUint64(nil, uint64(d.mark))); err != nil {
		return db.fail(err)
	}
	if err := db.commit(txn); err != nil {
		return err
	}
	db.behind.written()
	return nil
}

// get returns the value under a key of what is durable, nil if there is none. It
// must not be changed.
func (db *DB) get(key []byte) ([]byte, error) {
	// First what is behind: it leaves there only when Badger shows it.
	if v, ok := db.behind.value(key); ok {
		return v, nil
	}
	txn := db.newRead()
	defer txn.Discard()
	return read(txn, key)
}

// indexOf returns the index of the leaf with an identity. It may be one that the
// log's state does not show yet.
func (db *DB) indexOf(tree int64, identity tiles.Hash) (index uint64, ok bool, err error) {
	if index, ok := db.behind.identity(keyOfIdentity(tree, identity[:])); ok {
		return index, true, nil
	}
	var key [32]byte
	txn := db.newRead()
	defer txn.Discard()
	v, err := read(txn, appendIdentityKey(key[:0], tree, identity[:]))
	if err != nil {
		return 0, false, fmt.Errorf("couldn't look up an identity: %w", err)
	}
	if v == nil {
		return 0, false, nil
	}
	index, n := binary.Uvarint(v)
	if n != len(v) {
		return 0, false, &CorruptError{Tree: tree, Reason: fmt.Sprintf("the index of identity %x is unreadable", identity)}
	}
	return index, true, nil
}

// Places of leaves are kept in blocks of 256, as hashes are in tiles: the
// distance from each place to the one before, as uvarints.

// appendPlaces encodes a block.
func appendPlaces(b []byte, ps []place) []byte {
	was := place(0)
	for _, p := range ps {
		b = binary.AppendUvarint(b, uint64(p-was))
		was = p
	}
	return b
}

// parsePlaces decodes a block of n places or more, and returns the first n.
func parsePlaces(b []byte, n int) ([]place, error) {
	ps, r, was := make([]place, 0, n), bytes.NewReader(b), place(0)
	for len(ps) < n {
		d, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, fmt.Errorf("%d of %d places", len(ps), n)
		}
		was += place(d)
		ps = append(ps, was)
	}
	return ps, nil
}

// growPlaces returns the places of the unfinished block after leaves were added
// to a log of size leaves, and into values, by key, the blocks that changed.
func growPlaces(tree int64, size uint64, unfinished, added []place, values map[string][]byte) []place {
	all := append(unfinished[:len(unfinished):len(unfinished)], added...)
	for block := size / tiles.Width; len(all) > 0; block++ {
		n := min(len(all), tiles.Width)
		values[string(appendPlacesKey(nil, tree, block))] = appendPlaces(nil, all[:n])
		if n < tiles.Width {
			break
		}
		all = all[n:]
	}
	return slices.Clone(all)
}
