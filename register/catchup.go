package register

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/register/index"
	"scripta/register/record"
)

// indexEntry says under what a record is found. The index of a register is a
// function of its records by this rule.
func indexEntry(at uint64, month uint16, k *index.Key, rec *record.Record) index.Entry {
	e := index.Entry{Index: at, Month: month, Time: rec.Time}
	boxes, ids := rec.Mailboxes(), rec.Identifiers()
	e.Tokens = make([]index.Token, 0, len(ids)+len(boxes)*12)
	for _, id := range ids {
		e.Tokens = append(e.Tokens, k.Identifier(id))
	}
	for _, m := range boxes {
		e.Tokens = append(e.Tokens, k.Mailbox(m), k.Kind(m, uint16(rec.Kind)))
		for _, c := range rec.Counterparts(m) {
			e.Tokens = append(e.Tokens, k.Counterpart(m, c))
		}
		e.Tokens = append(e.Tokens, k.Words(m, rec.Subject)...)
	}
	return e
}

// catchUpStep is how many leaves are read at once.
const catchUpStep = 4096

// catchUp adds to the index the leaves below size that it does not have, and
// removes from it the months that were disposed of. It returns how many leaves the
// index then has.
func (b book) catchUp(ctx context.Context, size uint64, progress func(done, total uint64)) (next uint64, err error) {
	if err := b.dropDisposed(); err != nil {
		return 0, err
	}
	next = b.index.Next()
	if next > size {
		return 0, fmt.Errorf("the index knows %d records and the log has %d: the log was rolled back; see docs/operating.md", next, size)
	}
	for told := time.Now(); next < size; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		end := min(next+catchUpStep, size)
		entries, err := b.readEntries(ctx, next, end)
		if err != nil {
			return 0, err
		}
		if err := b.index.Add(entries, end); err != nil {
			return 0, fmt.Errorf("couldn't write the index: %w", err)
		}
		next = end
		if progress != nil {
			progress(next, size)
		} else if time.Since(told) > 10*time.Second {
			told = time.Now()
			b.logger.Info("the index is being made from the log", "records", next, "of", size)
		}
	}
	return next, nil
}

// dropDisposed removes from the index the months that were disposed of.
func (b book) dropDisposed() error {
	for _, month := range b.index.Months() {
		if _, err := b.keys.of(month, false); errors.Is(err, keys.ErrDisposed) {
			if err := b.index.DropMonth(month); err != nil {
				return err
			}
		}
	}
	return nil
}

// readEntries reads leaves and says under what their records are found. Those of
// disposed months are found under nothing.
func (b book) readEntries(ctx context.Context, first, end uint64) ([]index.Entry, error) {
	leaves, err := b.log.Leaves(ctx, first, end-first)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the log for the index: %w", err)
	}
	entries, errs := make([]index.Entry, len(leaves)), make([]error, len(leaves))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := len(leaves) * w / workers; i < len(leaves)*(w+1)/workers; i++ {
				entries[i], errs[i] = b.entryOf(first+uint64(i), leaves[i])
			}
		})
	}
	wg.Wait()
	return entries, errors.Join(errs...)
}

func (b book) entryOf(at uint64, l merkle.Leaf) (index.Entry, error) {
	o, month, err := b.keys.open(b.log.Origin(), l)
	if errors.Is(err, keys.ErrDisposed) {
		return index.Entry{Index: at, Month: month}, nil
	}
	var rec *record.Record
	if err == nil {
		rec, err = o.Fields.Record()
	}
	if err != nil {
		return index.Entry{}, fmt.Errorf("couldn't index record %d: %w", at, err)
	}
	k, err := b.keys.of(month, false)
	if errors.Is(err, keys.ErrDisposed) { // held: found without the index
		return index.Entry{Index: at, Month: month}, nil
	} else if err != nil {
		return index.Entry{}, err
	}
	return indexEntry(at, month, k.index, rec), nil
}

// Reindex makes the index anew, from the log and the receipt store alone, beside
// the one there is, and then puts it in its place. Nobody may have the register
// open. progress, if not nil, is called with the number of records so far. After a
// crash or an error the old index is in use, and the next Reindex goes on where
// this one was.
func Reindex(ctx context.Context, o Options, progress func(done, total uint64)) error {
	r, err := open(ctx, o, index.OpenRebuild, progress)
	if err != nil {
		return fmt.Errorf("couldn't make the index anew: %w", err)
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("couldn't make the index anew: %w", err)
	}
	return index.Swap(o.FS, o.indexDir())
}

// IndexReport is what [Register.VerifyIndex] found.
type IndexReport struct {
	Records  uint64 // opened
	Disposed uint64 // of disposed months, which cannot be
	Postings uint64
}

// ErrIndex says that the index is not what the log gives.
var ErrIndex = errors.New("the index does not agree with the log: stop the provider and run scripta register reindex")

// VerifyIndex opens every record of the log, which checks it against its leaf, and
// compares under what the records are found with what the index holds: a posting
// that is missing, or too many, is an [ErrIndex]. Nobody may append meanwhile.
func (r *Register) VerifyIndex(ctx context.Context) (report IndexReport, err error) {
	want, have := map[uint16]*digest{}, map[uint16]*digest{}
	size := r.log.Size()
	for at := uint64(0); at < size; at += catchUpStep {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		entries, err := r.own().readEntries(ctx, at, min(at+catchUpStep, size))
		if err != nil {
			return report, err
		}
		for _, e := range entries {
			if e.Month != 0 && e.Time.IsZero() {
				report.Disposed++
				continue
			}
			report.Records++
			seen := map[index.Token]bool{}
			for _, t := range e.Tokens {
				if !seen[t] {
					seen[t] = true
					of(want, e.Month).add(t, e.Index)
				}
			}
		}
	}
	if err := r.receipts.Locations(func(p index.Placed) {
		t, leaf := p.Posting()
		of(want, index.Receipts).add(t, leaf)
	}); err != nil {
		return report, err
	}
	if err := r.index.All(func(month uint16, t index.Token, leaf uint64) error {
		of(have, month).add(t, leaf)
		report.Postings++
		return nil
	}); err != nil {
		return report, err
	}
	for month := range want {
		of(have, month)
	}
	for month, h := range have {
		if w := of(want, month); *w != *h {
			return report, fmt.Errorf("%w (%s: %d postings, the log gives %d)", ErrIndex, index.MonthName(month), h.n, w.n)
		}
	}
	return report, nil
}

// IndexHealth returns why searches cannot be answered, or the index cannot be
// written; nil when all is well. It also tells how many records are in the index.
func (r *Register) IndexHealth() (records uint64, err error) { return r.index.Next(), r.index.Health() }

// CheckIndex reads the index whole and compares its checksums. Appends and
// searches go on meanwhile.
func (r *Register) CheckIndex(ctx context.Context) error { return r.index.Check(ctx) }

// digest tells sets of postings apart, in whatever order they come. It is for
// accidents, not against somebody who wants to deceive.
type digest struct{ n, a, b uint64 }

func of(m map[uint16]*digest, month uint16) *digest {
	if m[month] == nil {
		m[month] = new(digest)
	}
	return m[month]
}

func (d *digest) add(t index.Token, leaf uint64) {
	x := mix(uint64(t) + mix(leaf))
	d.n, d.a, d.b = d.n+1, d.a+x, d.b+mix(x)
}

// mix is the finalizer of SplitMix64: a bijection that mixes well.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
