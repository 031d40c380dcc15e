package providers

import (
	"bytes"
	"crypto/sha256"
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
)

// stored says what the last good copy is. It is kept in the file "state", which
// names the copy by its SHA-256, so that a crash between the two files leaves the
// old pair.
type stored struct {
	Source string `json:"source"`
	Signed bool   `json:"signed"`
	File   string `json:"file"` // SHA-256 of the copy
	Size   int    `json:"size"`
	Validators
	Index       string    `json:"index"`        // digest of the directory in it
	SigningTime time.Time `json:"signing_time"` // zero if not signed
	Signer      string    `json:"signer,omitempty"`
	Taken       time.Time `json:"taken"`   // when it came, and was verified
	Checked     time.Time `json:"checked"` // when the source last said that it is the newest
}

// errDamaged is a copy that is not what was stored.
var errDamaged = errors.New("the last good copy of the directory is damaged")

// copies keeps the last good copy in a folder.
type copies struct {
	fs  durable.FS
	dir string
}

func (c copies) path(name string) string { return filepath.Join(c.dir, name) }

const stateFile = "state"

// suffix ends the names of copies: signed or bare.
func suffix(signed bool) string {
	if signed {
		return ".ldif.p7m"
	}
	return ".ldif"
}

func (s *stored) name() string { return s.File + suffix(s.Signed) }

// load returns the last good copy, or nil if there never was one.
func (c copies) load() (*stored, []byte, error) {
	text, err := c.read(stateFile, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	head, sum, ok := bytes.Cut(text, []byte("\n"))
	want := sha256.Sum256(head)
	if !ok || strings.TrimSpace(string(sum)) != hex.EncodeToString(want[:]) {
		return nil, nil, fmt.Errorf("%w: %s has another checksum", errDamaged, c.path(stateFile))
	}
	s := new(stored)
	if err := json.Unmarshal(head, s); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	data, err := c.read(s.name(), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
	} else if err != nil {
		return nil, nil, err
	}
	if digest := sha256.Sum256(data); s.File != hex.EncodeToString(digest[:]) {
		return nil, nil, fmt.Errorf("%w: %s has another checksum", errDamaged, c.path(s.name()))
	}
	return s, data, nil
}

func (c copies) read(name string, limit int64) ([]byte, error) {
	f, err := c.fs.OpenFile(c.path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the last good copy of the directory: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the last good copy of the directory: %w", err)
	}
	return data, nil
}

// save makes data, of which s tells, the last good copy; nil data leaves the copy
// that s names already. The order of its steps: the copy under its own name; the
// state that names it; then the earlier copies go. A crash after the first step
// leaves the old copy in force, one after the second a file that nobody names and
// the next save removes.
func (c copies) save(s *stored, data []byte) error {
	if err := durable.MkdirAll(c.fs, c.dir, 0o700); err != nil {
		return err
	}
	if data != nil {
		if err := durable.WriteFile(c.fs, c.path(s.name()), data, 0o600); err != nil {
			return err
		}
	}
	head, err := json.Marshal(s)
	if err != nil {
		return err
	}
	text := fmt.Appendf(head, "\n%x\n", sha256.Sum256(head))
	if err := durable.WriteFile(c.fs, c.path(stateFile), text, 0o600); err != nil {
		return err
	}
	c.clean(s)
	return nil
}

// clean removes the copies that are not in force. What is left is removed the next
// time.
func (c copies) clean(s *stored) {
	all, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range all {
		if name := e.Name(); strings.Contains(name, ".ldif") && name != s.name() {
			_ = c.fs.Remove(c.path(name))
		}
	}
}
