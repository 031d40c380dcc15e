package archive

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frameHead is the length of a frame without its body: uint32 length of the
// body ‖ uint64 leaf index ‖ uint16 month.
const frameHead = 4 + 8 + 2

// maxBody bounds a frame's body. The log keeps less than 1 MiB beside a leaf.
const maxBody = 1 << 20

// frame is one record in records.sealed.
type frame struct {
	index uint64
	month uint16 // as record.Sealed.Month
	body  []byte // empty: the month's secret had been destroyed
}

var errFrame = errors.New("malformed frame")

// append appends the frame's encoding.
func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.body)))
	b = binary.BigEndian.AppendUint64(b, f.index)
	b = binary.BigEndian.AppendUint16(b, f.month)
	return append(b, f.body...)
}

// frameReader reads frames. The body of a frame is valid until the next one.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, buffer)}
}

// next returns io.EOF at the end of the file and errFrame for what is cut short
// or too long.
func (r *frameReader) next() (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err == io.EOF {
		return frame{}, io.EOF
	} else if err != nil {
		return frame{}, cutShort(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxBody {
		return frame{}, fmt.Errorf("%w: a body of %d bytes", errFrame, n)
	}
	if cap(r.buf) < int(n) {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return frame{}, cutShort(err)
	}
	return frame{index: binary.BigEndian.Uint64(head[4:]), month: binary.BigEndian.Uint16(head[12:]), body: r.buf}, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", errFrame)
	}
	return err
}
