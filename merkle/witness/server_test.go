package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable/faultfs"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
)

// TestForkIsRefusedForEver forks a log after 100 leaves: the same key signs two
// histories.
func TestForkIsRefusedForEver(t *testing.T) {
	t.Parallel()
	ctx, dir, s := context.Background(), t.TempDir(), newSigner(t, "w.example/1")
	w := newServer(t, dir, nil, s)
	c := newClient(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.ServeHTTP(rw, r) }), s)
	good, fork := newLog(t, t.TempDir()), newLog(t, t.TempDir())
	small, same := grow(t, good, "common", 100), grow(t, fork, "common", 100)
	if small.Root != same.Root {
		t.Fatal("the histories do not begin alike")
	}
	for _, l := range []*merkle.Log{good, fork} { // of which they are one log
		if _, err := c.Cosign(ctx, small, l.Consistency); err != nil {
			t.Fatal(err)
		}
	}
	mid := grow(t, good, "good", 200)
	line, err := c.Cosign(ctx, mid, good.Consistency)
	if err != nil {
		t.Fatal(err)
	}
	_, v := logKey(t, 1)
	cosigned := append(mid.Stamped(), line...)
	n, err := note.Open(cosigned, note.VerifierList(v, s.Verifier()))
	if err != nil || len(n.Sigs) != 2 {
		t.Fatalf("opened %+v, %v", n, err)
	}
	forked := grow(t, fork, "fork", 200)
	for range 2 { // before and after a restart
		if _, err := c.Cosign(ctx, forked, fork.Consistency); !errors.Is(err, ErrFork) {
			t.Errorf("a fork of the same size: %v", err)
		}
		stranger := *c
		stranger.size = 0 // does not know what the witness has
		if _, err := stranger.Cosign(ctx, forked, fork.Consistency); !errors.Is(err, ErrFork) {
			t.Errorf("a fork, after asking: %v", err)
		}
		longer := grow(t, fork, "fork", 50)
		if _, err := c.Cosign(ctx, longer, fork.Consistency); !errors.Is(err, ErrFork) {
			t.Errorf("a longer fork: %v", err)
		}
		if _, err := stranger.Cosign(ctx, small, good.Consistency); !errors.Is(err, ErrAhead) {
			t.Errorf("a log rolled back: %v", err)
		}
		if _, err := c.Cosign(ctx, mid, good.Consistency); err != nil {
			t.Errorf("the honest log: %v", err)
		}
		w.Close()
		w = newServer(t, dir, nil, s)
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "w.example/1")
	w := newServer(t, t.TempDir(), nil, s)
	l := newLog(t, t.TempDir())
	cp := grow(t, l, "good", 10)
	other, _ := logKey(t, 2)
	forged, err := note.Sign(&note.Note{Text: cp.Text()}, other)
	if err != nil {
		t.Fatal(err)
	}
	valid := (&Request{Note: cp.Stamped()}).Bytes()
	for _, c := range []struct {
		name, path, method string
		body               []byte
		status             int
		answer             string
	}{
		{"another path", "/x", "POST", valid, 404, ""},
		{"nothing cosigned yet", latestPath(origin), "GET", nil, 404, ""},
		{"GET", "/add-checkpoint", "GET", nil, 405, ""},
		{"nothing", "/add-checkpoint", "POST", nil, 400, ""},
		{"no note", "/add-checkpoint", "POST", []byte("old 0\n\nx"), 400, ""},
		{"too long", "/add-checkpoint", "POST", bytes.Repeat([]byte("a"), MaxRequestSize+1), 400, ""},
		{"old above the size", "/add-checkpoint", "POST", (&Request{Old: 11, Note: cp.Stamped()}).Bytes(), 400, ""},
		{"another key", "/add-checkpoint", "POST", (&Request{Note: forged}).Bytes(), 403, ""},
		{"a broken signature", "/add-checkpoint", "POST", bytes.Replace(valid, []byte("\n10\n"), []byte("\n11\n"), 1), 403, ""},
		{"another log", "/add-checkpoint", "POST", bytes.ReplaceAll(valid, []byte(origin), []byte("y.example")), 404, ""},
		{"an old size that is not", "/add-checkpoint", "POST", (&Request{Old: 3, Note: cp.Stamped()}).Bytes(), 409, "0\n"},
		{"a proof from nothing", "/add-checkpoint", "POST", (&Request{Proof: make([][32]byte, 1), Note: cp.Stamped()}).Bytes(), 422, ""},
		{"good, below a prefix", "/p/add-checkpoint", "POST", valid, 200, ""},
		{"what was cosigned", "/p" + latestPath(origin), "GET", nil, 200, ""},
		{"of another log", latestPath("y.example"), "GET", nil, 404, ""},
		{"what was cosigned, by POST", latestPath(origin), "POST", valid, 404, ""},
		{"once more from 0", "/add-checkpoint", "POST", valid, 409, "10\n"},
		{"once more from 10", "/add-checkpoint", "POST", (&Request{Old: 10, Note: cp.Stamped()}).Bytes(), 200, ""},
	} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(c.method, c.path, bytes.NewReader(c.body)))
		if rec.Code != c.status || c.answer != "" && (rec.Body.String() != c.answer || rec.Header().Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: %d %q, want %d %q", c.name, rec.Code, rec.Body, c.status, c.answer)
		}
		if rec.Code == 200 && c.method == "POST" && !strings.HasPrefix(rec.Body.String(), "— w.example/1 ") {
			t.Errorf("%s: %q", c.name, rec.Body)
		}
	}
}

func TestCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), newSigner(t, "w.example/1")
	good, fork := newLog(t, t.TempDir()), newLog(t, t.TempDir())
	first, second := grow(t, good, "good", 10), grow(t, good, "good", 10)
	forked := grow(t, fork, "fork", 20)
	cosigned := 0
	for at := 1; ; at++ {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "w"), 0o700); err != nil {
			t.Fatal(err)
		}
		fsys, err := faultfs.New(dir, faultfs.CrashAt(at))
		if err != nil {
			t.Fatal(err)
		}
		_, v := logKey(t, 1)
		got := uint64(0)
		w, err := OpenServer(ServerOptions{Dir: filepath.Join(dir, "w"), FS: fsys, Signer: s, Logs: []note.Verifier{v}, PerAddress: 1e6, PerLog: 1e6, Logger: quiet})
		if err == nil {
			c := newClient(t, w, s)
			for _, cp := range []*checkpoint.Signed{first, second} {
				if _, err := c.Cosign(ctx, cp, good.Consistency); err == nil {
					got = cp.Size
				}
			}
			w.Close()
		}
		crashed := fsys.Crashed()
		if err := fsys.PowerLoss(); err != nil {
			t.Fatal(err)
		}
		if got > 0 {
			cosigned++
			c := newClient(t, newServer(t, filepath.Join(dir, "w"), nil, s), s)
			if _, err := c.Cosign(ctx, forked, fork.Consistency); !errors.Is(err, ErrFork) {
				t.Errorf("crash at call %d: a fork after %d were cosigned: %v", at, got, err)
			}
		}
		if !crashed {
			break
		}
	}
	if cosigned < 3 {
		t.Errorf("only %d rounds cosigned anything", cosigned)
	}
}

func TestDamagedStateIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), newSigner(t, "w.example/1")
	w := newServer(t, dir, nil, s)
	l := newLog(t, t.TempDir())
	if _, err := newClient(t, w, s).Cosign(context.Background(), grow(t, l, "good", 5), l.Consistency); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for _, damage := range []string{"", origin + "\n"} {
		if err := os.WriteFile(files[0], []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newClient(t, w, s).Cosign(context.Background(), grow(t, l, "good", 5), l.Consistency); !errors.Is(err, ErrAnswer) {
			t.Errorf("cosigned with a state of %q: %v", damage, err)
		}
	}
	w.Close()
	_, v := logKey(t, 1)
	if w, err := OpenServer(ServerOptions{Dir: dir, Signer: s, Logs: []note.Verifier{v}, PerAddress: 1e6, PerLog: 1e6, Logger: quiet}); err == nil {
		w.Close()
		t.Error("opened with a damaged state")
	}
}

// TestRates holds for strangers, who cost little, and for a log that signs too
// much, of which each new checkpoint costs a write.
func TestRates(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	now := func() time.Time { return time.Unix(1_700_000_000, clock.Load()) }
	_, v := logKey(t, 1)
	s := newSigner(t, "w.example/1")
	w, err := OpenServer(ServerOptions{Dir: t.TempDir(), Signer: s, Logs: []note.Verifier{v}, PerAddress: 2, PerLog: 1, Now: now, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ask := func(address string, body []byte) int {
		rec, req := httptest.NewRecorder(), httptest.NewRequest("POST", "/add-checkpoint", bytes.NewReader(body))
		req.RemoteAddr = address
		w.ServeHTTP(rec, req)
		return rec.Code
	}
	for range 2 * burstSeconds {
		if got := ask("[2001:db8::1]:1", nil); got != 400 {
			t.Fatal(got)
		}
	}
	if got := ask("[2001:db8::2]:2", nil); got != 429 {
		t.Errorf("the same network, after its burst: %d", got)
	}
	clock.Add(int64(time.Second / 2))
	if got := ask("[2001:db8::3]:3", nil); got != 400 {
		t.Errorf("half a second later: %d", got)
	}
	l := newLog(t, t.TempDir())
	var last *checkpoint.Signed
	slowed := 0
	for i := range burstSeconds + 3 {
		from := l.Checkpoint().Size
		last = grow(t, l, "good", 1)
		proof, err := l.Consistency(t.Context(), from, last.Size)
		if err != nil {
			t.Fatal(err)
		}
		switch got := ask(fmt.Sprintf("192.0.2.%d:1", i), (&Request{Old: from, Proof: proof, Note: last.Stamped()}).Bytes()); got {
		case 429:
			slowed++
		case 409: // after one that was slowed down
		case 200:
		default:
			t.Fatal(got)
		}
	}
	if slowed != 1 { // the others then do not continue what was cosigned
		t.Errorf("%d checkpoints slowed down", slowed)
	}
}

// TestLatestSeen asks what is known of a log of which only an old checkpoint is
// left.
func TestLatestSeen(t *testing.T) {
	t.Parallel()
	ctx, l, never := t.Context(), newLog(t, t.TempDir()), newSigner(t, "w.example/never")
	_, v := logKey(t, 1)
	s := newSigner(t, "w.example/1")
	h := newServer(t, t.TempDir(), nil, s)
	post := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // one that shows nothing
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
	clients := []*Client{newClient(t, h, s), newClient(t, post, s), newClient(t, newServer(t, t.TempDir(), nil, never), never),
		newClient(t, http.NotFoundHandler(), s)}
	old := grow(t, l, "good", 10)
	latest := grow(t, l, "good", 7)
	if _, err := clients[0].Cosign(ctx, latest, l.Consistency); err != nil {
		t.Fatal(err)
	}
	empty, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: origin, Root: sha256.Sum256(nil)}, func() note.Signer { s, _ := logKey(t, 1); return s }())
	if err != nil {
		t.Fatal(err)
	}
	for name, left := range map[string]*checkpoint.Signed{"empty": empty, "old": old, "latest": latest} {
		got := LatestSeen(ctx, clients, v, left)
		if g := got[0]; g.Err != nil || g.Size != 17 || g.Checkpoint == nil || g.Checkpoint.Root != latest.Root {
			t.Errorf("%s: %+v", name, g)
		}
		if g := got[1]; g.Err != nil || g.Size != 17 || g.Checkpoint != nil {
			t.Errorf("%s: one that shows nothing: %+v", name, g)
		}
		if g := got[3]; !errors.Is(g.Err, ErrAnswer) {
			t.Errorf("%s: no witness: %+v", name, g)
		}
	}
	if got := LatestSeen(ctx, clients[2:3], v, empty)[0]; got.Err != nil || got.Witness != "w.example/never" || got.Size > 17 {
		t.Errorf("one that did not know the log: %+v", got)
	}
}
