package merkle

import (
	"context"
	"fmt"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/badgerlog"
)

// MaxExtra bounds a leaf's extra data, bytes.
const MaxExtra = badgerlog.MaxExtraSize

// Leaf is what the log keeps at one index.
type Leaf struct {
	// Value is what the tree holds, public for ever: 1 to 65,535 bytes.
	Value []byte
	// Extra is stored beside the leaf and is in no hash: at most MaxExtra bytes.
	Extra []byte
	// Identity is by which the leaf is found, and added only once. It is not
	// published.
	Identity [32]byte
}

// AddSequenced adds leaves at the indices first, first+1 and so on, and returns
// when they are on the disk and in the tree. The leaves are not needed after the
// return.
//
// A leaf that is there already, with the same value and identity at the same
// index, counts as added; its extra data is not compared and stays as it was.
// Otherwise the leaves of a call are added all, or none with a ConflictError or
// a GapError. A call of more than 4096 leaves, or 4 MiB, may be cut in the
// middle by a crash; a prefix of it is then in the log.
//
// After any other error (ErrFatal, ErrDiskFull, ErrClosed, the context's) it is
// for the caller to find out with Find what is in the log. The next index is
// Size. Two calls may be under way if they were begun in the order of their
// indices.
func (l *Log) AddSequenced(ctx context.Context, first uint64, leaves []Leaf) error {
	if len(leaves) == 0 {
		return nil
	}
	if l.opt.ReadOnly {
		return ErrReadOnly
	}
	l.addMu.RLock()
	defer l.addMu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	req := &trillian.AddSequencedLeavesRequest{LogId: l.tree, Leaves: make([]*trillian.LogLeaf, len(leaves))}
	slab := make([]trillian.LogLeaf, len(leaves))
	for i := range leaves {
		in, out := &leaves[i], &slab[i]
		if len(in.Value) == 0 { // the server would say InvalidArgument
			return fmt.Errorf("%w: leaf %d of the call is empty", ErrLeafSize, i)
		}
		out.LeafValue, out.ExtraData, out.LeafIdentityHash = in.Value, in.Extra, in.Identity[:]
		out.LeafIndex = int64(first + uint64(i))
		req.Leaves[i] = out
	}
	resp, err := l.client.AddSequencedLeaves(ctx, req)
	if err != nil {
		return fmt.Errorf("couldn't add %d leaves at %d: %w", len(leaves), first, err)
	}
	if len(resp.Results) != len(leaves) {
		return fmt.Errorf("couldn't add %d leaves at %d: %d answers", len(leaves), first, len(resp.Results))
	}
	var aborted error
	for i, r := range resp.Results {
		index := first + uint64(i)
		switch code := codes.Code(r.GetStatus().GetCode()); code {
		case codes.OK, codes.AlreadyExists:
		case codes.OutOfRange:
			return &GapError{First: first, Next: l.Size()}
		case codes.FailedPrecondition:
			return &ConflictError{
				Index: index, Identity: leaves[i].Identity, At: uint64(r.Leaf.GetLeafIndex()),
				SameIdentity: string(r.Leaf.GetLeafIdentityHash()) == string(leaves[i].Identity[:]),
				SameValue:    string(r.Leaf.GetLeafValue()) == string(leaves[i].Value),
			}
		default:
			// Aborted: because of another leaf of the call, which is what to tell.
			err := fmt.Errorf("couldn't add leaf %d: %w", index, status.FromProto(r.Status).Err())
			if code != codes.Aborted {
				return err
			}
			aborted = err
		}
	}
	if aborted != nil {
		return aborted
	}
	l.grown(first + uint64(len(leaves)))
	return nil
}
