package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/receipts"
)

// RestoreOptions say what is brought back, and where to.
type RestoreOptions struct {
	Backup *Backup
	Keys   string     // folder with a copy of the key store
	Dir    config.Dir // an empty folder that is there
	Log    merkle.Options
	// Newest is the newest checkpoint of the log that anybody holds; nil: none but
	// the backup's own. If it goes beyond the backup the restored log is refused
	// until a person accepts that records are lost: nothing that was acknowledged
	// is denied in silence.
	Newest *checkpoint.Signed
}

// Restore fills a folder from a backup. The log is built anew from its leaves,
// which recomputes every hash, and must come to the backup's root.
func Restore(ctx context.Context, o RestoreOptions) error {
	if err := copyFiles(ctx, filepath.Join(o.Backup.Dir, filesDir), string(o.Dir)); err != nil {
		return fmt.Errorf("couldn't bring the files back: %w", err)
	}
	if err := keys.RestoreMonths(durable.OS, o.Keys, o.Dir.Months(), o.Dir.MasterKey()); err != nil {
		return fmt.Errorf("couldn't bring the month secrets back: %w", err)
	}
	o.Log.Dir = o.Dir.Log()
	log, err := merkle.Open(ctx, o.Log)
	if err != nil {
		return err
	}
	err = addLeaves(ctx, log, o.Backup)
	var root [32]byte
	if err == nil {
		root, err = log.RootAt(ctx, o.Backup.Info.Size)
	}
	if err == nil && root != o.Backup.Checkpoint.Root {
		err = fmt.Errorf("%w: its log comes to another root", ErrDamaged)
	}
	if err = errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("couldn't build the log again: %w", err)
	}
	// Messages were copied after the log: some of their records came later.
	if err := receipts.AcceptLosses(durable.OS, filepath.Join(o.Dir.Receipts(), "issued")); err != nil {
		return err
	}
	newest := o.Backup.Checkpoint
	if o.Newest != nil && o.Newest.Size > newest.Size {
		newest = o.Newest
	}
	return durable.WriteFile(durable.OS, filepath.Join(o.Dir.Log(), merkle.CheckpointFile), newest.Note, 0o644)
}

func addLeaves(ctx context.Context, log *merkle.Log, b *Backup) error {
	const batch = 1024
	var next uint64
	leaves := make([]merkle.Leaf, 0, batch)
	add := func() error {
		err := log.AddSequenced(ctx, next, leaves)
		next += uint64(len(leaves))
		leaves = leaves[:0]
		return err
	}
	err := eachLeaf(b.Dir, b.Info.Size, func(l merkle.Leaf) error {
		if leaves = append(leaves, l); len(leaves) < batch {
			return nil
		}
		return add()
	})
	if err == nil && len(leaves) > 0 {
		err = add()
	}
	return err
}

// copyFiles copies a folder with its modes, durably.
func copyFiles(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			if rel == "." {
				return nil
			}
			return os.MkdirAll(target, st.Mode().Perm())
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		if err == nil {
			err = out.Sync()
		}
		return errors.Join(err, out.Close())
	})
}
