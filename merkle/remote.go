package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/google/trillian"
	"google.golang.org/grpc"

	"scripta/merkle/cluster"
	"scripta/merkle/tiles"
)

// projectionDir is the projection's folder below Options.Dir.
const projectionDir = "projection"

// remote is the engine over a Trillian log server elsewhere. What Trillian's
// client has no calls for comes from a projection: a log in this process that
// follows the cluster's tree leaf by leaf, without the extra data, and whose root
// must be the cluster's at every size at which the cluster's was read. It can be
// made again from the cluster at any time. Proofs and tiles come from it too,
// so that they do not load the database; leaves are read there, and compared.
type remote struct {
	opt    Cluster
	origin string
	log    *slog.Logger
	grown  func(size uint64) // told after each growth of the projection

	failing trouble // why an addition that is being tried does not get through
	stopped trouble // fatal, for who has not the turn

	peer
	local *local // the projection

	// turn has room for one, and whoever put something into it may use what
	// follows, for the entire duration of an addition. This guarantees that at
	// most one call of ours is on its way, and that the projection changes only
	// by who knows why.
	turn chan struct{}
	// edge is the right edge of the projection.
	edge tiles.Frontier
	// doubt says that it is not known what became of the last call that wrote.
	doubt bool
	// beyond is the least size that the tree must get, if doubt: leaves are
	// stored up to there, or behind an index that has none.
	beyond uint64
	// fatal is why nothing can be added any more, once it is known.
	fatal error
}

// openRemote takes the lease, finds the tree or makes it, and brings the
// projection up to date with it.
func openRemote(ctx context.Context, opt Options, grown func(uint64)) (*remote, error) {
	r := &remote{opt: *opt.Cluster, origin: opt.Origin, log: opt.Logger, grown: grown, turn: make(chan struct{}, 1)}
	r.opt.complete(opt.Origin)
	if err := r.open(ctx, opt); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *remote) open(ctx context.Context, opt Options) (err error) {
	if r.conn, err = cluster.Dial(r.opt.Address, r.opt.TLS); err != nil {
		return err
	}
	if !opt.ReadOnly {
		if err := r.join(ctx, r.opt.Lease, r.log, r.stopped.set); err != nil {
			return err
		}
	}
	// The projection's tree bears the id of the one that it follows.
	if r.local, err = openLocal(ctx, opt, projectionDir, strconv.FormatInt(r.tree, 10)); err != nil {
		return err
	}
	of, err := strconv.ParseInt(r.local.tree.DisplayName, 10, 64)
	if err != nil || !opt.ReadOnly && of != r.tree {
		return fmt.Errorf("%w: the projection in %s follows tree %s, the cluster's is %d", ErrOrigin, opt.Dir, r.local.tree.DisplayName, r.tree)
	}
	r.tree = of
	own := &Log{opt: opt, engine: r.local, client: r.local.client, tree: r.local.tree.TreeId}
	now, _, err := own.latest(ctx, 0)
	if err != nil {
		return err
	}
	own.grown(now.size)
	if r.edge, err = own.frontier(ctx, now.size); err != nil {
		return err
	}
	r.grown(now.size)
	if opt.ReadOnly {
		return nil
	}
	if err := r.follow(ctx); err != nil {
		return fmt.Errorf("couldn't follow the cluster's tree: %w", err)
	}
	r.doubt = true // a predecessor may have had something on its way
	return nil
}

func (r *remote) indexOf(identity [32]byte) (uint64, bool, error) { return r.local.indexOf(identity) }

func (r *remote) tile(level int, index uint64, width int) ([]byte, error) {
	return r.local.tile(level, index, width)
}

// close lets the lease go. Nobody is adding any more.
func (r *remote) close() error {
	err := r.leave(r.log)
	if r.local != nil {
		err = errors.Join(err, r.local.close())
	}
	return err
}

// facade is the log's client: the projection's, but for what is added and for
// the leaves with their extra data.
func (r *remote) facade() trillian.TrillianLogClient { return remoteClient{r.local.client, r} }

type remoteClient struct {
	trillian.TrillianLogClient
	r *remote
}

// AddSequencedLeaves answers as badgerlog's does, with one difference: when it
// refuses a leaf because another node's came between, others of the call may be
// in the log.
func (c remoteClient) AddSequencedLeaves(ctx context.Context, in *trillian.AddSequencedLeavesRequest, _ ...grpc.CallOption) (*trillian.AddSequencedLeavesResponse, error) {
	select {
	case c.r.turn <- struct{}{}:
		defer func() { <-c.r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	results, err := c.r.add(ctx, in.Leaves)
	if err != nil {
		return nil, err
	}
	return &trillian.AddSequencedLeavesResponse{Results: results}, nil
}

// GetLeavesByRange reads leaves of the projection's size at most, and compares
// them with what the projection has.
func (c remoteClient) GetLeavesByRange(ctx context.Context, in *trillian.GetLeavesByRangeRequest, _ ...grpc.CallOption) (*trillian.GetLeavesByRangeResponse, error) {
	own, err := c.TrillianLogClient.GetLeavesByRange(ctx, in)
	if err != nil || len(own.Leaves) == 0 {
		return own, err
	}
	leaves, err := c.r.read(ctx, uint64(in.StartIndex), uint64(len(own.Leaves)))
	if err != nil {
		return nil, err
	}
	for i, leaf := range leaves {
		if !sameLeaf(leaf, own.Leaves[i]) {
			size := uint64(own.Leaves[i].LeafIndex) + 1
			return nil, &ClusterError{Size: size, ClusterSize: size, Reason: ErrDiverged, Detail: fmt.Sprintf("leaf %d is another", leaf.LeafIndex)}
		}
	}
	return &trillian.GetLeavesByRangeResponse{Leaves: leaves, SignedLogRoot: own.SignedLogRoot}, nil
}

// sameLeaf reports whether two leaves have the same value and identity.
func sameLeaf(a, b *trillian.LogLeaf) bool {
	return bytes.Equal(a.LeafValue, b.LeafValue) && bytes.Equal(a.LeafIdentityHash, b.LeafIdentityHash)
}
