package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

// sizeType is the media type of the answer 409 (c2sp.org/tlog-witness).
const sizeType = "text/x.tlog.size"

// requestsAtOnce bounds the requests that are read into memory.
const requestsAtOnce = 64

// ServerOptions are what a witness needs.
type ServerOptions struct {
	Dir    string     // folder of the states, made if it is not there
	FS     durable.FS // durable.OS if nil
	Signer *Signer
	Logs   []note.Verifier // whose checkpoints it cosigns; a log's origin is its key's name
	// PerAddress is how many requests a second an address may make; 20 if 0.
	PerAddress float64
	// PerLog is how many new checkpoints a second of one log are cosigned; 5 if 0.
	PerLog float64
	Now    func() time.Time
	Logger *slog.Logger
}

// Server is a witness. It serves POST <prefix>/add-checkpoint, and GET
// <prefix>/<SHA-256 of the origin in hexadecimal>/checkpoint, the last checkpoint
// that it cosigned of a log: signed by the log, then by the witness.
type Server struct {
	opt    ServerOptions
	logs   map[string]*watched // by origin
	paths  map[string]*watched // by latestPath
	from   addresses
	slots  chan struct{} // holds one element for each request being worked on
	unlock func()
}

// watched is one log.
type watched struct {
	verifier note.Verifier
	file     string
	// mu is held from reading the state to having written the next one. This
	// guarantees that two requests never both continue one state. It guards what
	// follows.
	mu sync.Mutex
	// synced is whether the state that is read is certain to survive a power cut.
	synced bool
	fresh  bucket // of new checkpoints
}

// OpenServer opens a witness's folder and reads every state, so that a damaged
// one is noticed now. The error is durable.ErrLocked if another process has it.
func OpenServer(opt ServerOptions) (*Server, error) {
	if opt.FS == nil {
		opt.FS = durable.OS
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.PerAddress <= 0 {
		opt.PerAddress = defaultPerAddress
	}
	if opt.PerLog <= 0 {
		opt.PerLog = defaultPerLog
	}
	if err := durable.MkdirAll(opt.FS, opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't make the witness's folder: %w", err)
	}
	unlock, err := durable.Lock(filepath.Join(opt.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	s := &Server{opt: opt, logs: make(map[string]*watched), paths: make(map[string]*watched),
		from: addresses{perSecond: opt.PerAddress, seed: maphash.MakeSeed()}, slots: make(chan struct{}, requestsAtOnce), unlock: unlock}
	if err := s.load(); err != nil {
		unlock()
		return nil, err
	}
	return s, nil
}

// load reads the state of every log.
func (s *Server) load() error {
	// The last process may have ended between a state's rename and its flush.
	if err := s.opt.FS.SyncDir(s.opt.Dir); err != nil {
		return fmt.Errorf("couldn't sync the witness's folder: %w", err)
	}
	for _, v := range s.opt.Logs {
		if s.logs[v.Name()] != nil {
			return fmt.Errorf("witness: the log %q is given twice", v.Name())
		}
		sum := sha256.Sum256([]byte(v.Name()))
		w := &watched{verifier: v, file: filepath.Join(s.opt.Dir, hex.EncodeToString(sum[:])+".checkpoint"), synced: true}
		if _, _, err := s.state(w); err != nil {
			return err
		}
		s.logs[v.Name()], s.paths[latestPath(v.Name())] = w, w
	}
	return nil
}

// Close lets go of the folder.
func (s *Server) Close() { s.unlock() }

// state reads the last checkpoint that was cosigned, and its note; it is nil if
// there is none.
// A file that is not a checkpoint signed by the log and by this witness is an
// error: to begin anew would cosign a second history.
func (s *Server) state(w *watched) (*checkpoint.Checkpoint, []byte, error) {
	f, err := s.opt.FS.OpenFile(w.file, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("couldn't read what was cosigned of %q: %w", w.verifier.Name(), err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, checkpoint.MaxNoteSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't read what was cosigned of %q: %w", w.verifier.Name(), err)
	}
	n, err := note.Open(b, note.VerifierList(w.verifier, s.opt.Signer.Verifier()))
	if err == nil && len(n.Sigs) != 2 {
		err = errors.New("a signature is missing")
	}
	var c *checkpoint.Checkpoint
	if err == nil {
		c, err = checkpoint.Parse(n.Text)
	}
	if err == nil && c.Origin != w.verifier.Name() {
		err = checkpoint.ErrOrigin
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s, which says what was cosigned of %q, is damaged, or the witness's or log's key was changed; "+
			"bring the file back from its newest copy: %w", w.file, w.verifier.Name(), err)
	}
	return c, b, nil
}

// answer is what a client hears.
type answer struct {
	status int
	kind   string // media type
	body   string
}

func plain(status int, text string) answer {
	return answer{status, "text/plain; charset=utf-8", text + "\n"}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.from.take(r.RemoteAddr, s.opt.Now()) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests from this address", http.StatusTooManyRequests)
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/add-checkpoint") {
		s.latest(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestSize))
	a := plain(http.StatusBadRequest, "the body can't be read or is too long")
	if err == nil {
		a = s.add(b)
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // an error is the client's
}

// latest shows the last checkpoint that was cosigned of a log.
func (s *Server) latest(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	log := s.paths[path[max(0, len(path)-len(latestPath(""))):]]
	if log == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	c, signed, err := s.state(log)
	switch {
	case err == nil && c == nil:
		http.NotFound(w, r)
	case err != nil || !log.synced:
		http.Error(w, "the witness can't tell", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(signed) // an error is the client's
	}
}

// add decides about one request. The order of its steps is what the witness's
// honesty rests on:
//
//  1. The checkpoint is signed by the log that its origin names.
//  2. Under the log's lock, the state is read from the disk.
//  3. The checkpoint continues the state, or is the state.
//  4. The cosigned note replaces the state and is fsynced, also if it is the state
//     but not certain to be on the disk: an earlier write may have failed after
//     its rename.
//  5. Only now the cosignature is given out.
func (s *Server) add(body []byte) answer {
	r, err := ParseRequest(body)
	if err != nil {
		return plain(http.StatusBadRequest, err.Error())
	}
	origin, _, _ := strings.Cut(string(r.Note), "\n")
	w := s.logs[origin]
	n, err := openNote(r.Note, w)
	var unverified *note.UnverifiedNoteError
	switch {
	case w == nil && (err == nil || errors.As(err, &unverified)):
		return plain(http.StatusNotFound, "this witness does not watch that log")
	case errors.As(err, &unverified) || isInvalidSignature(err):
		return plain(http.StatusForbidden, "no good signature of a key that is trusted for this log")
	case err != nil:
		return plain(http.StatusBadRequest, "not a signed note")
	}
	c, err := checkpoint.Parse(n.Text)
	switch {
	case err != nil:
		return plain(http.StatusBadRequest, err.Error())
	case r.Old > c.Size:
		return plain(http.StatusBadRequest, "the old size is above the checkpoint's")
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	last, _, err := s.state(w)
	if err != nil {
		s.opt.Logger.Error("nothing of this log is cosigned", "origin", origin, "err", err)
		return plain(http.StatusInternalServerError, "the witness can't read its state")
	}
	old := checkpoint.Checkpoint{Root: sha256.Sum256(nil)}
	if last != nil {
		old = *last
	}
	conflict := answer{http.StatusConflict, sizeType, fmt.Sprintf("%d\n", old.Size)}
	if r.Old != old.Size {
		return conflict
	}
	if c.Size == old.Size && c.Root != old.Root {
		s.opt.Logger.Error("the log signed two roots of one size", "origin", origin, "size", c.Size, "cosigned", old.Text(), "refused", string(r.Note))
		return conflict
	}
	if err := checkpoint.VerifyConsistency(r.Proof, old.Size, c.Size, old.Root, c.Root); err != nil {
		s.opt.Logger.Error("a checkpoint that the log signed is not proven to continue the last one", "origin", origin, "cosigned", old.Text(), "refused", string(r.Note))
		return plain(http.StatusUnprocessableEntity, "the consistency proof fails")
	}
	known := last != nil && w.synced && n.Text == last.Text()
	if !known && !w.fresh.take(s.opt.Now(), s.opt.PerLog, s.opt.PerLog*burstSeconds) {
		return plain(http.StatusTooManyRequests, "this log asks too often")
	}
	line, err := s.opt.Signer.Line(n.Text, s.opt.Now())
	if err == nil && !known {
		w.synced = false
		err = durable.WriteFile(s.opt.FS, w.file, append([]byte(n.Text+"\n"+signatureLine(n.Sigs[0])), line...), 0o600)
		w.synced = err == nil
	}
	if err != nil {
		s.opt.Logger.Error("couldn't cosign", "origin", origin, "size", c.Size, "err", err)
		return plain(http.StatusInternalServerError, "the witness can't write its state")
	}
	return answer{http.StatusOK, "text/plain; charset=utf-8", string(line)}
}

// openNote verifies the log's signature; of a log that is not watched it only
// reads the note.
func openNote(b []byte, w *watched) (*note.Note, error) {
	if w == nil {
		return note.Open(b, note.VerifierList())
	}
	return note.Open(b, note.VerifierList(w.verifier))
}

func isInvalidSignature(err error) bool {
	var bad *note.InvalidSignatureError
	return errors.As(err, &bad)
}

func signatureLine(s note.Signature) string { return "— " + s.Name + " " + s.Base64 + "\n" }
