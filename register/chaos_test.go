package register

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/cluster"
	"scripta/merkle/cluster/clustertest"
	"scripta/register/record"
)

// node is a register on a cluster, as one machine has it.
type node struct {
	*Register
	log   *merkle.Log
	voids atomic.Uint64 // that it was asked for
}

// site is what the nodes of one log share: keys, and the cluster that they reach
// through proxies, if they have joined one.
type site struct {
	t         testing.TB
	dir       string
	key       ed25519.PrivateKey
	cluster   *clustertest.Cluster
	grpc, sql *clustertest.Proxy
	patience  time.Duration
}

func newSite(t testing.TB, patience time.Duration) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), patience: patience}
	var err error
	if _, s.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.CreateMonths(durable.OS, filepath.Join(s.dir, "months"), filepath.Join(s.dir, "master")); err != nil {
		t.Fatal(err)
	}
	return s
}

// join starts a cluster for the log.
func (s *site) join() {
	s.t.Helper()
	s.cluster = clustertest.Start(s.t)
	s.grpc = clustertest.NewProxy(s.t, s.cluster.Address)
	s.sql = clustertest.NewProxy(s.t, s.cluster.DatabaseAddress)
}

// open opens the log at a node, whose folder begins with the checkpoint file
// given.
func (s *site) open(name string, adopt bool, last *checkpoint.Signed) *node {
	s.t.Helper()
	months, err := keys.OpenMonths(durable.OS, filepath.Join(s.dir, "months"), filepath.Join(s.dir, "master"))
	if err != nil {
		s.t.Fatal(err)
	}
	signer, verifier, err := checkpoint.NewSigner(origin, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(s.dir, name)
	if last != nil {
		if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "log", merkle.CheckpointFile), last.Note, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	n, quiet := &node{}, slog.New(slog.DiscardHandler)
	opt := merkle.Options{Dir: filepath.Join(dir, "log"), Origin: origin, Signer: signer, Verifier: verifier, Logger: quiet, MinFree: 1 << 20}
	if s.cluster != nil {
		opt.Cluster = &merkle.Cluster{Address: s.grpc.Address(), Patience: s.patience,
			Lease: cluster.LeaseOptions{Database: s.cluster.DatabaseAt(s.sql.Address()), Node: name, TTL: 3 * time.Second, Adopt: adopt},
			Void: func(_ context.Context, index uint64) (merkle.Leaf, error) {
				n.voids.Add(1)
				return n.Void(index)
			}}
	}
	if n.log, err = merkle.Open(s.t.Context(), opt); err != nil {
		s.t.Fatal(err)
	}
	n.Register, err = Open(s.t.Context(), Options{Dir: filepath.Join(dir, "register"), FS: durable.OS, Origin: origin, Log: n.log, Months: months, Logger: quiet})
	if err != nil {
		s.t.Fatal(err)
	}
	if epoch, from, ok := n.log.Adoption(); ok {
		for _, want := range []bool{true, false} {
			if fresh, err := n.RecordAdoption(s.t.Context(), epoch, from, name, start); err != nil || fresh != want {
				s.t.Fatalf("the adoption was recorded: %v, %v", fresh, err)
			}
		}
	}
	if err := n.Begin(start); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		n.Register.Close()
		n.log.Close() // of a fenced node it fails to publish, perhaps
	})
	return n
}

// load appends records from many writers, and keeps what was acknowledged.
type load struct {
	next atomic.Uint64 // number of a record
	wait sync.WaitGroup
	stop chan struct{}

	mu    sync.Mutex
	acked map[uint64]Appended
	tries int // that failed, and were made again
}

func numbered(n uint64) Entry {
	var tx [16]byte
	binary.BigEndian.PutUint64(tx[:], n)
	return Entry{ID: record.MakeID(tx, 1, 0), Record: &record.Record{Kind: record.Delivered, Time: start, MessageID: fmt.Sprintf("%d@pec.example", n),
		Sender: "mario@pec.example", About: []string{fmt.Sprintf("box%d@pec.example", n%100)}, Subject: "oggetto"}}
}

// write begins writers at a node. They try each record until it is acknowledged,
// the load ends, or the node has stopped.
func (l *load) write(t *testing.T, n *node, writers int) {
	for range writers {
		l.wait.Go(func() {
			for {
				number := l.next.Add(1)
				for {
					select {
					case <-l.stop:
						return
					default:
					}
					a, err := n.Append(context.Background(), numbered(number))
					if err == nil {
						l.mu.Lock()
						l.acked[number] = a[0]
						l.mu.Unlock()
						break
					}
					if errors.Is(err, ErrStopped) {
						return
					}
					if !errors.Is(err, merkle.ErrUnavailable) {
						t.Errorf("record %d: %v", number, err)
						return
					}
					l.mu.Lock()
					l.tries++
					l.mu.Unlock()
				}
			}
		})
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// more waits until n more records are acknowledged.
func (l *load) more(t *testing.T, after string, n int) {
	t.Helper()
	begin, was := time.Now(), l.count()
	for l.count() < was+n {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s: %d records were acknowledged in a minute, want %d", after, l.count()-was, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s: %d more records acknowledged after %v", after, n, time.Since(begin).Round(time.Millisecond))
}

// TestChaos breaks each part of a cluster under load and holds that the register
// goes on by itself, that nothing acknowledged is lost or comes twice, and that
// the log is the one that an embedded log makes of the same leaves. In the end
// another node adopts the log while the first still writes.
func TestChaos(t *testing.T) {
	t.Parallel()
	cut, batch := 10*time.Second, 300
	if testing.Short() {
		cut, batch = time.Second, 50
	}
	s := newSite(t, 4*time.Second) // less than the cut: some give up and try again
	s.join()
	first := s.open("first", false, nil)
	l := &load{acked: map[uint64]Appended{}, stop: make(chan struct{})}
	l.write(t, first, 24)
	ended := sync.OnceFunc(func() { close(l.stop); l.wait.Wait() })
	t.Cleanup(ended)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l.more(t, "at first", batch)

	s.cluster.KillSigner()
	time.Sleep(cut / 10) // long enough for some leaves to be stored and wait
	must(s.cluster.StartSigner())
	l.more(t, "signer killed", batch)

	s.cluster.KillServer()
	must(s.cluster.StartServer())
	l.more(t, "log server killed", batch)

	s.cluster.KillPostgres()
	must(s.cluster.StartPostgres())
	l.more(t, "database killed", batch)

	for _, reset := range []bool{false, true} {
		s.grpc.Cut()
		s.sql.Cut()
		time.Sleep(cut) // what is measured is that it is not over before
		s.grpc.Heal(reset)
		s.sql.Heal(reset)
		l.more(t, fmt.Sprintf("network cut for %v, reset %v", cut, reset), batch)
		cut /= 5
	}

	// The first node is not dead, only thought so.
	last, err := first.log.Publish(t.Context())
	must(err)
	second := s.open("second", true, last)
	l.write(t, second, 24)
	l.more(t, "adopted", batch)
	<-first.Stopped()
	if err := first.Health(); !errors.Is(err, merkle.ErrFenced) {
		t.Errorf("the first node stopped with %v", err)
	}
	ended()
	t.Logf("%d acknowledged, %d tries failed, %d leaves, %d voids", len(l.acked), l.tries, second.log.Size(), first.voids.Load()+second.voids.Load())
	if l.tries == 0 && !testing.Short() {
		t.Error("no append gave up while the network was cut")
	}
	audit(t, second, l)
}

// audit reads the whole log of a node and compares it with what was acknowledged.
func audit(t *testing.T, n *node, l *load) {
	t.Helper()
	c, err := n.log.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.log.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	at, kinds := map[[32]byte]uint64{}, map[record.Kind]int{}
	var leaves []merkle.Leaf
	if err := n.log.Scan(t.Context(), 0, c.Size, func(index uint64, leaf merkle.Leaf) error {
		if was, twice := at[leaf.Identity]; twice {
			return fmt.Errorf("the record at %d is at %d too", was, index)
		}
		at[leaf.Identity] = index
		o, _, err := n.openLeaf(leaf)
		if err != nil {
			return err
		}
		rec, err := o.Fields.Record()
		if err != nil {
			return err
		}
		kinds[rec.Kind]++
		leaves = append(leaves, leaf)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for number, a := range l.acked {
		id := record.Identity(numbered(number).ID)
		index, ok := at[id]
		if !ok || index != a.Index || string(leaves[index].Value) != string(a.Leaf[:]) {
			t.Fatalf("record %d was acknowledged at %d, and is at %d, %v", number, a.Index, index, ok)
		}
	}
	if kinds[record.Adopted] != 1 || kinds[record.Delivered] < len(l.acked) {
		t.Errorf("kinds of records: %v", kinds)
	}
	// The projection of searches has them all.
	found := 0
	if err := n.Search(t.Context(), Query{Mailbox: "mario@pec.example"}, start.AddDate(0, 1, 0), func(*Found) bool { found++; return true }); err != nil {
		t.Fatal(err)
	}
	if found != kinds[record.Delivered] {
		t.Errorf("a search finds %d records of %d", found, kinds[record.Delivered])
	}
	// The embedded log, fed the same.
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	signer, verifier, err := checkpoint.NewSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := merkle.Open(t.Context(), merkle.Options{Dir: filepath.Join(t.TempDir(), "log"), Origin: origin, Signer: signer, Verifier: verifier,
		Logger: slog.New(slog.DiscardHandler), MinFree: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer embedded.Close()
	for first := 0; first < len(leaves); first += 1000 {
		if err := embedded.AddSequenced(t.Context(), uint64(first), leaves[first:min(first+1000, len(leaves))]); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := embedded.Publish(t.Context()); err != nil || e.Size != c.Size || e.Root != c.Root {
		t.Errorf("the embedded log has %d leaves and root %x, the cluster %d and %x: %v", e.Size, e.Root, c.Size, c.Root, err)
	}
}
