package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/evidence"
	"scripta/register/record"
)

// Register is what a closing needs of the register (*register.Register).
type Register interface {
	Keys
	Origin() string
	Append(ctx context.Context, entries ...register.Entry) ([]register.Appended, error)
	Lookup(ctx context.Context, id record.ID) (at register.Appended, ok bool, err error)
	OpenLeaf(l merkle.Leaf) (o *record.Opened, month uint16, err error)
}

// Log is what a closing needs of the log (*merkle.Log).
type Log interface {
	Size() uint64
	Scan(ctx context.Context, first, end uint64, visit func(index uint64, leaf merkle.Leaf) error) error
	RootAt(ctx context.Context, size uint64) ([32]byte, error)
	Frontier(ctx context.Context, size uint64) ([][32]byte, error)
	Consistency(ctx context.Context, size1, size2 uint64) ([][32]byte, error)
	Publish(ctx context.Context) (*checkpoint.Signed, error)
}

// Options say what a closer is made of.
type Options struct {
	Dir      string // folder of the packages; it is made if it is not there
	FS       durable.FS
	Log      Log
	Register Register
	Stamps   Stamps // nil: every package is made with its time stamp pending
	Signer   evidence.Signer
	Trust    evidence.Trust // by which a package is verified before it counts
	Provider string
	// Certificates go into every package: the public roots, the log's key, the
	// signer's chain. Their names begin with "certificates/".
	Certificates []evidence.File
	Now          func() (time.Time, error)
	Delay        time.Duration // from UTC midnight to the automatic closing; 0 is a minute
	Logger       *slog.Logger
}

// Closer closes days. Its methods may be called concurrently.
type Closer struct {
	o Options

	closing sync.Mutex // held for the entire duration of Close: one package at a time

	mu     sync.Mutex // guards failed
	failed error      // why the last automatic closing failed
}

// New makes a closer. It touches no file.
func New(o Options) (*Closer, error) {
	for _, f := range o.Certificates {
		if rest, ok := strings.CutPrefix(f.Name, dirCertificates+"/"); !ok || !plainName(rest) {
			return nil, fmt.Errorf("archive: %q is not the name of a file in %s/", f.Name, dirCertificates)
		}
	}
	if o.Delay == 0 {
		o.Delay = time.Minute
	}
	return &Closer{o: o}, nil
}

var (
	// ErrFuture says that a closing was asked for a time that has not come.
	ErrFuture = errors.New("archive: the interval is not over")
	// ErrDiverged says that the log is not the one that the last package was
	// made of: it was rolled back, or the folder of packages belongs to another.
	ErrDiverged = errors.New("archive: the log is not the one that the packages were made of")
	// ErrLost says that the log tells of a closing whose package is not there.
	ErrLost = errors.New("archive: a package that was closed is missing")
	// ErrUnsound says that a package which was just written, or was never
	// recorded, does not verify.
	ErrUnsound = errors.New("archive: the package does not verify")
)

// stagePrefix begins the names of folders that are no packages yet.
const stagePrefix = ".making-"

// Close closes what is not closed yet, up to until, which is cut to whole
// seconds and must not lie in the future ([ErrFuture]): every complete UTC day,
// empty ones too, and the begun day of until up to it. It begins where the last
// package ends, or at the UTC midnight before the log's first record; a log
// without records has nothing to close. It returns the packages that it made,
// also with an error. The order of steps, for each interval:
//
//  1. A folder with another name is filled, every file fsynced. A crash leaves
//     the folder; the next Close removes it and begins again. A time stamp that
//     was granted meanwhile is kept elsewhere (Options.Stamps) and found again.
//  2. The folder is renamed and its name fsynced: now the interval's contents
//     are fixed.
//  3. The package is verified from the disk, the sealed records included.
//  4. The record day-closed is appended, which commits the index's digest. Its
//     id follows from the interval and its time from the index, so that a rerun
//     after a crash appends the same record, or finds it.
//
// The next Close takes up steps 3 and 4 for the last package; only then the
// next interval begins. So there is never a gap and never a second package.
func (c *Closer) Close(ctx context.Context, until time.Time) ([]*Package, error) {
	c.closing.Lock()
	defer c.closing.Unlock()
	now, err := c.o.Now()
	if err != nil {
		return nil, fmt.Errorf("couldn't read the clock for a closing: %w", err)
	}
	until = until.UTC().Truncate(time.Second)
	if until.After(now) {
		return nil, fmt.Errorf("%w: %s has not come", ErrFuture, until.Format(time.RFC3339))
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	last, err := c.resume(ctx)
	if err != nil {
		return nil, err
	}
	start, err := c.begin(ctx, last)
	if err != nil || start.IsZero() {
		return nil, err
	}
	var made []*Package
	asked := false
	for start.Before(until) {
		i := Interval{start, nextMidnight(start)}
		if until.Before(i.End) {
			i.End = until
		}
		if last, err = c.close(ctx, i, last, &asked); err != nil {
			return made, fmt.Errorf("couldn't close %v: %w", i, err)
		}
		made = append(made, last)
		start = i.End
	}
	return made, nil
}

// prepare makes the folder of packages and removes what attempts left.
func (c *Closer) prepare() error {
	entries, err := c.o.FS.ReadDir(c.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = c.o.FS.MkdirAll(c.o.Dir, folderMode)
	}
	packages := false
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagePrefix) {
			err = errors.Join(err, durable.RemoveAll(c.o.FS, filepath.Join(c.o.Dir, e.Name())))
		} else {
			packages = true
		}
	}
	if err == nil && !packages { // a crash may have come before the folder's name was on the disk
		err = c.o.FS.SyncDir(filepath.Dir(c.o.Dir))
	}
	if err != nil {
		return fmt.Errorf("couldn't prepare the folder of packages: %w", err)
	}
	return nil
}

// resume returns the last package, nil if there is none, after finishing what a
// crash may have left undone of it, and checks that the log continues it.
func (c *Closer) resume(ctx context.Context) (*Package, error) {
	intervals, err := list(c.o.FS, c.o.Dir)
	if err == nil {
		err = tile(intervals)
	}
	if err != nil || len(intervals) == 0 {
		return nil, err
	}
	var two []*Package // the last two, as far as there are
	for _, i := range intervals[max(0, len(intervals)-2):] {
		p, err := load(filepath.Join(c.o.Dir, i.String()))
		if err != nil {
			return nil, err
		}
		two = append(two, p)
	}
	last := two[len(two)-1]
	x := last.Index
	if x.Origin != c.o.Register.Origin() {
		return nil, fmt.Errorf("%w: they are of %q, the log is %q", ErrDiverged, x.Origin, c.o.Register.Origin())
	}
	if size := c.o.Log.Size(); size < x.EndSize {
		return nil, fmt.Errorf("%w: package %s ends with leaf %d, the log has %d: it was rolled back", ErrDiverged, x.Package, x.EndSize, size)
	}
	root, err := c.o.Log.RootAt(ctx, x.EndSize)
	if err != nil {
		return nil, err
	}
	if Digest(root) != x.EndRoot {
		return nil, fmt.Errorf("%w: package %s ends with another root", ErrDiverged, x.Package)
	}
	var before *Package
	if len(two) == 2 {
		before = two[0]
	}
	return last, c.conclude(ctx, last, before)
}

// conclude is steps 3 and 4 of [Closer.Close]. For a package that was concluded
// before it only compares the record, which finds an index that was changed
// since.
func (c *Closer) conclude(ctx context.Context, p, before *Package) error {
	e := closedRecord(p)
	_, done, err := c.o.Register.Lookup(ctx, e.ID)
	if err != nil {
		return err
	}
	if !done {
		// The crash may have come between the rename and its fsync.
		if err := c.o.FS.SyncDir(c.o.Dir); err != nil {
			return fmt.Errorf("couldn't sync the folder of packages: %w", err)
		}
		if err := c.verify(p, before); err != nil {
			return err
		}
	}
	if _, err := c.o.Register.Append(ctx, e); errors.Is(err, register.ErrConflict) {
		return fmt.Errorf("%w: the log has recorded another index for %s: %w; bring the package back from a copy", ErrUnsound, p.Name(), err)
	} else if err != nil {
		return fmt.Errorf("couldn't record the closing of %s: %w", p.Name(), err)
	}
	return nil
}

// verify checks a package as anybody can, and that its records open.
func (c *Closer) verify(p, before *Package) error {
	r := Verify(p.Dir, c.o.Trust, before)
	r.Add(VerifyRecords(p, c.o.Register))
	if r.OK() {
		return nil
	}
	err := fmt.Errorf("%w: %s: %s; look at the disk, move the package away, and close again", ErrUnsound, p.Dir, r.Verdict())
	for _, check := range r.Checks {
		if check.Err != nil && !check.Warning {
			err = errors.Join(err, fmt.Errorf("%s: %w", check.Name, check.Err))
		}
	}
	return err
}

// closingID is the id of the record of an interval's closing.
func closingID(packageID string) record.ID {
	h := sha256.Sum256([]byte("scripta/closing/v1" + packageID))
	return record.MakeID([16]byte(h[:16]), 0, 0)
}

// Names of details in the record of a closing.
const (
	detailPackage   = "package"
	detailStart     = "start"
	detailEnd       = "end"
	detailStartSize = "start_size"
	detailEndSize   = "end_size"
	detailEndRoot   = "end_root"
	detailTimestamp = "timestamp"
)

// closedRecord is the record of a package's closing: a function of its index.
func closedRecord(p *Package) register.Entry {
	x := p.Index
	return register.Entry{ID: closingID(x.ID()), Record: &record.Record{Kind: record.DayClosed, Time: x.Created, Digest: p.Digest[:],
		Detail: record.SortDetail([]record.Pair{
			{Name: detailPackage, Value: x.Package},
			{Name: detailStart, Value: x.Start.Format(time.RFC3339)},
			{Name: detailEnd, Value: x.End.Format(time.RFC3339)},
			{Name: detailStartSize, Value: strconv.FormatUint(x.StartSize, 10)},
			{Name: detailEndSize, Value: strconv.FormatUint(x.EndSize, 10)},
			{Name: detailEndRoot, Value: x.EndRoot.String()},
			{Name: detailTimestamp, Value: x.Timestamp},
		})}}
}

// begin is where the next interval begins; zero if there is nothing to close.
func (c *Closer) begin(ctx context.Context, last *Package) (start time.Time, err error) {
	if last != nil {
		return last.Index.End, nil
	}
	if c.o.Log.Size() == 0 {
		return start, nil
	}
	err = c.o.Log.Scan(ctx, 0, 1, func(_ uint64, l merkle.Leaf) error {
		o, month, err := c.o.Register.OpenLeaf(l)
		if errors.Is(err, keys.ErrDisposed) {
			start = keys.Month(month).Start()
			return nil
		}
		if err == nil {
			start, err = timeOf(o)
		}
		return err
	})
	if err != nil {
		return start, fmt.Errorf("couldn't read the log's first record: %w", err)
	}
	return midnight(start), nil
}

// close makes one package, all steps.
func (c *Closer) close(ctx context.Context, i Interval, last *Package, asked *bool) (*Package, error) {
	id := packageID(c.o.Register.Origin(), i)
	if _, ok, err := c.o.Register.Lookup(ctx, closingID(id)); err != nil {
		return nil, err
	} else if ok {
		return nil, fmt.Errorf("%w: %v; bring it back from a copy", ErrLost, i)
	}
	if err := c.write(ctx, i, last, asked); err != nil {
		return nil, err
	}
	p, err := load(filepath.Join(c.o.Dir, i.String()))
	if err != nil {
		return nil, err
	}
	if err := c.conclude(ctx, p, last); err != nil {
		return nil, err
	}
	c.o.Logger.Info("closed", "package", p.Name(), "records", p.Index.Records.Total, "size", p.Index.EndSize, "timestamp", p.Index.Timestamp)
	return p, nil
}
