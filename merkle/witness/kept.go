package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
)

const (
	// CosignedFile is the name that the latest cosigned note has beside the log's
	// checkpoint.
	CosignedFile = "checkpoint.cosigned"
	// KeptFolder is beside it and holds the cosigned notes that are kept for ever,
	// each under its size: one an hour, for what evidence shows years later, when
	// the witnesses are others.
	KeptFolder = "cosigned"

	keepEvery = time.Hour
	// coverTime bounds how long Covering waits for witnesses.
	coverTime = 5 * time.Second
)

func (g *Gatherer) keptFile(size uint64) string {
	return filepath.Join(g.opt.Dir, KeptFolder, strconv.FormatUint(size, 10))
}

// load reads what earlier runs stored.
func (g *Gatherer) load() error {
	folder := filepath.Join(g.opt.Dir, KeptFolder)
	if err := durable.MkdirAll(g.opt.FS, folder, 0o755); err != nil {
		return fmt.Errorf("couldn't make the folder of cosigned checkpoints: %w", err)
	}
	entries, err := g.opt.FS.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("couldn't list the cosigned checkpoints: %w", err)
	}
	for _, e := range entries {
		if size, err := parseSize(e.Name()); err == nil {
			g.kept = append(g.kept, size)
		}
	}
	slices.Sort(g.kept)
	if n := len(g.kept); n > 0 {
		if st, err := g.opt.FS.Stat(g.keptFile(g.kept[n-1])); err == nil {
			g.keptAt = st.ModTime()
		}
	}
	file := filepath.Join(g.opt.Dir, CosignedFile)
	cp, err := g.read(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errNotCosigned):
		g.opt.Logger.Warn("the stored cosigned checkpoint counts as none", "file", file, "err", err)
		return nil
	case err != nil:
		return fmt.Errorf("couldn't read the cosigned checkpoint: %w", err)
	}
	g.cosigned.Store(cp)
	return nil
}

// errNotCosigned says that a stored note is not of this log, or has no quorum of
// the witnesses that are configured now.
var errNotCosigned = errors.New("witness: not signed by the log and a quorum of its witnesses")

// read reads a stored note and verifies its signatures.
func (g *Gatherer) read(file string) (*checkpoint.Signed, error) {
	f, err := g.opt.FS.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, checkpoint.MaxNoteSize+1))
	if err != nil {
		return nil, err
	}
	cp, err := checkpoint.Open(b, g.opt.Log.Verifier())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotCosigned, err)
	}
	if !g.opt.Policy.Satisfied(b) {
		return nil, errNotCosigned
	}
	return cp, nil
}

// store makes the note of the round durable, then gives it out; mu is held. After
// a crash at any step the file is the old note or the new one: what was given out
// is on the disk, but for cosignatures that came after the quorum.
func (g *Gatherer) store(now time.Time) error {
	signed := g.round.cp.Stamped()
	for _, p := range g.peers { // in the policy's order, whoever was first
		signed = append(signed, g.round.lines[p]...)
	}
	cp, err := checkpoint.Open(signed, g.opt.Log.Verifier())
	if err != nil {
		return err
	}
	if err := durable.WriteFile(g.opt.FS, filepath.Join(g.opt.Dir, CosignedFile), signed, 0o644); err != nil {
		return err
	}
	n := len(g.kept)
	again := n > 0 && g.kept[n-1] == cp.Size
	if again || now.Sub(g.keptAt).Abs() >= keepEvery {
		if err := durable.WriteFile(g.opt.FS, g.keptFile(cp.Size), signed, 0o644); err != nil {
			return err
		}
		if !again {
			g.kept, g.keptAt = append(g.kept, cp.Size), now
		}
	}
	g.cosigned.Store(cp)
	return nil
}

// Covering returns a checkpoint of at least size leaves that a quorum cosigned,
// the first one that is kept or else the latest; if there is none it asks for
// one, and waits for a few seconds. Nil means that none can be had now.
func (g *Gatherer) Covering(ctx context.Context, size uint64) *checkpoint.Signed {
	g.mu.Lock()
	i, _ := slices.BinarySearch(g.kept, size)
	kept := slices.Clone(g.kept[i:min(i+1, len(g.kept))])
	g.mu.Unlock()
	for _, size := range kept {
		cp, err := g.read(g.keptFile(size))
		if err == nil && cp.Size == size {
			return cp
		}
		if !errors.Is(err, errNotCosigned) { // other witnesses than today's: no fault
			g.opt.Logger.Error("a kept cosigned checkpoint can't be read", "file", g.keptFile(size), "err", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, coverTime)
	defer cancel()
	for {
		if cp := g.cosigned.Load(); cp != nil && cp.Size >= size {
			return cp
		}
		err := g.Gather(ctx)
		if cp := g.cosigned.Load(); cp != nil && cp.Size >= size {
			return cp
		}
		if latest := g.opt.Log.Checkpoint(); ctx.Err() != nil || latest == nil || latest.Size < size || err != nil && !g.underWay() {
			return nil
		}
		select { // others wait for the same answers
		case <-ctx.Done():
		case <-time.After(coverTime / 50):
		}
	}
}

// underWay reports whether witnesses are being asked.
func (g *Gatherer) underWay() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.peers, func(p *peer) bool { return p.busy })
}
