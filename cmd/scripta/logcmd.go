package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"scripta/internal/config"
	"scripta/mta"
	"scripta/mta/spool"
	"scripta/register/audit"

	"scripta/internal/durable"
)

const logVerifyUsage = `usage: scripta log verify --dir DIR [--restart]

Reads everything that a stopped provider keeps and checks it: every leaf, tile and
root; every record against its leaf, its id and the index; every receipt, envelope
and author's message against the record that tells of it; time stamps, checkpoints,
packages, extracts and keys. It goes on after what it finds, tells file and offset
(or the leaf), and exits 1. Stopped by Ctrl-C, it goes on from there the next time;
--restart begins anew.

A running provider reads all of this by itself: see [scrub] in scripta.toml, and
scripta status. Mailboxes are their holders', and are not checked.

`

func logCommands() []command {
	return []command{
		{name: "verify", about: "read and check everything that a stopped provider keeps", run: runLogVerify},
		{name: "accept-rollback", about: "give up a log that lost records and begin a new one", run: runAcceptRollback},
	}
}

func runLogVerify(args []string, stdout, stderr io.Writer) int {
	f := newFlags("log verify", logVerifyUsage, stdout, stderr)
	dir := f.folder()
	restart := f.Bool("restart", false, "begin anew, and not where the last one was stopped")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, err := openApp(ctx, config.Dir(*dir), commandLogger(stderr))
	if err != nil {
		return f.failed(err)
	}
	report, err := a.verifyLog(ctx, *restart, stderr)
	if errors.Is(err, context.Canceled) {
		err = errors.New("stopped; the same command goes on from here")
	}
	if err = errors.Join(err, a.close()); report != nil {
		printReport(stdout, report, err == nil)
	}
	if err != nil {
		return f.failed(err)
	}
	if !report.OK() {
		return 1
	}
	return 0
}

// verifyLog audits a stopped provider.
func (a *app) verifyLog(ctx context.Context, restart bool, stderr io.Writer) (*audit.Report, error) {
	sp, jobs, err := spool.Open(durable.OS, a.dir.Spool(), a.register.BlobKeys())
	if err != nil {
		return nil, err
	}
	defer sp.Close()
	underWay, err := mta.UnderWay(jobs)
	if err != nil {
		return nil, err
	}
	o := a.auditOptions()
	o.Steps = append(o.Steps, audit.Step{Name: "index", Run: a.auditIndex}, audit.Step{Name: "frozen logs", Run: a.auditFrozen})
	o.StateFile, o.Restart, o.UnderWay = a.dir.AuditState(), restart, underWay
	p := newProgress(stderr)
	o.Progress = p.show
	o.Found = func(f audit.Finding) {
		p.clear()
		word := "FAILED"
		if f.Note {
			word = "note"
		}
		fmt.Fprintf(stderr, "%-6s  %v\n", word, f)
	}
	defer p.clear()
	return audit.Run(ctx, o)
}

func printReport(w io.Writer, r *audit.Report, whole bool) {
	word := "ok"
	switch {
	case !r.OK():
		word = fmt.Sprintf("FAILED: %d findings", r.Wrong())
	case !whole:
		word = "ok so far"
	}
	fmt.Fprintf(w, "%s: %d leaves give the root; %d records opened, %d disposed of; %d messages, %d contents, %d in quarantine, %d time stamps, %d tables read\n",
		word, r.Leaves, r.Opened, r.Disposed, r.Messages, r.Contents, r.Quarantined, r.Stamps, r.Tables)
	if r.Dropped > 0 {
		fmt.Fprintf(w, "%d findings more than were listed\n", r.Dropped)
	}
}

// progress shows how far something long has come: a bar on a terminal, else a
// line now and then.
type progress struct {
	w     io.Writer
	bar   bool
	last  time.Time
	step  string
	drawn bool
}

func newProgress(w io.Writer) *progress { return &progress{w: w, bar: isTerminal(w), last: time.Now()} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// barWidth is that of the bar, in characters.
const barWidth = 40

func (p *progress) show(step string, done, of uint64) {
	every := 10 * time.Second
	if p.bar {
		every = 100 * time.Millisecond
	}
	if time.Since(p.last) < every && (step == p.step || !p.bar) {
		return
	}
	p.last, p.step = time.Now(), step
	switch {
	case !p.bar && of > 0:
		fmt.Fprintf(p.w, "%s: %d of %d\n", step, done, of)
	case !p.bar:
		fmt.Fprintf(p.w, "%s: %d\n", step, done)
	case of > 0:
		n := int(done * barWidth / of)
		fmt.Fprintf(p.w, "\r%-12s [%s%s] %d of %d\x1b[K", step, strings.Repeat("=", n), strings.Repeat(" ", barWidth-n), done, of)
		p.drawn = true
	default:
		fmt.Fprintf(p.w, "\r%-12s %d\x1b[K", step, done)
		p.drawn = true
	}
}

// clear takes the bar away, for a line to be written.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}
