package bench

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// rawEntry is the length in bytes of an entry in the raw file, and in the peer's
// log: what a record of the mail path occupies in the leaf files.
const rawEntry = 700

// rawFile is the limit that the register is measured against: the least that any
// log must do for a durable append. Entries go to the end of one file; whoever
// comes while a sync is under way shares the next one.
type rawFile struct {
	f    *os.File
	turn sync.Mutex // held during a write and its sync
	mu   sync.Mutex // guards next
	next *rawBatch
}

type rawBatch struct {
	buf  []byte
	done chan struct{}
	err  error
}

func createRaw(name string) (*rawFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't make the raw file: %w", err)
	}
	return &rawFile{f: f}, nil
}

// append returns when entry is on the disk.
func (r *rawFile) append(entry []byte) error {
	r.mu.Lock()
	b := r.next
	lead := b == nil
	if lead {
		b = &rawBatch{done: make(chan struct{})}
		r.next = b
	}
	b.buf = append(b.buf, entry...)
	r.mu.Unlock()
	if !lead {
		<-b.done
		return b.err
	}
	r.turn.Lock()
	runtime.Gosched() // those whom the last sync released join this one
	r.mu.Lock()
	r.next = nil
	r.mu.Unlock()
	if _, b.err = r.f.Write(b.buf); b.err == nil {
		b.err = unix.Fdatasync(int(r.f.Fd()))
	}
	r.turn.Unlock()
	close(b.done)
	return b.err
}

func (r *rawFile) close() error { return r.f.Close() }
