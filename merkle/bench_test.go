package merkle

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scripta/internal/durable"
)

// group is a group commit as a register does it: what is waiting goes together,
// and who comes alone does not wait for company.
type group struct {
	in   chan waiting
	done sync.WaitGroup
}

type waiting struct {
	leaf Leaf
	done chan error
}

func newGroup(commit func([]Leaf) error) *group {
	g := &group{in: make(chan waiting, 4096)}
	g.done.Go(func() {
		var leaves []Leaf
		var who []chan error
		for first := range g.in {
			leaves, who = append(leaves[:0], first.leaf), append(who[:0], first.done)
		more:
			for len(leaves) < 4096 {
				select {
				case w, ok := <-g.in:
					if !ok {
						break more
					}
					leaves, who = append(leaves, w.leaf), append(who, w.done)
				default:
					break more
				}
			}
			err := commit(leaves)
			for _, d := range who {
				d <- err
			}
		}
	})
	return g
}

// load lets writers add n leaves in all, each its next one when the last is
// durable, and returns the leaves per second and the latencies.
func load(b *testing.B, writers, n int, commit func([]Leaf) error) (float64, []time.Duration) {
	b.Helper()
	g := newGroup(commit)
	var left atomic.Int64
	left.Store(int64(n))
	took := make([][]time.Duration, writers)
	var all sync.WaitGroup
	start := time.Now()
	for w := range writers {
		all.Go(func() {
			done := make(chan error, 1)
			leaf, r := testLeaf(uint64(w)), rand.NewChaCha8([32]byte{byte(w), byte(n), byte(n >> 8), byte(n >> 16)})
			for left.Add(-1) >= 0 {
				_, _ = r.Read(leaf.Identity[:])
				_, _ = r.Read(leaf.Value[2:])
				_, _ = r.Read(leaf.Extra)
				l := Leaf{Value: slices.Clone(leaf.Value), Extra: slices.Clone(leaf.Extra), Identity: leaf.Identity}
				began := time.Now()
				g.in <- waiting{l, done}
				if err := <-done; err != nil {
					b.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(began))
			}
		})
	}
	all.Wait()
	rate := float64(n) / time.Since(start).Seconds()
	close(g.in)
	g.done.Wait()
	lat := slices.Concat(took...)
	slices.Sort(lat)
	return rate, lat
}

func ms(lat []time.Duration, q float64) float64 {
	return float64(lat[int(q*float64(len(lat)-1))].Microseconds()) / 1000
}

// BenchmarkAdd measures durable, integrated leaves per second, of 34 bytes with
// 296 beside them, against a plain file with group commit in the same run.
func BenchmarkAdd(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := open(b, options(b, b.TempDir()))
			f, err := durable.OS.OpenFile(filepath.Join(b.TempDir(), "raw"), os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.ResetTimer()
			rate, lat := load(b, writers, b.N, func(leaves []Leaf) error {
				return l.AddSequenced(context.Background(), l.Size(), leaves)
			})
			b.StopTimer()
			var buf []byte
			raw, _ := load(b, writers, b.N, func(leaves []Leaf) error {
				buf = buf[:0]
				for _, leaf := range leaves {
					buf = append(append(append(buf, leaf.Identity[:]...), leaf.Value...), leaf.Extra...)
				}
				if _, err := f.Write(buf); err != nil {
					return err
				}
				return f.Sync() // fdatasync
			})
			b.ReportMetric(rate, "leaves/s")
			b.ReportMetric(raw, "raw/s")
			b.ReportMetric(rate/raw, "of-raw")
			b.ReportMetric(ms(lat, 0.5), "p50-ms")
			b.ReportMetric(ms(lat, 0.99), "p99-ms")
			b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "cpus")
		})
	}
}

// filled is a log of n leaves, SCRIPTA_BENCH_LEAVES of them if that is set.
func filled(b *testing.B, n uint64) (*Log, string) {
	b.Helper()
	if s := os.Getenv("SCRIPTA_BENCH_LEAVES"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	l := open(b, options(b, dir))
	for l.Size() < n {
		mustAdd(b, l, l.Size(), min(4096, n-l.Size()))
	}
	return l, dir
}

// BenchmarkInclusion measures proofs of random leaves in the newest tree, and
// tells how much disk a leaf takes and how long opening does.
func BenchmarkInclusion(b *testing.B) {
	l, dir := filled(b, 200_000)
	closeLog(b, l)
	var blocks int64
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		blocks += st.Blocks
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	l = open(b, options(b, dir))
	opened := time.Since(began)
	lat := make([]time.Duration, 0, b.N)
	for range b.N { // not b.Loop: the slowest matter
		i := rand.Uint64N(l.Size())
		began := time.Now()
		if _, err := l.Inclusion(context.Background(), i, l.Size()); err != nil {
			b.Fatal(err)
		}
		lat = append(lat, time.Since(began))
	}
	slices.Sort(lat)
	b.ReportMetric(float64(l.Size()), "leaves")
	b.ReportMetric(float64(blocks*512)/float64(l.Size()), "disk-B/leaf")
	b.ReportMetric(float64(opened.Milliseconds()), "open-ms")
	b.ReportMetric(ms(lat, 0.5), "p50-ms")
	b.ReportMetric(ms(lat, 0.99), "p99-ms")
}

// BenchmarkScan measures reading all leaves in order.
func BenchmarkScan(b *testing.B) {
	l, _ := filled(b, 200_000)
	b.ResetTimer()
	for b.Loop() {
		if err := l.Scan(context.Background(), 0, l.Size(), func(uint64, Leaf) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.Size())*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
