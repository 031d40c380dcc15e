package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// fillWriters is how many append while a register is filled.
const fillWriters = 1024

// goalReopen is how long opening may take at 10 million records.
const goalReopen = 2 * time.Second

// filled is what was measured of a register with many records.
type filled struct {
	took       time.Duration
	cpu        usage
	peak       memory // while it was filled
	after      after
	afterwards memory // opened again, after the proofs
}

// Fill puts so many records into a register, closes it, opens it again, asks it for
// proofs at random positions, and writes a table to out.
func Fill(ctx context.Context, parent string, records int, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(parent, "scripta-bench-fill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := describe(out, dir); err != nil {
		return err
	}
	key, err := newLogKey()
	if err != nil {
		return err
	}
	r, err := createRegister(ctx, dir, key)
	if err != nil {
		return err
	}
	f := filled{}
	if err := fill(ctx, r, records, &f); err != nil {
		return errors.Join(err, r.close())
	}
	if err := r.close(); err != nil {
		return err
	}
	runtime.GC()
	if f.after, err = lookAt(ctx, dir, key); err != nil {
		return err
	}
	if f.afterwards, err = memoryOf(os.Getpid()); err != nil {
		return err
	}
	return f.write(out)
}

func fill(ctx context.Context, r *testRegister, records int, f *filled) error {
	// A new peak: what the kernel counts begins with the process
	// (proc_pid_clear_refs(5)). Where that is refused, the peak is the process's.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	before, err := measure(os.Getpid())
	if err != nil {
		return err
	}
	var (
		taken atomic.Int64
		wg    sync.WaitGroup
		errs  = make([]error, fillWriters)
		start = time.Now()
	)
	for i := range fillWriters {
		wg.Go(func() {
			m := newRecordMaker(i)
			for errs[i] == nil && taken.Add(1) <= int64(records) {
				_, errs[i] = r.Append(ctx, m.next())
			}
		})
	}
	wg.Wait()
	f.took = time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	now, err := measure(os.Getpid())
	if err != nil {
		return err
	}
	f.cpu = now.since(before)
	f.peak, err = memoryOf(os.Getpid())
	return err
}

func (f *filled) write(out io.Writer) error {
	n := float64(f.after.records)
	bytes := float64(f.after.disk) / n
	t := table{head: []string{"a register of many records", "", "goal"}}
	t.add("records", strconv.FormatUint(f.after.records, 10), "")
	t.add(fmt.Sprintf("appended by %d writers, a second", fillWriters), fmt.Sprintf("%.0f", n/f.took.Seconds()), "")
	t.add("CPU µs for each", fmt.Sprintf("%.0f", float64((f.cpu.user+f.cpu.sys).Microseconds())/n), "")
	t.add("memory while it was filled, peak, MiB", mib(f.peak.peak), "")
	t.add("bytes on the disk for each: log, index", fmt.Sprintf("%.0f: %.0f, %.0f", bytes, float64(f.after.log)/n, float64(f.after.disk-f.after.log)/n),
		goal(bytes < goalBytes, fmt.Sprintf("< %d", goalBytes)))
	t.add("opened again in, ms", ms(f.after.reopen), goal(f.after.reopen < goalReopen, "< "+ms(goalReopen)+" at 10 M"))
	t.add("inclusion proof at random positions, p50, ms", ms(f.after.proofs.at(0.5)), goal(f.after.proofs.at(0.5) < goalProofP50, "< "+ms(goalProofP50)+" at 10 M"))
	t.add("inclusion proof at random positions, p99, ms", ms(f.after.proofs.at(0.99)), "")
	t.add("memory afterwards (anonymous), MiB", mib(f.afterwards.resident)+" ("+mib(f.afterwards.anonymous)+")", "")
	return t.write(out)
}

// parts are the folders that a register's records occupy: the log and the index.
func parts(dir string) (log, index string) {
	return filepath.Join(dir, "log"), filepath.Join(dir, "register", "index")
}
