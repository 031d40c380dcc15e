package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"scripta/merkle/cluster"
)

const (
	// firstCheck bounds how long opening waits for the cluster.
	firstCheck = 10 * time.Second
	// lastCopy bounds how long closing waits for what is not copied yet.
	lastCopy = 10 * time.Second
	// retryLast is the longest wait before the cluster is tried again.
	retryLast = 10 * time.Second
)

// checked is the engine in this process, with a copier that brings every leaf to
// a cluster and compares the roots. Leaves count as added when they are here; the
// cluster may be away for any time. Roots are compared at each size at which the
// cluster's is read: equal roots of a size say that all before were equal.
//
// A difference is an alarm: nothing is added or published any more, because which
// of the two is wrong is for a person to find out.
type checked struct {
	*local
	own    *Log // of the local engine alone
	opt    Cluster
	origin string
	log    *slog.Logger

	failing trouble               // why copies do not get through
	copied  atomic.Uint64         // leaves that the cluster has with the same root
	alarm   atomic.Pointer[error] // set once
	grew    chan struct{}         // has room for one: there are leaves to copy

	adopted int64 // see adoption
	from    string

	far     peer // the copier's
	copier  sync.WaitGroup
	closing chan struct{} // closed when nothing more will be added
	end     context.CancelFunc
}

// openChecked opens the log here, compares it with the cluster if that answers,
// and lets the copier run. The error is a ClusterError if they differ.
func openChecked(ctx context.Context, opt Options) (*checked, error) {
	l, err := openLocal(ctx, opt, DatabaseDir, treeName)
	if err != nil {
		return nil, err
	}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	e := &checked{local: l, own: &Log{opt: opt, engine: l, client: l.client, tree: l.tree.TreeId}, opt: *opt.Cluster,
		origin: opt.Origin, log: opt.Logger, grew: make(chan struct{}, 1), closing: make(chan struct{}), end: end}
	e.opt.complete(opt.Origin)
	if e.far.conn, err = cluster.Dial(e.opt.Address, e.opt.TLS); err != nil {
		return nil, errors.Join(err, e.close())
	}
	first, cancel := context.WithTimeout(ctx, firstCheck)
	defer cancel()
	if err := e.connect(first); err == nil {
		e.adopted, e.from = e.far.adoption()
		_, _, err = e.compare(first)
		if err != nil {
			e.log.Warn("the cluster can't be compared yet", "origin", e.origin, "err", err)
		}
	} else {
		e.log.Warn("the cluster does not answer: the log goes on without its copy", "origin", e.origin, "err", err)
	}
	if err := e.alarmed(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.copier.Go(func() { e.run(run) })
	return e, nil
}

// close lets the copier finish, unless the cluster takes longer than lastCopy.
func (e *checked) close() error {
	close(e.closing)
	late := time.AfterFunc(lastCopy, e.end)
	e.copier.Wait()
	late.Stop()
	e.end()
	return errors.Join(e.far.leave(e.log), e.local.close())
}

// adoption is what the lease said on opening, if the cluster answered then.
func (e *checked) adoption() (int64, string) { return e.adopted, e.from }

// alarmed returns the difference, if one was found.
func (e *checked) alarmed() error {
	if err := e.alarm.Load(); err != nil {
		return *err
	}
	return nil
}

func (e *checked) raise(err error) error {
	if e.alarm.CompareAndSwap(nil, &err) {
		e.log.Error("ALARM: nothing is added to the log any more", "origin", e.origin, "err", err)
	}
	return err
}

// run copies until ctx ends, or a difference or another node's lease ends it.
func (e *checked) run(ctx context.Context) {
	failing := false
	for wait := pollFirst; ; {
		more, err := e.step(ctx)
		switch {
		case ctx.Err() != nil || e.alarmed() != nil:
			return
		case errors.Is(err, ErrFenced):
			_ = e.raise(err)
			return
		case err == nil:
			wait = pollFirst
			if failing {
				e.log.Info("the log is copied to the cluster again", "origin", e.origin, "leaves", e.copied.Load())
			}
		default:
			wait = min(2*max(wait, 50*time.Millisecond), retryLast)
			if !failing {
				e.log.Warn("the log can't be copied to the cluster; trying again", "origin", e.origin, "copied", e.copied.Load(), "err", err)
			}
		}
		failing = err != nil
		e.failing.set(err)
		if more {
			continue
		}
		var again <-chan time.Time
		grew := e.grew
		if err != nil {
			again, grew = time.After(wait), nil // no sooner for new leaves
		}
		select {
		case <-grew:
		case <-again:
		case <-e.closing:
			// What was added before is copied, if it works at all.
			if _, err := e.step(ctx); err == nil && e.copied.Load() < e.own.Size() {
				continue
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

// connect joins the cluster, once.
func (e *checked) connect(ctx context.Context) error {
	if e.far.tree != 0 {
		return nil
	}
	if e.far.lease != nil { // it was taken, and then something failed
		_ = e.far.lease.Close()
		e.far.lease = nil
	}
	return e.far.join(ctx, e.opt.Lease, e.log, func(err error) { _ = e.raise(err) })
}

// compare compares the roots at the cluster's size, and returns that and ours.
func (e *checked) compare(ctx context.Context) (there, here uint64, err error) {
	copied, err := e.far.root(ctx)
	if err != nil {
		return 0, 0, err
	}
	now, _, err := e.own.latest(ctx, 0) // later: the log here is never behind
	if err != nil {
		return 0, 0, err
	}
	e.own.grown(now.size)
	if copied.size > now.size {
		return 0, 0, e.raise(&ClusterError{Size: now.size, ClusterSize: copied.size, Reason: ErrDiverged,
			Detail: "the cluster has leaves that this node has not: its disk went back in time, or another node writes"})
	}
	root, err := e.own.RootAt(ctx, copied.size)
	if err != nil {
		return 0, 0, err
	}
	if root != copied.hash {
		return 0, 0, e.raise(&ClusterError{Size: now.size, ClusterSize: copied.size, Reason: ErrDiverged,
			Detail: fmt.Sprintf("the root of %d leaves is %x here and %x there", copied.size, root, copied.hash)})
	}
	e.copied.Store(copied.size)
	return copied.size, now.size, nil
}

// step compares, copies what is missing, one call at most, and waits until that
// is integrated. more says that there is more to copy. A call whose answer is
// lost is simply made again: leaves that are there are refused, and the roots
// tell whether they are the same.
func (e *checked) step(ctx context.Context) (more bool, err error) {
	if err := e.connect(ctx); err != nil {
		return false, err
	}
	there, here, err := e.compare(ctx)
	if err != nil || there == here {
		return false, err
	}
	if err := e.far.ours(ctx); err != nil {
		return false, err
	}
	leaves, err := e.own.Leaves(ctx, there, min(here-there, maxCallLeaves))
	if err != nil {
		return false, err
	}
	req := &trillian.AddSequencedLeavesRequest{LogId: e.far.tree, Leaves: make([]*trillian.LogLeaf, len(leaves))}
	for i, leaf := range leaves {
		req.Leaves[i] = &trillian.LogLeaf{LeafValue: leaf.Value, ExtraData: leaf.Extra, LeafIdentityHash: leaf.Identity[:], LeafIndex: int64(there) + int64(i)}
	}
	req.Leaves = req.Leaves[:callSize(req.Leaves)]
	resp, err := e.far.conn.Log.AddSequencedLeaves(ctx, req)
	if err != nil {
		return false, fmt.Errorf("couldn't copy %d leaves from %d: %w", len(req.Leaves), there, err)
	}
	refused := 0
	for _, q := range resp.Results {
		if codes.Code(q.GetStatus().GetCode()) != codes.OK {
			refused++
		}
	}
	bound, cancel := context.WithTimeout(ctx, e.opt.Patience)
	defer cancel()
	end := there + uint64(len(req.Leaves))
	for wait := pollFirst; ; wait = min(wait*3/2, pollLast) {
		now, _, err := e.compare(bound)
		if err != nil || now >= end {
			return err == nil, err
		}
		if err := pause(bound, wait, end, now); err != nil {
			return false, fmt.Errorf("%d of %d leaves were refused: %w", refused, len(req.Leaves), err)
		}
	}
}

// facade is the local client, which answers the alarm once there is one.
func (e *checked) facade() trillian.TrillianLogClient { return checkedClient{e.local.client, e} }

type checkedClient struct {
	trillian.TrillianLogClient
	e *checked
}

// AddSequencedLeaves adds leaves here and wakes the copier.
func (c checkedClient) AddSequencedLeaves(ctx context.Context, in *trillian.AddSequencedLeavesRequest, opts ...grpc.CallOption) (*trillian.AddSequencedLeavesResponse, error) {
	if err := c.e.alarmed(); err != nil {
		return nil, err
	}
	out, err := c.TrillianLogClient.AddSequencedLeaves(ctx, in, opts...)
	select {
	case c.e.grew <- struct{}{}:
	default:
	}
	return out, err
}

// GetLatestSignedLogRoot gives no root to publish after an alarm.
func (c checkedClient) GetLatestSignedLogRoot(ctx context.Context, in *trillian.GetLatestSignedLogRootRequest, opts ...grpc.CallOption) (*trillian.GetLatestSignedLogRootResponse, error) {
	if err := c.e.alarmed(); err != nil {
		return nil, err
	}
	return c.TrillianLogClient.GetLatestSignedLogRoot(ctx, in, opts...)
}
