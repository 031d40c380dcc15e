package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// callTimeout bounds every call to the log server: one that takes longer is
	// as good as lost, and the caller finds out what came of it.
	callTimeout = 10 * time.Second
	// maxAnswer bounds an answer of the log server in bytes.
	maxAnswer = 64 << 20
	// maxOrigin is what Trillian's schema has room for in a tree's description.
	maxOrigin = 200
)

// Conn is a connection to a Trillian log server. It is made again by itself
// after a failure; meanwhile calls answer Unavailable.
type Conn struct {
	conn  *grpc.ClientConn
	Log   trillian.TrillianLogClient
	admin trillian.TrillianAdminClient
}

// Dial makes a connection to address ("host:port"), without waiting for it;
// tls is nil for none.
func Dial(address string, secure *tls.Config) (*Conn, error) {
	creds := insecure.NewCredentials()
	if secure != nil {
		creds = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 3 * time.Second,
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
			d := net.Dialer{Control: giveUpAfter(callTimeout)}
			return d.DialContext(ctx, "tcp", to)
		}),
		grpc.WithUnaryInterceptor(bounded))
	if err != nil {
		return nil, fmt.Errorf("couldn't use the log server %s: %w", address, err)
	}
	return &Conn{conn: conn, Log: trillian.NewTrillianLogClient(conn), admin: trillian.NewTrillianAdminClient(conn)}, nil
}

// bounded gives each call its deadline.
func bounded(ctx context.Context, method string, in, out any, c *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx, method, in, out, c, opts...)
}

// Close ends the connection; calls under way fail.
func (c *Conn) Close() error { return c.conn.Close() }

// Tree returns the id of the tree of an origin, which is the tree's description,
// and makes the tree if there is none. Whoever calls it holds the lease, so that
// two are never made. want, if not 0, is the id that it must have.
func (c *Conn) Tree(ctx context.Context, origin string, want int64) (int64, error) {
	if len(origin) > maxOrigin {
		return 0, fmt.Errorf("%w: an origin of %d bytes does not fit into a description of %d", ErrTree, len(origin), maxOrigin)
	}
	trees, err := c.admin.ListTrees(ctx, &trillian.ListTreesRequest{})
	if err != nil {
		return 0, fmt.Errorf("couldn't list the trees of the log server: %w", err)
	}
	var found []int64
	for _, t := range trees.Tree {
		if t.Description == origin && t.TreeType == trillian.TreeType_PREORDERED_LOG && !t.Deleted {
			found = append(found, t.TreeId)
		}
	}
	switch {
	case len(found) > 1:
		return 0, fmt.Errorf("%w: there are %d of the description %q: delete those that are empty", ErrTree, len(found), origin)
	case want != 0 && (len(found) == 0 || found[0] != want):
		return 0, fmt.Errorf("%w: the lease names tree %d, the server has %v for %q: is this its database?", ErrTree, want, found, origin)
	case len(found) == 0:
		t, err := c.admin.CreateTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
			TreeState: trillian.TreeState_ACTIVE, TreeType: trillian.TreeType_PREORDERED_LOG,
			DisplayName: "scripta", Description: origin, MaxRootDuration: durationpb.New(0),
		}})
		if err != nil {
			return 0, fmt.Errorf("couldn't make the log's tree: %w", err)
		}
		found = []int64{t.TreeId}
	}
	// A crash may have come between the two.
	_, err = c.Log.InitLog(ctx, &trillian.InitLogRequest{LogId: found[0]})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return 0, fmt.Errorf("couldn't initialise the log's tree: %w", err)
	}
	return found[0], nil
}
