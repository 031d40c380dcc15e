package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strconv"

	"scripta/merkle/tiles"
	"scripta/register/record"
	"scripta/register/stamps"
	"scripta/tsa"
)

// stampBytes is about what a stamp has on the disk.
const stampBytes = 8 << 10

// checkpoints verifies every time stamp, and gathers the checkpoints whose roots
// the leaves must give.
func (a *Audit) checkpoints(ctx context.Context, size uint64) error {
	mark := func(m Mark) {
		switch {
		case m.Size == 0 && m.Root != tiles.EmptyRoot():
			a.wrong(m.Place, "the checkpoint of 0 leaves has not the root of none")
		case m.Size > a.o.Register.Log().Size():
			a.wrong(m.Place, "a checkpoint of %d leaves was kept, the log has %d: leaves are lost", m.Size, a.o.Register.Log().Size())
		default:
			a.marks[m.Size] = append(a.marks[m.Size], m)
		}
	}
	sizes := a.o.Stamps.Between(0, math.MaxUint64-1)
	for i, n := range sizes {
		a.o.Progress(stepCheckpoints, uint64(i), uint64(len(sizes)))
		if err := a.o.Pace(ctx, stampBytes); err != nil {
			return err
		}
		place := a.o.Stamps.Name(n)
		st, err := a.o.Stamps.Get(n)
		switch {
		case err != nil:
			a.wrong(place, "the time stamp does not verify: %v", err)
		case st.Signed.Size != n:
			a.wrong(place, "the time stamp is over %d leaves", st.Signed.Size)
		default:
			a.s.Report.Stamps++
			mark(Mark{place, n, st.Signed.Root})
		}
		if err == nil {
			a.request(place, st)
		}
	}
	if a.o.Marks != nil {
		for _, m := range a.o.Marks(func(place, text string) { a.wrong(place, "%s", text) }) {
			mark(m)
		}
	}
	return nil
}

// request checks that what was asked for is the request of the stamp.
func (a *Audit) request(place string, st *stamps.Stamp) {
	got, err := a.o.Stamps.Request(st.Signed.Size)
	if err != nil {
		a.note(place, "what was asked for is not kept: %v", err)
		return
	}
	want, err := tsa.EncodeRequest(sha256.Sum256(st.Signed.Stamped()), st.Token.Nonce, nil)
	if err != nil || string(got) != string(want) {
		a.wrong(place, "the request that is kept beside it (.tsq) is not the one that it answers")
	}
}

// compare holds the root of the first size leaves against the checkpoints of that
// size.
func (a *Audit) compare(size uint64, root func() [32]byte) {
	for _, m := range a.marks[size] {
		if got := root(); got != m.Root {
			a.wrong(m.Place, "it has the root %x for %d leaves, the log's leaves give %x", m.Root, size, got)
		}
	}
	delete(a.marks, size)
}

// stamped checks that the stamp which a record tells of is kept.
func (a *Audit) stamped(place string, rec *record.Record) {
	if rec.Outcome.Code != "granted" {
		return
	}
	var size uint64
	err := errors.New("the record does not say of which size")
	for _, d := range rec.Detail {
		if d.Name == "size" {
			size, err = strconv.ParseUint(d.Value, 10, 64)
		}
	}
	var st *stamps.Stamp
	if err == nil {
		st, err = a.o.Stamps.Get(size)
	}
	if err != nil {
		a.wrong(place, "it tells of a time stamp that is not there, or does not verify: %v", err)
		return
	}
	if sum := sha256.Sum256(st.Token.DER); string(sum[:]) != string(rec.Digest) {
		a.wrong(place, "the time stamp of %d leaves that is kept is not the one that it tells of", size)
	}
}

func leafPlace(index uint64) string { return fmt.Sprintf("leaf %d", index) }
