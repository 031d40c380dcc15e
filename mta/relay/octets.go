package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// errOctets says that a message cannot be sent as it is: a line that does not end in CRLF would be changed on its way,
// or taken for two messages (SMTP smuggling).
var errOctets = errors.New("relay: the message has a line end that is not CRLF, or a NUL")

// copyMessage writes a message as the data of DATA, and flushes w: dots doubled at the beginning of lines (RFC 5321
// §4.5.2), nothing else changed, and the final dot. size is how many octets there should be, or 0. When it fails the
// final dot was not written, so that no part of a message is ever taken for the whole.
func copyMessage(w *bufio.Writer, r io.Reader, size int64) error {
	const (
		begin = iota // of a line
		inside
		cr // a CR came
	)
	state := begin
	var n int64
	buf := make([]byte, 32<<10)
	for {
		k, err := r.Read(buf)
		n += int64(k)
		part := buf[:k]
		from := 0 // what is not written yet
		for i, c := range part {
			switch {
			case c == 0, (c == '\n') != (state == cr):
				return errOctets
			case c == '\n':
				state = begin
			case c == '\r':
				state = cr
			case c == '.' && state == begin:
				if _, err := w.Write(part[from : i+1]); err != nil {
					return err
				}
				from, state = i, inside
			default:
				state = inside
			}
		}
		if _, werr := w.Write(part[from:]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return &messageError{err}
		}
	}
	if state != begin {
		return errOctets
	}
	if size > 0 && n != size {
		return &messageError{fmt.Errorf("it has %d octets and should have %d", n, size)}
	}
	if _, err := w.WriteString(".\r\n"); err != nil {
		return err
	}
	return w.Flush()
}

// messageError is an error of ours in reading a message.
type messageError struct{ err error }

func (e *messageError) Error() string { return "couldn't read the message: " + e.err.Error() }
func (e *messageError) Unwrap() error { return e.err }
