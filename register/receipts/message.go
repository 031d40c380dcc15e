package receipts

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"scripta/register/record"
)

// Contents finds the content of a transaction, decrypted.
type Contents interface {
	OpenContent(transaction [16]byte, month uint16) (Content, error)
}

// Content is an author's message as it came.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Message is a stored message, ready to be read whole.
type Message struct {
	*Issued
	*Multi
	closers []io.Closer
}

// Size is the whole message's, bytes.
func (m *Message) Size() int64 { return m.Multi.Size() }

// Close releases the files that the message is read from.
func (m *Message) Close() error {
	var err error
	for _, c := range m.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// ReadAll returns a small stored message whole. It is for messages without an
// included one.
func (m *Message) ReadAll() ([]byte, error) {
	var b bytes.Buffer
	_, err := m.WriteTo(&b)
	return b.Bytes(), err
}

// Open returns a stored message whole, resolving what it includes. It returns
// [ErrNotFound] when the message, or a content it includes, is not kept.
func (s *Store) Open(id record.ID, contents Contents) (*Message, error) {
	m, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	return openMessage(m, stored{s, contents}, 0)
}

// sources finds what messages include.
type sources interface {
	Contents
	Get(id record.ID) (*Issued, error)
}

// stored are the sources on the disk.
type stored struct {
	*Store
	Contents
}

// maxDepth bounds how many stored messages may include one another.
const maxDepth = 4

func openMessage(m *Issued, from sources, depth int) (*Message, error) {
	msg := &Message{Issued: m}
	if m.Included == nil {
		msg.Multi = m.Reader(nil)
		return msg, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: messages nested deeper than %d", ErrMalformed, maxDepth)
	}
	var (
		src  io.ReaderAt
		size int64
		in   = m.Included
	)
	if in.Source.Issued {
		inner, err := from.Get(in.Source.ID)
		if err != nil {
			return nil, err
		}
		whole, err := openMessage(inner, from, depth+1)
		if err != nil {
			return nil, err
		}
		msg.closers = append(msg.closers, whole)
		src, size = whole.Multi, whole.Size()
	} else {
		c, err := from.OpenContent(in.Source.ID.Transaction(), in.Source.Month)
		if err != nil {
			return nil, err
		}
		msg.closers = append(msg.closers, c)
		src, size = c, c.Size()
	}
	patched, err := edited(src, size, in.Edits)
	if err != nil || in.Offset > patched.Size() || in.Length > patched.Size()-in.Offset {
		_ = msg.Close()
		return nil, errors.Join(fmt.Errorf("%w: %v includes more than its source has", ErrMalformed, m.ID), err)
	}
	msg.Multi = m.Reader(io.NewSectionReader(patched, in.Offset, in.Length))
	return msg, nil
}
