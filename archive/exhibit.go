package archive

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"scripta/internal/keys"
	"scripta/register/evidence"
	"scripta/register/record"
)

// each reads leaves.bin and records.sealed side by side and calls visit with
// every record, still sealed, and its leaf. It checks that the indices are the
// interval's and that the month goes with the leaf's class. The frame's body is
// valid during the call.
func (p *Package) each(visit func(f frame, leaf record.Leaf) error) error {
	leaves, err := os.Open(filepath.Join(p.Dir, nameLeaves))
	if err != nil {
		return err
	}
	defer leaves.Close()
	records, err := os.Open(filepath.Join(p.Dir, nameRecords))
	if err != nil {
		return err
	}
	defer records.Close()
	lr, fr := bufio.NewReaderSize(leaves, buffer), newFrameReader(records)
	var b [record.LeafSize]byte
	for index := p.Index.StartSize; index < p.Index.EndSize; index++ {
		if _, err := io.ReadFull(lr, b[:]); err != nil {
			return fmt.Errorf("%s ends before leaf %d: %w", nameLeaves, index, err)
		}
		leaf, err := record.ParseLeaf(b[:])
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		f, err := fr.next()
		switch {
		case err == io.EOF:
			return fmt.Errorf("%w: none for record %d", errFrame, index)
		case err != nil:
			return err
		case f.index != index:
			return fmt.Errorf("%w: record %d in the place of %d", errFrame, f.index, index)
		case (f.month == 0) != (leaf.Class() == record.Service):
			return fmt.Errorf("%w: record %d of class %d under the key of %s", errFrame, index, leaf.Class(), monthName(f.month))
		}
		if err := visit(f, leaf); err != nil {
			return err
		}
	}
	if _, err := fr.next(); err != io.EOF {
		return fmt.Errorf("%w: one more than the interval has records", errFrame)
	}
	if _, err := lr.ReadByte(); err != io.EOF {
		return fmt.Errorf("%s goes on after leaf %d", nameLeaves, p.Index.EndSize)
	}
	return nil
}

// Records opens the package's records, in the log's order, checks that each
// gives its leaf, and calls visit with it until that returns an error, which
// Records returns. Records of months that were disposed of are skipped.
func (p *Package) Records(k Keys, visit func(index uint64, o *record.Opened) error) error {
	return p.open(k, func(f frame, o *record.Opened, _ []byte) error {
		if o == nil {
			return nil
		}
		return visit(f.index, o)
	})
}

// open is Records with the plaintext; o is nil for a record that is disposed of.
func (p *Package) open(k Keys, visit func(f frame, o *record.Opened, plain []byte) error) error {
	s := newSealer(k, p.Index.ID())
	return p.each(func(f frame, leaf record.Leaf) error {
		if len(f.body) == 0 {
			return visit(f, nil, nil)
		}
		o, plain, err := s.open(f, leaf)
		if errors.Is(err, keys.ErrDisposed) {
			return visit(f, nil, nil)
		} else if err != nil {
			return err
		}
		return visit(f, o, plain)
	})
}

// VerifyRecords checks, with the provider's keys, that every record of a package
// opens and gives its leaf, and what the index says about plaintext and times.
// Months that were disposed of are left out.
func VerifyRecords(p *Package, k Keys) evidence.Check {
	c := evidence.Check{Name: "records open"}
	months := map[uint16]*monthSum{}
	gone := map[uint16]bool{}
	var counts Counts
	opened := 0
	c.Err = p.open(k, func(f frame, o *record.Opened, plain []byte) error {
		if o == nil {
			gone[f.month] = true
			return nil
		}
		at, err := timeOf(o)
		if err != nil {
			return err
		}
		if !at.Before(p.Index.End) {
			return fmt.Errorf("record %d is of %s, past the interval", f.index, at.Format(time.RFC3339))
		}
		counts.note(at)
		m := months[f.month]
		if m == nil {
			m = &monthSum{hash: sha256.New()}
			months[f.month] = m
		}
		m.add(frame{f.index, f.month, plain})
		opened++
		return nil
	})
	c.Detail = fmt.Sprintf("%d of %d", opened, p.Index.Records.Total)
	if c.Err != nil {
		return c
	}
	for _, want := range p.Index.Months {
		month, err := parseMonth(want.Month)
		switch m := months[month]; {
		case err != nil:
			c.Err = err
		case gone[month]:
		case m == nil || m.records != want.Records || [32]byte(m.hash.Sum(nil)) != want.Plaintext:
			c.Err = fmt.Errorf("the records of %s are not those that the index commits to", want.Month)
		}
	}
	if !sameTime(counts.Oldest, p.Index.Records.Oldest) || !sameTime(counts.Newest, p.Index.Records.Newest) {
		if len(gone) == 0 {
			c.Err = errors.Join(c.Err, errors.New("the times of the oldest and the newest record are not those in the index"))
		}
	}
	return c
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
