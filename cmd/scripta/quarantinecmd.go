package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta"
	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

const quarantineListUsage = `usage: scripta quarantine list --dir DIR

Lists the infected messages that are kept (DPR 68/2005 art. 12), the oldest month
first: transaction, when it came, size, virus, and what it was found by. It names
no person. They are gone with their month's secret: scripta keys dispose.

`

const quarantineExportUsage = `usage: scripta quarantine export --dir DIR --transaction ID --reason TEXT --out FILE

Writes an infected message as it came. THE FILE IS DANGEROUS: it holds the virus.
A record says who it was about, and why it was given out.

`

func quarantineCommands() []command {
	return []command{
		{name: "list", about: "list the infected messages that are kept", run: runQuarantineList},
		{name: "export", about: "write one of them, virus included", run: runQuarantineExport},
	}
}

// quarantineOperations are those of the quarantine.
type quarantineOperations interface {
	// Quarantined lists the infected messages that are kept.
	Quarantined(ctx context.Context) ([]quarantined, error)
	// ExportQuarantined records that one of them is given out, and writes it.
	ExportQuarantined(ctx context.Context, x quarantineExport, w io.Writer) error
}

// quarantined is an infected message, without the names of people.
type quarantined struct {
	Transaction string    `json:"transaction"` // hexadecimal
	Month       string    `json:"month"`       // whose secret it is sealed by
	Time        time.Time `json:"time"`        // zero: its record is not there yet
	Size        int64     `json:"size"`        // octets
	Virus       string    `json:"virus"`
	Engine      string    `json:"engine"`
	Signatures  string    `json:"signatures"`
}

// quarantineExport says which message is wanted, and why.
type quarantineExport struct {
	Transaction string `json:"transaction"`
	Reason      string `json:"reason"`
}

func runQuarantineList(args []string, stdout, stderr io.Writer) int {
	f := newFlags("quarantine list", quarantineListUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	var all []quarantined
	err := withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
		all, err = o.Quarantined(ctx)
		return err
	})
	if err != nil {
		return f.failed(err)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, q := range all {
		at, virus := q.Month, "not recorded yet"
		if !q.Time.IsZero() {
			at, virus = q.Time.Format(time.RFC3339), q.Virus
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", q.Transaction, at, q.Size, virus, q.Engine, q.Signatures)
	}
	if err := w.Flush(); err != nil {
		return f.failed(err)
	}
	return 0
}

func runQuarantineExport(args []string, stdout, stderr io.Writer) int {
	f := newFlags("quarantine export", quarantineExportUsage, stdout, stderr)
	dir := f.folder()
	var x quarantineExport
	f.StringVar(&x.Transaction, "transaction", "", "the message of the transaction `ID`, as list shows it")
	f.StringVar(&x.Reason, "reason", "", "`TEXT`: why, and at whose request")
	out := f.String("out", "", "`FILE` to write; it must not exist")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if x.Reason == "" || *out == "" {
		return f.wrong("--reason and --out are needed")
	}
	if _, err := parseTransaction(x.Transaction); err != nil {
		return f.wrong("--transaction: %v", err)
	}
	err := writeNew(*out, func(w io.Writer) error {
		return withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) error {
			return o.ExportQuarantined(ctx, x, w)
		})
	})
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s: the message as it came, virus included\n", *out)
	return 0
}

func parseTransaction(s string) (tx [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(tx) {
		return tx, fmt.Errorf("%.100q is not 32 hexadecimal digits", s)
	}
	return [16]byte(b), nil
}

// virusFound returns the record of what was found, nil when there is none yet.
func (a *app) virusFound(ctx context.Context, tx [16]byte) (*record.Record, error) {
	id := mta.VirusRecord(tx)
	at, ok, err := a.register.Lookup(ctx, id)
	if err != nil || !ok {
		return nil, err
	}
	f, err := a.register.Read(ctx, at.Index)
	if err != nil || f.Opened.ID != id { // in a log that was frozen
		return nil, err
	}
	return f.Record, nil
}

// Quarantined implements operations.
func (a *app) Quarantined(ctx context.Context) ([]quarantined, error) {
	var all []quarantined
	store := a.register.Quarantine()
	err := store.Each(func(tx [16]byte, month uint16) error {
		c, err := store.OpenContent(tx, month)
		if errors.Is(err, keys.ErrDisposed) {
			return nil
		} else if err != nil {
			return err
		}
		q := quarantined{Transaction: hex.EncodeToString(tx[:]), Month: keys.Month(month).String(), Size: c.Size()}
		rec, err := a.virusFound(ctx, tx)
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
		if rec != nil {
			q.Time = rec.Time
			for _, d := range rec.Detail {
				switch d.Name {
				case "virus":
					q.Virus = d.Value
				case "engine":
					q.Engine = d.Value
				case "signatures":
					q.Signatures = d.Value
				}
			}
		}
		all = append(all, q)
		return nil
	}, func(file string) { a.log.Warn("this does not belong into the quarantine", "file", file) })
	return all, err
}

// ExportQuarantined implements operations. The record comes first: nothing is
// given out without one.
func (a *app) ExportQuarantined(ctx context.Context, x quarantineExport, w io.Writer) error {
	tx, err := parseTransaction(x.Transaction)
	if err != nil {
		return err
	}
	c, err := a.openQuarantined(tx)
	if err != nil {
		return err
	}
	defer c.Close()
	rec, err := a.virusFound(ctx, tx)
	if err != nil {
		return err
	}
	if rec == nil {
		return fmt.Errorf("no record tells of the message %s: its job is under way, try again", x.Transaction)
	}
	at, marks, err := a.reading()
	if err != nil {
		return err
	}
	var id [16]byte
	rand.Read(id[:])
	_, err = a.register.Append(ctx, register.Entry{ID: record.MakeID(id, 0, 0), Record: &record.Record{Kind: record.RecordDisclosed, Time: at,
		MessageID: rec.MessageID, OriginalID: rec.OriginalID, Sender: rec.Sender, Recipients: rec.Recipients, Subject: rec.Subject, Provider: rec.Provider,
		Digest: rec.Digest, Size: rec.Size, Detail: record.SortDetail(append(marks, record.Pair{Name: "by", Value: byCommand},
			record.Pair{Name: "reason", Value: x.Reason}, record.Pair{Name: "what", Value: "message in quarantine " + x.Transaction}))}})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(c, 0, c.Size()))
	return err
}

// errFound ends a search.
var errFound = errors.New("found")

func (a *app) openQuarantined(tx [16]byte) (c receipts.Content, err error) {
	store := a.register.Quarantine()
	err = store.Each(func(id [16]byte, month uint16) error {
		if id != tx {
			return nil
		}
		if c, err = store.OpenContent(tx, month); err != nil {
			return err
		}
		return errFound
	}, func(string) {})
	switch {
	case errors.Is(err, errFound):
		return c, nil
	case err == nil:
		err = fmt.Errorf("no message of the transaction %x is in quarantine; scripta quarantine list tells which are", tx)
	}
	return nil, err
}

// quarantineHandlers serve quarantineOperations to commands.
func (d *daemon) quarantineHandlers(m *http.ServeMux) {
	m.HandleFunc("POST /quarantine/list", func(w http.ResponseWriter, r *http.Request) {
		all, err := d.Quarantined(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	m.HandleFunc("POST /quarantine/export", func(w http.ResponseWriter, r *http.Request) {
		var x quarantineExport
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&x); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := &countingWriter{w: w}
		w.Header().Set("Trailer", "X-Octets, X-Error")
		err := d.ExportQuarantined(r.Context(), x, out)
		if err != nil && out.n == 0 {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("X-Octets", strconv.FormatInt(out.n, 10))
		if err != nil {
			w.Header().Set("X-Error", strings.ReplaceAll(err.Error(), "\n", " "))
		}
	})
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements [io.Writer].
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Quarantined implements operations.
func (c *controlClient) Quarantined(ctx context.Context) (all []quarantined, err error) {
	err = c.post(ctx, "/quarantine/list", nil, &all)
	return all, err
}

// ExportQuarantined implements operations.
func (c *controlClient) ExportQuarantined(ctx context.Context, x quarantineExport, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodPost, "/quarantine/export", x)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, resp.Body)
	switch {
	case err != nil:
		return err
	case resp.Trailer.Get("X-Error") != "":
		return errors.New(resp.Trailer.Get("X-Error"))
	case resp.Trailer.Get("X-Octets") != strconv.FormatInt(n, 10):
		return errors.New("the running provider sent less than the whole message")
	}
	return nil
}
