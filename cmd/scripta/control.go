package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta/audit"
	"scripta/register/evidence"
	"scripta/register/extract"
)

// operations are what commands do with a folder: in the daemon that has it open,
// by its control socket, or in the command's own process when none runs.
type operations interface {
	// Extract writes an evidence file and returns how many records are in it.
	Extract(ctx context.Context, q evidence.Query, w io.Writer) (records int, err error)
	// CloseDays closes every interval up to now and tells of the packages made.
	CloseDays(ctx context.Context) ([]closedInterval, error)
	// ConfirmMonth admits the month that the clock shows, on a person's word.
	ConfirmMonth(ctx context.Context, month keys.Month) error
	// ChangeAccounts adds or changes accounts, each with its record.
	ChangeAccounts(ctx context.Context, c accountChange) error
	// Audit checks the rules of certified e-mail over all records; settled says
	// that nothing is under way.
	Audit(ctx context.Context, settled bool) (*audit.Report, error)
	keyOperations
	quarantineOperations
	indexOperations
	// Backup makes a backup of the data below a folder and returns its name.
	Backup(ctx context.Context, folder string) (string, error)
}

// Extract implements operations.
func (a *app) Extract(ctx context.Context, q evidence.Query, w io.Writer) (int, error) {
	if q.Mailbox != "" {
		if err := a.ours(q.Mailbox); err != nil {
			return 0, err
		}
	}
	now, err := a.now()
	if err != nil {
		return 0, err
	}
	n, err := a.extractor.Write(ctx, w, q, now)
	if errors.Is(err, extract.ErrNothing) && q.Mailbox != "" && !a.boxes.Exists(q.Mailbox) {
		err = fmt.Errorf("%w: there is no mailbox %s; scripta account list tells which there are", err, q.Mailbox)
	}
	return n, err
}

// withOperations calls do with a folder's operations.
func withOperations(dir config.Dir, log *slog.Logger, do func(ctx context.Context, o operations) error) error {
	ctx := context.Background()
	c := &controlClient{dir: dir}
	if c.running(ctx) {
		return do(ctx, c)
	}
	a, err := openApp(ctx, dir, log)
	if err != nil {
		return err
	}
	err = do(ctx, a)
	return errors.Join(err, a.close())
}

// controlHandler serves the operations to commands. Only the owner of the folder
// can reach its socket.
func (d *daemon) controlHandler() http.Handler {
	m := http.NewServeMux()
	d.keyHandlers(m)
	d.backupHandler(m)
	d.queueHandlers(m)
	d.quarantineHandlers(m)
	m.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.status())
	})
	m.HandleFunc("POST /extract", func(w http.ResponseWriter, r *http.Request) {
		var q evidence.Query
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := &lateWriter{w: w}
		w.Header().Set("Trailer", "X-Records, X-Error")
		n, err := d.Extract(r.Context(), q, out)
		if err != nil && !out.begun {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("X-Records", strconv.Itoa(n))
		if err != nil {
			w.Header().Set("X-Error", strings.ReplaceAll(err.Error(), "\n", " "))
		}
	})
	m.HandleFunc("POST /clock/confirm", func(w http.ResponseWriter, r *http.Request) {
		var month keys.Month
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&month)
		if err == nil {
			err = d.ConfirmMonth(r.Context(), month)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	})
	m.HandleFunc("POST /accounts", func(w http.ResponseWriter, r *http.Request) {
		var c accountChange
		err := json.NewDecoder(io.LimitReader(r.Body, 64<<20)).Decode(&c)
		if err == nil {
			err = d.ChangeAccounts(r.Context(), c)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	})
	m.HandleFunc("POST /audit", d.auditHandler)
	m.HandleFunc("POST /archive/close", func(w http.ResponseWriter, r *http.Request) {
		made, err := d.CloseDays(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		_ = json.NewEncoder(w).Encode(made)
	})
	return m
}

// lateWriter knows whether anything was written: until then an error can still
// be told by the status.
type lateWriter struct {
	w     io.Writer
	begun bool
}

func (l *lateWriter) Write(p []byte) (int, error) {
	l.begun = true
	return l.w.Write(p)
}

// controlClient reaches a running daemon.
type controlClient struct{ dir config.Dir }

func (c *controlClient) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.dir.Control())
	}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	var failed *url.Error
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s belongs to another user: run this as the user that the provider runs as", c.dir.Control())
	case errors.As(err, &failed): // without the address, which means nothing to people
		return nil, fmt.Errorf("couldn't ask the running provider: %w", failed.Err)
	case err != nil:
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// errStopped says that no daemon serves the folder.
var errStopped = errors.New("no daemon serves this folder")

// status asks the daemon how it is.
func (c *controlClient) status(ctx context.Context) (*status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/status", nil)
	// EINVAL: the path is too long for a socket, so no daemon listens there.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINVAL) {
		return nil, errStopped
	} else if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	s := new(status)
	if err := json.NewDecoder(resp.Body).Decode(s); err != nil {
		return nil, fmt.Errorf("the daemon's answer cannot be read: %w", err)
	}
	return s, nil
}

func (c *controlClient) running(ctx context.Context) bool {
	_, err := c.status(ctx)
	return !errors.Is(err, errStopped)
}

// Extract implements operations.
func (c *controlClient) Extract(ctx context.Context, q evidence.Query, w io.Writer) (int, error) {
	resp, err := c.do(ctx, http.MethodPost, "/extract", q)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return 0, err
	}
	if text := resp.Trailer.Get("X-Error"); text != "" {
		return 0, errors.New(text)
	}
	return strconv.Atoi(resp.Trailer.Get("X-Records"))
}

// CloseDays implements operations.
func (c *controlClient) CloseDays(ctx context.Context) (made []closedInterval, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/archive/close", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return made, json.NewDecoder(resp.Body).Decode(&made)
}
