package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/cluster"
	"scripta/merkle/tiles"
)

const (
	defaultPatience = 30 * time.Second
	defaultTTL      = 15 * time.Second
	// leaseTime bounds one question to the lease's database.
	leaseTime = 10 * time.Second
)

// peer is a log's tree on a cluster.
type peer struct {
	conn  *cluster.Conn
	lease *cluster.Lease // nil if the log was opened for reading
	tree  int64          // its id there
	keep  sync.WaitGroup // renews the lease
	stop  context.CancelFunc
}

// join takes the lease, finds the tree or makes it, and keeps the lease from then
// on; fenced is told when another node has it. conn is there.
func (p *peer) join(ctx context.Context, opt cluster.LeaseOptions, log *slog.Logger, fenced func(error)) (err error) {
	if p.lease, err = takeLease(ctx, opt, log); err != nil {
		return err
	}
	if p.tree, err = p.conn.Tree(ctx, opt.Origin, p.lease.Tree); err != nil {
		return err
	}
	if p.lease.Tree == 0 {
		if err := p.lease.SetTree(ctx, p.tree); err != nil {
			return err
		}
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.keep.Go(func() {
		if err := p.lease.Keep(run); err != nil {
			log.Error("this node may not add to the log any more", "origin", opt.Origin, "err", err)
			fenced(err)
		}
	})
	return nil
}

// leave gives the lease back and closes the connections.
func (p *peer) leave(log *slog.Logger) error {
	if p.stop != nil {
		p.stop()
	}
	p.keep.Wait()
	if p.lease != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if err := p.lease.Release(ctx); err != nil {
			log.Warn("the log's lease was not given back: it expires by itself", "err", err)
		}
		cancel()
		_ = p.lease.Close()
	}
	if p.conn == nil {
		return nil
	}
	return p.conn.Close()
}

// ours asks whether the lease is.
func (p *peer) ours(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	return p.lease.Check(ctx)
}

// takeLease waits for a lease that another node has, for as long as one that is
// not renewed can last.
func takeLease(ctx context.Context, opt cluster.LeaseOptions, log *slog.Logger) (*cluster.Lease, error) {
	over := time.After(opt.TTL + opt.TTL/2)
	for told := false; ; told = true {
		bound, cancel := context.WithTimeout(ctx, leaseTime)
		l, err := cluster.Take(bound, opt)
		cancel()
		var held *cluster.LeasedError
		if !errors.As(err, &held) {
			return l, err
		}
		if !told {
			log.Warn("waiting for the log's lease", "origin", opt.Origin, "held by", held.Node, "expires", held.Expires)
		}
		select {
		case <-time.After(opt.TTL / 10):
		case <-over:
			return nil, held
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), held)
		}
	}
}

func (p *peer) adoption() (int64, string) {
	if p.lease == nil {
		return 0, ""
	}
	return p.lease.Adopted, p.lease.Previous
}

// root reads the root of the cluster's tree.
func (p *peer) root(ctx context.Context) (root, error) {
	resp, err := p.conn.Log.GetLatestSignedLogRoot(ctx, &trillian.GetLatestSignedLogRootRequest{LogId: p.tree})
	if err != nil {
		return root{}, fmt.Errorf("couldn't read the root of the cluster's tree: %w", err)
	}
	var is types.LogRootV1
	if err := is.UnmarshalBinary(resp.GetSignedLogRoot().GetLogRoot()); err != nil || len(is.RootHash) != tiles.HashSize {
		return root{}, fmt.Errorf("couldn't read the root of the cluster's tree, of %d bytes: %w", len(is.RootHash), err)
	}
	return root{is.TreeSize, [32]byte(is.RootHash)}, nil
}

// read reads at least one and at most n leaves from the cluster.
func (p *peer) read(ctx context.Context, first, n uint64) ([]*trillian.LogLeaf, error) {
	for {
		resp, err := p.conn.Log.GetLeavesByRange(ctx, &trillian.GetLeavesByRangeRequest{LogId: p.tree, StartIndex: int64(first), Count: int64(n)})
		if status.Code(err) == codes.ResourceExhausted && n > 1 {
			n /= 2 // large leaves: more bytes than an answer may have
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read leaves from %d: %w", first, err)
		}
		leaves := resp.Leaves
		if uint64(len(leaves)) > n || len(leaves) == 0 {
			return nil, fmt.Errorf("%w: %d leaves from %d, where %d were asked for", ErrBeyond, len(leaves), first, n)
		}
		for i, leaf := range leaves {
			if leaf.LeafIndex != int64(first)+int64(i) || len(leaf.LeafIdentityHash) != tiles.HashSize {
				return nil, fmt.Errorf("the cluster gave leaf %d with an identity of %d bytes in the place of %d", leaf.LeafIndex, len(leaf.LeafIdentityHash), first+uint64(i))
			}
		}
		return leaves, nil
	}
}
