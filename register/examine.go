package register

import (
	"context"
	"errors"
	"fmt"

	"scripta/merkle"
	"scripta/register/record"
)

// Examine checks the leaf at an index against everything that is derived from it:
// the sealed record gives the leaf, has the class of its kind, the nonce of its id
// and the identity under which the log finds it; and the index finds it under each
// of its mailboxes and identifiers. The errors are joined; f is nil if the record
// does not open. A record of a month that was disposed of gives keys.ErrDisposed.
func (r *Register) Examine(ctx context.Context, at uint64, l merkle.Leaf) (f *Found, err error) {
	o, month, err := r.openLeaf(l)
	if err != nil {
		return nil, fmt.Errorf("record %d does not open: %w", at, err)
	}
	rec, err := o.Fields.Record()
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", at, err)
	}
	var errs []error
	wrong := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("record %d "+format, append([]any{at}, a...)...))
	}
	k, err := r.keys.of(month, false)
	if err != nil {
		return nil, err
	}
	if rec.Kind.Class() != o.Leaf.Class() {
		wrong("is of kind %v, its leaf of class %d", rec.Kind, o.Leaf.Class())
	}
	if o.Nonce != record.NewNonce(&k.nonce, r.origin, o.ID) {
		wrong("has not the nonce of its id")
	}
	if l.Identity != record.Identity(o.ID) {
		wrong("has not the identity of its id")
	}
	switch i, _, ok, err := r.log.Find(ctx, record.Identity(o.ID)); {
	case err != nil:
		wrong("is not found by its id: %w", err)
	case !ok:
		wrong("is not found by its id")
	case i != at:
		wrong("has the id of record %d", i)
	}
	return &Found{Index: at, Month: month, Opened: o, Record: rec}, errors.Join(errs...)
}
