package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/archive/backup"
	"scripta/internal/config"
)

// bringBack restores a backup into a new folder.
func (p *provider) bringBack(t *testing.T, from, keys string, args ...string) (*provider, string) {
	t.Helper()
	r := &provider{domain: testDomain, dir: config.Dir(filepath.Join(t.TempDir(), "back")), log: filepath.Join(t.TempDir(), "log")}
	out, err := run(t, binary, append([]string{"restore", "--from", from, "--keys", keys, "--dir", string(r.dir)}, args...)...)
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	r.configure(t, func(c *config.Config) { c.Listen.PortBase = freePorts(t) })
	t.Cleanup(func() { r.finish(t) })
	return r, out
}

// Backups made under load hold everything that was acknowledged before them, and
// no secret; what was lost since is refused, then accepted, then stated.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"anna", "bruno"}, nil)
	backups, keys := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "keys")
	p.start(t)
	p.sendAll(t, "before", 3)
	p.command(t, "keys", "backup", "--to", keys)

	// Under load: what was acknowledged before the backup began must be in it.
	var load sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	acknowledged := 0
	load.Go(func() {
		c, err := p.login("anna")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			l := letter{id: fmt.Sprintf("<load-%d@client.example>", i), from: address("anna"), to: []string{address("bruno")}, subject: fmt.Sprintf("load %d", i)}
			if err := c.submit(l.from, l.recipients(), l.String()); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			acknowledged = i + 1
			mu.Unlock()
		}
	})
	eventually(t, patience, "ten messages", func() bool { mu.Lock(); defer mu.Unlock(); return acknowledged >= 10 })
	mu.Lock()
	must := acknowledged
	mu.Unlock()
	first := strings.TrimSuffix(strings.TrimSpace(p.command(t, "backup", "--to", backups)), ": a whole backup, checked")
	close(stop)
	load.Wait()
	p.idle(t, 2*time.Minute)

	t.Run("no secrets", func(t *testing.T) {
		for _, bad := range []string{"files/keys/master.key", "files/keys/months"} {
			if _, err := os.Stat(filepath.Join(first, bad)); err == nil {
				t.Errorf("the backup holds %s", bad)
			}
		}
		for _, to := range []string{string(p.dir), filepath.Join(string(p.dir), "x"), keys} {
			if code, out := p.scripta(t, "backup", "--to", to); code != 1 {
				t.Errorf("a backup in %s: exit %d\n%s", to, code, out)
			}
		}
		for _, to := range []string{backups, first, filepath.Join(first, "files", "keys"), string(p.dir.Keys())} {
			if code, out := p.scripta(t, "keys", "backup", "--to", to); code != 1 || !strings.Contains(out, "may not lie with the data") {
				t.Errorf("keys in %s: exit %d\n%s", to, code, out)
			}
		}
	})
	t.Run("restored", func(t *testing.T) {
		r, _ := p.bringBack(t, first, keys, "--nothing-newer")
		r.audited(t)
		r.start(t)
		r.idle(t, 2*time.Minute)
		e := r.extract(t, "--mailbox", address("bruno"))
		r.verify(t, e.path)
		got := strings.Join(subjects(e), "\n")
		for i := range must {
			if !strings.Contains(got+"\n", fmt.Sprintf("load %d\n", i)) {
				t.Errorf("message %d was acknowledged before the backup, and is not in it", i)
			}
		}
		r.stop(t)
		r.audited(t)
	})

	// A second backup links what did not change.
	p.sendAll(t, "lost", 2)
	p.stop(t)
	second := strings.TrimSuffix(strings.TrimSpace(p.command(t, "backup", "--to", backups)), ": a whole backup, checked")
	a, err := os.Stat(filepath.Join(first, "files", "public", "ca.pem"))
	b, berr := os.Stat(filepath.Join(second, "files", "public", "ca.pem"))
	if err != nil || berr != nil || !os.SameFile(a, b) {
		t.Errorf("an unchanged file was copied again: %v %v", err, berr)
	}
	newest := filepath.Join(t.TempDir(), "checkpoint")
	if err := os.WriteFile(newest, mustRead(t, filepath.Join(p.dir.Log(), "checkpoint")), 0o600); err != nil {
		t.Fatal(err)
	}

	// The old backup, with the newest checkpoint known.
	if out, err := run(t, binary, "restore", "--from", first, "--keys", keys, "--dir", filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(out, "--nothing-newer") {
		t.Errorf("restored although nobody said what is known: %s", out)
	}
	r, out := p.bringBack(t, first, keys, "--checkpoint", newest)
	if !strings.Contains(out, "LOST: ") || !strings.Contains(out, "accept-rollback") {
		t.Errorf("restore does not tell what is lost: %s", out)
	}
	if code, out := r.scripta(t, "serve"); code != 1 || !strings.Contains(out, "scripta log accept-rollback") {
		t.Errorf("the old backup starts: exit %d\n%s", code, out)
	}
	r.command(t, "log", "accept-rollback", "--yes-records-are-lost")
	r.start(t)
	r.sendAll(t, "second", 1)
	e := r.extract(t, "--mailbox", address("bruno"))
	inner := filepath.Join(t.TempDir(), "inner.zip")
	for _, n := range e.names {
		if strings.HasPrefix(n, "previous/") {
			if err := os.WriteFile(inner, e.files[n], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := subjects(readEvidence(t, inner))
	if s := strings.Join(old, " "); !strings.Contains(s, "before 0") || strings.Contains(s, "lost") {
		t.Errorf("the frozen log shows %q", old)
	}
	if out, err := run(t, binary, "verify", e.path, "--trust", r.dir.Public()); err != nil || !strings.Contains(out, "GAP: between size") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	r.stop(t)
	r.audited(t)
}

// audited checks everything that a stopped provider keeps. A receipt whose record
// came after the backup is noted, and no failure.
func (p *provider) audited(t *testing.T) {
	t.Helper()
	if out := p.command(t, "log", "verify"); !strings.Contains(out, "ok: ") {
		t.Errorf("log verify: %s", out)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A backup that was killed does not pass for one, and one that was changed does
// not verify.
func TestBackupKilledOrChanged(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"anna", "bruno"}, nil)
	backups, keys := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "keys")
	p.start(t)
	p.sendAll(t, "a", 2)
	p.stop(t)
	p.command(t, "keys", "backup", "--to", keys)
	random := seeded(t)
	for range size(3, 6, 50) {
		cmd := exec.Command(binary, "backup", "--dir", string(p.dir), "--to", backups)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := make(chan error, 1)
		go func() { end <- cmd.Wait() }()
		select { // whenever it happens to be, also before the first file or after the last
		case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
			_ = cmd.Process.Kill()
			<-end
		case <-end:
		}
		all, err := backup.List(backups)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, b := range all {
			p.verifyBackup(t, b)
		}
	}
	eventually(t, patience, "a second that has no backup yet", func() bool {
		code, _ := p.scripta(t, "backup", "--to", backups)
		return code == 0
	})
	entries, err := os.ReadDir(backups)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".making-") {
			t.Errorf("%s is left over", e.Name())
		}
	}
	all, err := backup.List(backups)
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	last := all[len(all)-1]
	var files []string
	if err := filepath.WalkDir(last, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		name := files[random.IntN(len(files))]
		was := mustRead(t, name)
		if len(was) == 0 {
			continue
		}
		changed := append([]byte(nil), was...)
		changed[random.IntN(len(changed))] ^= 1 << random.IntN(8)
		if err := os.WriteFile(name, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(t.TempDir(), "x")
		if out, err := run(t, binary, "restore", "--from", last, "--keys", keys, "--dir", target, "--nothing-newer"); err == nil {
			t.Errorf("restored with a bit flipped in %s: %s", name, out)
		}
		if _, err := os.Stat(target); !os.IsNotExist(err) {
			t.Errorf("something was made of a damaged backup: %v", err)
		}
		if err := os.WriteFile(name, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.verifyBackup(t, last)
}

func (p *provider) verifyBackup(t *testing.T, dir string) {
	t.Helper()
	v, err := loadLogKey(p.dir.PublicLogKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Verify(t.Context(), dir, v); err != nil {
		t.Errorf("%s: %v", dir, err)
	}
}

// A witness tells a restored backup what it lost, and a disk that was rolled back
// whole.
func TestRestoreAsksWitnesses(t *testing.T) {
	t.Parallel()
	p := newProvider(t, []string{"anna", "bruno"}, nil)
	w := newWitness(t, "w.example/witness")
	w.watch(t, p)
	w.start(t)
	p.configure(t, func(c *config.Config) { c.Witness.Peers = []string{w.vkey + " " + w.url} })
	backups, keys, whole := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "whole")
	p.command(t, "keys", "backup", "--to", keys)
	p.command(t, "backup", "--to", backups)
	if out, err := run(t, "cp", "-a", string(p.dir), whole); err != nil {
		t.Fatal(out)
	}
	p.start(t)
	p.sendAll(t, "lost", 1)
	p.finished(t, func(_ int, status string) bool { return strings.Contains(status, "cosigned by 1 of 1") })
	p.stop(t)
	r, out := p.bringBack(t, backups, keys)
	if !strings.Contains(out, "LOST: ") {
		t.Errorf("the witness was not asked: %s", out)
	}
	r.command(t, "log", "accept-rollback", "--yes-records-are-lost")
	back := &provider{domain: testDomain, dir: config.Dir(whole)}
	if out := back.command(t, "log", "accept-rollback", "--yes-records-are-lost"); !strings.Contains(out, "goes on") {
		t.Errorf("a disk that was rolled back whole: %s", out)
	}
	back.audited(t)
}
