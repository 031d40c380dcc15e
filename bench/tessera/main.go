// Command tessera appends entries to a Tessera log on files (POSIX driver) from
// concurrent writers for a while, and prints how many were durable. scripta bench
// log --peer runs it in turn with the register; it is a module of its own, so that the
// program does not depend on Tessera.
//
// Tessera is tuned for latency: small batches, a short wait, the shortest checkpoint
// interval that it takes. An entry counts when Add's future returns: sequenced
// and integrated on the disk, not yet covered by a published checkpoint.
//
// The answer is one JSON object on the standard output:
// {"count":…,"nanos":…,"p50":…,"p99":…}, times in nanoseconds.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// answer is what is printed.
type answer struct {
	Count int           `json:"count"`
	Nanos time.Duration `json:"nanos"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
}

func main() {
	dir := flag.String("dir", "", "folder of the log, which must be empty")
	writers := flag.Int("writers", 64, "concurrent writers, each waiting for its entry")
	seconds := flag.Float64("seconds", 5, "how long")
	size := flag.Int("entry", 700, "bytes of an entry")
	batch := flag.Uint("batch", 0, "entries of a batch; 0: the number of writers, at most 1024")
	age := flag.Duration("age", 5*time.Millisecond, "how long an entry waits for others")
	checkpoint := flag.Duration("checkpoint", 100*time.Millisecond, "checkpoint interval")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if *batch == 0 {
		*batch = uint(min(*writers, 1024))
	}
	a, err := run(context.Background(), *dir, *writers, *size, *batch, time.Duration(*seconds*float64(time.Second)), *age, *checkpoint)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, writers, size int, batch uint, long, age, checkpoint time.Duration) (a answer, err error) {
	key, _, err := note.GenerateKey(rand.Reader, "bench.example/tessera")
	if err != nil {
		return a, err
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		return a, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		return a, err
	}
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithBatching(batch, age).WithCheckpointInterval(checkpoint))
	if err != nil {
		return a, err
	}
	parts, errs := make([][]time.Duration, writers), make([]error, writers)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range writers {
		wg.Go(func() {
			entry := make([]byte, size)
			for began := time.Now(); began.Sub(start) < long; {
				if _, errs[i] = rand.Read(entry[:32]); errs[i] != nil {
					return
				}
				if _, errs[i] = appender.Add(ctx, tessera.NewEntry(entry))(); errs[i] != nil {
					return
				}
				now := time.Now()
				parts[i] = append(parts[i], now.Sub(began))
				began = now
			}
		})
	}
	wg.Wait()
	a.Nanos = time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	all := slices.Concat(parts...)
	slices.Sort(all)
	if a.Count = len(all); a.Count > 0 {
		a.P50, a.P99 = all[a.Count/2], all[a.Count*99/100]
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return a, shutdown(ctx)
}
