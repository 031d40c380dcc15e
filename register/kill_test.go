package register

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
	"scripta/register/record"
)

// What a process that is made to be killed finds in its environment.
const (
	victimDir     = "SCRIPTA_TEST_REGISTER" // folder of the register
	victimWitness = "SCRIPTA_TEST_WITNESS"  // URL of the witness
	victimKey     = "SCRIPTA_TEST_WITNESS_KEY"
	killsWanted   = "SCRIPTA_KILLS" // how many kills, instead of the default
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := beKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const killWorkers = 24

// killID is the record id of a worker's n-th record.
func killID(worker int, n uint64) record.ID {
	var tx [16]byte
	binary.BigEndian.PutUint32(tx[:], uint32(worker))
	binary.BigEndian.PutUint64(tx[8:], n)
	return record.MakeID(tx, 1, 0)
}

func killBox(worker int) string { return fmt.Sprintf("casella%d@pec.example", worker) }

// killEntry is always the same for the same id, as the spool makes it for real.
func killEntry(worker int, n uint64) Entry {
	return Entry{ID: killID(worker, n), Record: &record.Record{Kind: record.Delivered, Time: start.Add(time.Duration(n) * time.Millisecond),
		MessageID: fmt.Sprintf("%d.%d@pec.example", worker, n), Sender: killBox(worker), About: []string{"lucia@pec.example"}, Subject: "oggetto " + strconv.FormatUint(n, 10)}}
}

// openKilled opens the register that is killed.
func openKilled(ctx context.Context, dir string) (*Register, *merkle.Log, error) {
	months, err := keys.OpenMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master"))
	if err != nil {
		return nil, nil, err
	}
	seed, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		return nil, nil, err
	}
	signer, verifier, err := checkpoint.NewSigner(origin, ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, nil, err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	l, err := merkle.Open(ctx, merkle.Options{Dir: filepath.Join(dir, "log"), Origin: origin, Signer: signer, Verifier: verifier, Logger: logger, MinFree: 1 << 20})
	if err != nil {
		return nil, nil, err
	}
	r, err := Open(ctx, Options{Dir: filepath.Join(dir, "register"), FS: durable.OS, Origin: origin, Log: l, Months: months, Logger: logger})
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return r, l, r.Begin(start)
}

// beKilled appends from many workers, publishes checkpoints and has a witness
// cosign them until the process is killed. Standard input tells where each
// worker begins. It says what it knows to be durable: "open", "record <worker>
// <n> <index> <leaf>", "checkpoint <size> <root>", "cosigned <size> <root>".
func beKilled(dir string) error {
	var next [killWorkers]uint64
	for w := range next {
		if _, err := fmt.Scanln(&next[w]); err != nil {
			return err
		}
	}
	ctx := context.Background()
	r, l, err := openKilled(ctx, dir)
	if err != nil {
		return err
	}
	verifier, err := witness.NewVerifier(os.Getenv(victimKey))
	if err != nil {
		return err
	}
	client := &witness.Client{URL: os.Getenv(victimWitness), Verifier: verifier}
	failed := make(chan error)
	var out sync.Mutex
	say := func(lines string) {
		out.Lock()
		defer out.Unlock()
		if _, err := os.Stdout.WriteString(lines); err != nil {
			failed <- err
		}
	}
	say("open\n")
	go func() {
		for {
			cp, err := l.Publish(ctx)
			if err != nil {
				failed <- err
				return
			}
			say(fmt.Sprintf("checkpoint %d %x\n", cp.Size, cp.Root))
			switch _, err := client.Cosign(ctx, cp, l.Consistency); {
			case err == nil:
				say(fmt.Sprintf("cosigned %d %x\n", cp.Size, cp.Root))
			case errors.Is(err, witness.ErrFork), errors.Is(err, witness.ErrAhead):
				failed <- err
				return
			} // or it is asked too often
			time.Sleep(5 * time.Millisecond) // the pace
		}
	}()
	for w := range killWorkers {
		go func() {
			for n := next[w]; ; {
				entries := make([]Entry, 1+n%3)
				for i := range entries {
					entries[i] = killEntry(w, n+uint64(i))
				}
				got, err := r.Append(ctx, entries...)
				if err != nil {
					failed <- err
					return
				}
				var lines strings.Builder
				for i, a := range got {
					fmt.Fprintf(&lines, "record %d %d %d %x\n", w, n+uint64(i), a.Index, a.Leaf)
				}
				say(lines.String())
				n += uint64(len(entries))
			}
		}()
	}
	return <-failed
}

// killed is a register that was killed, and all that was heard of it.
type killed struct {
	t         *testing.T
	dir       string
	env       []string
	appended  [killWorkers][]Appended // acknowledged, by number
	published map[uint64]string       // root by size
	cosigned  map[uint64]string
}

// TestKilled kills a register under load, again and again, also while it
// recovers. No acknowledged record is lost, moved, changed or doubled; the root
// follows from the leaves; every checkpoint that a client or the witness saw is
// of this history; the index finds every record.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 30
	if testing.Short() {
		kills = 3
	}
	if s := os.Getenv(killsWanted); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", killsWanted, err)
		}
	}
	k := newKilled(t)
	recovering := 0
	for n := range kills {
		if mathrand.IntN(4) == 0 {
			k.killWhileItOpens()
			recovering++
		} else {
			k.kill(1 + mathrand.IntN(1500))
		}
		if n == kills-1 || n%100 == 99 {
			k.check()
			t.Logf("%d kills, %d of them during recovery: whole", n+1, recovering)
		}
	}
}

func newKilled(t *testing.T) *killed {
	k := &killed{t: t, dir: t.TempDir(), published: map[uint64]string{}, cosigned: map[uint64]string{}}
	if _, err := keys.CreateMonths(durable.OS, filepath.Join(k.dir, "months"), filepath.Join(k.dir, "master")); err != nil {
		t.Fatal(err)
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	if err := os.WriteFile(filepath.Join(k.dir, "key"), seed, 0o600); err != nil {
		t.Fatal(err)
	}
	_, log, err := checkpoint.NewSigner(origin, ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := witness.GenerateKey(rand.Reader, "testimone.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := witness.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.OpenServer(witness.ServerOptions{Dir: filepath.Join(k.dir, "witness"), Signer: signer, Logs: []note.Verifier{log}, PerAddress: 1e6,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	k.env = append(os.Environ(), victimDir+"="+k.dir, victimWitness+"="+server.URL, victimKey+"="+vkey)
	return k
}

// begin starts a victim. Each worker begins a little before the first record
// that was not acknowledged: an id that comes again is answered as before.
func (k *killed) begin() (*exec.Cmd, *bufio.Reader) {
	k.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = k.env, os.Stderr
	var in strings.Builder
	for _, got := range k.appended {
		fmt.Fprintln(&in, max(0, len(got)-2))
	}
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// killWhileItOpens kills a victim at some moment, perhaps before it appends.
func (k *killed) killWhileItOpens() {
	cmd, out := k.begin()
	timer := time.AfterFunc(time.Duration(mathrand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	k.hear(cmd, out, 1<<60)
}

// kill kills a victim after it has acknowledged some records.
func (k *killed) kill(enough int) {
	cmd, out := k.begin()
	if !k.hear(cmd, out, enough) {
		k.t.Fatal("the victim ended by itself")
	}
}

// hear notes what a victim says until it is dead.
func (k *killed) hear(cmd *exec.Cmd, out *bufio.Reader, enough int) (mine bool) {
	k.t.Helper()
	got := 0
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			break // what is cut off was not said
		}
		var w int
		var n, index, size uint64
		var text string
		switch {
		case line == "open\n":
		case scan(line, "record %d %d %d %s\n", &w, &n, &index, &text):
			k.acknowledged(w, n, index, text)
			got++
		case scan(line, "checkpoint %d %s\n", &size, &text):
			k.saw(k.published, size, text)
		case scan(line, "cosigned %d %s\n", &size, &text):
			k.saw(k.cosigned, size, text)
		default:
			k.t.Fatalf("the victim said %q", line)
		}
		if got >= enough && !mine {
			mine = true
			if err := cmd.Process.Kill(); err != nil {
				k.t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		k.t.Fatalf("the victim was not killed: %v", err)
	}
	return mine
}

func scan(line, format string, to ...any) bool {
	_, err := fmt.Sscanf(line, format, to...)
	return err == nil
}

func (k *killed) acknowledged(w int, n, index uint64, leaf string) {
	k.t.Helper()
	a := Appended{Index: index}
	if _, err := hex.Decode(a.Leaf[:], []byte(leaf)); err != nil {
		k.t.Fatal(err)
	}
	switch got := k.appended[w]; {
	case n == uint64(len(got)):
		k.appended[w] = append(got, a)
	case n > uint64(len(got)):
		k.t.Fatalf("worker %d skipped to %d", w, n)
	case got[n] != a:
		k.t.Fatalf("record %d of worker %d was acknowledged at %d, and now at %d", n, w, got[n].Index, index)
	}
}

func (k *killed) saw(seen map[uint64]string, size uint64, root string) {
	k.t.Helper()
	if was, ok := seen[size]; ok && was != root {
		k.t.Fatalf("two checkpoints of %d leaves: %s and %s", size, was, root)
	}
	seen[size] = root
}

// check opens the register and compares it with all that was heard.
func (k *killed) check() {
	t, ctx := k.t, context.Background()
	t.Helper()
	r, l, err := openKilled(ctx, k.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(r.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := l.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	at := map[[32]byte]uint64{}
	values := make([]record.Leaf, l.Size())
	if err := l.Scan(ctx, 0, l.Size(), func(index uint64, leaf merkle.Leaf) error {
		if was, ok := at[leaf.Identity]; ok {
			return fmt.Errorf("the record at %d stands at %d too", was, index)
		}
		at[leaf.Identity], values[index] = index, record.Leaf(leaf.Value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	acknowledged, there := 0, 0
	for w := range killWorkers {
		acknowledged += len(k.appended[w])
		for n, a := range k.appended[w] {
			if index, ok := at[record.Identity(killID(w, uint64(n)))]; !ok || index != a.Index || values[index] != a.Leaf {
				t.Fatalf("record %d of worker %d was acknowledged at %d and is at %d (%v)", n, w, a.Index, index, ok)
			}
		}
		want := len(k.appended[w]) // and those that nobody heard of
		for ; ; want++ {
			if _, ok := at[record.Identity(killID(w, uint64(want)))]; !ok {
				break
			}
		}
		there += want
		found := 0
		if err := r.Search(ctx, Query{Mailbox: killBox(w)}, start.AddDate(0, 1, 0), func(*Found) bool { found++; return true }); err != nil || found != want {
			t.Fatalf("the index finds %d records of worker %d, the log has %d: %v", found, w, want, err)
		}
	}
	if there != len(at) {
		t.Fatalf("the log has %d records, %d of them of the workers", len(at), there)
	}
	for _, seen := range []map[uint64]string{k.published, k.cosigned} {
		for size, want := range seen {
			if root, err := l.RootAt(ctx, size); err != nil || hex.EncodeToString(root[:]) != want {
				t.Fatalf("a checkpoint of %d leaves had root %s; now it is %x, %v", size, want, root, err)
			}
		}
	}
	t.Logf("%d records, %d acknowledged, %d checkpoints seen, %d cosigned", len(at), acknowledged, len(k.published), len(k.cosigned))
}
