package index

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"syscall"

	"scripta/internal/durable"
)

// writer writes frozen batches.
func (d *DB) writer() {
	defer d.wait.Done()
	for {
		select {
		case <-d.stop:
			return
		case <-d.write:
		}
		d.mu.RLock()
		b, broken := d.frozen, d.broken
		d.mu.RUnlock()
		if b != nil && broken == nil {
			_ = d.writeBatch(b) // Add tells of the error
		}
	}
}

// Flush writes what has been added. It is for tests, for Close and for what must
// find everything in runs; nothing else needs it.
func (d *DB) Flush() error {
	for {
		d.mu.Lock()
		if d.broken != nil {
			defer d.mu.Unlock()
			return d.broken
		}
		if d.frozen == nil {
			d.freeze(0)
		}
		b := d.frozen
		d.mu.Unlock()
		if b == nil {
			return nil
		}
		if err := d.writeBatch(b); err != nil {
			return err
		}
	}
}

// writeBatch writes b, which is frozen, unless somebody else has. The order of
// its steps:
//
//  1. write a run for each month, and sync them and their folders;
//  2. replace the manifest by one that names them and says up to which leaf the
//     log is in the runs;
//  3. only then forget what is in memory.
//
// A crash before 2 leaves files that no manifest names: opening removes them.
func (d *DB) writeBatch(b *batch) error {
	d.installMu.Lock()
	defer d.installMu.Unlock()
	d.mu.RLock()
	mine, runs := d.frozen == b, maps.Clone(d.runs)
	d.mu.RUnlock()
	if !mine {
		return nil
	}
	var made []*run
	err := d.room()
	for _, month := range slices.Sorted(maps.Keys(b.months)) {
		if err != nil {
			break
		}
		var r *run
		if r, err = d.writeMonth(month, b.months[month]); r != nil {
			made = append(made, r)
			runs[month] = append(slices.Clip(runs[month]), r)
		}
	}
	if err == nil {
		err = d.install(runs, b.next, b.mark, func() {
			d.frozen, d.full = nil, nil
			d.freeze(1)
		})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.moved.Broadcast()
	switch {
	case err == nil:
		select {
		case d.tidy <- struct{}{}:
		default:
		}
		return nil
	case errors.Is(err, syscall.ENOSPC):
		for _, r := range made {
			_ = d.fsys.Remove(r.name(d.dir)) // it would only fill the disk
			r.release()
		}
		d.full = fmt.Errorf("couldn't write the index: %w", err)
		return d.full
	default:
		d.broken = fmt.Errorf("couldn't write the index: %w", err)
		return d.broken
	}
}

// writeMonth writes a run of one month's memory.
func (d *DB) writeMonth(month uint16, m *memory) (*run, error) {
	w, err := d.begin(runInfo{Month: month, First: m.first})
	if err != nil {
		return nil, err
	}
	w.times = m.times
	return d.end(w, m.each(w.add))
}

// begin begins a run under the next number.
func (d *DB) begin(info runInfo) (*runWriter, error) {
	if err := durable.MkdirAll(d.fsys, folder(d.dir, info.Month), 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make a folder of the index: %w", err)
	}
	d.mu.Lock()
	info.Number = d.number
	d.number++
	d.mu.Unlock()
	return createRun(d.fsys, info.name(d.dir), info)
}

// end makes a run durable, with its name, and opens it; err is what went wrong in
// filling it.
func (d *DB) end(w *runWriter, err error) (*run, error) {
	if err != nil {
		return nil, w.abort(err)
	}
	info, err := w.finish()
	if err != nil {
		return nil, err
	}
	if err := d.fsys.SyncDir(filepath.Dir(w.name)); err != nil {
		return nil, fmt.Errorf("couldn't sync a folder of the index: %w", err)
	}
	return openRun(d.fsys, w.name, info)
}

// written is what the manifest says of the log and the receipts. The caller holds
// mu.
func (d *DB) written() (next uint64, mark Location) {
	b := d.active
	if d.frozen != nil {
		b = d.frozen
	}
	return b.first, b.begun
}

// install replaces the manifest, and then runs; then is called under the same
// lock, so that no search sees postings twice. The caller holds installMu.
func (d *DB) install(runs map[uint16][]*run, next uint64, mark Location, then func()) error {
	m := manifest{Format: manifestFormat, Origin: d.origin, Next: next, Receipts: mark, Runs: []runInfo{}}
	for _, month := range slices.Sorted(maps.Keys(runs)) {
		for _, r := range runs[month] {
			m.Runs = append(m.Runs, r.runInfo)
		}
	}
	d.mu.RLock()
	m.Number = d.number
	d.mu.RUnlock()
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(d.fsys, filepath.Join(d.dir, manifestName), b, 0o600); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs = runs
	then()
	return nil
}
