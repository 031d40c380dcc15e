package merkle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"scripta/merkle/cluster"
)

// Cluster says where a log's Trillian log server is, and how to work with it.
type Cluster struct {
	// Address of the log server's gRPC port, "host:port".
	Address string
	// TLS secures the connection; nil leaves it in the clear, which is for
	// loopback.
	TLS *tls.Config
	// Lease has the connection string of the database with the lease, this node's
	// name, the lease's time to live (15 s if 0), and whether to adopt the log.
	// The origin is the log's.
	Lease cluster.LeaseOptions
	// CrossCheck keeps the log in this process, where leaves count as added, and
	// copies it to the cluster: two implementations that must come to the same
	// roots. Patience and Void are not used then.
	CrossCheck bool
	// Patience is how long an addition tries until it gives up with
	// ErrUnavailable; 30 s if 0. Others wait behind it meanwhile.
	Patience time.Duration
	// Void makes the leaf that fills the given index, at which nobody's leaf
	// arrived although some did behind it. Without it the error is ErrHole.
	Void func(ctx context.Context, index uint64) (Leaf, error)
}

// complete puts in the defaults.
func (c *Cluster) complete(origin string) {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Lease.TTL == 0 {
		c.Lease.TTL = defaultTTL
	}
	c.Lease.Origin = origin
}

var (
	// ErrFenced says that another node has taken the log over; see
	// cluster.ErrFenced.
	ErrFenced = cluster.ErrFenced
	// ErrUnavailable says that the log server, its signer or its database did not
	// do what was asked within Cluster.Patience. Leaves that were being added may
	// get into the log later; adding them again finds that out.
	ErrUnavailable = errors.New("the log's cluster does not answer in time")
	// ErrHole says that an index of the cluster's tree has no leaf although later
	// ones have, and that there is nothing to fill it with.
	ErrHole = errors.New("the cluster's tree has a hole")
	// ErrLost says that the cluster has fewer leaves than it had: its database
	// was restored from a backup, or a standby took over that was behind.
	ErrLost = errors.New("the cluster has lost leaves that were in the log")
	// ErrDiverged says that the cluster's tree is another than the one that this
	// node knows.
	ErrDiverged = errors.New("the cluster's tree contradicts this node's")
)

// ClusterError says that the log stopped because of what the cluster has, and
// what to do.
type ClusterError struct {
	// Size and ClusterSize are the numbers of leaves here and there.
	Size, ClusterSize uint64
	// Reason is ErrLost or ErrDiverged.
	Reason error
	// Detail says what was compared.
	Detail string
}

func (e *ClusterError) Error() string {
	do := "bring the cluster's database back from its newest copy; do not remove this node's files, they prove what was in the log"
	if e.Reason == ErrDiverged {
		do = "stop every node, keep both databases as they are, and compare them (scripta log verify); one of the two was changed"
	}
	return fmt.Sprintf("%v (%d leaves here, %d there): %s. What to do: %s", e.Reason, e.Size, e.ClusterSize, e.Detail, do)
}

// Unwrap returns the reason.
func (e *ClusterError) Unwrap() error { return e.Reason }

// ClusterState is how a log gets on with its cluster.
type ClusterState struct {
	// Copied is how many leaves the cluster is known to have with the same root,
	// for a log that is copied there (Cluster.CrossCheck).
	Copied uint64
	// Failing is why additions, or copies, do not get through at the moment.
	Failing error
	// Stopped is why nothing is added any more.
	Stopped error
}

// ClusterState returns how the log gets on with its cluster; ok is false if it
// has none.
func (l *Log) ClusterState() (s ClusterState, ok bool) {
	switch e := l.engine.(type) {
	case *remote:
		return ClusterState{Failing: e.failing.get(), Stopped: e.stopped.get()}, true
	case *checked:
		return ClusterState{Copied: e.copied.Load(), Failing: e.failing.get(), Stopped: e.alarmed()}, true
	}
	return ClusterState{}, false
}

// trouble is an error that others look at.
type trouble struct{ p atomic.Pointer[error] }

func (t *trouble) set(err error) { t.p.Store(&err) }

func (t *trouble) get() error {
	if p := t.p.Load(); p != nil {
		return *p
	}
	return nil
}

// Adoption returns the epoch in which this log came from another node, and that
// node; ok is false if it never did. The adopter's first record says so.
func (l *Log) Adoption() (epoch int64, from string, ok bool) {
	if r, is := l.engine.(interface{ adoption() (int64, string) }); is {
		epoch, from = r.adoption()
	}
	return epoch, from, epoch != 0
}
