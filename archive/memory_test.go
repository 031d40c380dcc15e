package archive

import (
	"context"
	"encoding/binary"
	"sync"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
	"scripta/register"
	"scripta/register/record"
)

// memory is a register and its log in memory.
type memory struct {
	h *house

	mu       sync.Mutex // guards what follows
	leaves   []merkle.Leaf
	ids      map[record.ID]register.Appended
	disposed map[uint16]bool
	refuse   error // what Append answers
	serial   uint32
	stamps   []*Stamp
	noStamps error // what asking for a stamp answers
	asked    int
}

func newMemory(h *house) *memory {
	return &memory{h: h, ids: map[record.ID]register.Appended{}, disposed: map[uint16]bool{}}
}

func (m *memory) Origin() string { return testOrigin }

func secret(month uint16) (s [32]byte) {
	binary.BigEndian.PutUint16(s[:], month)
	s[31] = 1
	return s
}

// halt lets Append fail from now on.
func (m *memory) halt(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = err
}

// PackageKey implements Keys.
func (m *memory) PackageKey(month uint16, id []byte) ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disposed[month] {
		return [32]byte{}, keys.ErrDisposed
	}
	return keys.Derive(secret(month), "scripta/package/v1"+string(id)), nil
}

// Append implements Register.
func (m *memory) Append(_ context.Context, entries ...register.Entry) (out []register.Appended, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return nil, m.refuse
	}
	for _, e := range entries {
		f, err := e.Record.Fields()
		if err != nil {
			return nil, err
		}
		var month uint16
		if e.Record.Kind.Class() == record.Personal {
			month = uint16(keys.MonthOf(e.Record.Time))
		}
		nonceKey, sealKey := keys.Derive(secret(month), keys.InfoNonce), keys.Derive(secret(month), keys.InfoSeal)
		nonce := record.NewNonce(&nonceKey, testOrigin, e.ID)
		leaf := f.Commit(nonce, e.Record.Kind.Class())
		at, ok := m.ids[e.ID]
		switch {
		case !ok:
			at = register.Appended{Index: uint64(len(m.leaves)), Leaf: leaf}
			m.ids[e.ID] = at
			m.leaves = append(m.leaves, merkle.Leaf{Value: leaf[:], Identity: record.Identity(e.ID),
				Extra: record.Seal(&sealKey, testOrigin, month, leaf, e.ID, nonce, f)})
		case at.Leaf != leaf:
			return nil, register.ErrConflict
		}
		out = append(out, at)
	}
	return out, nil
}

// Lookup implements Register.
func (m *memory) Lookup(_ context.Context, id record.ID) (register.Appended, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.ids[id]
	return at, ok, nil
}

// OpenLeaf implements Register.
func (m *memory) OpenLeaf(l merkle.Leaf) (*record.Opened, uint16, error) {
	month, err := record.Sealed(l.Extra).Month()
	if err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disposed[month] {
		return nil, month, keys.ErrDisposed
	}
	key := keys.Derive(secret(month), keys.InfoSeal)
	o, err := record.Sealed(l.Extra).Open(&key, testOrigin, record.Leaf(l.Value))
	return o, month, err
}

// Size implements Log.
func (m *memory) Size() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.leaves))
}

// Scan implements Log.
func (m *memory) Scan(ctx context.Context, first, end uint64, visit func(uint64, merkle.Leaf) error) error {
	m.mu.Lock()
	leaves := m.leaves[first:end]
	m.mu.Unlock()
	for i, l := range leaves {
		if err := visit(first+uint64(i), l); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) edge(from, to uint64) *tiles.Frontier {
	f := &tiles.Frontier{}
	for _, l := range m.leaves[from:to] {
		f.Append(tiles.LeafHash(l.Value))
	}
	return f
}

// RootAt implements Log.
func (m *memory) RootAt(_ context.Context, size uint64) ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.edge(0, size).Root(), nil
}

// Frontier implements Log.
func (m *memory) Frontier(_ context.Context, size uint64) ([][32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.edge(0, size).Hashes, nil
}

// Consistency implements Log, word for word after RFC 6962 §2.1.2.
func (m *memory) Consistency(_ context.Context, size1, size2 uint64) ([][32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size1 == 0 || size1 == size2 {
		return nil, nil
	}
	return m.subproof(size1, 0, size2, true), nil
}

func (m *memory) subproof(n, lo, hi uint64, whole bool) [][32]byte {
	if n == hi-lo {
		if whole {
			return nil
		}
		return [][32]byte{m.edge(lo, hi).Root()}
	}
	k := uint64(1)
	for k*2 < hi-lo {
		k *= 2
	}
	if n <= k {
		return append(m.subproof(n, lo, lo+k, whole), m.edge(lo+k, hi).Root())
	}
	return append(m.subproof(n-k, lo+k, hi, false), m.edge(lo, lo+k).Root())
}

// Publish implements Log.
func (m *memory) Publish(context.Context) (*checkpoint.Signed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.edge(0, uint64(len(m.leaves)))
	return checkpoint.Sign(checkpoint.Checkpoint{Origin: testOrigin, Size: f.Size, Root: f.Root()}, m.h.logSigner)
}

// Covering implements Stamps.
func (m *memory) Covering(ctx context.Context, size uint64) (*Stamp, error) {
	for _, st := range m.stamps {
		if st.Signed.Size >= size {
			return st, nil
		}
	}
	m.asked++
	if m.noStamps != nil {
		return nil, m.noStamps
	}
	return m.stampNow(ctx)
}

func (m *memory) stampNow(ctx context.Context) (*Stamp, error) {
	cp, err := m.Publish(ctx)
	if err != nil {
		return nil, err
	}
	st, err := m.h.stamp(ctx, cp)
	if err == nil {
		m.stamps = append(m.stamps, st)
	}
	return st, err
}

// Between implements Stamps.
func (m *memory) Between(from, to uint64) (all []*Stamp, err error) {
	for _, st := range m.stamps {
		if n := st.Signed.Size; n > from && n <= to {
			all = append(all, st)
		}
	}
	return all, nil
}
