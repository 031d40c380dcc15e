package register

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/internal/seal"
	"scripta/register/record"
)

// infoHold is the label of the key under which held records are kept.
const infoHold = "scripta/hold/v1"

// Hold says which records outlive the disposal of their month: a court or a
// dispute still needs them.
type Hold struct {
	Mailbox   string     `json:"mailbox,omitempty"`
	MessageID string     `json:"message_id,omitempty"`
	From      *time.Time `json:"from,omitempty"` // of the records' time
	To        *time.Time `json:"to,omitempty"`
	Reason    string     `json:"reason"`
	Placed    time.Time  `json:"placed"`
}

// Holds is the side store of held records: copies, under the hold key, of records
// whose month's secret is destroyed. A copy has record id, nonce and fields, so
// that it gives its leaf and can be proved as before.
//
//	DIR/holds.sealed           the holds
//	DIR/<log id>-<index>.held  one record: uint16 length ‖ origin ‖ uint64 index ‖ leaf ‖ sealed record
//
// Its methods may be called concurrently.
type Holds struct {
	fsys durable.FS
	dir  string
	key  [32]byte

	mu    sync.RWMutex // guards what follows; held for the whole of a change
	holds []Hold
	kept  map[record.Leaf]keptRecord
}

type keptRecord struct {
	origin string
	index  uint64
	month  uint16
	name   string
}

const (
	holdsFile  = "holds.sealed"
	heldSuffix = ".held"
	maxHeld    = 2 << 20 // bytes of a file of the store
)

// OpenHolds opens the side store in a folder.
func OpenHolds(fsys durable.FS, dir string, months *keys.Months) (*Holds, error) {
	secret, err := months.Hold()
	if err != nil {
		return nil, err
	}
	h := &Holds{fsys: fsys, dir: dir, key: keys.Derive(secret, infoHold), kept: map[record.Leaf]keptRecord{}}
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the folder of held records: %w", err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't list the held records: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), heldSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		k, leaf, _, err := h.read(e.Name())
		if err != nil {
			return nil, err
		}
		h.kept[leaf] = k
	}
	b, err := h.file(holdsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		b, err = seal.Open(&h.key, []byte(infoHold), b)
	}
	if err == nil {
		err = json.Unmarshal(b, &h.holds)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the holds in %s: %w", dir, err)
	}
	return h, nil
}

func (h *Holds) file(name string) ([]byte, error) {
	f, err := h.fsys.OpenFile(filepath.Join(h.dir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxHeld))
}

// read reads the file of a held record.
func (h *Holds) read(name string) (k keptRecord, leaf record.Leaf, sealed record.Sealed, err error) {
	b, err := h.file(name)
	if err != nil {
		return k, leaf, nil, fmt.Errorf("couldn't read a held record: %w", err)
	}
	k, leaf, sealed, err = parseHeld(b)
	if err != nil {
		return k, leaf, nil, fmt.Errorf("couldn't read the held record %s: %w; bring it back from a copy", name, err)
	}
	k.name = name
	return k, leaf, sealed, nil
}

func parseHeld(b []byte) (k keptRecord, leaf record.Leaf, sealed record.Sealed, err error) {
	if len(b) < 2 {
		return k, leaf, nil, record.ErrMalformed
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n+8+record.LeafSize {
		return k, leaf, nil, record.ErrMalformed
	}
	k.origin, b = string(b[2:2+n]), b[2+n:]
	k.index, b = binary.BigEndian.Uint64(b), b[8:]
	if leaf, err = record.ParseLeaf(b[:record.LeafSize]); err != nil {
		return k, leaf, nil, err
	}
	sealed = record.Sealed(b[record.LeafSize:])
	k.month, err = sealed.Month()
	return k, leaf, sealed, err
}

// keep copies a record into the side store, durably. To keep it again changes
// nothing.
func (h *Holds) keep(f *Found) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	leaf := f.Opened.Leaf
	if _, ok := h.kept[leaf]; ok {
		return nil
	}
	k := keptRecord{f.Origin, f.Index, f.Month, fmt.Sprintf("%s-%d%s", f.Origin[strings.LastIndexByte(f.Origin, '/')+1:], f.Index, heldSuffix)}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(k.origin)))
	b = binary.BigEndian.AppendUint64(append(b, k.origin...), k.index)
	b = append(append(b, leaf[:]...), record.Seal(&h.key, k.origin, k.month, leaf, f.Opened.ID, f.Opened.Nonce, f.Opened.Fields)...)
	if err := durable.WriteFile(h.fsys, filepath.Join(h.dir, k.name), b, 0o600); err != nil {
		return fmt.Errorf("couldn't keep record %d of %s: %w", k.index, k.origin, err)
	}
	h.kept[leaf] = k
	return nil
}

// open opens a held record; false if it is not held.
func (h *Holds) open(origin string, leaf record.Leaf) (*record.Opened, bool, error) {
	if h == nil {
		return nil, false, nil
	}
	h.mu.RLock()
	k, ok := h.kept[leaf]
	h.mu.RUnlock()
	if !ok || k.origin != origin {
		return nil, false, nil
	}
	_, _, sealed, err := h.read(k.name)
	if err != nil {
		return nil, true, err
	}
	o, err := sealed.Open(&h.key, origin, leaf)
	return o, true, err
}

// of lists the indices of a log's held records of a month, ascending.
func (h *Holds) of(origin string, month uint16) []uint64 {
	if h == nil {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	var all []uint64
	for _, k := range h.kept {
		if k.origin == origin && k.month == month {
			all = append(all, k.index)
		}
	}
	slices.Sort(all)
	return all
}

// ErrNoHolds says that the register was opened without a side store.
var ErrNoHolds = errors.New("register: there is no store of held records")

// PlaceHold makes the records that a hold names outlive the disposal of their
// months, and records that a person did so.
func (r *Register) PlaceHold(ctx context.Context, hold Hold) error {
	h := r.keys.held
	if h == nil {
		return ErrNoHolds
	}
	if _, err := NewMatcher(hold.query()); err != nil {
		return err
	}
	var tx [16]byte
	rand.Read(tx[:])
	rec := &record.Record{Kind: record.HoldPlaced, Time: hold.Placed.UTC().Truncate(time.Millisecond), MessageID: strings.Trim(hold.MessageID, "<>"),
		Detail: []record.Pair{{Name: "hold", Value: hex.EncodeToString(tx[:])}, {Name: "reason", Value: hold.Reason}}}
	if hold.Mailbox != "" {
		rec.About = []string{hold.Mailbox}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := append(slices.Clone(h.holds), hold)
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(h.fsys, filepath.Join(h.dir, holdsFile), seal.Seal(&h.key, []byte(infoHold), b), 0o600); err != nil {
		return fmt.Errorf("couldn't place the hold: %w", err)
	}
	h.holds = all
	_, err = r.Append(ctx, Entry{ID: record.MakeID(tx, 0, 0), Record: rec})
	return err
}

func (h *Hold) query() Query {
	q := Query{Mailbox: h.Mailbox, Identifier: h.MessageID}
	if h.From != nil {
		q.From = *h.From
	}
	if h.To != nil {
		q.To = *h.To
	}
	return q
}

// KeepHeld copies every held record of a month into the side store, durably, and
// returns how many it holds. It must be called before the month's disposal.
func (r *Register) KeepHeld(ctx context.Context, month keys.Month) (int, error) {
	h := r.keys.held
	if h == nil {
		return 0, nil
	}
	h.mu.RLock()
	holds := slices.Clone(h.holds)
	h.mu.RUnlock()
	for _, hold := range holds {
		q := hold.query()
		if q.From.Before(month.Start()) {
			q.From = month.Start()
		}
		if end := month.Next().Start(); q.To.IsZero() || end.Before(q.To) {
			q.To = end
		}
		if !q.From.Before(q.To) {
			continue
		}
		var failed error
		err := r.Search(ctx, q, q.To, func(f *Found) bool {
			failed = h.keep(f)
			return failed == nil
		})
		if err = errors.Join(err, failed); err != nil {
			return 0, fmt.Errorf("couldn't keep what is held of %s: %w", month, err)
		}
	}
	return r.Held(month), nil
}

// Held is how many records of a month the side store holds.
func (r *Register) Held(month keys.Month) (n int) {
	for _, b := range r.books() {
		n += len(r.keys.held.of(b.log.Origin(), uint16(month)))
	}
	return n
}

// Forget drops the keys of disposed months from memory and their postings from
// the indices.
func (r *Register) Forget() error {
	var err error
	for _, b := range r.books() {
		b.keys.forgetDisposed()
		err = errors.Join(err, b.dropDisposed())
	}
	return err
}
