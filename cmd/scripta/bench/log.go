package bench

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// Goals of the register (docs/performance.md).
const (
	goalOfRaw64  = 0.33
	goalOfRaw1   = 0.6
	goalP99      = 6 * time.Millisecond
	goalProofP50 = 400 * time.Microsecond
	goalBytes    = 500 // on the disk for each record
	goalOfPeer64 = 4
)

// LogOptions say how the register is measured.
type LogOptions struct {
	// Dir lies on the disk to be measured; everything is written into a folder
	// below it, which is removed in the end.
	Dir string
	// Length is how long each number of writers appends, to the raw file and
	// then to the register.
	Length time.Duration
	// Writers are the numbers of writers.
	Writers []int
	// Rounds is how often all of it is done; medians are printed.
	Rounds int
	// Peer is a program that appends to another log, see bench/tessera; "": none.
	Peer string
}

// level is what was measured with one number of writers.
type level struct {
	writers       int
	raw, register outcome
	peer          peerAnswer
	cpu           usage
	memory        memory
}

// after is what was measured of the register when it was full.
type after struct {
	records uint64
	disk    int64 // of the log and the index, bytes
	log     int64 // of the log alone
	reopen  time.Duration
	proofs  latencies
}

// Log measures durable appends to the register, sealed and indexed, against the
// same number of writers on a raw file, and writes tables to out.
func Log(ctx context.Context, o LogOptions, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.Dir, "scripta-bench-log-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := describe(out, dir); err != nil {
		return err
	}
	var rounds [][]level
	var afters []after
	for i := range o.Rounds {
		levels, a, err := logRound(ctx, filepath.Join(dir, strconv.Itoa(i)), o)
		if err != nil {
			return err
		}
		rounds, afters = append(rounds, levels), append(afters, a)
	}
	return printLog(out, o, rounds, afters)
}

// logRound fills one register, level by level, and looks at it when it is full.
func logRound(ctx context.Context, dir string, o LogOptions) (levels []level, a after, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, a, err
	}
	key, err := newLogKey()
	if err != nil {
		return nil, a, err
	}
	r, err := createRegister(ctx, dir, key)
	if err != nil {
		return nil, a, err
	}
	for _, n := range o.Writers {
		l, err := measureLevel(ctx, r, n, o)
		if err != nil {
			return nil, a, errors.Join(err, r.close())
		}
		levels = append(levels, l)
		if ctx.Err() != nil {
			break
		}
	}
	if err := r.close(); err != nil {
		return nil, a, err
	}
	if err := ctx.Err(); err != nil {
		return nil, a, err
	}
	a, err = lookAt(ctx, dir, key)
	return levels, a, err
}

// measureLevel lets writers append, first to a raw file beside the register.
func measureLevel(ctx context.Context, r *testRegister, writers int, o LogOptions) (l level, err error) {
	long := o.Length
	l.writers = writers
	name := filepath.Join(r.folder, "raw")
	raw, err := createRaw(name)
	if err != nil {
		return l, err
	}
	l.raw, err = closedLoop(writers, long, func(int) func() error {
		entry := make([]byte, rawEntry)
		return func() error { return raw.append(entry) }
	})
	if err = errors.Join(err, raw.close(), os.Remove(name)); err != nil {
		return l, err
	}
	runtime.GC()
	before, err := measure(os.Getpid())
	if err != nil {
		return l, err
	}
	l.register, err = closedLoop(writers, long, func(worker int) func() error {
		m := newRecordMaker(worker)
		return func() error {
			_, err := r.Append(ctx, m.next())
			return err
		}
	})
	if err != nil {
		return l, err
	}
	now, err := measure(os.Getpid())
	if err != nil {
		return l, err
	}
	l.cpu = now.since(before)
	if l.memory, err = memoryOf(os.Getpid()); err != nil || o.Peer == "" {
		return l, err
	}
	l.peer, err = runPeer(ctx, o.Peer, filepath.Join(r.folder, "peer"), writers, long)
	return l, err
}

// proofSamples is how many inclusion proofs are made.
const proofSamples = 2000

// lookAt opens a closed register again, with cold caches of its own, and asks it
// for inclusion proofs.
func lookAt(ctx context.Context, dir string, key ed25519.PrivateKey) (a after, err error) {
	log, index := parts(dir)
	if a.log, err = diskUsage(log); err != nil {
		return a, err
	}
	ofIndex, err := diskUsage(index)
	if err != nil {
		return a, err
	}
	a.disk = a.log + ofIndex
	start := time.Now()
	r, err := openRegister(ctx, dir, key)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	a.reopen, a.records = time.Since(start), r.log.Size()
	for range proofSamples {
		began := time.Now()
		if _, err := r.log.Inclusion(ctx, rand.Uint64N(a.records), a.records); err != nil {
			return a, err
		}
		a.proofs = append(a.proofs, time.Since(began))
	}
	slices.Sort(a.proofs)
	return a, nil
}

func printLog(out io.Writer, o LogOptions, rounds [][]level, afters []after) error {
	fmt.Fprintf(out, "Durable appends, closed loop, %v each, medians of %d rounds. Raw file: entries of %d bytes, one write and fdatasync for all who wait.\n"+
		"Register: records as the mail path writes them, sealed, in the tree, indexed.\n", o.Length, o.Rounds, rawEntry)
	if o.Peer != "" {
		fmt.Fprintf(out, "Peer: %s, entries of %d bytes, neither sealed nor indexed. Raw file, register and peer run one after the other at each number of writers.\n", filepath.Base(o.Peer), rawEntry)
	}
	fmt.Fprintln(out)
	t := table{head: []string{"writers", "raw file/s", "register/s", "ratio", "p50 ms", "p99 ms", "CPU µs/record", "RSS MiB (anonymous)", "other programs, cores", "peer/s", "p99 ms", "register : peer", "goal"}}
	for i, n := range o.Writers {
		col := func(f func(l level) float64) float64 {
			all := make([]float64, len(rounds))
			for j := range rounds {
				all[j] = f(rounds[j][i])
			}
			return median(all)
		}
		ratio := col(func(l level) float64 { return l.register.rate() / l.raw.rate() })
		p99 := time.Duration(col(func(l level) float64 { return float64(l.register.lat.at(0.99)) }))
		var reached string
		switch n {
		case 1:
			reached = goal(ratio >= goalOfRaw1, fmt.Sprintf("ratio ≥ %.2f", goalOfRaw1))
		case 64:
			reached = goal(ratio >= goalOfRaw64, fmt.Sprintf("ratio ≥ %.2f", goalOfRaw64)) + "; " + goal(p99 <= goalP99, "p99 ≤ "+ms(goalP99)+" ms")
		}
		peer, peerP99, times := "", "", ""
		if o.Peer != "" {
			r := col(func(l level) float64 { return l.register.rate() / max(l.peer.rate(), 1) })
			peer, times = fmt.Sprintf("%.0f", col(func(l level) float64 { return l.peer.rate() })), fmt.Sprintf("%.1f", r)
			peerP99 = ms(time.Duration(col(func(l level) float64 { return float64(l.peer.P99) })))
			if n == 64 {
				reached += "; " + goal(r >= goalOfPeer64, fmt.Sprintf("≥ %d × peer", goalOfPeer64))
			}
		}
		t.add(strconv.Itoa(n), fmt.Sprintf("%.0f", col(func(l level) float64 { return l.raw.rate() })), fmt.Sprintf("%.0f", col(func(l level) float64 { return l.register.rate() })),
			fmt.Sprintf("%.2f", ratio), ms(time.Duration(col(func(l level) float64 { return float64(l.register.lat.at(0.5)) }))), ms(p99),
			fmt.Sprintf("%.0f", col(func(l level) float64 {
				return float64((l.cpu.user + l.cpu.sys).Microseconds()) / float64(l.register.count)
			})),
			mib(int64(col(func(l level) float64 { return float64(l.memory.resident) })))+" ("+mib(int64(col(func(l level) float64 { return float64(l.memory.anonymous) })))+")",
			fmt.Sprintf("%.2f", col(func(l level) float64 { return l.cpu.others(l.register.took) })), peer, peerP99, times, reached)
	}
	if err := t.write(out); err != nil {
		return err
	}
	col := func(f func(a after) float64) float64 {
		all := make([]float64, len(afters))
		for i, a := range afters {
			all[i] = f(a)
		}
		return median(all)
	}
	bytes := col(func(a after) float64 { return float64(a.disk) / float64(a.records) })
	p50 := time.Duration(col(func(a after) float64 { return float64(a.proofs.at(0.5)) }))
	t = table{head: []string{"the register at the end", "", "goal"}}
	t.add("records", fmt.Sprintf("%.0f", col(func(a after) float64 { return float64(a.records) })), "")
	t.add("bytes on the disk for each, log and index", fmt.Sprintf("%.0f", bytes), goal(bytes < goalBytes, fmt.Sprintf("< %d", goalBytes)))
	t.add("opened again in, ms", ms(time.Duration(col(func(a after) float64 { return float64(a.reopen) }))), "")
	t.add("inclusion proof p50, ms", ms(p50), goal(p50 < goalProofP50, "< "+ms(goalProofP50)+" (asked for at 10 M records)"))
	t.add("inclusion proof p99, ms", ms(time.Duration(col(func(a after) float64 { return float64(a.proofs.at(0.99)) }))), "")
	return t.write(out)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
