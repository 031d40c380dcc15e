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
	sendErr, readErr := send(conn, r)
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

// send writes the command and the stream: chunks, each after its length (uint32,
// big-endian), and an empty one (clamd(8), INSTREAM).
func send(conn io.Writer, r io.Reader) (sendErr, readErr error) {
	const size = 4
	buf := make([]byte, size+chunkBytes)
	command := []byte("zINSTREAM\x00")
	for {
		n, err := io.ReadFull(r, buf[size:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		last := err != nil
		out := command
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			out = append(out, buf[:size+n]...)
		}
		if last {
			out = append(out, 0, 0, 0, 0)
		}
		if _, err := conn.Write(out); err != nil || last {
			return err, nil
		}
		command = command[:0]
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
