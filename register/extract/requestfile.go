package extract

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/internal/seal"
	"scripta/register/receipts"
)

const (
	requestLabel   = "scripta/request/v1"
	infoRequest    = "scripta/request/v1" // derives the key of a month
	requestVersion = 1
	requestHead    = 3
	maxRequestFile = 1 << 20
)

// requestFiles keeps requests and their evidence files, sealed under the secret
// of the month in which they were asked for.
//
//	DIR/requests/ID           0x01 ‖ uint16 month ‖ sealed JSON (internal/seal)
//	DIR/evidence/MONTH/ID     sealed stream (receipts.ContentStore)
//
// A request's file is replaced as a whole at each step, so that after a crash it
// tells of the step before or of the step after. The additional data of its seal
// is "scripta/request/v1" ‖ origin ‖ ID.
type requestFiles struct {
	fsys     durable.FS
	dir      string
	origin   string
	keys     requestKeys
	evidence *receipts.ContentStore
}

// requestKeys derives the key of a month; it is the content store's, too.
type requestKeys struct{ months *keys.Months }

// ReceiptKey implements [receipts.Keys].
func (k requestKeys) ReceiptKey(month uint16) (*[32]byte, error) {
	secret, err := k.months.Secret(keys.Month(month))
	if err != nil {
		return nil, err
	}
	key := keys.Derive(secret, infoRequest)
	return &key, nil
}

func openRequestFiles(fsys durable.FS, dir, origin string, months *keys.Months) (*requestFiles, error) {
	f := &requestFiles{fsys: fsys, dir: dir, origin: origin, keys: requestKeys{months}}
	if err := fsys.MkdirAll(f.folder(), 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the folder of requests: %w", err)
	}
	var err error
	if f.evidence, err = receipts.OpenContents(fsys, f.evidenceDir(), origin, f.keys); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := fsys.SyncDir(d); err != nil {
			return nil, fmt.Errorf("couldn't sync the folder of requests: %w", err)
		}
	}
	return f, nil
}

func (f *requestFiles) folder() string           { return filepath.Join(f.dir, "requests") }
func (f *requestFiles) evidenceDir() string      { return filepath.Join(f.dir, "evidence") }
func (f *requestFiles) name(id RequestID) string { return filepath.Join(f.folder(), id.String()) }
func (f *requestFiles) additional(id RequestID) []byte {
	return append(append([]byte(requestLabel), f.origin...), id[:]...)
}

// monthOf is the month under which everything of a request is sealed.
func monthOf(r *Request) uint16 { return uint16(keys.MonthOf(r.Asked.Time)) }

// save makes the request as it is now durable.
func (f *requestFiles) save(r *Request) error {
	month := monthOf(r)
	key, err := f.keys.ReceiptKey(month)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b := append([]byte{requestVersion, byte(month >> 8), byte(month)}, seal.Seal(key, f.additional(r.ID), plain)...)
	if err := durable.WriteFile(f.fsys, f.name(r.ID), b, 0o600); err != nil {
		return fmt.Errorf("couldn't keep request %v: %w", r.ID, err)
	}
	return nil
}

// errRequestFile says that a request's file is not what was written.
var errRequestFile = errors.New("the file of a request is damaged")

func (f *requestFiles) load(id RequestID) (*Request, error) {
	in, err := f.fsys.OpenFile(f.name(id), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxRequestFile))
	if err != nil {
		return nil, err
	}
	if len(b) < requestHead || b[0] != requestVersion {
		return nil, fmt.Errorf("%w: %d bytes", errRequestFile, len(b))
	}
	key, err := f.keys.ReceiptKey(uint16(b[1])<<8 | uint16(b[2]))
	if err != nil {
		return nil, err
	}
	plain, err := seal.Open(key, f.additional(id), b[requestHead:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRequestFile, err)
	}
	r := &Request{ID: id}
	if err := json.Unmarshal(plain, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errRequestFile, err)
	}
	if r.Query.To == nil || r.Query.Mailbox == "" {
		return nil, fmt.Errorf("%w: it names no mailbox or no period", errRequestFile)
	}
	return r, nil
}

// remove deletes a request and its evidence file, which goes first: a crash
// between leaves a request whose deletion is run again.
func (f *requestFiles) remove(r *Request) error {
	if err := f.evidence.Remove(r.ID, monthOf(r)); err != nil {
		return fmt.Errorf("couldn't delete the evidence file of request %v: %w", r.ID, err)
	}
	return f.forget(r.ID)
}

func (f *requestFiles) forget(id RequestID) error {
	err := f.fsys.Remove(f.name(id))
	if err == nil {
		err = f.fsys.SyncDir(f.folder())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't delete request %v: %w", id, err)
	}
	return nil
}

// loadAll reads every request, and calls damaged for those that it leaves out.
// Requests of a month that was disposed of are deleted: nobody can read them.
func (f *requestFiles) loadAll(damaged func(name string, err error)) ([]*Request, error) {
	entries, err := f.fsys.ReadDir(f.folder())
	if err != nil {
		return nil, fmt.Errorf("couldn't list the requests: %w", err)
	}
	var all []*Request
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // left by a crash in durable.WriteFile
			if err := f.fsys.Remove(filepath.Join(f.folder(), e.Name())); err != nil {
				return nil, fmt.Errorf("couldn't clean the requests: %w", err)
			}
			continue
		}
		id, ok := ParseRequestID(e.Name())
		if !ok {
			damaged(e.Name(), errors.New("not the name of a request"))
			continue
		}
		r, err := f.load(id)
		switch {
		case errors.Is(err, keys.ErrDisposed):
			if err := f.forget(id); err != nil {
				return nil, err
			}
		case err != nil:
			damaged(e.Name(), err)
		default:
			all = append(all, r)
		}
	}
	return all, nil
}

// sweep deletes evidence files without a request: what a crash in remove left.
func (f *requestFiles) sweep() error {
	months, err := f.fsys.ReadDir(f.evidenceDir())
	if err != nil {
		return fmt.Errorf("couldn't list the evidence files: %w", err)
	}
	for _, m := range months {
		month, err := keys.ParseMonth(m.Name())
		if err != nil {
			continue
		}
		files, err := f.fsys.ReadDir(filepath.Join(f.evidenceDir(), m.Name()))
		if err != nil {
			return fmt.Errorf("couldn't list the evidence files: %w", err)
		}
		for _, e := range files {
			b, err := hex.DecodeString(e.Name())
			if err != nil || len(b) != len(RequestID{}) {
				continue
			}
			if _, err := f.fsys.Stat(f.name(RequestID(b))); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := f.evidence.Remove(RequestID(b), uint16(month)); err != nil {
				return fmt.Errorf("couldn't clean the evidence files: %w", err)
			}
		}
	}
	return nil
}

// millis is t as records keep it.
func millis(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
