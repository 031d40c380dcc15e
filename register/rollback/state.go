// Package rollback gives up a log that lost records which it had published (a
// restored backup, a disk that was rolled back), and begins a new one in its
// place: never a second history under one origin.
//
// The old origin is frozen. Its database, checkpoint, time stamps and packages
// stay readable, served and provable with its own key, and are never written
// again. The first record of the new log commits the last checkpoint that the
// old one is known to have published, what is kept of it, and the gap between.
//
//	DIR/frozen/<log id>/rollback.json   what was decided; written first, it bars the origin
//	DIR/frozen/<log id>/log/            database and the checkpoint up to which it is proved
//	DIR/frozen/<log id>/known           the last published checkpoint that is known, if any
//	DIR/frozen/<log id>/timestamps/     its time stamps
//	DIR/frozen/<log id>/index/          index of its records, made again when missing
//
// The private key of the frozen origin is replaced by the new log's: nothing can
// be signed in the old name any more.
package rollback

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/register"
	"scripta/register/record"
)

// Names in the folder of a frozen log.
const (
	stateFile = "rollback.json"
	knownFile = "known"
	logDir    = "log"
	stampsDir = "timestamps"
	indexDir  = "index"
)

const format = "scripta/rollback/v1"

// maxState bounds what is read of rollback.json, bytes: two notes and some names.
const maxState = 4 << 20

// State is what was decided when a log was given up.
type State struct {
	Format   string     `json:"format"`
	Sequence int        `json:"sequence"` // counts the rollbacks of the provider, from 1
	ID       string     `json:"id"`       // of the frozen log
	NextID   string     `json:"next_id"`  // of the log that goes on
	Gap      record.Gap `json:"gap"`
	Size     uint64     `json:"size"`            // leaves in the frozen database
	Root     string     `json:"root"`            // of them, hexadecimal
	Known    string     `json:"known,omitempty"` // last published checkpoint that is known, a signed note
	Kept     string     `json:"kept"`            // checkpoint up to which the database is proved, a signed note
	Key      string     `json:"key"`             // verifier key of the frozen origin
	NextKey  string     `json:"next_key"`        // and of the new one
	Archive  string     `json:"archive"`         // folder of the frozen log's packages, as configured
	Record   string     `json:"record"`          // transaction of the new log's first record, 16 bytes in hexadecimal
}

// Folder names what lies in the folder of a frozen log.
type Folder string

// FolderOf is the folder of the frozen log with this id.
func FolderOf(dir config.Dir, id string) Folder { return Folder(filepath.Join(dir.Frozen(), id)) }

func (f Folder) join(name string) string { return filepath.Join(string(f), name) }

// Log is the folder of the database and its checkpoint.
func (f Folder) Log() string { return f.join(logDir) }

// Stamps is the folder of the time stamps.
func (f Folder) Stamps() string { return f.join(stampsDir) }

// Index is the folder of the index.
func (f Folder) Index() string { return f.join(indexDir) }

// Known is the last published checkpoint that is known, a signed note.
func (f Folder) Known() string { return f.join(knownFile) }

// Load returns the frozen logs of a provider, the oldest first.
func Load(dir config.Dir) ([]*State, error) {
	entries, err := os.ReadDir(dir.Frozen())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't list the frozen logs: %w", err)
	}
	var all []*State
	for _, e := range entries {
		s, err := read(dir, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // a folder that was made, and nothing decided
		} else if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *State) int { return a.Sequence - b.Sequence })
	for i, s := range all {
		if s.Sequence != i+1 || i > 0 && all[i-1].NextID != s.ID {
			return nil, fmt.Errorf("the frozen logs in %s do not follow one another: %s is missing or does not belong there; bring it back from a copy", dir.Frozen(), s.ID)
		}
	}
	return all, nil
}

func read(dir config.Dir, id string) (*State, error) {
	f, err := os.Open(FolderOf(dir, id).join(stateFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	return parse(b, id)
}

func parse(b []byte, id string) (*State, error) {
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("couldn't read what was decided on the frozen log %s: %w; bring it back from a copy", id, err)
	}
	if tx, err := hex.DecodeString(s.Record); s.Format != format || s.ID != id || err != nil || len(tx) != 16 {
		return nil, fmt.Errorf("couldn't read what was decided on the frozen log %s: it is of format %.40q about %.40q; bring it back from a copy", id, s.Format, s.ID)
	}
	return s, nil
}

func (s *State) write(fsys durable.FS, dir config.Dir) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFile(fsys, FolderOf(dir, s.ID).join(stateFile), append(b, '\n'), 0o600)
}

// First is the first record of the log that goes on: what it follows and what
// was lost. It is the same each time it is asked for.
func (s *State) First() (register.Entry, error) {
	tx, err := hex.DecodeString(s.Record)
	if err != nil || len(tx) != 16 {
		return register.Entry{}, fmt.Errorf("the frozen log %s names no record: %q", s.ID, s.Record)
	}
	g := s.Gap
	_, text := g.Statement()
	rec := &record.Record{Kind: record.RollbackAccepted, Time: g.To.UTC().Truncate(time.Millisecond), Outcome: record.Outcome{Code: "gap", Text: text},
		Detail: record.SortDetail([]record.Pair{
			{Name: "contradicted", Value: strconv.FormatBool(g.Contradicted)},
			{Name: "from", Value: g.From.UTC().Format(time.RFC3339Nano)},
			{Name: "kept", Value: s.Kept},
			{Name: "kept size", Value: strconv.FormatUint(g.Kept, 10)},
			{Name: "known", Value: s.Known},
			{Name: "known size", Value: strconv.FormatUint(g.Known, 10)},
			{Name: "lost", Value: strconv.FormatUint(g.Lost(), 10)},
			{Name: "origin", Value: g.Origin},
			{Name: "root", Value: s.Root},
			{Name: "size", Value: strconv.FormatUint(s.Size, 10)},
		})}
	return register.Entry{ID: record.MakeID([16]byte(tx), 0, 0), Record: rec}, nil
}
