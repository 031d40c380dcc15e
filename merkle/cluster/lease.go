package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// LeaseTable is the statement that makes the table of leases. Its rows are few
// and are never deleted: a lost row would let an old epoch come back.
//
//	origin    the log's name
//	epoch     raised each time that a node takes the lease
//	node      who took it last
//	expires   until when others keep off
//	tree      Trillian's id of the log's tree, 0 before there is one
//	adopted   the epoch in which the log came from another node, 0 if never
//	previous  the node that it came from
const LeaseTable = `CREATE TABLE IF NOT EXISTS scripta_lease (
  origin   text PRIMARY KEY,
  epoch    bigint NOT NULL CHECK (epoch > 0),
  node     text NOT NULL,
  expires  timestamptz NOT NULL,
  tree     bigint NOT NULL DEFAULT 0,
  adopted  bigint NOT NULL DEFAULT 0,
  previous text NOT NULL DEFAULT ''
)`

const (
	// Times are the database's, so that the nodes' clocks do not matter.
	takeSQL = `INSERT INTO scripta_lease AS l (origin, epoch, node, expires)
VALUES ($1, 1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (origin) DO UPDATE SET
  epoch    = l.epoch + 1,
  adopted  = CASE WHEN l.node <> excluded.node THEN l.epoch + 1 ELSE l.adopted END,
  previous = CASE WHEN l.node <> excluded.node THEN l.node ELSE l.previous END,
  node     = excluded.node,
  expires  = excluded.expires
WHERE l.node = excluded.node OR l.expires <= clock_timestamp() OR $4::boolean
RETURNING epoch, tree, adopted, previous`
	holderSQL  = `SELECT node, extract(epoch FROM expires) FROM scripta_lease WHERE origin = $1`
	checkSQL   = `SELECT 1 FROM scripta_lease WHERE origin = $1 AND epoch = $2`
	renewSQL   = `UPDATE scripta_lease SET expires = clock_timestamp() + $3::interval WHERE origin = $1 AND epoch = $2`
	treeSQL    = `UPDATE scripta_lease SET tree = $3 WHERE origin = $1 AND epoch = $2`
	releaseSQL = `UPDATE scripta_lease SET expires = clock_timestamp() WHERE origin = $1 AND epoch = $2`

	// Codes of PostgreSQL's appendix A.
	undefinedTable  = "42P01"
	uniqueViolation = "23505"
)

// code is PostgreSQL's code of an error, "" if it is not PostgreSQL's.
func code(err error) string {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// LeaseOptions say which lease is wanted.
type LeaseOptions struct {
	// Database is a connection string of PostgreSQL (a URI or key=value pairs);
	// keep the password in a passfile.
	Database string
	// Origin is the log's name.
	Origin string
	// Node is this machine's name: the same after a restart, and no other's.
	Node string
	// TTL is how long others keep off after the last renewal.
	TTL time.Duration
	// Adopt takes the lease although another node's has not expired.
	Adopt bool
}

// Lease is a lease that was taken. Its methods may be called concurrently.
type Lease struct {
	opt LeaseOptions

	// Epoch is this holder's.
	Epoch int64
	// Tree is Trillian's id of the tree, 0 if there is none yet.
	Tree int64
	// Adopted is the epoch in which the log came from another node, Previous; 0
	// if it never did.
	Adopted  int64
	Previous string

	mu   sync.Mutex     // held while the connection is used
	conn *pgconn.PgConn // nil if it must be made
}

// Take takes the lease and raises its epoch. The error is a LeasedError if
// another node holds it.
func Take(ctx context.Context, opt LeaseOptions) (*Lease, error) {
	l := &Lease{opt: opt}
	take := func() ([][][]byte, error) {
		rows, _, err := l.exec(ctx, takeSQL, opt.Origin, opt.Node, l.ttl(), strconv.FormatBool(opt.Adopt))
		return rows, err
	}
	rows, err := take()
	if code(err) == undefinedTable {
		// Two may make it at once, of whom one gets an error of the catalogue.
		if _, _, err = l.exec(ctx, LeaseTable); err == nil || code(err) == uniqueViolation {
			rows, err = take()
		}
	}
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("couldn't take the lease of %s: %w", opt.Origin, err), l.Close())
	case len(rows) == 0:
		return nil, errors.Join(l.held(ctx), l.Close())
	}
	row := rows[0]
	for i, to := range []*int64{&l.Epoch, &l.Tree, &l.Adopted} {
		if *to, err = strconv.ParseInt(string(row[i]), 10, 64); err != nil {
			return nil, errors.Join(fmt.Errorf("couldn't read the lease of %s: %w", opt.Origin, err), l.Close())
		}
	}
	l.Previous = string(row[3])
	return l, nil
}

// held tells who has the lease.
func (l *Lease) held(ctx context.Context) error {
	rows, _, err := l.exec(ctx, holderSQL, l.opt.Origin)
	if err != nil || len(rows) == 0 {
		return fmt.Errorf("couldn't read the lease of %s: %w", l.opt.Origin, err)
	}
	at, err := strconv.ParseFloat(string(rows[0][1]), 64)
	if err != nil {
		return fmt.Errorf("couldn't read the lease of %s: %w", l.opt.Origin, err)
	}
	return &LeasedError{Origin: l.opt.Origin, Node: string(rows[0][0]), Expires: time.UnixMilli(int64(at * 1000))}
}

// Check asks the database whether the epoch is still this one. The error is
// ErrFenced if it is not; any other says that the database could not be asked.
func (l *Lease) Check(ctx context.Context) error {
	rows, _, err := l.exec(ctx, checkSQL, l.opt.Origin, l.epoch())
	return l.verdict(len(rows) > 0, err)
}

// Renew keeps the lease for another TTL. Errors are as for Check. A lease that
// expired and that nobody took is renewed.
func (l *Lease) Renew(ctx context.Context) error {
	_, n, err := l.exec(ctx, renewSQL, l.opt.Origin, l.epoch(), l.ttl())
	return l.verdict(n > 0, err)
}

// SetTree notes the tree of the log, once. Errors are as for Check.
func (l *Lease) SetTree(ctx context.Context, tree int64) error {
	_, n, err := l.exec(ctx, treeSQL, l.opt.Origin, l.epoch(), strconv.FormatInt(tree, 10))
	if err = l.verdict(n > 0, err); err == nil {
		l.Tree = tree
	}
	return err
}

func (l *Lease) verdict(ours bool, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("couldn't ask for the lease of %s: %w", l.opt.Origin, err)
	case !ours:
		return fmt.Errorf("%w (epoch %d of %s has passed)", ErrFenced, l.Epoch, l.opt.Origin)
	}
	return nil
}

// Keep renews the lease three times in each TTL until ctx ends or another node
// has it, which it returns as ErrFenced. While the database does not answer it
// goes on trying.
func (l *Lease) Keep(ctx context.Context) error {
	tick := time.NewTicker(l.opt.TTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bound, cancel := context.WithTimeout(ctx, l.opt.TTL/3)
		err := l.Renew(bound)
		cancel()
		if errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// Release ends the lease now, so that another node need not wait. Closing is
// left to Close.
func (l *Lease) Release(ctx context.Context) error {
	_, _, err := l.exec(ctx, releaseSQL, l.opt.Origin, l.epoch())
	return err
}

// Close closes the connection to the database; the lease stays until it
// expires.
func (l *Lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := l.conn.Close(ctx)
	l.conn = nil
	return err
}

func (l *Lease) epoch() string { return strconv.FormatInt(l.Epoch, 10) }

func (l *Lease) ttl() string {
	return strconv.FormatInt(l.opt.TTL.Milliseconds(), 10) + " milliseconds"
}

// exec runs one statement, each a transaction of its own. A connection that
// failed is made anew by the next call.
func (l *Lease) exec(ctx context.Context, sql string, args ...string) (rows [][][]byte, affected int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.IsClosed() {
		l.conn = nil
		c, err := pgconn.ParseConfig(l.opt.Database)
		if err != nil {
			return nil, 0, fmt.Errorf("the connection string of the lease's database: %w", err)
		}
		if c.RuntimeParams == nil {
			c.RuntimeParams = map[string]string{}
		}
		c.RuntimeParams["application_name"] = "scripta"
		if l.conn, err = pgconn.ConnectConfig(ctx, c); err != nil {
			return nil, 0, err
		}
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	r := l.conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	return r.Rows, r.CommandTag.RowsAffected(), r.Err
}
