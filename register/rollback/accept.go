package rollback

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register/receipts"
	"scripta/register/record"
	"scripta/register/stamps"
)

// Options say what is given up. The caller holds the folder's lock.
type Options struct {
	Dir config.Dir
	FS  durable.FS // has the folder's files; databases are always on the real file system
	// Log opens the log that is given up; Signer and Verifier are its own.
	Log merkle.Options
	// Elsewhere are checkpoints of the log that others hold.
	Elsewhere []*checkpoint.Signed
	Stamps    *stamps.Store // of the log that is given up
	Months    *keys.Months
	Now       time.Time
}

// ErrFrozen says that a log was given up, and that giving it up was perhaps
// interrupted.
var ErrFrozen = errors.New("this log was given up; finish it with: scripta log accept-rollback")

// Check returns ErrFrozen if the configured log is one that was given up.
func Check(dir config.Dir, id string) error {
	_, err := os.Stat(FolderOf(dir, id).join(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err == nil {
		err = fmt.Errorf("%s: %w", id, ErrFrozen)
	}
	return err
}

// Survey tells what Accept would decide, without deciding it.
func Survey(ctx context.Context, o Options) (*merkle.Survey, error) {
	known := o.Elsewhere
	for _, size := range o.Stamps.Between(0, ^uint64(0)-1) {
		text, err := o.Stamps.Text(size)
		if err != nil {
			return nil, err
		}
		c, err := checkpoint.Open(text, o.Log.Verifier)
		if err != nil {
			return nil, fmt.Errorf("kept time stamp of size %d: %w", size, err)
		}
		known = append(known, c)
	}
	return merkle.TakeSurvey(ctx, o.Log, o.timeOf, known...)
}

// Accept freezes the log and prepares its successor. The order of its steps:
//
//  1. the survey, which only reads, and the successor's key, which waits beside
//     the old one;
//  2. the decision is written into the frozen log's folder and fsynced: from now
//     on the old origin cannot be opened for writing;
//  3. everything moves to its place, keys and configuration last.
//
// A crash after step 2 leaves the folder closed until Accept is called again,
// which goes on with the same decision. The new log's first record ([State.First])
// is for whoever opens it.
func Accept(ctx context.Context, o Options) (*State, error) {
	cfg, err := config.Load(o.Dir.Config())
	if err != nil {
		return nil, err
	}
	s, err := read(o.Dir, cfg.Log.ID)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = decide(ctx, o, cfg)
	}
	if err != nil {
		return nil, err
	}
	return s, s.carryOut(o, cfg)
}

func decide(ctx context.Context, o Options, cfg config.Config) (*State, error) {
	survey, err := Survey(ctx, o)
	if err != nil {
		return nil, err
	}
	before, err := Load(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &State{Format: format, Sequence: len(before) + 1, ID: cfg.Log.ID, NextID: NextID(cfg.Log.ID), Size: survey.Size, Root: hex.EncodeToString(survey.Root[:]),
		Kept: string(survey.Kept.Note), Archive: cfg.Archive.Dir}
	s.Gap.Origin, s.Gap.Kept, s.Gap.Contradicted, s.Gap.To = survey.Origin, survey.Kept.Size, survey.Contradicted, o.Now.UTC().Truncate(time.Millisecond)
	if survey.Known != nil {
		s.Known, s.Gap.Known = string(survey.Known.Note), survey.Known.Size
	}
	s.Gap.From = survey.Newest.UTC()
	if s.Key, err = lastKey(o.Dir); err != nil {
		return nil, err
	}
	next := cfg
	next.Log.ID = s.NextID
	s.Gap.Next = next.Origin()
	secret, public, err := note.GenerateKey(rand.Reader, s.Gap.Next)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the new log's key: %w", err)
	}
	s.NextKey = public
	if err := durable.WriteFile(o.FS, o.Dir.NextLogKey(), []byte(secret+"\n"), 0o600); err != nil {
		return nil, err
	}
	var tx [16]byte
	rand.Read(tx[:])
	s.Record = hex.EncodeToString(tx[:])
	if err := durable.MkdirAll(o.FS, string(FolderOf(o.Dir, s.ID)), 0o700); err != nil {
		return nil, err
	}
	return s, s.write(o.FS, o.Dir)
}

// timeOf is when the event of a leaf was.
func (o *Options) timeOf(l merkle.Leaf) (time.Time, bool) {
	leaf, err := record.ParseLeaf(l.Value)
	sealed := record.Sealed(l.Extra)
	month, merr := sealed.Month()
	if err != nil || merr != nil {
		return time.Time{}, false
	}
	secret := o.Months.Service()
	if month != 0 {
		if secret, err = o.Months.Secret(keys.Month(month)); err != nil {
			return keys.Month(month).Start(), true // disposed of: the month is as much as can be known
		}
	}
	key := keys.Derive(secret, keys.InfoSeal)
	opened, err := sealed.Open(&key, o.Log.Origin, leaf)
	if err != nil {
		return time.Time{}, false
	}
	rec, err := opened.Fields.Record()
	if err != nil {
		return time.Time{}, false
	}
	return rec.Time, true
}

// carryOut makes the folder be as was decided. Every step may have been made
// before.
func (s *State) carryOut(o Options, cfg config.Config) error {
	f := FolderOf(o.Dir, s.ID)
	move := func(from, to string) error {
		if _, err := o.FS.Stat(to); err == nil {
			return nil
		}
		if err := o.FS.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return errors.Join(o.FS.SyncDir(filepath.Dir(from)), o.FS.SyncDir(filepath.Dir(to)))
	}
	steps := []func() error{
		func() error { return move(o.Dir.Log(), f.Log()) },
		func() error { return move(o.Dir.Stamps(), f.Stamps()) },
		func() error {
			if s.Known == "" {
				return nil
			}
			return durable.WriteFile(o.FS, f.Known(), []byte(s.Known), 0o600)
		},
		func() error {
			return durable.WriteFile(o.FS, filepath.Join(f.Log(), merkle.CheckpointFile), []byte(s.Kept), 0o644)
		},
		// The index is a projection of the log that was there; the new log's, and
		// the places of receipts, are made again.
		func() error { return os.RemoveAll(filepath.Join(o.Dir.Receipts(), "index")) },
		func() error { return receipts.AcceptLosses(o.FS, filepath.Join(o.Dir.Receipts(), "issued")) },
		func() error { return s.publishKey(o) },
		func() error {
			err := o.FS.Rename(o.Dir.NextLogKey(), o.Dir.LogKey())
			if errors.Is(err, fs.ErrNotExist) { // moved before
				err = nil
			}
			return errors.Join(err, o.FS.SyncDir(o.Dir.Keys()))
		},
		func() error {
			return config.Edit(o.Dir.Config(), func(c *config.Config) {
				c.Log.ID, c.Archive.Dir = s.NextID, nextArchive(cfg.Archive.Dir, s.NextID)
			})
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("couldn't finish giving up the log %s (step %d of %d; try again: what was done stays): %w", s.ID, i+1, len(steps), err)
		}
	}
	return nil
}

// publishKey adds the new log's key to those that others verify with, one a
// line, the newest last.
func (s *State) publishKey(o Options) error {
	b, err := os.ReadFile(o.Dir.PublicLogKey())
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(b))
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == s.NextKey {
			return nil
		}
	}
	return durable.WriteFile(o.FS, o.Dir.PublicLogKey(), []byte(text+"\n"+s.NextKey+"\n"), 0o644)
}

// lastKey is the key of the log that is written now: the last line.
func lastKey(dir config.Dir) (string, error) {
	b, err := os.ReadFile(dir.PublicLogKey())
	if err != nil {
		return "", fmt.Errorf("couldn't read the log's public key: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1]), nil
}

var successor = regexp.MustCompile(`^(.+)r([1-9][0-9]{0,5})$`)

// NextID is the id of the log that follows: "1a2b" is followed by "1a2br2", that
// by "1a2br3".
func NextID(id string) string {
	if m := successor.FindStringSubmatch(id); m != nil {
		n, err := strconv.Atoi(m[2])
		if err == nil {
			return m[1] + "r" + strconv.Itoa(n+1)
		}
	}
	return id + "r2"
}

// nextArchive is the folder of the new log's packages, "archive-r2" after
// "archive": the old ones stay where they are, perhaps on a store that lets
// nothing be moved.
func nextArchive(dir, id string) string {
	m := successor.FindStringSubmatch(id)
	n, err := strconv.Atoi(m[2])
	if err != nil {
		return dir + "-" + id
	}
	return strings.TrimSuffix(dir, "-r"+strconv.Itoa(n-1)) + "-r" + m[2]
}
