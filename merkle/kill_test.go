package merkle

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// victim names the folder of the log in a process that is made to be killed.
const victim = "SCRIPTA_TEST_VICTIM"

// victimCluster has the address, the database and the log's origin of a victim on
// a cluster.
const victimCluster = "SCRIPTA_TEST_VICTIM_CLUSTER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		beKilled(dir)
	}
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

// victimTB is what helpers need, in a process that runs no tests.
type victimTB struct{ testing.TB }

func (victimTB) Helper()           {}
func (victimTB) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }

// beKilled adds leaves from many writers until the process is killed. After each
// answer it says "leaf <number> <index>", after each publication
// "checkpoint <size> <root>".
func beKilled(dir string) {
	tb := victimTB{}
	opt := options(tb, dir)
	if c := strings.Fields(os.Getenv(victimCluster)); len(c) == 3 {
		opt = onCluster(tb, opt, c[0], c[1], c[2])
	}
	opt.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := Open(context.Background(), opt)
	if err != nil {
		tb.Fatal(err)
	}
	var out sync.Mutex
	say := func(lines string) {
		out.Lock()
		defer out.Unlock()
		if _, err := os.Stdout.WriteString(lines); err != nil {
			tb.Fatal(err)
		}
	}
	go func() {
		for {
			c, err := l.Publish(context.Background())
			if err != nil {
				tb.Fatal(err)
			}
			say(fmt.Sprintf("checkpoint %d %x\n", c.Size, c.Root))
		}
	}()
	// Numbers of leaves are new in each process, so that a leaf that comes twice
	// would show.
	var number atomic.Uint64
	number.Store(uint64(time.Now().UnixNano()))
	numbers := make(chan uint64, 4096)
	for range 32 {
		go func() {
			for {
				numbers <- number.Add(1)
			}
		}()
	}
	for {
		ns := []uint64{<-numbers}
		for len(ns) < 1+rand.IntN(200) {
			ns = append(ns, <-numbers)
		}
		leaves := make([]Leaf, len(ns))
		for i, n := range ns {
			leaves[i] = testLeaf(n)
		}
		first := l.Size()
		if err := l.AddSequenced(context.Background(), first, leaves); err != nil {
			tb.Fatal(err)
		}
		var lines strings.Builder
		for i, n := range ns {
			fmt.Fprintf(&lines, "leaf %d %d\n", n, first+uint64(i))
		}
		say(lines.String())
	}
}

// TestKilled kills a process under load, round after round, and holds each time
// that every leaf it was answered for is in the log once, at its index; that the
// root follows from the leaves; and that every published checkpoint is of this
// history. Not parallel: see TestFsck.
func TestKilled(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	killRounds(t, options(t, t.TempDir()), rounds, 1500)
}

// TestKilledOnCluster is the same with the log on a cluster: what the victim had
// on its way is there, in doubt.
func TestKilledOnCluster(t *testing.T) {
	t.Parallel()
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	killRounds(t, clusterOptions(t, shared.cluster(t), t.TempDir()), rounds, 300)
}

func killRounds(t *testing.T, opt Options, rounds, most int) {
	t.Helper()
	ctx := context.Background()
	answered := map[uint64]uint64{}  // index by number
	published := map[uint64]string{} // root by size
	for round := range rounds {
		killOne(t, opt, 1+rand.IntN(most), answered, published)
		l := open(t, opt)
		if err := l.Verify(ctx); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		at := map[[32]byte]uint64{}
		if err := l.Scan(ctx, 0, l.Size(), func(index uint64, leaf Leaf) error {
			if was, ok := at[leaf.Identity]; ok {
				return fmt.Errorf("the leaf at %d stands at %d too", was, index)
			}
			at[leaf.Identity] = index
			return nil
		}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for n, index := range answered {
			id := testLeaf(n).Identity
			if got, ok := at[id]; !ok || got != index {
				t.Fatalf("round %d: leaf %d was acknowledged at %d, and is at %d (%v) of %d", round, n, index, got, ok, l.Size())
			}
			if n%7 != 0 { // looking up takes longer
				continue
			}
			if got, _, ok, err := l.Find(ctx, id); err != nil || !ok || got != index {
				t.Fatalf("round %d: leaf %d is found at %d, %v, %v", round, n, got, ok, err)
			}
		}
		for size, want := range published {
			if root, err := l.RootAt(ctx, size); err != nil || fmt.Sprintf("%x", root) != want {
				t.Fatalf("round %d: the root of %d leaves was published as %s, and is %x, %v", round, size, want, root, err)
			}
		}
		t.Logf("round %d: %d leaves, %d acknowledged in all, %d checkpoints", round, l.Size(), len(answered), len(published))
		closeLog(t, l)
	}
}

// killOne runs a victim, kills it after enough answers and notes what it said.
func killOne(t *testing.T, opt Options, enough int, answered map[uint64]uint64, published map[uint64]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+opt.Dir)
	if c := opt.Cluster; c != nil {
		cmd.Env = append(cmd.Env, victimCluster+"="+c.Address+" "+c.Lease.Database+" "+opt.Origin)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r, got, dead := bufio.NewReader(out), 0, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // what is cut off was not said
		}
		var n, index, size uint64
		var root string
		if _, err := fmt.Sscanf(line, "leaf %d %d", &n, &index); err == nil {
			answered[n] = index
			got++
		} else if _, err := fmt.Sscanf(line, "checkpoint %d %s", &size, &root); err == nil {
			if was, ok := published[size]; ok && was != root {
				t.Errorf("two checkpoints of %d leaves: %s and %s", size, was, root)
			}
			published[size] = root
		} else {
			t.Errorf("the victim said %q", line)
		}
		if got >= enough && !dead {
			dead = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); !dead {
		t.Fatalf("the victim ended by itself: %v", err)
	}
}
