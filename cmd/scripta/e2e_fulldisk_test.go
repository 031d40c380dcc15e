package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// A disk that fills up under load stops what it must and nothing else: clients
// are put off with 452, what was acknowledged gets its outcome, and the service
// goes on by itself, without a restart, when there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := &fullDisk{t: t, folder: smallDisk(t, "256m")}
	p := newProviderIn(t, filepath.Join(disk.folder, "pec"), []string{"mario", "lucia"}, func(c *config.Config) {
		c.Mail.MinFreeBytes = 64 << 20
	})
	disk.p = p
	p.start(t)
	stop := disk.senders(4)
	disk.waitFor("messages accepted on an empty disk", func() bool { return disk.acked.Load() >= 5 })
	ballast := disk.fill()
	disk.refuses()
	before := disk.acked.Load()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	disk.waitFor("messages accepted after there is space again", func() bool { return disk.acked.Load() >= before+5 })

	// Once more, and now the daemon ends and cannot start before there is space.
	ballast = disk.fill()
	disk.refuses()
	stop()
	disk.endsInOrder()
	if code, out := p.scripta(t, "serve"); code != 1 || !strings.Contains(out, "the disk is full") {
		t.Errorf("serve on a full disk: exit %d\n%s", code, out)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.idle(t, time.Minute)
	p.stop(t)
	p.verifyLog(t)
	p.noLeftOvers(t)
	disk.check()
}

// refuses waits until clients were put off, and checks that the status says so.
func (d *fullDisk) refuses() {
	d.t.Helper()
	before := d.refused.Load()
	d.waitFor("refusals on a full disk", func() bool { return d.refused.Load() >= before+20 })
	if code, out := d.p.scripta(d.t, "status"); code != 1 || !strings.Contains(out, "FAILED disk") {
		d.t.Errorf("status on a full disk: exit %d\n%s", code, out)
	}
}

// endsInOrder sends SIGTERM. The daemon cannot record that it stops, and says so,
// but it does not crash.
func (d *fullDisk) endsInOrder() {
	d.t.Helper()
	daemon := d.p.daemon
	d.p.daemon = nil
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-daemon.ended:
	case <-time.After(time.Minute):
		daemon.kill()
		d.t.Fatalf("serve did not end within a minute of SIGTERM\n%s", d.p.logged(d.t))
	}
	if code := daemon.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(d.p.logged(d.t), syscall.ENOSPC.Error()) {
		d.t.Errorf("SIGTERM on a full disk: %v\n%s", daemon.err, d.p.logged(d.t))
	}
}

// smallDisk mounts an empty file system of its own.
func smallDisk(t *testing.T, size string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if os.Geteuid() != 0 {
		missing(t, "mounting a small disk needs root")
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		missing(t, "couldn't mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Errorf("couldn't unmount the small disk: %v", err)
		}
	})
	return folder
}

// fullDisk is a provider on a disk that fills up.
type fullDisk struct {
	t      *testing.T
	folder string
	p      *provider

	acked, refused atomic.Int64

	mu   sync.Mutex // guards sent
	sent map[string]bool
}

func (d *fullDisk) waitFor(what string, ok func() bool) {
	d.t.Helper()
	eventually(d.t, time.Minute, what, func() bool {
		select {
		case <-d.p.daemon.ended:
			d.t.Fatalf("the daemon ended while the test waited for %s: %v\n%s", what, d.p.daemon.err, d.p.logged(d.t))
		default:
		}
		return ok()
	})
}

// senders are clients that hand in messages until they are stopped.
func (d *fullDisk) senders(n int) (stop func()) {
	d.sent = map[string]bool{}
	quit := make(chan struct{})
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() { d.send(i, quit) })
	}
	stop = sync.OnceFunc(func() { close(quit); clients.Wait() })
	d.t.Cleanup(stop)
	return stop
}

func (d *fullDisk) send(client int, quit <-chan struct{}) {
	body := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 500)
	for n := 0; ; n++ {
		select {
		case <-quit:
			return
		case <-time.After(time.Millisecond):
		}
		id := fmt.Sprintf("<disk-%d-%d@client.example>", client, n)
		l := letter{id: id, from: address("mario"), to: []string{address("lucia")}, subject: id, body: body}
		c, err := d.p.login("mario")
		if err == nil {
			err = c.submit(l.from, l.to, l.String())
			_ = c.Close()
		}
		d.mu.Lock()
		d.sent[id] = err == nil
		d.mu.Unlock()
		switch answer := refusal(err); {
		case err == nil:
			d.acked.Add(1)
		case strings.HasPrefix(answer, "452"), strings.HasPrefix(answer, "451"):
			d.refused.Add(1)
		default:
			select {
			case <-quit: // the test has given up, and says why
			default:
				d.t.Errorf("on a full disk: %v", err)
			}
			return
		}
	}
}

// fill writes a file until nothing is left on the disk.
func (d *fullDisk) fill() (name string) {
	d.t.Helper()
	name = filepath.Join(d.folder, "ballast")
	f, err := os.Create(name)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	return name
}

// check finds the outcome of every message.
func (d *fullDisk) check() {
	count := map[string]int{} // by kind and Message-ID
	for _, local := range []string{"mario", "lucia"} {
		for _, m := range d.p.mailbox(d.t, local) {
			count[m.Kind.String()+m.Certification.OriginalID]++
		}
	}
	for id, acked := range d.sent {
		for _, kind := range []pec.Kind{pec.Acceptance, pec.TransportEnvelope, pec.Delivery} {
			if n := count[kind.String()+id]; acked && n != 1 || n > 1 {
				d.t.Errorf("%d of %v about %s (accepted: %v)", n, kind, id, acked)
			}
		}
	}
	if kept, submitted := len(d.p.contents(d.t)), d.submitted(); kept != submitted {
		d.t.Errorf("%d contents are kept of %d messages", kept, submitted)
	}
	d.t.Logf("%d messages accepted, %d put off", d.acked.Load(), d.refused.Load())
}

// submitted is the number of messages in the register.
func (d *fullDisk) submitted() (n int) {
	e := d.p.extract(d.t, "--mailbox", address("mario"))
	d.p.verify(d.t, e.path)
	for _, r := range e.records {
		if r.text("kind") == "submitted" {
			n++
		}
	}
	return n
}
