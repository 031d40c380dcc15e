package index

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"syscall"
)

// fanIn is how many runs of about one size are merged into one of the next size;
// sizes differ by this factor, so that a posting is written again only so often
// as its month's postings have digits to this base.
const fanIn = 8

// size is the class of a run's size: postings in powers of fanIn.
func (r *run) sizeClass() int { return bits.Len64(r.Postings>>12) / bits.Len(fanIn-1) }

// mergeable returns the range of a month's runs to be merged next: the last ones
// that are of one class or smaller, if there are enough of them.
func mergeable(runs []*run) (from, to int) {
	for class := 0; ; class++ {
		n := 0
		for n < len(runs) && runs[len(runs)-1-n].sizeClass() <= class {
			n++
		}
		if n >= fanIn {
			return len(runs) - n, len(runs)
		}
		if n == len(runs) {
			return 0, 0
		}
	}
}

// merger merges runs.
func (d *DB) merger() {
	defer d.wait.Done()
	for {
		select {
		case <-d.stop:
			return
		case <-d.tidy:
		}
		for more := true; more; {
			var err error
			if more, err = d.mergeOne(); errors.Is(err, errStopped) {
				return
			} else if errors.Is(err, syscall.ENOSPC) {
				break // later
			} else if err != nil {
				d.log.Error("runs of the index could not be merged", "err", d.noted(err))
				return // what there is stays right
			}
		}
	}
}

var errStopped = errors.New("index: closing")

// mergeOne merges some runs of one month into one; more is false when no month
// has enough of them.
func (d *DB) mergeOne() (more bool, err error) {
	d.mu.RLock()
	var old []*run
	for _, month := range slices.Sorted(maps.Keys(d.runs)) {
		if from, to := mergeable(d.runs[month]); to > from {
			old = slices.Clone(d.runs[month][from:to])
			break
		}
	}
	for _, r := range old {
		r.hold()
	}
	d.mu.RUnlock()
	if old == nil {
		return false, nil
	}
	defer func() {
		for _, r := range old {
			r.release()
		}
	}()
	if err := d.room(); err != nil {
		return false, err
	}
	w, err := d.begin(runInfo{Month: old[0].Month, First: old[0].First})
	if err != nil {
		return false, err
	}
	for _, r := range old {
		for _, s := range r.times {
			w.times = joinSpan(w.times, s)
		}
	}
	merged, err := d.end(w, d.merge(w, old))
	if err != nil {
		return false, err
	}
	return true, d.replace(old, merged)
}

// merge writes the postings of runs, whose leaves follow one another.
func (d *DB) merge(w *runWriter, runs []*run) error {
	var readers []*reader // that have come to a token
	for _, r := range runs {
		x := &reader{run: r}
		if ok, err := x.next(); err != nil {
			return err
		} else if ok {
			readers = append(readers, x)
		}
	}
	const most = 64 << 10 // leaves in memory
	var leaves []uint64
	for n := 0; len(readers) > 0; n++ {
		if n%4096 == 0 {
			select {
			case <-d.stop:
				return errStopped
			default:
			}
		}
		t := slices.MinFunc(readers, func(a, b *reader) int { return cmp.Compare(a.token, b.token) }).token
		leaves = leaves[:0]
		left := readers[:0]
		for _, x := range readers {
			ok := true
			for ok && x.token == t {
				if leaves = append(leaves, x.leaves...); len(leaves) >= most {
					if err := w.add(t, leaves); err != nil {
						return err
					}
					leaves = leaves[:0]
				}
				var err error
				if ok, err = x.next(); err != nil {
					return err
				}
			}
			if ok {
				left = append(left, x)
			}
		}
		readers = left
		if err := w.add(t, leaves); err != nil {
			return err
		}
	}
	return nil
}

// replace puts merged in the place of the runs it was made of, and removes them.
// If they are gone, because their month was dropped, merged goes, too.
func (d *DB) replace(old []*run, merged *run) error {
	d.installMu.Lock()
	defer d.installMu.Unlock()
	d.mu.RLock()
	runs := maps.Clone(d.runs)
	next, mark := d.written()
	d.mu.RUnlock()
	of := runs[merged.Month]
	at := slices.Index(of, old[0])
	if at < 0 {
		old = []*run{merged}
	} else {
		runs[merged.Month] = slices.Concat(of[:at], []*run{merged}, of[at+len(old):])
		if err := d.install(runs, next, mark, func() {}); err != nil {
			merged.release()
			return fmt.Errorf("couldn't install merged runs: %w", err)
		}
	}
	var err error
	for _, r := range old {
		err = errors.Join(err, d.fsys.Remove(r.name(d.dir)))
		r.release()
	}
	return err
}
