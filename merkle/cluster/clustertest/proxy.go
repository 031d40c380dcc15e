package clustertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections, until the network is cut.
type Proxy struct {
	target   string
	listener net.Listener

	mu    sync.Mutex
	open  *sync.Cond // signalled when cut or closed changes
	cut   bool
	conns map[net.Conn]bool
}

// NewProxy listens on loopback and forwards to target.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, conns: map[net.Conn]bool{}}
	p.open = sync.NewCond(&p.mu)
	go p.accept()
	t.Cleanup(func() {
		l.Close()
		p.Heal(true)
	})
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut lets nothing through any more, in either direction, and closes nothing:
// both sides wait, as after a cable was pulled.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
}

// Heal lets through what came meanwhile, as a network does that sends again; or,
// if reset, closes every connection.
func (p *Proxy) Heal(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reset {
		for c := range p.conns {
			c.Close()
		}
	}
	p.cut = false
	p.open.Broadcast()
}

// pass waits until the network is whole.
func (p *Proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut {
		p.open.Wait()
	}
}

func (p *Proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.keep(from)
		go func() {
			defer p.drop(from)
			p.pass()
			to, err := net.Dial("tcp", p.target)
			if err != nil {
				return
			}
			p.keep(to)
			defer p.drop(to)
			var both sync.WaitGroup
			both.Go(func() { p.copy(to, from) })
			both.Go(func() { p.copy(from, to) })
			both.Wait()
		}()
	}
}

// copy forwards one direction and closes both ends with it.
func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.pass()
		if _, werr := to.Write(b[:n]); werr != nil || err != nil && err != io.EOF {
			return
		}
		if err == io.EOF {
			return
		}
	}
}
