package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/archive/backup"
	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
)

const backupUsage = `usage: scripta backup --dir DIR --to FOLDER

Makes a backup of the provider's data in a folder of its own below FOLDER, while
it runs or stopped, and checks it. What did not change since the backup before is
linked to it. Month secrets are never in it: see scripta keys backup.

`

const restoreUsage = `usage: scripta restore --from FOLDER --keys FOLDER --dir DIR [--checkpoint FILE]...
         [--checkpoint-url URL] [--nothing-newer]

Brings a backup back into DIR, which must be absent or empty: the data from --from
(a backup, or a folder of backups, of which the newest is taken), the month
secrets from --keys. The newest checkpoint that anybody holds says what was lost
since: the log's witnesses are asked; give any other that you can get (a copy, an
auditor's, the published one), or say that there is none. If records were lost the
provider starts only after: scripta log accept-rollback

`

// holdsBackup says whether a folder, or one above it, is a backup of the data.
func holdsBackup(folder string) bool {
	for {
		if _, err := os.Lstat(filepath.Join(folder, "SHA256SUMS.note")); err == nil {
			return true
		}
		if all, err := backup.List(folder); err == nil && len(all) > 0 {
			return true
		}
		up := filepath.Dir(folder)
		if up == folder {
			return false
		}
		folder = up
	}
}

func runBackup(args []string, stdout, stderr io.Writer) int {
	f := newFlags("backup", backupUsage, stdout, stderr)
	dir := f.folder()
	to := f.String("to", "", "`FOLDER` of backups, on another disk")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *to == "" {
		return f.wrong("--to is missing")
	}
	made := ""
	folder, err := filepath.Abs(*to)
	if err == nil {
		err = withOperations(config.Dir(*dir), commandLogger(stderr), func(ctx context.Context, o operations) (err error) {
			made, err = o.Backup(ctx, folder)
			return err
		})
	}
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "%s: a whole backup, checked\n", made)
	return 0
}

// Backup implements operations.
func (a *app) Backup(ctx context.Context, folder string) (string, error) {
	signer, err := keys.LoadNoteSigner(a.dir.LogKey())
	if err != nil {
		return "", err
	}
	return backup.Make(ctx, folder, backup.Options{Dir: a.dir, Config: a.cfg, Log: a.merkle, Signer: signer, Now: time.Now()})
}

// backupHandler serves it to commands.
func (d *daemon) backupHandler(m *http.ServeMux) {
	m.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		var folder, made string
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&folder)
		if err == nil {
			made, err = d.Backup(r.Context(), folder)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		_ = json.NewEncoder(w).Encode(made)
	})
}

// Backup implements operations.
func (c *controlClient) Backup(ctx context.Context, folder string) (made string, err error) {
	err = c.post(ctx, "/backup", folder, &made)
	return made, err
}

// restoreRequest is what the command line asks for.
type restoreRequest struct {
	from, keys, dir, url string
	checkpoints          []string
	nothingNewer         bool
}

func runRestore(args []string, stdout, stderr io.Writer) int {
	f := newFlags("restore", restoreUsage, stdout, stderr)
	dir := f.folder()
	var r restoreRequest
	f.StringVar(&r.from, "from", "", "`FOLDER` with the backup, or with backups")
	f.StringVar(&r.keys, "keys", "", "`FOLDER` with a copy of the month secrets (scripta keys backup)")
	f.Func("checkpoint", "`FILE` with the newest checkpoint that somebody holds; repeatable", func(s string) error {
		r.checkpoints = append(r.checkpoints, s)
		return nil
	})
	f.StringVar(&r.url, "checkpoint-url", "", "`URL` of the published checkpoint, or of a copy of it")
	f.BoolVar(&r.nothingNewer, "nothing-newer", false, "nobody holds a newer checkpoint: nothing was published after the backup")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	switch r.dir = *dir; {
	case r.from == "" || r.keys == "":
		return f.wrong("--from and --keys are needed")
	}
	if err := restore(context.Background(), r, stdout, commandLogger(stderr)); err != nil {
		return f.failed(err)
	}
	return 0
}

// restore brings a backup back, whole or not at all.
func restore(ctx context.Context, r restoreRequest, out io.Writer, log *slog.Logger) error {
	if all, err := backup.List(r.from); err == nil && len(all) > 0 {
		r.from = all[len(all)-1]
	}
	// The key is the backup's own: it tells damage, and not another provider.
	verifier, err := loadLogKey(filepath.Join(r.from, "files", "public", "log.vkey"))
	if err != nil {
		return err
	}
	b, err := backup.Verify(ctx, r.from, verifier)
	if err != nil {
		return err
	}
	newest, err := r.newest(ctx, b, verifier, log)
	if err != nil {
		return err
	}
	signer, err := keys.LoadNoteSigner(filepath.Join(r.from, "files", "keys", "log.key"))
	if err != nil {
		return err
	}
	target, err := filepath.Abs(r.dir)
	if err != nil {
		return err
	}
	exists, err := checkTarget(target)
	if err != nil {
		return err
	}
	parent := filepath.Dir(target)
	if exists {
		parent = target
	}
	stage, err := os.MkdirTemp(parent, stagePrefix)
	if err != nil {
		return fmt.Errorf("couldn't make a folder in %s: %w", parent, err)
	}
	defer os.RemoveAll(stage) // nothing is left there after the last step
	err = backup.Restore(ctx, backup.RestoreOptions{Backup: b, Keys: r.keys, Dir: config.Dir(stage), Newest: newest,
		Log: merkle.Options{Origin: b.Info.Origin, Signer: signer, Verifier: verifier, Logger: log, MinFree: databaseReserve}})
	if err != nil {
		return err
	}
	if err := os.Chmod(stage, 0o711); err != nil {
		return err
	}
	if err := syncFolders(stage); err != nil {
		return err
	}
	if exists {
		err = moveInto(stage, target)
	} else if err = os.Rename(stage, target); err == nil {
		err = durable.OS.SyncDir(parent)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d records of %s, as they were %s\n", r.dir, b.Info.Size, b.Info.Origin, b.Info.Begun.Format(time.RFC3339))
	switch {
	case newest == nil || newest.Size <= b.Info.Size:
		fmt.Fprintf(out, "nothing newer is known; start it with: scripta serve --dir %s\n", r.dir)
	default:
		fmt.Fprintf(out, "LOST: %d records, which had been published (%d are known); bring a newer backup, or accept it with: scripta log accept-rollback --dir %s\n",
			newest.Size-b.Info.Size, newest.Size, r.dir)
	}
	return nil
}

// errUnasked says that nobody told how far the log had come.
var errUnasked = errors.New("give the newest checkpoint that anybody holds (--checkpoint, --checkpoint-url), or say --nothing-newer: records that were lost since the backup would be denied in silence otherwise")

// newest is the newest checkpoint of all that were given, and that the log's
// witnesses tell of; nil if there is none.
func (r *restoreRequest) newest(ctx context.Context, b *backup.Backup, verifier note.Verifier, log *slog.Logger) (*checkpoint.Signed, error) {
	all, err := readCheckpoints(r.checkpoints, verifier)
	if err != nil {
		return nil, err
	}
	if r.url != "" {
		c, err := fetchCheckpoint(ctx, r.url, verifier)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	cfg, err := config.Load(filepath.Join(r.from, "files", "scripta.toml"))
	if err != nil {
		return nil, err
	}
	seen, answered, err := askWitnesses(ctx, cfg, verifier, b.Checkpoint, log)
	if err != nil {
		return nil, err
	}
	all = append(all, seen...)
	if len(all) == 0 && answered == 0 && !r.nothingNewer {
		return nil, errUnasked
	}
	var newest *checkpoint.Signed
	for _, c := range all {
		if newest == nil || c.Size > newest.Size {
			newest = c
		}
	}
	return newest, nil
}

// askWitnesses asks the configured witnesses what they saw last of the log. One
// that does not answer is a warning; one that saw more than it shows is an error:
// what it saw must be found first.
func askWitnesses(ctx context.Context, cfg config.Config, verifier note.Verifier, any *checkpoint.Signed, log *slog.Logger) (seen []*checkpoint.Signed, answered int, err error) {
	var clients []*witness.Client
	for _, peer := range cfg.Witness.Peers {
		vkey, url, _ := strings.Cut(peer, " ")
		v, err := witness.NewVerifier(vkey)
		if err != nil {
			return nil, 0, err
		}
		clients = append(clients, &witness.Client{URL: strings.TrimSpace(url), Verifier: v})
	}
	for _, s := range witness.LatestSeen(ctx, clients, verifier, any) {
		switch {
		case s.Err != nil:
			log.Warn("a witness could not be asked what it saw last", "witness", s.Witness, "err", s.Err)
		case s.Checkpoint != nil:
			seen = append(seen, s.Checkpoint)
			answered++
		case s.Size > any.Size:
			return nil, 0, fmt.Errorf("the witness %s cosigned a checkpoint of %d leaves and does not show it: get it from its operator, and give it with --checkpoint", s.Witness, s.Size)
		default:
			answered++
		}
	}
	return seen, answered, nil
}

// fetchCheckpoint reads a checkpoint from where it is published. Only the log's
// own signature counts, so any certificate will do: whoever stands between can show
// an older checkpoint, and no false one.
func fetchCheckpoint(ctx context.Context, url string, verifier note.Verifier) (*checkpoint.Signed, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, checkpoint.MaxNoteSize+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	c, err := checkpoint.Open(b, verifier)
	if err != nil {
		return nil, fmt.Errorf("%s is no checkpoint of %s: %w", url, verifier.Name(), err)
	}
	return c, nil
}
