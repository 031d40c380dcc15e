package durable_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scripta/internal/durable"
)

// BenchmarkAppend gives durable appends of 300 bytes by a journal, beside a raw
// file with the least that group commit needs: a slice, a mutex, a shared
// fdatasync.
func BenchmarkAppend(b *testing.B) {
	rec := make([]byte, 300)
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("journal/writers=%d", writers), func(b *testing.B) {
			j, err := durable.OpenJournal(durable.OS, filepath.Join(b.TempDir(), "j"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			spread(b, writers, func() error {
				_, err := j.Append(rec)
				return err
			})
		})
		b.Run(fmt.Sprintf("raw/writers=%d", writers), func(b *testing.B) {
			f, err := durable.OS.OpenFile(filepath.Join(b.TempDir(), "raw"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			var mu sync.Mutex
			var buf, other []byte
			g := durable.NewGroup(func() error {
				mu.Lock()
				buf, other = other[:0], buf
				mu.Unlock()
				if _, err := f.Write(other); err != nil {
					return err
				}
				return f.Sync()
			})
			spread(b, writers, func() error {
				mu.Lock()
				buf = append(buf, rec...)
				mu.Unlock()
				return g.Sync()
			})
		})
	}
}

// spread calls do b.N times in all, from so many goroutines.
func spread(b *testing.B, workers int, do func() error) {
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < b.N; i += workers {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkDeliver compares ways to make deliveries durable: 20 at once, each
// writes 10 KB under tmp/, makes file and folder durable, renames it to new/ and
// makes both folders durable; every worker has folders of its own. Beside a
// neighbour, something else writes 50 MB/s to the same disk without syncing, as
// a database does that compacts.
func BenchmarkDeliver(b *testing.B) {
	b.Run("alone", benchmarkDeliver)
	b.Run("neighbour", func(b *testing.B) {
		name, stop := filepath.Join(b.TempDir(), "noise"), make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() { makeNoise(b, name, stop) })
		benchmarkDeliver(b)
		close(stop)
		wg.Wait()
	})
}

func makeNoise(b *testing.B, name string, stop chan bool) {
	f, err := os.Create(name)
	if err != nil {
		b.Error(err)
		return
	}
	defer f.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	chunk := make([]byte, 1<<20)
	for i := int64(0); ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
			if _, err := f.WriteAt(chunk, i%256<<20); err != nil {
				b.Error(err)
				return
			}
		}
	}
}

func benchmarkDeliver(b *testing.B) {
	const workers, size = 20, 10 << 10
	each := func(files []durable.File, dirs []string) error { return durable.SyncAll(durable.OS, files, dirs) }
	for _, way := range []string{"each", "syncfs", "pooled"} {
		b.Run(way, func(b *testing.B) {
			root := b.TempDir()
			sync := each
			switch way {
			case "syncfs":
				g, closeFS, err := durable.NewSyncFS(root)
				if err != nil {
					b.Fatal(err)
				}
				defer closeFS()
				sync = func([]durable.File, []string) error { return g.Sync() }
			case "pooled":
				p := &pool{}
				p.g = durable.NewGroup(p.flush)
				sync = p.add
			}
			data := make([]byte, size)
			folders := make(chan string, workers)
			for w := range workers {
				dir := filepath.Join(root, fmt.Sprint(w))
				for _, sub := range []string{"tmp", "new"} {
					if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
						b.Fatal(err)
					}
				}
				folders <- dir
			}
			var n atomic.Int64
			spread(b, workers, func() error {
				dir := <-folders
				defer func() { folders <- dir }()
				name := fmt.Sprint(n.Add(1))
				tmp, target := filepath.Join(dir, "tmp"), filepath.Join(dir, "new")
				f, err := durable.OS.OpenFile(filepath.Join(tmp, name), os.O_WRONLY|os.O_CREATE, 0o600)
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := f.Write(data); err != nil {
					return err
				}
				if err := sync([]durable.File{f}, []string{tmp}); err != nil {
					return err
				}
				if err := os.Rename(filepath.Join(tmp, name), filepath.Join(target, name)); err != nil {
					return err
				}
				return sync(nil, []string{tmp, target})
			})
		})
	}
}

// pool collects what many callers want synced and lets one sync all of it.
type pool struct {
	mu    sync.Mutex
	files []durable.File
	dirs  []string
	g     *durable.Group
}

func (p *pool) add(files []durable.File, dirs []string) error {
	p.mu.Lock()
	p.files, p.dirs = append(p.files, files...), append(p.dirs, dirs...)
	p.mu.Unlock()
	return p.g.Sync()
}

func (p *pool) flush() error {
	p.mu.Lock()
	files, dirs := p.files, p.dirs
	p.files, p.dirs = nil, nil
	p.mu.Unlock()
	return durable.SyncAll(durable.OS, files, dirs)
}
