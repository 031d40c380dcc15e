package receipts

import (
	"errors"

	"scripta/register/record"
)

// Held opens messages for somebody who made, or has read, what they include: a
// message that was added is not read from the store again, and a content is
// opened once and decrypted once if it is small. It is not safe for concurrent
// use. Close it.
type Held struct {
	from     stored
	messages map[record.ID]*Issued
	contents map[[16]byte]heldContent
}

// Hold begins to hold messages over a store and the contents beside it.
func (s *Store) Hold(contents Contents) *Held {
	return &Held{from: stored{s, contents}, messages: map[record.ID]*Issued{}, contents: map[[16]byte]heldContent{}}
}

// Add holds a message, which need not be stored yet.
func (h *Held) Add(m *Issued) { h.messages[m.ID] = m }

// Open returns a message whole, stored or not, as [Store.Open] does.
func (h *Held) Open(m *Issued) (*Message, error) { return openMessage(m, h, 0) }

// Get returns a message that is held or stored, or [ErrNotFound].
func (h *Held) Get(id record.ID) (*Issued, error) {
	if m := h.messages[id]; m != nil {
		return m, nil
	}
	return h.from.Get(id)
}

// OpenContent implements [Contents]. The content stays open until Close.
func (h *Held) OpenContent(transaction [16]byte, month uint16) (Content, error) {
	if c, ok := h.contents[transaction]; ok {
		return c, nil
	}
	c, err := h.from.OpenContent(transaction, month)
	if err != nil {
		return nil, err
	}
	h.contents[transaction] = heldContent{c}
	return h.contents[transaction], nil
}

// heldContent is closed by who holds it.
type heldContent struct{ Content }

func (heldContent) Close() error { return nil }

// Close closes the contents. What was opened cannot be read any more.
func (h *Held) Close() error {
	var err error
	for _, c := range h.contents {
		err = errors.Join(err, c.Content.Close())
	}
	clear(h.contents)
	return err
}
