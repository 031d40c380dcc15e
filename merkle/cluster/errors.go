package cluster

import (
	"errors"
	"fmt"
	"time"
)

// ErrFenced says that another node has taken the log over: this one must not
// write any more. What it acknowledged is in the log.
var ErrFenced = errors.New("another node has taken this log over: stop this one for good, or give it the log back by starting it with --adopt")

// ErrTree says that the server does not have the tree that is wanted.
var ErrTree = errors.New("the log server has not got this log's tree")

// LeasedError says that another node holds the log's lease.
type LeasedError struct {
	// Origin is the log's.
	Origin string
	// Node holds the lease.
	Node string
	// Expires is when it ends unless it is renewed, by the database's clock.
	Expires time.Time
}

func (e *LeasedError) Error() string {
	return fmt.Sprintf("the log %s belongs to node %q until %s at least: if that node is dead, wait, or adopt the log (--adopt)", e.Origin, e.Node, e.Expires.UTC().Format(time.RFC3339))
}
