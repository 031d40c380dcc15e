package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
	"scripta/register/record"
)

// write makes the package of an interval and gives it its name: steps 1 and 2
// of [Closer.Close].
func (c *Closer) write(ctx context.Context, i Interval, last *Package, asked *bool) (err error) {
	s, err := newStage(c.o.FS, filepath.Join(c.o.Dir, stagePrefix+i.String()))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // gives back the space of a disk that is full
			_ = durable.RemoveAll(c.o.FS, s.dir)
		}
	}()
	x := &Index{Format: Format, Notice: notice, Origin: c.o.Register.Origin(), Provider: c.o.Provider,
		Package: i.String(), Start: i.Start, End: i.End, Timestamp: Pending, Stamps: []uint64{}, Months: []MonthSum{}}
	if last != nil {
		x.Previous = &Link{Package: last.Name(), Index: last.Digest}
		x.StartSize = last.Index.EndSize
	}
	frontier, err := c.o.Log.Frontier(ctx, x.StartSize)
	if err != nil {
		return err
	}
	edge := tiles.Frontier{Size: x.StartSize, Hashes: slices.Clone(frontier)}
	x.StartRoot = edge.Root()
	if last != nil && x.StartRoot != last.Index.EndRoot {
		return ErrDiverged
	}
	if err := c.writeRecords(ctx, s, x, &edge); err != nil {
		return err
	}
	x.EndSize, x.EndRoot = edge.Size, edge.Root()
	cp, stamp, err := c.cover(ctx, x.EndSize, asked)
	if err != nil {
		return err
	}
	if err := c.writeProofs(ctx, s, x, frontier, cp); err != nil {
		return err
	}
	if err := c.writeStamps(s, x, stamp); err != nil {
		return err
	}
	for _, f := range c.o.Certificates {
		r, err := f.Open()
		if err != nil {
			return fmt.Errorf("couldn't read %s: %w", f.Name, err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("couldn't read %s: %w", f.Name, err)
		}
		if err := s.put(f.Name, b); err != nil {
			return err
		}
	}
	if err := c.writeIndex(s, x); err != nil {
		return err
	}
	return s.publish(filepath.Join(c.o.Dir, i.String()))
}

// writeIndex writes index, signature and sums.
func (c *Closer) writeIndex(s *stage, x *Index) error {
	now, err := c.o.Now()
	if err != nil {
		return fmt.Errorf("couldn't read the clock for a package: %w", err)
	}
	x.Created, x.Files = now.UTC().Truncate(time.Second), slices.Clone(s.files)
	if err := x.check(); err != nil {
		return fmt.Errorf("couldn't make the index: %w", err)
	}
	index, err := x.encode()
	if err != nil {
		return err
	}
	sig, err := c.o.Signer.Sign(sha256.Sum256(index), x.Created)
	if err != nil {
		return fmt.Errorf("couldn't sign the index: %w", err)
	}
	if err := s.put(nameIndex, index); err != nil {
		return err
	}
	if err := s.put(nameSignature, sig); err != nil {
		return err
	}
	return s.put(nameSums, sums(s.files))
}

// sums is SHA256SUMS, as sha256sum writes and checks it.
func sums(files []FileSum) []byte {
	var b []byte
	for _, f := range files {
		b = fmt.Appendf(b, "%s  %s\n", f.SHA256, f.Name)
	}
	return b
}

// writeProofs writes what ties the interval to the one before and to the
// checkpoint.
func (c *Closer) writeProofs(ctx context.Context, s *stage, x *Index, frontier [][32]byte, cp *checkpoint.Signed) error {
	x.Checkpoint = cp.Size
	steps := []step{{from: x.StartSize, to: x.EndSize}, {from: x.EndSize, to: cp.Size}}
	for i := range steps {
		var err error
		if steps[i].hashes, err = c.o.Log.Consistency(ctx, steps[i].from, steps[i].to); err != nil {
			return err
		}
	}
	if err := s.put(nameCheckpoint, cp.Stamped()); err != nil {
		return err
	}
	if err := s.put(nameFrontier, encodeHashes(nil, frontier)); err != nil {
		return err
	}
	return s.put(nameConsistency, encodeSteps(steps...))
}

// writeStamps writes the stamp over the checkpoint, which may be nil, and those
// within the interval.
func (c *Closer) writeStamps(s *stage, x *Index, stamp *Stamp) error {
	all := c.within(x.StartSize, x.EndSize)
	if stamp != nil {
		x.Timestamp = Granted
		if !slices.ContainsFunc(all, func(st *Stamp) bool { return st.Signed.Size == stamp.Signed.Size }) {
			all = append(all, stamp) // not smaller than any other
		}
	}
	for _, st := range all {
		size := st.Signed.Size
		x.Stamps = append(x.Stamps, size)
		if size == x.Checkpoint {
			x.Timestamp = Granted
		}
		for _, f := range []struct {
			ext  string
			data []byte
		}{{"txt", st.Signed.Stamped()}, {"tsq", st.Request}, {"tsr", st.Reply}} {
			if f.data == nil {
				continue
			}
			if err := s.put(stampName(size, f.ext), f.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// errOver ends the scan at the first record that belongs to a later interval.
var errOver = errors.New("the interval is over")

// writeRecords writes the interval's leaves and records: from its start size up
// to the first record whose time is not before its end. A record that was
// appended late, with an older time, is therefore in the package of the day on
// which it was appended. edge grows to the interval's end.
func (c *Closer) writeRecords(ctx context.Context, s *stage, x *Index, edge *tiles.Frontier) error {
	leaves, err := s.create(nameLeaves)
	if err != nil {
		return err
	}
	defer leaves.abandon()
	records, err := s.create(nameRecords)
	if err != nil {
		return err
	}
	defer records.abandon()
	w := &recordWriter{c: c, x: x, sealer: newSealer(c.o.Register, x.ID()), months: map[uint16]*monthSum{}}
	err = c.o.Log.Scan(ctx, x.StartSize, c.o.Log.Size(), func(index uint64, l merkle.Leaf) error {
		over, err := w.take(index, l)
		switch {
		case err != nil:
			return fmt.Errorf("record %d: %w", index, err)
		case over:
			return errOver
		}
		if _, err := leaves.Write(l.Value); err != nil {
			return err
		}
		if _, err := records.Write(w.out); err != nil {
			return err
		}
		edge.Append(tiles.LeafHash(l.Value))
		return nil
	})
	if err != nil && !errors.Is(err, errOver) {
		return err
	}
	x.Months = w.sums()
	if err := records.finish(); err != nil {
		return err
	}
	return leaves.finish()
}

// recordWriter seals the records of a package one after the other and counts
// them.
type recordWriter struct {
	c      *Closer
	x      *Index
	sealer *sealer
	months map[uint16]*monthSum

	plain, body, out []byte // of the last record; out is its frame
}

// monthSum sums up the plaintext of one month's records.
type monthSum struct {
	records  uint64
	disposed bool
	hash     hash.Hash
}

func (m *monthSum) add(f frame) {
	m.records++
	var head [frameHead]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(f.body)))
	binary.BigEndian.PutUint64(head[4:], f.index)
	binary.BigEndian.PutUint16(head[12:], f.month)
	m.hash.Write(head[:])
	m.hash.Write(f.body)
}

// take makes the frame of a record, unless it is past the interval's end.
func (w *recordWriter) take(index uint64, l merkle.Leaf) (over bool, err error) {
	leaf, err := record.ParseLeaf(l.Value)
	if err != nil {
		return false, err
	}
	o, month, err := w.c.o.Register.OpenLeaf(l)
	disposed := errors.Is(err, keys.ErrDisposed)
	if err != nil && !disposed {
		return false, err
	}
	var at time.Time
	if !disposed {
		if at, err = timeOf(o); err != nil {
			return false, err
		}
		if !at.Before(w.x.End) {
			return true, nil
		}
		if err := w.closedBefore(o); err != nil {
			return false, err
		}
	}
	m := w.months[month]
	if m == nil {
		m = &monthSum{hash: sha256.New()}
		w.months[month] = m
	}
	w.body, w.plain = w.body[:0], w.plain[:0]
	if !disposed {
		w.plain = plaintext(w.plain, o)
		w.body, err = w.sealer.seal(w.body, index, month, leaf, w.plain)
		if errors.Is(err, keys.ErrDisposed) { // the register holds the record beyond its month; packages do not
			disposed, w.body = true, w.body[:0]
		} else if err != nil {
			return false, err
		}
	}
	if disposed {
		m.records, m.disposed = m.records+1, true
	} else {
		m.add(frame{index, month, w.plain})
		w.x.Records.note(at)
	}
	w.out = frame{index, month, w.body}.append(w.out[:0])
	w.x.Records.Total++
	if leaf.Class() == record.Service {
		w.x.Records.Service++
	} else {
		w.x.Records.Personal++
	}
	return false, nil
}

// closedBefore finds the record of a closing whose package is missing: one that
// closed leaves which are being closed now.
func (w *recordWriter) closedBefore(o *record.Opened) error {
	if kind := o.Fields.Scalar(record.FieldKind); len(kind) != 2 || record.Kind(binary.BigEndian.Uint16(kind)) != record.DayClosed {
		return nil
	}
	r, err := o.Fields.Record()
	if err != nil {
		return err
	}
	name, covers := "", false
	for _, d := range r.Detail {
		switch d.Name {
		case detailPackage:
			name = d.Value
		case detailEndSize:
			n, err := strconv.ParseUint(d.Value, 10, 64)
			covers = err == nil && n > w.x.StartSize
		}
	}
	if covers {
		return fmt.Errorf("%w: %s; bring it back from a copy", ErrLost, name)
	}
	return nil
}

// sums are the months' sums, ascending.
func (w *recordWriter) sums() []MonthSum {
	all := make([]MonthSum, 0, len(w.months))
	for _, month := range sortedMonths(w.months) {
		m := w.months[month]
		sum := MonthSum{Month: monthName(month), Records: m.records, Disposed: m.disposed}
		if !m.disposed {
			m.hash.Sum(sum.Plaintext[:0])
		}
		all = append(all, sum)
	}
	return all
}

func sortedMonths(m map[uint16]*monthSum) []uint16 {
	months := make([]uint16, 0, len(m))
	for month := range m {
		months = append(months, month)
	}
	slices.Sort(months)
	return months
}

// note takes a record's time into the oldest and the newest.
func (c *Counts) note(at time.Time) {
	if c.Oldest == nil || at.Before(*c.Oldest) {
		c.Oldest = &at
	}
	if c.Newest == nil || at.After(*c.Newest) {
		c.Newest = &at
	}
}

// timeOf is a record's time.
func timeOf(o *record.Opened) (time.Time, error) {
	v := o.Fields.Scalar(record.FieldTime)
	if len(v) != 8 {
		return time.Time{}, fmt.Errorf("%w: its time has %d bytes", record.ErrMalformed, len(v))
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(v))).UTC(), nil
}
