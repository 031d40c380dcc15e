package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"scripta/internal/config"
)

// witnessProcess is a witness's folder and the process that serves it.
type witnessProcess struct {
	dir  witnessDir
	vkey string
	url  string
	log  string
	cmd  *exec.Cmd
}

func newWitness(t *testing.T, name string) *witnessProcess {
	t.Helper()
	w := &witnessProcess{dir: witnessDir(filepath.Join(t.TempDir(), "witness")), log: filepath.Join(t.TempDir(), "log")}
	out, err := run(t, binary, "witness", "init", "--dir", string(w.dir), "--name", name)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.vkey = strings.TrimSpace(out)
	t.Cleanup(w.kill)
	return w
}

// watch names a log to cosign.
func (w *witnessProcess) watch(t *testing.T, p *provider) {
	t.Helper()
	b := must[[]byte](t)(os.ReadFile(p.dir.PublicLogKey()))
	if err := os.WriteFile(w.dir.logs(), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// start serves the witness, at the port that it had before.
func (w *witnessProcess) start(t *testing.T) {
	t.Helper()
	listen := "127.0.0.1:0"
	if w.url != "" {
		listen = strings.TrimPrefix(w.url, "http://")
	}
	log := must[*os.File](t)(os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))
	defer log.Close()
	w.cmd = exec.Command(binary, "witness", "serve", "--dir", string(w.dir), "--listen", listen)
	w.cmd.Stderr = log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out := must[io.ReadCloser](t)(w.cmd.StdoutPipe())
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, err2 := fmt.Sscanf(line, "ready witness=%s", &w.url); err != nil || err2 != nil {
		t.Fatalf("it says %q: %v\n%s", line, err, must[[]byte](t)(os.ReadFile(w.log)))
	}
}

// kill ends the witness by SIGKILL.
func (w *witnessProcess) kill() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.cmd = nil
	}
}

// finished waits until every accepted message has every outcome, whatever else
// status says, and returns its exit code and text.
func (p *provider) finished(t *testing.T, say func(code int, status string) bool) (code int, status string) {
	t.Helper()
	eventually(t, time.Minute, "status", func() bool {
		code, status = p.scripta(t, "status")
		m := underWay.FindStringSubmatch(status)
		return m != nil && m[1] == "0" && say(code, status)
	})
	return code, status
}

// verifyUnder runs verify under another folder of trust.
func (e *evidenceFile) verifyUnder(t *testing.T, trust string) (ok bool, out string) {
	t.Helper()
	out, err := run(t, binary, "verify", e.path, "--trust", trust)
	return err == nil && strings.HasSuffix(out, "VERIFIED\n"), out
}

// pythonVerify checks with the second implementation.
func (e *evidenceFile) pythonVerify(t *testing.T, trust string) (ok bool, out string) {
	t.Helper()
	out, err := run(t, need(t, "python3"), abs(t, filepath.Join("..", "..", "testdata", "verify_evidence.py")), e.path,
		filepath.Join(trust, "log.vkey"), filepath.Join(trust, "witnesses"))
	return err == nil, out
}

// TestWitnessesOfTwoProviders has two providers watch each other; then one is run
// twice from a copy of its folder, which forks its log.
func TestWitnessesOfTwoProviders(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	a, b := newProvider(t, []string{"mario", "lucia"}, nil), newProvider(t, []string{"mario", "lucia"}, nil)
	ofA, ofB := newWitness(t, "a.example/witness"), newWitness(t, "b.example/witness")
	ofA.watch(t, b)
	ofB.watch(t, a)
	ofA.start(t)
	ofB.start(t)
	a.configure(t, func(c *config.Config) { c.Witness.Peers = []string{ofB.vkey + " " + ofB.url} })
	b.configure(t, func(c *config.Config) { c.Witness.Peers = []string{ofA.vkey + " " + ofA.url} })
	write := func(p *provider, id string) {
		t.Helper()
		p.send(t, letter{id: "<" + id + "@client>", from: address("mario"), to: []string{address("lucia")}, subject: id})
	}
	cosigned := func(_ int, status string) bool { return strings.Contains(status, "cosigned by 1 of 1") }
	for p, name := range map[*provider]string{a: "b.example/witness", b: "a.example/witness"} {
		p.start(t)
		write(p, "first")
		if code, status := p.finished(t, cosigned); code != 0 || !strings.Contains(status, name) {
			t.Errorf("status: exit %d\n%s", code, status)
		}
		e := p.extract(t, "--mailbox", address("mario"))
		ok, out := e.verifyUnder(t, p.dir.Public())
		if !ok || !strings.Contains(out, "1 of 1: "+name) {
			t.Errorf("verify\n%s", out)
		}
		if ok, out := e.pythonVerify(t, p.dir.Public()); !ok || !strings.Contains(out, "cosigned by 1 or more of 1") {
			t.Errorf("python\n%s", out)
		}
		out = must[string](t)(run(t, curl, "-sSf", "--cacert", p.dir.PublicTLSCA(), "https://"+p.listen.HTTPS+"/checkpoint"))
		if !strings.Contains(out, "\n— "+name+" ") {
			t.Errorf("/checkpoint is\n%s", out)
		}
		out = must[string](t)(run(t, curl, "-sSf", "http://"+p.listen.Metrics+"/metrics"))
		if !strings.Contains(out, `scripta_witness_cosigned_age_seconds{witness="`+name+`"}`) || strings.Contains(out, `scripta_witness_cosigned_leaves{witness="`+name+`"} 0`) {
			t.Errorf("metrics are\n%s", out)
		}
	}
	// The other provider's witness is no witness of this one.
	if ok, out := a.extract(t, "--mailbox", address("mario")).verifyUnder(t, b.dir.Public()); ok {
		t.Errorf("A's evidence verified under B's trust\n%s", out)
	}
	b.stop(t)

	// A copy of A's folder goes on by itself. The witness is killed in between.
	a.stop(t)
	fork := &provider{domain: testDomain, dir: config.Dir(filepath.Join(t.TempDir(), "pec")), log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() { fork.finish(t) })
	if err := os.CopyFS(string(fork.dir), os.DirFS(string(a.dir))); err != nil {
		t.Fatal(err)
	}
	private(t, fork.dir)
	fork.configure(t, func(c *config.Config) { c.Listen.PortBase = freePorts(t) })
	a.start(t)
	write(a, "history")
	a.finished(t, cosigned)
	// What A's witness saw is known wherever A is restored.
	ofB.kill()
	ofB.start(t)
	fork.start(t)
	write(fork, "forgery")
	if code, status := fork.finished(t, func(code int, _ string) bool { return code != 0 }); !strings.Contains(status, "FAILED witnesses") {
		t.Errorf("status of the fork: exit %d\n%s", code, status)
	}
	e := fork.extract(t, "--mailbox", address("mario"))
	if e.find("forgery") == nil {
		t.Fatal("the fork's evidence does not tell of its message")
	}
	gullible := t.TempDir()
	if err := os.CopyFS(gullible, os.DirFS(a.dir.Public())); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(gullible, "witnesses")); err != nil {
		t.Fatal(err)
	}
	if ok, out := e.verifyUnder(t, gullible); !ok {
		t.Errorf("it is the log's own key: without witnesses nobody could tell\n%s", out)
	}
	ok, out := e.verifyUnder(t, a.dir.Public())
	if ok || !strings.Contains(out, "NOT VERIFIED: witnesses\n") {
		t.Errorf("the fork's evidence\n%s", out)
	}
	if ok, out := e.pythonVerify(t, a.dir.Public()); ok {
		t.Errorf("python: the fork's evidence\n%s", out)
	}
	write(a, "more history")
	a.finished(t, cosigned)
	if ok, out := a.extract(t, "--mailbox", address("mario")).verifyUnder(t, a.dir.Public()); !ok {
		t.Errorf("the honest log\n%s", out)
	}
	fork.stop(t)
	a.stop(t)
}

// private takes from the copies of keys what os.CopyFS gave to others.
func private(t *testing.T, dir config.Dir) {
	t.Helper()
	err := filepath.WalkDir(string(dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// find is a record about a message with this subject.
func (e *evidenceFile) find(subject string) *shownRecord {
	for i := range e.records {
		if e.records[i].text("subject") == subject {
			return &e.records[i]
		}
	}
	return nil
}

// TestBelowQuorum holds for a provider whose witness is away: mail flows, unless it
// is configured to stop.
func TestBelowQuorum(t *testing.T) {
	t.Parallel()
	p, w := newProvider(t, []string{"mario", "lucia"}, nil), newWitness(t, "w.example/1")
	w.watch(t, p)
	w.start(t)
	p.configure(t, func(c *config.Config) {
		c.Witness.Peers = []string{w.vkey + " " + w.url}
		c.Witness.Patience.Duration = time.Second
	})
	w.kill()
	p.start(t)
	write := func(id string) error {
		c := must[*client](t)(p.login("mario"))
		defer c.Close()
		l := letter{id: "<" + id + "@client>", from: address("mario"), to: []string{address("lucia")}, subject: id}
		return c.submit(l.from, l.recipients(), l.String())
	}
	warned := func(code int, status string) bool { return strings.Contains(status, "warn   witnesses") && code == 0 }
	if _, status := p.finished(t, warned); !strings.Contains(status, "no quorum since") {
		t.Error(status)
	}
	if err := write("warned"); err != nil {
		t.Errorf("mail is stopped though it must not be: %v", err)
	}
	p.finished(t, warned)
	p.stop(t)

	p.configure(t, func(c *config.Config) { c.Witness.BelowQuorum = config.BelowQuorumRefuse })
	p.start(t)
	p.finished(t, func(code int, status string) bool { return strings.Contains(status, "FAILED witnesses") && code == 1 })
	if err := write("refused"); !strings.HasPrefix(refusal(err), "451 ") {
		t.Errorf("accepted without witnesses: %v", err)
	}
	w.start(t)
	p.finished(t, func(code int, status string) bool { return strings.Contains(status, "cosigned by 1 of 1") && code == 0 })
	if err := write("again"); err != nil {
		t.Errorf("refused though the witness is back: %v", err)
	}
	p.stop(t)
}
