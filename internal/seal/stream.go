package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	chunk      = 64 << 10 // plaintext bytes of every chunk but the last
	prefixSize = 16       // random bytes at the start of a stream
	tagSize    = chacha20poly1305.Overhead
)

// nonceOf gives chunk i of a stream its nonce: prefix ‖ uint56 i ‖ last.
func nonceOf(prefix []byte, i uint64, last bool) []byte {
	n := make([]byte, 0, chacha20poly1305.NonceSizeX)
	n = append(n, prefix...)
	i <<= 8
	if last {
		i |= 1
	}
	return binary.BigEndian.AppendUint64(n, i)
}

// Writer seals a stream. It must be closed: only the last chunk, which Close
// writes, makes the stream whole.
type Writer struct {
	w      io.Writer
	aead   cipher.AEAD
	ad     []byte
	prefix []byte
	buf    []byte // plaintext of the chunk under way, at most chunk bytes
	out    []byte
	n      uint64
	err    error
}

// NewWriter starts a sealed stream on w, bound to ad.
func NewWriter(w io.Writer, key *[32]byte, ad []byte) (*Writer, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err)
	}
	prefix := make([]byte, prefixSize)
	rand.Read(prefix)
	if _, err := w.Write(prefix); err != nil {
		return nil, err
	}
	return &Writer{w: w, aead: aead, ad: ad, prefix: prefix}, nil
}

// Write seals p. An error of the underlying writer is returned by every later call.
func (w *Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == chunk { // full, and more follows: so it is not the last
			w.flush(false)
		}
		n := min(chunk-len(w.buf), len(p))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
	}
	return total - len(p), w.err
}

func (w *Writer) flush(last bool) {
	w.out = w.aead.Seal(w.out[:0], nonceOf(w.prefix, w.n, last), w.buf, w.ad)
	w.n, w.buf = w.n+1, w.buf[:0]
	_, w.err = w.w.Write(w.out)
}

// Close writes the last chunk. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err == nil {
		w.flush(true)
		if w.err == nil {
			w.err = errClosed
			return nil
		}
	}
	if errors.Is(w.err, errClosed) {
		return nil
	}
	return w.err
}

var errClosed = errors.New("seal: stream is closed")

// Reader reads a sealed stream at any offset. It is safe for concurrent use.
type Reader struct {
	r      io.ReaderAt
	aead   cipher.AEAD
	ad     []byte
	prefix []byte
	chunks uint64
	size   int64

	mu     sync.Mutex // guards the one opened chunk that is kept
	have   uint64
	plain  []byte
	sealed []byte
}

// NewReader opens the sealed stream that fills r[0:size]. It returns [ErrOpen]
// for a stream that is cut short: one whose last chunk is missing or damaged.
func NewReader(r io.ReaderAt, size int64, key *[32]byte, ad []byte) (*Reader, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err)
	}
	body := size - prefixSize
	if body < tagSize {
		return nil, fmt.Errorf("%w: a stream of %d bytes has no last chunk", ErrOpen, size)
	}
	s := &Reader{r: r, aead: aead, ad: ad, prefix: make([]byte, prefixSize)}
	if _, err := r.ReadAt(s.prefix, 0); err != nil {
		return nil, err
	}
	s.chunks = uint64((body + chunk + tagSize - 1) / (chunk + tagSize))
	s.size = body - int64(s.chunks)*tagSize
	last := int64(s.chunks-1) * chunk
	if s.size < last || (s.size == last && s.chunks > 1) {
		return nil, fmt.Errorf("%w: cut inside a chunk", ErrOpen)
	}
	if err := s.load(s.chunks - 1); err != nil {
		return nil, err
	}
	return s, nil
}

// Size is the length of the plaintext.
func (s *Reader) Size() int64 { return s.size }

// load opens chunk i into s.plain; the caller holds mu, or is alone.
func (s *Reader) load(i uint64) error {
	if s.plain != nil && s.have == i {
		return nil
	}
	n := min(int64(chunk), s.size-int64(i)*chunk) + tagSize
	if cap(s.sealed) < int(n) {
		s.sealed = make([]byte, n)
	}
	s.sealed = s.sealed[:n]
	if _, err := s.r.ReadAt(s.sealed, prefixSize+int64(i)*(chunk+tagSize)); err != nil && !(errors.Is(err, io.EOF) && i == s.chunks-1) {
		return err
	}
	if s.plain == nil {
		s.plain = make([]byte, 0, n)
	}
	plain, err := s.aead.Open(s.plain[:0], nonceOf(s.prefix, i, i == s.chunks-1), s.sealed, s.ad)
	if err != nil {
		s.plain = nil
		return fmt.Errorf("%w: chunk %d", ErrOpen, i)
	}
	s.have, s.plain = i, plain
	return nil
}

// ReadAt implements [io.ReaderAt] on the plaintext.
func (s *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("seal: negative offset")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) && off < s.size {
		if err := s.load(uint64(off / chunk)); err != nil {
			return n, err
		}
		c := copy(p[n:], s.plain[off%chunk:])
		n, off = n+c, off+int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
