package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// wire is the network between two programs: a TCP proxy that a test can cut,
// half-close, silence and slow down. Connections begin at its address and end at
// the target's.
type wire struct {
	listener net.Listener
	target   string
	pumps    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	state wireState
	turn  chan struct{}         // closed when the state changes
	open  map[net.Conn]net.Conn // caller to target, of each connection
	calls int                   // connections that were asked for
	ended bool
}

// wireState is what a wire does to what passes.
type wireState int

const (
	wireWhole    wireState = iota // octets pass
	wireCut                       // whoever calls is hung up on at once
	wireSilent                    // connections stand, and nothing passes
	wireSlow                      // octets pass a few at a time
	wireStripped                  // octets pass, but for the target's offer of STARTTLS
)

// newWire opens a wire to an address where nobody needs to listen yet.
func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: target, turn: make(chan struct{}), open: map[net.Conn]net.Conn{}}
	w.pumps.Go(w.serve)
	t.Cleanup(w.close)
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

// set changes what the wire does. Connections that are open when it is cut end at
// once, as by a reset.
func (w *wire) set(s wireState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = s
	close(w.turn)
	w.turn = make(chan struct{})
	if s == wireCut {
		w.reset()
	}
}

// reset ends every connection without the peers saying so. The lock is held.
func (w *wire) reset() {
	for caller, target := range w.open {
		for _, c := range []net.Conn{caller, target} {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}
}

// halfClose tells one side of every open connection that the other will say
// nothing more, while the other goes on talking.
func (w *wire) halfClose(caller bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for from, to := range w.open {
		if caller {
			to = from
		}
		_ = to.(*net.TCPConn).CloseWrite()
	}
}

// called is how many connections were asked for.
func (w *wire) called() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

func (w *wire) close() {
	w.mu.Lock()
	w.ended = true
	close(w.turn)
	w.turn = make(chan struct{})
	w.reset()
	w.mu.Unlock()
	_ = w.listener.Close()
	w.pumps.Wait()
}

func (w *wire) serve() {
	for {
		caller, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.pumps.Go(func() { w.connect(caller) })
	}
}

func (w *wire) connect(caller net.Conn) {
	defer caller.Close()
	w.mu.Lock()
	w.calls++
	cut := w.state == wireCut || w.ended
	w.mu.Unlock()
	if cut {
		return
	}
	target, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer target.Close()
	w.mu.Lock()
	if cut = w.state == wireCut || w.ended; !cut {
		w.open[caller] = target
	}
	w.mu.Unlock()
	if cut {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.pump(target, caller, false) })
	both.Go(func() { w.pump(caller, target, true) })
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, caller)
}

// pump carries octets one way until that way is closed.
func (w *wire) pump(to, from net.Conn, answers bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if answers && w.stripped() { // an answer comes in one piece here
			copy(buffer, bytes.ReplaceAll(buffer[:n], []byte("STARTTLS"), []byte("XNOTHING")))
		}
		for rest := buffer[:n]; len(rest) > 0; {
			piece, ok := w.pass(len(rest))
			if !ok {
				return
			}
			if _, err := to.Write(rest[:piece]); err != nil {
				// The other way must not go on into nowhere.
				_ = from.Close()
				return
			}
			rest = rest[piece:]
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func (w *wire) stripped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state == wireStripped
}

// pass waits until so many octets or some of them may go, and says how many.
func (w *wire) pass(octets int) (int, bool) {
	for {
		w.mu.Lock()
		state, turn, ended := w.state, w.turn, w.ended
		w.mu.Unlock()
		switch {
		case ended:
			return 0, false
		case state == wireSlow:
			select {
			case <-time.After(time.Millisecond):
			case <-turn:
			}
			return min(octets, 1<<10), true
		case state != wireSilent:
			return octets, true
		}
		<-turn
	}
}

// trouble does something to the wire for a moment, and mends it.
func (w *wire) trouble(r *rand.Rand, most time.Duration) {
	long := time.Duration(r.Int64N(int64(most)))
	switch r.IntN(4) {
	case 0:
		w.set(wireCut)
	case 1:
		w.set(wireSilent)
	case 2:
		w.set(wireSlow)
	default:
		w.halfClose(r.IntN(2) == 0)
	}
	<-time.After(long)
	w.set(wireWhole)
}

// The wire itself does what the tests believe.
func TestWire(t *testing.T) {
	t.Parallel()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	w := newWire(t, l.Addr().String())
	call := func() net.Conn { return must[net.Conn](t)(net.Dial("tcp", w.address())) }
	echo := func(c net.Conn, text string) error {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		back := make([]byte, len(text))
		if _, err := io.ReadFull(c, back); err != nil {
			return err
		}
		if !bytes.Equal(back, []byte(text)) {
			t.Errorf("%q came back as %q", text, back)
		}
		return nil
	}
	c := call()
	if err := echo(c, "intero"); err != nil {
		t.Fatal(err)
	}
	w.set(wireSilent)
	silent := make(chan error, 1)
	go func() { silent <- echo(c, "muto") }()
	eventually(t, patience, "the connection", func() bool { return w.called() == 1 })
	select {
	case err := <-silent:
		t.Fatalf("octets passed a silent wire: %v", err)
	case <-time.After(30 * time.Millisecond): // to see that nothing happens
	}
	w.set(wireSlow)
	if err := <-silent; err != nil {
		t.Fatal(err)
	}
	w.set(wireCut)
	if err := echo(c, "tagliato"); err == nil {
		t.Error("a connection outlived the cut")
	}
	if c = call(); echo(c, "tagliato") == nil {
		t.Error("a connection was made while the wire was cut")
	}
	w.set(wireWhole)
	if c = call(); echo(c, "intero") != nil {
		t.Error("the wire is not whole again")
	}
	w.halfClose(false)
	if err := echo(c, "mezzo"); err == nil {
		t.Error("the target's end was not closed")
	}
}
