package scan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Errors of a scan that came to no verdict.
var (
	// ErrUnavailable says that clamd did not answer, or not in time, or what it
	// answered cannot be understood.
	ErrUnavailable = errors.New("scan: no answer from clamd: see that it runs, and where [scan] clamd says")
	// ErrTooLarge says that the message is larger than clamd takes.
	ErrTooLarge = errors.New("scan: clamd does not take a message of this size: raise its StreamMaxLength above mail.max_message_bytes")
)

const (
	maxReply   = 4 << 10  // octets of an answer of clamd's
	chunkBytes = 64 << 10 // of a message, sent at once
	dialTime   = 10 * time.Second
)

// clamd talks to one daemon. It may be used concurrently.
type clamd struct {
	network, address string
	timeout          time.Duration // of one command, dialling included
	buffers          sync.Pool     // of what a stream is sent from
}

// splitAddress tells a local socket from a TCP address.
func splitAddress(where string) (network, address string) {
	if path, ok := strings.CutPrefix(where, "unix:"); ok {
		return "unix", path
	}
	if strings.HasPrefix(where, "/") {
		return "unix", where
	}
	return "tcp", where
}

// dial connects; the connection's deadline is that of the whole command, and it
// is cut when ctx ends.
func (c *clamd) dial(ctx context.Context) (conn net.Conn, release func(), err error) {
	limit, cancel := context.WithTimeout(ctx, c.timeout)
	d := net.Dialer{Timeout: dialTime}
	if conn, err = d.DialContext(limit, c.network, c.address); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	stop := context.AfterFunc(limit, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() {
		stop()
		cancel()
		_ = conn.Close()
	}, nil
}

// command runs a command without an argument.
func (c *clamd) command(ctx context.Context, name string) (string, error) {
	conn, release, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := fmt.Fprintf(conn, "z%s\x00", name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return readReply(conn)
}

// inStream has clamd scan what r yields and returns its answer. An error of r
// itself is returned as it is.
func (c *clamd) inStream(ctx context.Context, r io.Reader) (string, error) {
	conn, release, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	sendErr, readErr := c.send(conn, r)
	if readErr != nil {
		return "", readErr
	}
	// clamd answers and hangs up in the middle of a stream that is too long for
	// it: what it said stands before the broken connection.
	reply, err := readReply(conn)
	if err != nil && sendErr != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, sendErr)
	}
	return reply, err
}

// command and length that may stand before a chunk.
const (
	streamCommand = "zINSTREAM\x00"
	lengthBytes   = 4
)

// send writes the command and the stream: chunks, each after its length (uint32,
// big-endian), and an empty one (clamd(8), INSTREAM).
func (c *clamd) send(conn io.Writer, r io.Reader) (sendErr, readErr error) {
	const before, end = len(streamCommand) + lengthBytes, lengthBytes
	buf, ok := c.buffers.Get().(*[before + chunkBytes + end]byte)
	if !ok {
		buf = new([before + chunkBytes + end]byte)
		copy(buf[:], streamCommand)
	}
	defer c.buffers.Put(buf)
	for start := 0; ; start = len(streamCommand) { // the command comes once
		n, err := io.ReadFull(r, buf[before:before+chunkBytes])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		last, to := err != nil, before+n
		if n > 0 {
			binary.BigEndian.PutUint32(buf[before-lengthBytes:], uint32(n))
		} else {
			to = before - lengthBytes // an empty chunk is the end
		}
		if last {
			clear(buf[to : to+end])
			to += end
		}
		if _, err := conn.Write(buf[start:to]); err != nil || last {
			return err, nil
		}
	}
}

// readReply reads an answer up to its NUL.
func readReply(conn io.Reader) (string, error) {
	var reply []byte
	buf := make([]byte, 512)
	for len(reply) <= maxReply {
		n, err := conn.Read(buf)
		reply = append(reply, buf[:n]...)
		if end := bytes.IndexByte(reply, 0); end >= 0 && end <= maxReply {
			return string(reply[:end]), nil
		}
		if err != nil {
			return "", fmt.Errorf("%w: its answer is cut short: %w", ErrUnavailable, err)
		}
	}
	return "", fmt.Errorf("%w: its answer is longer than %d octets", ErrUnavailable, maxReply)
}
