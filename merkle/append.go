package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Append adds leaves at the end of the log and returns their indices. A leaf that
// is there already, with the same value and identity, gets the index that it has;
// its extra data stays as it was.
//
// In one process the new leaves get consecutive indices in the order given. In a
// cluster a leaf that another node had on its way may come between them, or
// before one of them; each is added once all the same. Of a leaf whose identity
// the log has with another value the error is a ConflictError, and others of the
// call may be in the log. All other errors are those of AddSequenced. Only one
// Append may be under way.
func (l *Log) Append(ctx context.Context, leaves []Leaf) ([]uint64, error) {
	indices := make([]uint64, len(leaves))
	todo := make([]int, len(leaves)) // which leaves have no index yet
	for i := range todo {
		todo[i] = i
	}
	batch := leaves
	for {
		first := l.Size()
		err := l.AddSequenced(ctx, first, batch)
		if err == nil {
			for i, j := range todo {
				indices[j] = first + uint64(i)
			}
			return indices, nil
		}
		var conflict *ConflictError
		var gap *GapError
		if !errors.As(err, &conflict) && !errors.As(err, &gap) {
			return nil, err
		}
		if todo, err = l.place(leaves, todo, indices, first, err); err != nil {
			return nil, err
		}
		if batch = nil; len(todo) == 0 {
			return indices, nil
		}
		for _, i := range todo {
			batch = append(batch, leaves[i])
		}
	}
}

// place finds leaves that could not be added together at first, because of why,
// and returns those that are not in the log.
func (l *Log) place(leaves []Leaf, todo []int, indices []uint64, first uint64, why error) ([]int, error) {
	var rest []int
	seen := make(map[[32]byte]int, len(todo))
	for _, i := range todo {
		leaf := &leaves[i]
		if j, twice := seen[leaf.Identity]; twice {
			return nil, fmt.Errorf("couldn't add leaves: %d and %d of the call have the same identity", j, i)
		}
		seen[leaf.Identity] = i
		at, ok, err := l.engine.indexOf(leaf.Identity)
		if err != nil {
			return nil, err
		}
		if !ok {
			rest = append(rest, i)
			continue
		}
		value, err := l.valueAt(at)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(value, leaf.Value) {
			return nil, &ConflictError{Index: first, Identity: leaf.Identity, At: at, SameIdentity: true}
		}
		indices[i] = at
	}
	if len(rest) == len(todo) && l.Size() == first {
		return nil, why // nothing came between: it would go on like this
	}
	return rest, nil
}

// valueAt returns the value of a leaf.
func (l *Log) valueAt(index uint64) ([]byte, error) {
	leaves, err := l.chunk(context.Background(), index, 1)
	if err != nil {
		return nil, err
	}
	return leaves[0].Value, nil
}
