package mailbox_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"scripta/mta/mailbox"
)

// BenchmarkDeliver delivers messages of 10 KB, 20 at a time, each into another
// mailbox with a quota; the durable notes of a caller are not counted.
func BenchmarkDeliver(b *testing.B) {
	for name, each := range map[string]bool{"syncfs": false, "each": true} {
		b.Run(name, func(b *testing.B) {
			s, err := mailbox.Open(b.TempDir(), mailbox.Options{Host: host, FlushEach: each})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			const workers = 20
			for w := range workers {
				if err := s.Create(fmt.Sprintf("w%d@b.it", w), 1<<40); err != nil {
					b.Fatal(err)
				}
			}
			data := make([]byte, 10<<10)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range workers {
				box := fmt.Sprintf("w%d@b.it", w)
				wg.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						p, err := s.Prepare(mailbox.Delivery{Mailbox: box, Name: fmt.Sprint(n), Time: at, Size: int64(len(data)),
							Write: func(w io.Writer) error { _, err := w.Write(data); return err }})
						if err == nil {
							err = s.Sync(p)
						}
						if err == nil {
							err = s.Publish(p)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkCheckQuota asks for the quota of a mailbox with 10,000 messages.
func BenchmarkCheckQuota(b *testing.B) {
	s, err := mailbox.Open(b.TempDir(), mailbox.Options{Host: host})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(box, 0); err != nil {
		b.Fatal(err)
	}
	dir, _ := s.Path(box)
	for i := range 10000 {
		if err := os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.x.h,S=5,W=5:2,S", i)), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Create(box, 1<<40); err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := s.CheckQuota(box, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("recalculate", func(b *testing.B) {
		for b.Loop() {
			if err := os.WriteFile(filepath.Join(dir, "maildirsize"), []byte("1000S\nx"), 0o600); err != nil {
				b.Fatal(err)
			}
			if err := s.CheckQuota(box, 1); err == nil {
				b.Fatal("room in a full mailbox")
			}
		}
	})
}
