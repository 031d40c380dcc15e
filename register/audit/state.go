package audit

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"scripta/internal/durable"
)

const (
	stateFormat = "scripta/audit/v1"
	maxState    = 1 << 20
	// saveEvery is how often an audit keeps its place.
	saveEvery = 5 * time.Second
)

// state is how far an audit has come.
type state struct {
	Format  string    `json:"format"`
	Origin  string    `json:"origin"`
	Begun   time.Time `json:"begun"`
	Step    int       `json:"step"` // that is under way
	Leaf    uint64    `json:"leaf"` // to be read next
	Hashes  []string  `json:"hashes,omitempty"`
	File    string    `json:"file,omitempty"` // in the step of messages
	Offset  int64     `json:"offset,omitempty"`
	Report  Report    `json:"report"`
	edge    [][32]byte
	resumed bool
}

// load reads the state that an audit left, or begins one. A state that cannot be
// read, or is of another log, is none.
func (a *Audit) load() (*state, error) {
	fresh := &state{Format: stateFormat, Origin: a.o.Register.Origin(), Begun: a.o.Now().UTC().Truncate(time.Second)}
	if a.o.StateFile == "" || a.o.Restart {
		return fresh, nil
	}
	f, err := a.o.FS.OpenFile(a.o.StateFile, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't read how far the last audit came: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, fmt.Errorf("couldn't read how far the last audit came: %w", err)
	}
	s, err := parseState(b)
	if err != nil || s.Origin != fresh.Origin || s.Leaf > a.o.Register.Log().Size() {
		return fresh, nil
	}
	s.resumed = true
	return s, nil
}

var errState = errors.New("not the state of an audit")

// The file is a line with the CRC-32 of the rest in hexadecimal, and JSON.
func parseState(b []byte) (*state, error) {
	const head = 9
	if len(b) < head || string(b[:head]) != fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(b[head:])) {
		return nil, errState
	}
	s := new(state)
	if err := json.Unmarshal(b[head:], s); err != nil || s.Format != stateFormat || len(s.Hashes) > 64 {
		return nil, errState
	}
	for _, h := range s.Hashes {
		v, err := hex.DecodeString(h)
		if err != nil || len(v) != 32 {
			return nil, errState
		}
		s.edge = append(s.edge, [32]byte(v))
	}
	return s, nil
}

func (s *state) encode() ([]byte, error) {
	s.Hashes = nil
	for _, h := range s.edge {
		s.Hashes = append(s.Hashes, hex.EncodeToString(h[:]))
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "%08x\n", crc32.ChecksumIEEE(b)), b...), nil
}

// save keeps the place. An audit whose place cannot be kept goes on: it would
// begin again.
func (a *Audit) save() {
	a.saved = a.o.Now()
	if a.o.StateFile == "" {
		return
	}
	b, err := a.s.encode()
	if err == nil {
		err = durable.WriteFile(a.o.FS, a.o.StateFile, b, 0o600)
	}
	if err != nil {
		a.o.Logger.Warn("the audit cannot keep its place; if it is given up it begins again", "err", err)
	}
}

func (a *Audit) saveSometimes() {
	if a.o.Now().Sub(a.saved) >= saveEvery {
		a.save()
	}
}
