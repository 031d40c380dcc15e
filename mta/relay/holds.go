package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"scripta/internal/durable"
)

// Everything is the name under which all destinations are held.
const Everything = "*"

// Holds is what operators hold: letters by their ids, and destinations by name. It is kept in one small file, which is
// replaced whole before a hold counts. The zero value holds nothing and keeps nothing.
type Holds struct {
	fsys durable.FS
	name string

	mu sync.Mutex // guards is, and is held while the file is written
	is held
}

// held is the content of the file.
type held struct {
	Letters      map[string]bool `json:"letters"`
	Destinations map[string]bool `json:"destinations"`
}

func (h held) clone() held {
	c := held{Letters: maps.Clone(h.Letters), Destinations: maps.Clone(h.Destinations)}
	if c.Letters == nil {
		c.Letters = map[string]bool{}
	}
	if c.Destinations == nil {
		c.Destinations = map[string]bool{}
	}
	return c
}

// maxHolds bounds the file, octets: some 20,000 letters.
const maxHolds = 1 << 20

// OpenHolds reads the file of the name, if it is there.
func OpenHolds(fsys durable.FS, name string) (*Holds, error) {
	h := &Holds{fsys: fsys, name: name}
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't read what is held of the relay's queue: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolds+1))
	if err == nil && len(b) > maxHolds {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = json.Unmarshal(b, &h.is)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which says what operators hold of the relay's queue, cannot be read: %w; bring it back from a copy, or remove it and hold again", name, err)
	}
	return h, nil
}

func (h *Holds) letter(id ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.is.Letters[id.String()]
}

// destination says whether a destination is held by its own name or with all.
func (h *Holds) destination(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.is.Destinations[name] || h.is.Destinations[Everything]
}

// list returns the destinations that are held.
func (h *Holds) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.is.Destinations))
}

// change makes a change durable; then it counts. Letters that gone names are dropped on the way.
func (h *Holds) change(do func(*held), gone func(ID) bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.is.clone()
	do(&next)
	for s := range next.Letters {
		if id, err := ParseID(s); err != nil || gone(id) {
			delete(next.Letters, s)
		}
	}
	if h.fsys != nil {
		b, err := json.Marshal(next)
		if err == nil && len(b) > maxHolds {
			err = errors.New("too much is held: hold destinations rather than messages")
		}
		if err != nil {
			return err
		}
		if err := durable.WriteFile(h.fsys, h.name, b, 0o600); err != nil {
			return fmt.Errorf("nothing was held or released: %w", err)
		}
	}
	h.is = next
	return nil
}
