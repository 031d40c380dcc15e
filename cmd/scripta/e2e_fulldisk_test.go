package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/mta/pec"
)

// A disk that fills up while messages come in: clients are told so, nothing that
// was acknowledged is lost, and service resumes by itself when there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "mounting a small disk needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		missing(t, "mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := newProviderIn(t, filepath.Join(disk, "pec"), []string{"mario", "lucia"}, func(c *config.Config) { c.Mail.MinFreeBytes = 16 << 20 })
	p.start(t)
	var acked []string
	send := func(n int) error {
		id := "<full" + strconv.Itoa(n) + "@client>"
		c, err := p.login("mario")
		if err != nil {
			return err
		}
		defer c.Close()
		l := letter{id: id, from: address("mario"), to: []string{address("lucia")}, subject: "pieno", body: strings.Repeat("x\r\n", 20_000)}
		err = c.submit(l.from, l.recipients(), l.String())
		if err == nil {
			acked = append(acked, id)
		}
		return err
	}
	if err := send(0); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(disk, "ballast")
	f := must[*os.File](t)(os.Create(ballast))
	defer f.Close()
	refused := ""
	block := make([]byte, 4<<20)
	for n := 1; refused == ""; n++ {
		if n > 200 {
			t.Fatal("a full disk refused nothing")
		}
		_, _ = f.Write(block) // until there is no more
		if refused = refusal(send(n)); refused != "" && !strings.HasPrefix(refused, "452 ") && !strings.HasPrefix(refused, "451 ") {
			t.Errorf("refused with %q", refused)
		}
	}
	for { // to the last byte
		if _, err := f.Write(block[:4096]); err != nil {
			break
		}
	}
	for n := range 5 {
		if got := refusal(send(1000 + n)); !strings.HasPrefix(got, "45") {
			t.Errorf("a disk without a byte left: %q", got)
		}
	}
	if code, out := p.scripta(t, "status"); code != 1 || !strings.Contains(out, "FAILED disk") {
		t.Errorf("status of a full disk: %d\n%s", code, out)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// The daemon goes on by itself, or has ended because its log could not be
	// written, and is started again as a supervisor would.
	deadline := time.Now().Add(patience)
	for n := 2000; send(n) != nil; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("service does not resume\n%s", p.logged(t))
		}
		select {
		case <-p.daemon.ended:
			t.Log("the daemon had ended and is started again")
			p.start(t)
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.idle(t, 2*time.Minute)
	for _, id := range acked {
		p.one(t, "mario", pec.Acceptance, id)
		p.one(t, "lucia", pec.TransportEnvelope, id)
		p.one(t, "mario", pec.Delivery, id)
	}
	p.stop(t)
	p.verifyLog(t)
	p.noLeftOvers(t)
}
