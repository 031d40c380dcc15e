package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"scripta/internal/badgerfile"
	"scripta/internal/durable"
	"scripta/merkle"
	"scripta/register"
	"scripta/register/record"
	"scripta/register/stamps"
)

// Mark is a checkpoint that was kept or given out.
type Mark struct {
	Place string // where it is
	Size  uint64
	Root  [32]byte
}

// Step is a check that belongs to a higher room.
type Step struct {
	Name string
	Run  func(ctx context.Context, wrong func(place, text string)) error
}

// Options say what is audited, and how.
type Options struct {
	Register *register.Register
	Stamps   *stamps.Store
	FS       durable.FS
	// Databases are folders of Badger databases.
	Databases []string
	// Journals returns the names of finished journals (durable.Journal) that
	// nobody appends to any more; may be nil.
	Journals func() ([]string, error)
	// Marks are checkpoints besides the stamped ones; wrong is called for those
	// that cannot be read.
	Marks func(wrong func(place, text string)) []Mark
	// Closed checks that the package which a record day-closed tells of is there;
	// may be nil.
	Closed func(rec *record.Record) error
	// KeepsContents says that authors' messages are kept.
	KeepsContents bool
	// UnderWay reports whether a transaction is not finished: it may have stored
	// what it has not recorded yet. If it is nil, a message without a record is a
	// note only.
	UnderWay func(transaction [16]byte) bool
	// Steps come last.
	Steps []Step

	// StateFile is where the audit keeps its place; "" for none. Restart begins
	// anew.
	StateFile string
	Restart   bool
	// Pace is called before n bytes are read. May be nil.
	Pace func(ctx context.Context, n int) error
	// Progress is told how far a step has come, of how much; 0 of 0 where that is
	// not known. May be nil.
	Progress func(step string, done, of uint64)
	// Found is told every finding at once. May be nil.
	Found func(Finding)
	// Now is the clock; time.Now if nil.
	Now    func() time.Time
	Logger *slog.Logger
}

// Audit is one pass over a register.
type Audit struct {
	o     Options
	s     *state
	saved time.Time
	step  string
	marks map[uint64][]Mark
}

// Run makes a pass, or ends the one that was given up. It returns what was found
// also with an error, which is ctx's (then the place is kept), or says why nothing
// more can be checked.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pace == nil {
		o.Pace = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	a := &Audit{o: o, marks: map[uint64][]Mark{}}
	var err error
	if a.s, err = a.load(); err != nil {
		return nil, err
	}
	if a.s.resumed {
		o.Logger.Info("an audit goes on where it was given up", "begun", a.s.Begun, "leaf", a.s.Leaf)
	}
	if err := a.run(ctx); err != nil {
		a.save()
		return &a.s.Report, err
	}
	if o.StateFile != "" {
		if err := o.FS.Remove(o.StateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.Logger.Warn("the state of a finished audit cannot be removed", "err", err)
		}
	}
	return &a.s.Report, nil
}

// Names of the steps.
const (
	stepCheckpoints = "checkpoints"
	stepDatabases   = "databases"
	stepLog         = "log"
	stepMessages    = "messages"
	stepContents    = "contents"
)

func (a *Audit) run(ctx context.Context) error {
	log := a.o.Register.Log()
	leaves, err := log.Audit(ctx, a.s.Leaf, a.s.edge)
	if errors.Is(err, merkle.ErrBeyond) { // the place is of another log than this
		a.o.Logger.Warn("the place of the last audit does not fit the log: it begins again", "err", err)
		a.o.Restart = true
		if a.s, err = a.load(); err == nil {
			leaves, err = log.Audit(ctx, 0, nil)
		}
	}
	if err != nil {
		return err
	}
	// The marks are read in every run: the leaves are held against them.
	a.s.Report.forget(stepCheckpoints)
	a.s.Report.Stamps = 0
	if err := a.named(ctx, stepCheckpoints, func(ctx context.Context) error { return a.checkpoints(ctx, leaves.Size()) }); err != nil {
		return err
	}
	steps := []Step{
		{stepDatabases, func(ctx context.Context, _ func(string, string)) error { return a.databases(ctx) }},
		{stepLog, func(ctx context.Context, _ func(string, string)) error { return a.leaves(ctx, leaves) }},
		{stepMessages, func(ctx context.Context, _ func(string, string)) error { return a.messages(ctx) }},
		{stepContents, func(ctx context.Context, _ func(string, string)) error { return a.contents(ctx) }},
	}
	for i, s := range append(steps, a.o.Steps...) {
		if i < a.s.Step {
			continue
		}
		if resumable := s.Name == stepLog || s.Name == stepMessages; !resumable {
			a.s.Report.forget(s.Name)
		}
		err := a.named(ctx, s.Name, func(ctx context.Context) error {
			return s.Run(ctx, func(place, text string) { a.wrong(place, "%s", text) })
		})
		if err != nil {
			return err
		}
		a.s.Step = i + 1
		a.save()
	}
	return ctx.Err()
}

func (a *Audit) named(ctx context.Context, name string, run func(context.Context) error) error {
	a.step = name
	return run(ctx)
}

func (a *Audit) wrong(place, format string, args ...any) {
	a.found(Finding{Step: a.step, Place: place, Text: fmt.Sprintf(format, args...)})
}

func (a *Audit) note(place, format string, args ...any) {
	a.found(Finding{Step: a.step, Place: place, Text: fmt.Sprintf(format, args...), Note: true})
}

func (a *Audit) found(f Finding) {
	a.s.Report.add(f)
	a.o.Found(f)
}

// databases reads the tables of the databases whole. A write-ahead log was read
// when the database was opened; what a running one appends is still in memory.
func (a *Audit) databases(ctx context.Context) error {
	if err := a.journals(ctx); err != nil {
		return err
	}
	a.s.Report.Tables = 0
	for _, dir := range a.o.Databases {
		tables, err := badgerfile.Tables(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			a.wrong(filepath.Join(dir, "MANIFEST"), "%v", err)
			continue
		}
		for i, t := range tables {
			a.o.Progress(stepDatabases, uint64(i), uint64(len(tables)))
			err := t.Check(true, func(n int) error { return a.o.Pace(ctx, n) })
			var damage *badgerfile.DamageError
			switch {
			case err == nil:
				a.s.Report.Tables++
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &damage):
				a.wrong(fmt.Sprintf("%s at %d", damage.File, damage.Offset), "%s", damage.Reason)
			case errors.Is(err, fs.ErrNotExist) && !named(dir, t.Name): // a compaction removed it
			default:
				a.wrong(t.Name, "%v", err)
			}
		}
	}
	return nil
}

// journals reads every frame of the finished journals.
func (a *Audit) journals(ctx context.Context) error {
	if a.o.Journals == nil {
		return nil
	}
	names, err := a.o.Journals()
	if err != nil {
		return err
	}
	for i, name := range names {
		a.o.Progress(stepDatabases, uint64(i), uint64(len(names)))
		err := durable.CheckJournal(a.o.FS, name, func(n int) error { return a.o.Pace(ctx, n) })
		var corrupt *durable.CorruptError
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &corrupt):
			a.wrong(fmt.Sprintf("%s at %d", corrupt.Name, corrupt.Offset), "a record is not what was written")
		default:
			a.wrong(name, "%v", err)
		}
	}
	return nil
}

// named reports whether the MANIFEST still names a table.
func named(dir, table string) bool {
	tables, err := badgerfile.Tables(dir)
	for _, t := range tables {
		if t.Name == table {
			return true
		}
	}
	return err != nil
}
