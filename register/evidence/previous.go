package evidence

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"scripta/register/record"
)

// checkGaps checks that each gap which the manifest states is committed by a
// record of the file, and tells the reader of it.
func (v *verifier) checkGaps() {
	for _, g := range v.man.Gaps {
		gap := record.Gap{Origin: g.Origin, Next: g.Next, Kept: g.Kept, Known: g.Known, Contradicted: g.Contradicted, From: g.From, To: g.To}
		_, statement := gap.Statement()
		var err error
		switch {
		case g.Statement != statement || g.Lost != gap.Lost():
			err = errors.New("its statement is not what its figures say")
		case g.Next != v.man.Origin:
			err = errors.New("it is not one of this log")
		case !slices.ContainsFunc(v.rollbacks, func(r *record.Record) bool { return commits(r, gap) }):
			err = errors.New("no record of the file commits it")
		}
		if v.report.add("gap after "+g.Origin, "", err) {
			v.report.Checks = append(v.report.Checks, Check{Name: "GAP", Err: errors.New(statement), Warning: true})
		}
	}
}

// commits says whether a record commits a gap.
func commits(r *record.Record, g record.Gap) bool {
	want := map[string]string{"origin": g.Origin, "kept size": strconv.FormatUint(g.Kept, 10), "known size": strconv.FormatUint(g.Known, 10),
		"lost": strconv.FormatUint(g.Lost(), 10), "contradicted": strconv.FormatBool(g.Contradicted)}
	for _, d := range r.Detail {
		if want[d.Name] == d.Value {
			delete(want, d.Name)
		}
	}
	return len(want) == 0 && r.Time.Equal(g.To)
}

// checkPrevious checks the evidence files of frozen logs inside this one, each
// with its own log's key.
func (v *verifier) checkPrevious() {
	for _, e := range v.man.Files {
		if !strings.HasPrefix(e.Name, prefixPrevious) {
			continue
		}
		f := v.files[e.Name]
		if f == nil {
			continue // said before
		}
		v.used[e.Name] = true
		var err error
		var inner *verifier
		if v.inner {
			err = errors.New("an evidence file inside another holds a third")
		} else if f.at == nil {
			err = errors.New("it cannot be read by itself")
		} else {
			inner = &verifier{trust: v.trust, report: &Report{}, files: map[string]*File{}, used: map[string]bool{}, checkpoints: newCheckpoints(), inner: true}
			inner.run(f.at, f.Size)
			if name := previousName(inner.man.Origin); name != e.Name {
				err = fmt.Errorf("it is of the log %q", inner.man.Origin)
			}
		}
		if !v.report.add(e.Name, "", err) {
			continue
		}
		for _, c := range inner.report.Checks {
			c.Name = e.Name + ": " + c.Name
			v.report.Checks = append(v.report.Checks, c)
		}
		v.report.Pending = v.report.Pending || inner.report.Pending
	}
}

// section is the part of a file that an entry takes up.
func section(r io.ReaderAt, offset int64, err error, size int64) io.ReaderAt {
	if err != nil {
		return nil
	}
	return io.NewSectionReader(r, offset, size)
}
