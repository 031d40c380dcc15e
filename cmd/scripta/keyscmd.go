package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/register"
	"scripta/register/record"
)

const keysBackupUsage = `usage: scripta keys backup --dir DIR --to FOLDER

Copies the month secrets and their master key into a folder of their own, or
brings the copy there up to date. Without them no record can be read; so they
are never in a backup of the data, where a disposed month would come back. The
folder is added to keys.copies: every disposal must reach it.

`

const keysDisposeUsage = `usage: scripta keys dispose --dir DIR --month 2024-05 [--as-of DAY]

Destroys the secret of a month, 30 months after its end, here and in every copy
that keys.copies lists: its records, receipts, contents, packages and index
entries become unreadable everywhere, and every proof still verifies. Held
records are kept. A copy that cannot be reached leaves the disposal pending:
call the command again when it is there.

`

const keysHoldUsage = `usage: scripta keys hold --dir DIR (--mailbox ADDRESS | --message-id ID) [--from TIME] [--to TIME] --reason TEXT

Holds the records about a mailbox or a message: they outlive the disposal of
their months.

`

func keysCommands() []command {
	return []command{
		{name: "backup", about: "copy the month secrets to a folder of their own", run: runKeysBackup},
		{name: "dispose", about: "destroy the secret of a month whose retention is over", run: runKeysDispose},
		{name: "hold", about: "keep records beyond the disposal of their month", run: runKeysHold},
	}
}

// keyOperations are what commands do with the key store.
type keyOperations interface {
	// CopyKeys makes or renews a copy of the key store.
	CopyKeys(ctx context.Context, folder string) error
	// Dispose destroys a month's secret; asOf replaces the clock in a quickstart.
	Dispose(ctx context.Context, d disposal) (disposed, error)
	// Hold places a hold.
	Hold(ctx context.Context, h register.Hold) error
}

// disposal is what is asked for.
type disposal struct {
	Month keys.Month `json:"month"`
	AsOf  time.Time  `json:"as_of"` // zero: the clock
}

// disposed is what came of it.
type disposed struct {
	Held    int               `json:"held"`    // records of the month that are kept
	Pending map[string]string `json:"pending"` // copies that were not reached, and why
}

func runKeysBackup(args []string, stdout, stderr io.Writer) int {
	f := newFlags("keys backup", keysBackupUsage, stdout, stderr)
	dir := f.folder()
	to := f.String("to", "", "`FOLDER` of the copy, on another disk than the data and its backups")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *to == "" {
		return f.wrong("--to is missing")
	}
	folder, err := filepath.Abs(*to)
	if err == nil {
		err = withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) error { return o.CopyKeys(ctx, folder) })
	}
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s: the key store, as it is; listed in keys.copies\n", folder)
	return 0
}

func runKeysDispose(args []string, stdout, stderr io.Writer) int {
	f := newFlags("keys dispose", keysDisposeUsage, stdout, stderr)
	dir := f.folder()
	text := f.String("month", "", "the `MONTH` to dispose of, such as 2024-05")
	day := f.String("as-of", "", "take this `DAY` for today, in a quickstart only")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	var d disposal
	var err error
	if d.Month, err = keys.ParseMonth(*text); err != nil {
		return f.wrong("--month: %v", err)
	}
	if *day != "" {
		if d.AsOf, err = time.Parse(time.DateOnly, *day); err != nil {
			return f.wrong("--as-of: %v", err)
		}
	}
	var done disposed
	err = withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
		done, err = o.Dispose(ctx, d)
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	if len(done.Pending) > 0 {
		for folder, why := range done.Pending {
			fmt.Fprintf(stderr, "scripta keys dispose: the copy %s was not reached: %s\n", folder, why)
		}
		fmt.Fprintf(stderr, "scripta keys dispose: %s is gone here, and its disposal is PENDING: make every copy reachable and call this again\n", d.Month)
		return 1
	}
	fmt.Fprintf(stdout, "%s is disposed of; %d records of it are held\n", d.Month, done.Held)
	return 0
}

func runKeysHold(args []string, stdout, stderr io.Writer) int {
	f := newFlags("keys hold", keysHoldUsage, stdout, stderr)
	dir := f.folder()
	var h register.Hold
	f.StringVar(&h.Mailbox, "mailbox", "", "records about the mailbox `ADDRESS`")
	f.StringVar(&h.MessageID, "message-id", "", "records about the message with the identifier `ID`")
	f.Func("from", "records from `TIME` on", timeFlag(&h.From, 0))
	f.Func("to", "records before `TIME`; a day is included", timeFlag(&h.To, 1))
	f.StringVar(&h.Reason, "reason", "", "`TEXT`: why, and at whose request")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if h.Reason == "" || h.Mailbox == "" && h.MessageID == "" {
		return f.wrong("--reason and one of --mailbox and --message-id are needed")
	}
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) error { return o.Hold(ctx, h) })
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintln(stdout, "the hold is placed")
	return 0
}

// errInside says that a copy of the keys would lie with the data.
var errInside = errors.New("a copy of the month secrets may not lie with the data, nor with a backup of the data: a month that is disposed of would come back; give a folder of their own, on another disk")

// CopyKeys implements operations. A new copy is listed before it is made, so that
// no disposal misses it.
func (a *app) CopyKeys(_ context.Context, folder string) error {
	own, err := filepath.Abs(string(a.dir))
	if err != nil {
		return err
	}
	if within(folder, own) || within(own, folder) || holdsBackup(folder) {
		return errInside
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if !slices.Contains(a.cfg.Keys.Copies, folder) {
		err := config.Edit(a.dir.Config(), func(c *config.Config) { c.Keys.Copies = append(c.Keys.Copies, folder) })
		if err != nil {
			return err
		}
		a.cfg.Keys.Copies = append(a.cfg.Keys.Copies, folder)
	}
	return a.months.CopyTo(folder)
}

// within says whether a path is a folder or below it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// Dispose implements operations. The order of its steps: what is held is copied;
// the secret is destroyed everywhere; keys and index entries are forgotten; the
// record says so, and is not made twice.
func (a *app) Dispose(ctx context.Context, d disposal) (done disposed, err error) {
	now, err := a.now()
	if err != nil {
		return done, err
	}
	if !d.AsOf.IsZero() {
		if !a.cfg.TSA.Embedded {
			return done, errors.New("--as-of is for a quickstart, whose records have no legal value; here the clock counts")
		}
		now = d.AsOf
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := a.months.CheckDisposal(d.Month, now); err != nil {
		return done, err
	}
	if _, err := a.months.Secret(d.Month); err == nil { // not begun yet
		if _, err := a.register.KeepHeld(ctx, d.Month); err != nil {
			return done, err
		}
	}
	pending, err := a.months.Dispose(d.Month, now, a.cfg.Keys.Copies)
	if err != nil {
		return done, err
	}
	done.Held = a.register.Held(d.Month)
	if err := a.register.Forget(); err != nil {
		return done, err
	}
	if len(pending) > 0 {
		done.Pending = map[string]string{}
		for _, p := range pending {
			done.Pending[p.Copy] = p.Err.Error()
		}
		return done, nil
	}
	tx := sha256.Sum256([]byte("scripta/disposal/v1" + d.Month.String()))
	id := record.MakeID([16]byte(tx[:16]), 0, 0)
	if _, found, err := a.register.Lookup(ctx, id); err != nil || found {
		return done, err
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	_, err = a.register.Append(ctx, register.Entry{ID: id, Record: &record.Record{Kind: record.DisposalDone, Time: at, Detail: record.SortDetail([]record.Pair{
		{Name: "copies", Value: strconv.Itoa(len(a.cfg.Keys.Copies))}, {Name: "held", Value: strconv.Itoa(done.Held)}, {Name: "month", Value: d.Month.String()}})}})
	return done, err
}

// Hold implements operations.
func (a *app) Hold(ctx context.Context, h register.Hold) error {
	now, _, err := a.reading()
	if err != nil {
		return err
	}
	h.Placed = now
	return a.register.PlaceHold(ctx, h)
}

// keyHandlers serve keyOperations to commands.
func (d *daemon) keyHandlers(m *http.ServeMux) {
	handle := func(path string, do func(r *http.Request) (any, error)) {
		m.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
			answer, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	d.indexHandlers(handle)
	handle("/keys/backup", func(r *http.Request) (any, error) {
		var folder string
		if err := json.NewDecoder(r.Body).Decode(&folder); err != nil {
			return nil, err
		}
		return nil, d.CopyKeys(r.Context(), folder)
	})
	handle("/keys/dispose", func(r *http.Request) (any, error) {
		var x disposal
		if err := json.NewDecoder(r.Body).Decode(&x); err != nil {
			return nil, err
		}
		return d.Dispose(r.Context(), x)
	})
	handle("/keys/hold", func(r *http.Request) (any, error) {
		var h register.Hold
		if err := json.NewDecoder(r.Body).Decode(&h); err != nil {
			return nil, err
		}
		return nil, d.Hold(r.Context(), h)
	})
}

// post asks the daemon and reads its answer into out.
func (c *controlClient) post(ctx context.Context, path string, in, out any) error {
	resp, err := c.do(ctx, http.MethodPost, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}

// CopyKeys implements operations.
func (c *controlClient) CopyKeys(ctx context.Context, folder string) error {
	var none any
	return c.post(ctx, "/keys/backup", folder, &none)
}

// Dispose implements operations.
func (c *controlClient) Dispose(ctx context.Context, d disposal) (done disposed, err error) {
	err = c.post(ctx, "/keys/dispose", d, &done)
	return done, err
}

// Hold implements operations.
func (c *controlClient) Hold(ctx context.Context, h register.Hold) error {
	var none any
	return c.post(ctx, "/keys/hold", h, &none)
}

// keysRole tells of the copies of the month secrets, and of a disposal that has not
// reached all of them.
func (d *daemon) keysRole() (string, error) {
	if !d.changing.TryLock() {
		return "accounts or copies are being changed", nil
	}
	copies := len(d.cfg.Keys.Copies)
	d.changing.Unlock()
	if month, ok := d.months.Disposing(); ok {
		return "", warn("the disposal of %s is PENDING: make every copy of keys.copies reachable and call scripta keys dispose --month %[1]s", month)
	}
	if copies == 0 {
		return "no copy yet: losing them loses every record; scripta keys backup makes one", nil
	}
	return fmt.Sprintf("%d copies are listed", copies), nil
}
