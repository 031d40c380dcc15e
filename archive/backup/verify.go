package backup

import (
	"bytes"
	"context"
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

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/checkpoint"
)

// maxList bounds what is read of a list of files, bytes.
const maxList = 256 << 20

// ErrDamaged says that a folder is no whole backup, or was changed.
var ErrDamaged = errors.New("this is no whole backup")

// Backup is one that was verified.
type Backup struct {
	Dir        string
	Info       Info
	Checkpoint *checkpoint.Signed
}

// Verify reads a whole backup and checks it: the log's signature over the list of
// files, every file's digest, that there is no other file, and that the leaves
// give the root of the signed checkpoint.
func Verify(ctx context.Context, dir string, log note.Verifier) (*Backup, error) {
	b := &Backup{Dir: dir}
	var err error
	if b.Info, err = readInfo(dir); err != nil {
		return nil, err
	}
	if b.Info.Origin != log.Name() {
		return nil, fmt.Errorf("%w of %s: it is of %q", ErrDamaged, log.Name(), b.Info.Origin)
	}
	raw, err := readFile(dir, sumsFile, maxList)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	signed, err := readFile(dir, noteFile, 1<<20)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(signed, note.VerifierList(log))
	if err != nil || n.Text != signedText(b.Info.Origin, hex.EncodeToString(sum[:])) {
		return nil, fmt.Errorf("%w: the log did not sign its list of files", ErrDamaged)
	}
	sums, err := parseSums(raw)
	if err != nil {
		return nil, err
	}
	if err := checkFiles(ctx, dir, sums); err != nil {
		return nil, err
	}
	text, err := readFile(dir, checkpointFile, checkpoint.MaxNoteSize)
	if err != nil {
		return nil, err
	}
	if b.Checkpoint, err = checkpoint.Open(text, log); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if b.Checkpoint.Size != b.Info.Size {
		return nil, fmt.Errorf("%w: its checkpoint is of %d leaves, not %d", ErrDamaged, b.Checkpoint.Size, b.Info.Size)
	}
	root, err := rootOf(ctx, dir, b.Info.Size)
	if err != nil || root != b.Checkpoint.Root {
		return nil, errors.Join(err, fmt.Errorf("%w: its leaves do not give the root of its checkpoint", ErrDamaged))
	}
	return b, nil
}

// checkFiles checks that a backup holds the listed files and no others.
func checkFiles(ctx context.Context, dir string, sums map[string]string) error {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if name == sumsFile || name == noteFile {
			return nil
		}
		want, ok := sums[name]
		if !ok || !d.Type().IsRegular() {
			return fmt.Errorf("%w: %q is not in its list", ErrDamaged, name)
		}
		found++
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != want {
			return fmt.Errorf("%w: %q is not what was written", ErrDamaged, name)
		}
		return nil
	})
	if err == nil && found != len(sums) {
		err = fmt.Errorf("%w: %d files are missing", ErrDamaged, len(sums)-found)
	}
	return err
}

func readFile(dir, name string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has no %s", ErrDamaged, name)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func readInfo(dir string) (Info, error) {
	var i Info
	b, err := readFile(dir, infoFile, 1<<16)
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(b, &i); err != nil || i.Format != format {
		return i, fmt.Errorf("%w: %s is of format %.40q", ErrDamaged, infoFile, i.Format)
	}
	return i, nil
}

func readSums(dir string) (map[string]string, error) {
	b, err := readFile(dir, sumsFile, maxList)
	if err != nil {
		return nil, err
	}
	return parseSums(b)
}

// parseSums reads a list as sha256sum writes it. Names stay within the backup.
func parseSums(b []byte) (map[string]string, error) {
	sums := map[string]string{}
	for line := range bytes.Lines(b) {
		digest, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  ")
		if _, err := hex.DecodeString(digest); !ok || err != nil || len(digest) != 64 || !filepath.IsLocal(filepath.FromSlash(name)) || sums[name] != "" {
			return nil, fmt.Errorf("%w: %s has the line %.80q", ErrDamaged, sumsFile, line)
		}
		sums[name] = digest
	}
	return sums, nil
}
