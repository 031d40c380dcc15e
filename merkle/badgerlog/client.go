package badgerlog

import (
	"context"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/trees"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"
)

// Client returns Trillian's own log server over this storage, as its clients see
// it, without a network: for one tree, whose properties are those at this
// moment. Calls that add leaves wait for Sequence, which must run. Requests and
// answers are not copied: a request belongs to the client until the call
// returns, an answer may be shared and must not be changed. Call options are
// ignored.
func (db *DB) Client(tree *trillian.Tree) trillian.TrillianLogClient {
	registry := extension.Registry{
		AdminStorage: db.AdminStorage(),
		LogStorage:   db.LogStorage(),
		QuotaManager: quota.Noop(),
	}
	return &client{tree, server.NewTrillianLogRPCServer(registry, timeSource{db.opt.Now})}
}

// timeSource is Trillian's clock.
type timeSource struct{ now func() time.Time }

func (t timeSource) Now() time.Time                     { return t.now() }
func (timeSource) NewTimer(d time.Duration) clock.Timer { return clock.System.NewTimer(d) }

// client calls the server in this process. The context carries the tree, so that
// the server does not read it from the storage at each call.
type client struct {
	tree   *trillian.Tree
	server *server.TrillianLogRPCServer
}

var _ trillian.TrillianLogClient = (*client)(nil)

// with calls f with the tree in the context.
func with[Q, A any](ctx context.Context, c *client, f func(context.Context, *Q) (*A, error), in *Q) (*A, error) {
	return f(trees.NewContext(ctx, c.tree), in)
}

func (c *client) QueueLeaf(ctx context.Context, in *trillian.QueueLeafRequest, _ ...grpc.CallOption) (*trillian.QueueLeafResponse, error) {
	return with(ctx, c, c.server.QueueLeaf, in)
}

func (c *client) AddSequencedLeaves(ctx context.Context, in *trillian.AddSequencedLeavesRequest, _ ...grpc.CallOption) (*trillian.AddSequencedLeavesResponse, error) {
	return with(ctx, c, c.server.AddSequencedLeaves, in)
}

func (c *client) GetInclusionProof(ctx context.Context, in *trillian.GetInclusionProofRequest, _ ...grpc.CallOption) (*trillian.GetInclusionProofResponse, error) {
	return with(ctx, c, c.server.GetInclusionProof, in)
}

func (c *client) GetInclusionProofByHash(ctx context.Context, in *trillian.GetInclusionProofByHashRequest, _ ...grpc.CallOption) (*trillian.GetInclusionProofByHashResponse, error) {
	return with(ctx, c, c.server.GetInclusionProofByHash, in)
}

func (c *client) GetConsistencyProof(ctx context.Context, in *trillian.GetConsistencyProofRequest, _ ...grpc.CallOption) (*trillian.GetConsistencyProofResponse, error) {
	return with(ctx, c, c.server.GetConsistencyProof, in)
}

func (c *client) GetLatestSignedLogRoot(ctx context.Context, in *trillian.GetLatestSignedLogRootRequest, _ ...grpc.CallOption) (*trillian.GetLatestSignedLogRootResponse, error) {
	return with(ctx, c, c.server.GetLatestSignedLogRoot, in)
}

func (c *client) GetEntryAndProof(ctx context.Context, in *trillian.GetEntryAndProofRequest, _ ...grpc.CallOption) (*trillian.GetEntryAndProofResponse, error) {
	return with(ctx, c, c.server.GetEntryAndProof, in)
}

func (c *client) InitLog(ctx context.Context, in *trillian.InitLogRequest, _ ...grpc.CallOption) (*trillian.InitLogResponse, error) {
	return with(ctx, c, c.server.InitLog, in)
}

func (c *client) GetLeavesByRange(ctx context.Context, in *trillian.GetLeavesByRangeRequest, _ ...grpc.CallOption) (*trillian.GetLeavesByRangeResponse, error) {
	return with(ctx, c, c.server.GetLeavesByRange, in)
}
