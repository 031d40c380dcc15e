package register

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"scripta/merkle"
	"scripta/register/record"
)

// Void makes the record that fills an index of a log in a cluster to which no
// leaf had come, although later indices have theirs. It is for
// [merkle.Cluster.Void].
func (r *Register) Void(index uint64) (merkle.Leaf, error) {
	var tx [16]byte
	rand.Read(tx[:])
	d, err := r.encode(Entry{ID: record.MakeID(tx, 0, 0), Record: &record.Record{
		Kind: record.Void, Time: time.Now().UTC().Truncate(time.Millisecond),
		Detail: []record.Pair{{Name: "index", Value: strconv.FormatUint(index, 10)}}}})
	if err != nil {
		return merkle.Leaf{}, err
	}
	u := r.seal(&d)
	return merkle.Leaf{Value: u.leaf[:], Extra: u.sealed, Identity: record.Identity(u.id)}, nil
}

// RecordAdoption appends the record that this log came from another node in the
// given epoch of its lease, unless it was appended before, and reports whether it
// was not. It is the adopter's first.
func (r *Register) RecordAdoption(ctx context.Context, epoch int64, from, node string, at time.Time) (fresh bool, err error) {
	id := adoptionID(r.origin, epoch)
	if _, _, found, err := r.log.Find(ctx, record.Identity(id)); err != nil || found {
		return false, err
	}
	_, err = r.Append(ctx, Entry{ID: id, Record: &record.Record{
		Kind: record.Adopted, Time: at.UTC().Truncate(time.Millisecond),
		Detail: record.SortDetail([]record.Pair{{Name: "epoch", Value: strconv.FormatInt(epoch, 10)}, {Name: "from", Value: from}, {Name: "node", Value: node}})}})
	if errors.Is(err, ErrConflict) { // it came meanwhile, with the time of then
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("couldn't record that the log was adopted: %w", err)
	}
	return true, nil
}

// adoptionID is the record id of an adoption: there is one for each epoch.
func adoptionID(origin string, epoch int64) record.ID {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("scripta/adopted/v1\x00"+origin+"\x00"), uint64(epoch)))
	return record.MakeID([16]byte(h[:16]), 0, 0)
}
