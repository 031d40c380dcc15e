package badgerlog

import (
	"context"
	"fmt"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"scripta/merkle/tiles"
)

// LogStorage is storage.LogStorage on a DB. Its read-write transactions are
// Trillian's sequencer's alone; see Sequence.
type LogStorage struct{ db *DB }

var _ storage.LogStorage = (*LogStorage)(nil)

// LogStorage returns the logs of the database.
func (db *DB) LogStorage() *LogStorage { return &LogStorage{db} }

// CheckDatabaseAccessible returns ErrFatal or ErrClosed if they apply.
func (s *LogStorage) CheckDatabaseAccessible(context.Context) error { return s.db.accessible() }

func (db *DB) accessible() error {
	if err := db.enter(); err != nil {
		return err
	}
	db.leave()
	return nil
}

// GetActiveLogIDs returns the trees that may take or integrate leaves: active or
// draining, not deleted.
func (s *LogStorage) GetActiveLogIDs(context.Context) ([]int64, error) {
	if err := s.db.enter(); err != nil {
		return nil, err
	}
	defer s.db.leave()
	txn := s.db.newRead()
	defer txn.Discard()
	trees, err := listTrees(txn, false)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, t := range trees {
		if t.TreeState == trillian.TreeState_ACTIVE || t.TreeState == trillian.TreeState_DRAINING {
			ids = append(ids, t.TreeId)
		}
	}
	return ids, nil
}

// SnapshotForTree returns a view of the log after its last commit; it waits for
// none under way. It must be closed. The error is storage.ErrTreeNeedsInit,
// with a transaction, before InitLog; NotFound; ErrFatal; or ErrClosed.
func (s *LogStorage) SnapshotForTree(_ context.Context, tree *trillian.Tree) (storage.ReadOnlyLogTreeTX, error) {
	tx, err := s.db.snapshot(tree.TreeId)
	if err != nil {
		return nil, err
	}
	tx.preordered = tree.TreeType == trillian.TreeType_PREORDERED_LOG
	if tx.root == nil {
		return tx, storage.ErrTreeNeedsInit
	}
	return tx, nil
}

// ReadWriteTransaction runs f once and commits what it did, if it stored a root.
// A failed commit is ErrFatal.
func (s *LogStorage) ReadWriteTransaction(ctx context.Context, tree *trillian.Tree, f storage.LogTXFunc) error {
	if s.db.opt.ReadOnly {
		return ErrReadOnly
	}
	if err := s.db.enterFor(tree.TreeId); err != nil {
		return err
	}
	read, err := s.db.snapshotEntered(tree.TreeId)
	if err != nil {
		return err
	}
	read.log.txMu.Lock()
	defer read.log.txMu.Unlock()
	read.preordered = tree.TreeType == trillian.TreeType_PREORDERED_LOG
	read.state = read.log.state.Load() // what the lock was waited for may have replaced it
	tx := &writeTX{readTX: read}
	defer tx.Close()
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// IndexOf returns the index of the leaf with an identity hash, false if no leaf
// in the tree has it. The error is NotFound if there is no such tree,
// CorruptError, ErrFatal or ErrClosed.
func (s *LogStorage) IndexOf(treeID int64, identity tiles.Hash) (uint64, bool, error) {
	tx, err := s.db.snapshot(treeID)
	if err != nil {
		return 0, false, err
	}
	defer tx.Close()
	index, r, err := tx.log.lookup(identity)
	return index, r != nil && err == nil, err
}

// Tile returns the hashes of a tile of hashes, concatenated; entry bundles are
// made of leaves. The error is tiles.ErrBeyond if the tree does not determine
// it, else as for IndexOf.
func (s *LogStorage) Tile(treeID int64, t tiles.Tile) ([]byte, error) {
	tx, err := s.db.snapshot(treeID)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	if t.Level < 0 || !t.In(tx.size) {
		return nil, fmt.Errorf("%w: %v in a tree of %d", tiles.ErrBeyond, t, tx.size)
	}
	tile := tx.tails[t.Level]
	if unfinished, _ := tiles.Partial(tx.size, t.Level); t.Index < unfinished {
		if tile, err = tx.readTile(t.Level, t.Index); err != nil {
			return nil, err
		}
	}
	return append([]byte(nil), tile[:t.Width*tiles.HashSize]...), nil
}

// snapshot returns a transaction on the log's last commit.
func (db *DB) snapshot(tree int64) (*readTX, error) {
	if err := db.enter(); err != nil {
		return nil, err
	}
	return db.snapshotEntered(tree)
}

// snapshotEntered is snapshot after enter; without a transaction it leaves.
func (db *DB) snapshotEntered(tree int64) (*readTX, error) {
	l, err := db.log(tree)
	if err != nil {
		db.leave()
		return nil, err
	}
	// What is read later has at least this state's leaves and tiles; they never
	// change.
	return &readTX{log: l, state: l.state.Load()}, nil
}

func unimplemented(format string, a ...any) error {
	return status.Errorf(codes.Unimplemented, format, a...)
}
