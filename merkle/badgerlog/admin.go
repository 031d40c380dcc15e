package badgerlog

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// AdminStorage is storage.AdminStorage on a DB: the list of trees.
type AdminStorage struct{ db *DB }

var _ storage.AdminStorage = (*AdminStorage)(nil)

// AdminStorage returns the list of trees of the database.
func (db *DB) AdminStorage() *AdminStorage { return &AdminStorage{db} }

// CheckDatabaseAccessible returns ErrFatal or ErrClosed if they apply.
func (s *AdminStorage) CheckDatabaseAccessible(context.Context) error { return s.db.accessible() }

// Snapshot returns a view of the trees after the last commit. It must be closed.
func (s *AdminStorage) Snapshot(context.Context) (storage.ReadOnlyAdminTX, error) {
	if err := s.db.enter(); err != nil {
		return nil, err
	}
	return &adminTX{db: s.db, txn: s.db.newRead()}, nil
}

// ReadWriteTransaction runs f once and commits what it did, unless it returns an
// error. A failed commit is ErrFatal.
func (s *AdminStorage) ReadWriteTransaction(ctx context.Context, f storage.AdminTXFunc) error {
	if err := s.db.enterToWrite(); err != nil {
		return err
	}
	s.db.adminMu.Lock()
	defer s.db.adminMu.Unlock()
	tx := &adminTX{db: s.db, txn: s.db.badger.NewTransactionAt(s.db.readable.Load(), true), write: true}
	defer tx.Close()
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// adminTX is storage.AdminTX.
type adminTX struct {
	db      *DB
	txn     *badger.Txn
	write   bool
	closed  bool
	deleted []int64
}

// Commit makes the changes durable; it does nothing in a snapshot.
func (t *adminTX) Commit() error {
	if !t.write || t.closed {
		return nil
	}
	t.write = false
	if err := t.db.commit(t.txn); err != nil {
		return err
	}
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	for _, id := range t.deleted {
		delete(t.db.logs, id)
	}
	return nil
}

// Close releases the transaction. It may be called again.
func (t *adminTX) Close() error {
	if !t.closed {
		t.closed = true
		t.txn.Discard()
		t.db.leave()
	}
	return nil
}

// GetTree returns a tree, deleted or not. The error is NotFound.
func (t *adminTX) GetTree(_ context.Context, id int64) (*trillian.Tree, error) {
	return getTree(t.txn, id)
}

// ListTrees returns the trees by id.
func (t *adminTX) ListTrees(_ context.Context, includeDeleted bool) ([]*trillian.Tree, error) {
	return listTrees(t.txn, includeDeleted)
}

func getTree(txn *badger.Txn, id int64) (*trillian.Tree, error) {
	b, err := read(txn, appendKey(nil, kindTree, id))
	if err != nil {
		return nil, fmt.Errorf("couldn't read tree %d: %w", id, err)
	}
	if b == nil {
		return nil, status.Errorf(codes.NotFound, "there is no tree %d", id)
	}
	return unmarshalTree(b)
}

func unmarshalTree(b []byte) (*trillian.Tree, error) {
	tree := new(trillian.Tree)
	if err := proto.Unmarshal(b, tree); err != nil {
		return nil, fmt.Errorf("couldn't read a tree: %w", err)
	}
	return tree, nil
}

func listTrees(txn *badger.Txn, includeDeleted bool) ([]*trillian.Tree, error) {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = []byte{kindTree}
	it := txn.NewIterator(opt)
	defer it.Close()
	var trees []*trillian.Tree
	for it.Rewind(); it.Valid(); it.Next() {
		b, err := it.Item().ValueCopy(nil)
		if err != nil {
			return nil, fmt.Errorf("couldn't list the trees: %w", err)
		}
		tree, err := unmarshalTree(b)
		if err != nil {
			return nil, err
		}
		if includeDeleted || !tree.Deleted {
			trees = append(trees, tree)
		}
	}
	return trees, nil
}

func (t *adminTX) put(tree *trillian.Tree) (*trillian.Tree, error) {
	b, err := proto.Marshal(tree)
	if err == nil {
		err = t.txn.Set(appendKey(nil, kindTree, tree.TreeId), b)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't write tree %d: %w", tree.TreeId, err)
	}
	return tree, nil
}

// CreateTree stores a new tree under a random id. Storage settings are not
// supported.
func (t *adminTX) CreateTree(ctx context.Context, in *trillian.Tree) (*trillian.Tree, error) {
	if err := storage.ValidateTreeForCreation(ctx, in); err != nil {
		return nil, err
	}
	tree := proto.Clone(in).(*trillian.Tree)
	if err := checkSettings(tree); err != nil {
		return nil, err
	}
	var err error
	if tree.TreeId, err = storage.NewTreeID(); err != nil {
		return nil, fmt.Errorf("couldn't draw a tree id: %w", err)
	}
	now := t.db.opt.Now()
	tree.CreateTime, tree.UpdateTime = timestamppb.New(now), timestamppb.New(now)
	return t.put(tree)
}

func checkSettings(tree *trillian.Tree) error {
	if tree.StorageSettings != nil {
		return status.Error(codes.InvalidArgument, "storage_settings are not supported")
	}
	return nil
}

// UpdateTree changes what may be changed of a tree. A PREORDERED_LOG stays one:
// its identities are not Merkle hashes, as those of a LOG are.
func (t *adminTX) UpdateTree(ctx context.Context, id int64, change func(*trillian.Tree)) (*trillian.Tree, error) {
	old, err := getTree(t.txn, id)
	if err != nil {
		return nil, err
	}
	tree := proto.Clone(old).(*trillian.Tree)
	change(tree)
	if err := storage.ValidateTreeForUpdate(ctx, old, tree); err != nil {
		return nil, err
	}
	if tree.TreeType != old.TreeType {
		return nil, status.Errorf(codes.InvalidArgument, "a %v stays one", old.TreeType)
	}
	if err := checkSettings(tree); err != nil {
		return nil, err
	}
	tree.UpdateTime = timestamppb.New(t.db.opt.Now())
	return t.put(tree)
}

// SoftDeleteTree hides a tree until UndeleteTree. The error is NotFound, or
// FailedPrecondition if it is hidden already.
func (t *adminTX) SoftDeleteTree(_ context.Context, id int64) (*trillian.Tree, error) {
	tree, err := t.deletedTree(id, false)
	if err != nil {
		return nil, err
	}
	tree.Deleted, tree.DeleteTime = true, timestamppb.New(t.db.opt.Now())
	return t.put(tree)
}

// UndeleteTree undoes SoftDeleteTree. The error is NotFound or
// FailedPrecondition.
func (t *adminTX) UndeleteTree(_ context.Context, id int64) (*trillian.Tree, error) {
	tree, err := t.deletedTree(id, true)
	if err != nil {
		return nil, err
	}
	tree.Deleted, tree.DeleteTime = false, nil
	return t.put(tree)
}

// HardDeleteTree removes a soft-deleted tree that has no leaves. A log with
// leaves is never removed. The error is NotFound or FailedPrecondition.
func (t *adminTX) HardDeleteTree(_ context.Context, id int64) error {
	if _, err := t.deletedTree(id, true); err != nil {
		return err
	}
	l, err := t.db.log(id)
	if err != nil {
		return err
	}
	if n := l.state.Load().size; n > 0 {
		return status.Errorf(codes.FailedPrecondition, "tree %d has %d leaves: a log is never removed", id, n)
	}
	// Its root must not come into Badger after it has gone.
	if err := t.db.flush(); err != nil {
		return err
	}
	for _, kind := range []byte{kindRoot, kindTree} {
		if err := t.txn.Delete(appendKey(nil, kind, id)); err != nil {
			return fmt.Errorf("couldn't remove tree %d: %w", id, err)
		}
	}
	t.deleted = append(t.deleted, id)
	return nil
}

// deletedTree returns a tree that is soft-deleted, or is not, as wanted.
func (t *adminTX) deletedTree(id int64, want bool) (*trillian.Tree, error) {
	tree, err := getTree(t.txn, id)
	if err != nil {
		return nil, err
	}
	if tree.Deleted != want {
		return nil, status.Errorf(codes.FailedPrecondition, "tree %d: deleted is %v", id, tree.Deleted)
	}
	return tree, nil
}
