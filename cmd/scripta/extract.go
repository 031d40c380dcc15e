package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/mta/mailbox"
	"scripta/register/calendar"
	"scripta/register/evidence"
	"scripta/register/index"
	"scripta/register/record"
)

const extractUsage = `usage: scripta extract --dir DIR [--mailbox ADDRESS] [--message-id ID] [--receipt-id ID] [filters] --out FILE

Writes an evidence file: the matching events of the register with the proofs
that they are in it, time stamps, and the messages that were issued. Check it
with: scripta verify FILE --trust DIR/public

With --mailbox, events about that mailbox, as its holder may see them; with
--message-id, all events about that message; with both, what that mailbox's
holder may see about that message. --receipt-id finds the event that generated
a receipt. The filters --counterpart, --subject and --kind go with --mailbox;
events must pass all of them. Without --from, the last 36 months.
TIME is a day (2026-11-23, in Rome) or RFC 3339 (2026-11-23T10:00:00+01:00).

`

func runExtract(args []string, stdout, stderr io.Writer) int {
	f := newFlags("extract", extractUsage, stdout, stderr)
	dir := f.folder()
	var q evidence.Query
	f.StringVar(&q.Mailbox, "mailbox", "", "events about the mailbox `ADDRESS`")
	f.StringVar(&q.MessageID, "message-id", "", "events about the message with the identifier `ID`, PEC or original")
	f.StringVar(&q.ReceiptID, "receipt-id", "", "the event that generated the receipt with the Message-ID `ID`")
	f.StringVar(&q.Counterpart, "counterpart", "", "events with `ADDRESS`: the sender, or of what the mailbox sent a recipient")
	f.StringVar(&q.Subject, "subject", "", "events of messages with all these `WORDS` in the subject, in any case, with or without accents")
	f.Func("kind", "events of the kind `NAME`, such as delivered or acceptance-issued; may be repeated", func(s string) error {
		if _, ok := record.KindNamed(s); !ok {
			return errors.New("there is no such kind")
		}
		q.Kinds = append(q.Kinds, s)
		return nil
	})
	f.Func("from", "events from `TIME` on", timeFlag(&q.From, 0))
	f.Func("to", "events before `TIME`; a day is included", timeFlag(&q.To, 1))
	out := f.String("out", "", "`FILE` to write; it must not exist")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *out == "" || (q.Mailbox == "" && q.MessageID == "" && q.ReceiptID == "") {
		return f.wrong("--out is needed, and --mailbox, --message-id or --receipt-id")
	}
	if err := checkQuery(q, time.Now()); err != nil {
		return f.wrong("%v", err)
	}
	log := commandLogger(stderr)
	records := 0
	err := writeNew(*out, func(w io.Writer) error {
		return withOperations(config.Dir(*dir), log, func(ctx context.Context, o operations) (err error) {
			records, err = o.Extract(ctx, q, w)
			return err
		})
	})
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s: %d events\n", *out, records)
	return 0
}

// checkQuery refuses what can match nothing.
func checkQuery(q evidence.Query, now time.Time) error {
	if q.Mailbox != "" {
		if _, err := mailbox.Normalize(q.Mailbox); err != nil {
			return fmt.Errorf("--mailbox: %w", err)
		}
	}
	if q.Counterpart != "" {
		if _, err := mailbox.Normalize(q.Counterpart); err != nil {
			return fmt.Errorf("--counterpart: %w", err)
		}
	}
	switch {
	case q.Mailbox == "" && (q.Counterpart != "" || q.Subject != "" || len(q.Kinds) > 0):
		return errors.New("--counterpart, --subject and --kind need --mailbox")
	case q.Subject != "" && len(index.Words(q.Subject)) == 0:
		return fmt.Errorf("--subject: %q has no word of two letters or digits", q.Subject)
	case strings.ContainsAny(q.ReceiptID, " \t\r\n"):
		return fmt.Errorf("--receipt-id: %q is not one identifier", q.ReceiptID)
	case strings.ContainsAny(q.MessageID, " \t\r\n"):
		return fmt.Errorf("--message-id: %q is not one identifier", q.MessageID)
	case q.From != nil && q.From.After(now):
		return fmt.Errorf("--from: %s has not come yet", q.From.Format(time.RFC3339))
	case q.From != nil && q.To != nil && !q.From.Before(*q.To):
		return fmt.Errorf("--from %s is not before --to %s", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	return nil
}

// timeFlag parses a time, or a civil day in Rome plus some days.
func timeFlag(into **time.Time, days int) func(string) error {
	return func(s string) error {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			if t, err = time.ParseInLocation(time.DateOnly, s, calendar.Rome()); err != nil {
				return errors.New("write a day such as 2026-11-23, or a time such as 2026-11-23T10:00:00+01:00")
			}
			t = t.AddDate(0, 0, days)
		}
		t = t.UTC()
		*into = &t
		return nil
	}
}

// writeNew writes a file that does not exist yet; what could not be finished is
// removed.
func writeNew(name string, write func(io.Writer) error) error {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s exists: give another name", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".scripta-")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s to write %s into: make it first", filepath.Dir(name), filepath.Base(name))
	} else if err != nil {
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	err = write(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), name) // unlike a rename it replaces nothing
	}
	return errors.Join(err, os.Remove(f.Name()))
}
