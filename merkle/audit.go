package merkle

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/compact"

	"scripta/merkle/badgerlog"
	"scripta/merkle/tiles"
)

// Audit recomputes a log from its leaves: every hash tile on the way, and the root
// in the end. It goes on after what is wrong, and can be given up and resumed. It
// is not safe for concurrent use.
type Audit struct {
	log  *Log
	end  root                 // the tree as it was when the audit began
	edge tiles.Frontier       // of the leaves that were read
	rows [tiles.Levels][]byte // the tiles that they fill in part
}

// Audit begins to recompute the tree as it is now: from the first leaf, or, with
// the size and hashes that an earlier audit's Position gave, from there. The
// error is ErrBeyond if the log does not go on from that position.
func (l *Log) Audit(ctx context.Context, size uint64, hashes [][32]byte) (*Audit, error) {
	now, _, err := l.latest(ctx, 0)
	if err != nil {
		return nil, err
	}
	if size > now.size {
		return nil, fmt.Errorf("%w: to resume at leaf %d of %d", ErrBeyond, size, now.size)
	}
	a := &Audit{log: l, end: now, edge: tiles.Frontier{Size: size, Hashes: hashes}}
	// The tiles that were being filled are read back, and must give the edge.
	for level := range a.rows {
		index, width := tiles.Partial(size, level)
		if width == 0 {
			continue
		}
		if a.rows[level], err = l.engine.tile(level, index, width); err != nil {
			return nil, err
		}
	}
	ids := compact.RangeNodes(0, size, nil)
	if len(ids) != len(hashes) {
		return nil, fmt.Errorf("%w: %d hashes at leaf %d", ErrBeyond, len(hashes), size)
	}
	for i, id := range ids {
		level, _, first, depth := tiles.Locate(id)
		if h, err := tiles.NodeIn(a.rows[level], first, depth); err != nil || h != hashes[i] {
			return nil, fmt.Errorf("%w: the log has not the hashes that were computed up to leaf %d", ErrBeyond, size)
		}
	}
	return a, nil
}

// Position is how far the audit has come, to be resumed from.
func (a *Audit) Position() (size uint64, hashes [][32]byte) { return a.edge.Size, a.edge.Hashes }

// Size is the number of leaves of the tree that is audited.
func (a *Audit) Size() uint64 { return a.end.size }

// Root is the root of the leaves that were read.
func (a *Audit) Root() [32]byte { return a.edge.Root() }

// Next reads at most n leaves more, checks the tiles that they fill, and calls
// visit with each leaf and the number of leaves up to it, while Root is theirs.
// Behind the last leaf it compares the root; done says that it did. What is
// wrong goes to wrong, as a badgerlog.CorruptError that names it, and the audit
// goes on: a leaf that cannot be read counts with the hash that its tile has. The
// error is of ctx, or of an engine that cannot be asked any more.
func (a *Audit) Next(ctx context.Context, n uint64, visit func(index uint64, leaf Leaf), wrong func(error)) (done bool, err error) {
	until := min(a.edge.Size+n, a.end.size)
	for a.edge.Size < until {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		chunk, err := a.log.chunk(ctx, a.edge.Size, min(until-a.edge.Size, scanChunk))
		if err != nil && until-a.edge.Size > 1 {
			// One of them cannot be read: which?
			chunk, err = a.log.chunk(ctx, a.edge.Size, 1)
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err != nil {
			if err := a.missing(err, wrong); err != nil {
				return false, err
			}
			continue
		}
		for _, leaf := range chunk {
			index := a.edge.Size
			a.add(tiles.LeafHash(leaf.Value), wrong)
			visit(index, leaf)
		}
	}
	if a.edge.Size < a.end.size {
		return false, nil
	}
	if got := a.edge.Root(); got != a.end.hash {
		wrong(a.corrupt("the leaves give root %x, stored is %x", got, a.end.hash))
	}
	return true, nil
}

func (a *Audit) corrupt(format string, args ...any) error {
	return &badgerlog.CorruptError{Tree: a.log.tree, Size: a.end.size, Reason: fmt.Sprintf(format, args...)}
}

// missing passes a leaf over that cannot be read.
func (a *Audit) missing(why error, wrong func(error)) error {
	index := a.edge.Size
	wrong(fmt.Errorf("%w (%w)", a.corrupt("leaf %d cannot be read", index), why))
	tile, err := a.log.engine.tile(0, index/tiles.Width, int(index%tiles.Width)+1)
	if err != nil {
		return fmt.Errorf("couldn't read leaf %d, nor its hash: %w", index, err)
	}
	a.add([32]byte(tile[len(tile)-tiles.HashSize:]), wrong)
	return nil
}

// add takes one leaf more, and compares the tiles that it fills with those that
// are stored.
func (a *Audit) add(h tiles.Hash, wrong func(error)) {
	index := a.edge.Size
	a.edge.Append(h)
	a.rows[0] = append(a.rows[0], h[:]...)
	for level := 0; len(a.rows[level]) == tiles.TileSize; level++ {
		at := index >> (8 * (level + 1))
		stored, err := a.log.engine.tile(level, at, tiles.Width)
		switch {
		case err != nil:
			wrong(fmt.Errorf("%w (%w)", a.corrupt("tile %d/%d cannot be read", level, at), err))
		case string(stored) != string(a.rows[level]):
			wrong(a.corrupt("tile %d/%d does not follow from the leaves", level, at))
		}
		root, err := tiles.Root(a.rows[level])
		if err != nil {
			wrong(err) // of another size than a tile's
		}
		a.rows[level] = a.rows[level][:0]
		a.rows[level+1] = append(a.rows[level+1], root[:]...)
	}
}

// Verify reads all leaves and checks that they give the root of the tree as it
// is at the beginning of the call, and every hash tile on the way. It takes
// seconds for each million leaves. The error is a badgerlog.CorruptError, about
// the first thing that is wrong.
func (l *Log) Verify(ctx context.Context) error {
	a, err := l.Audit(ctx, 0, nil)
	if err != nil {
		return err
	}
	var first error
	for done := false; !done && first == nil; {
		done, err = a.Next(ctx, scanChunk, func(uint64, Leaf) {}, func(err error) {
			if first == nil {
				first = err
			}
		})
		if err != nil {
			return err
		}
	}
	return first
}
