package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"time"

	"scripta/internal/cms"
	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
	"scripta/register/evidence"
	"scripta/register/record"
	"scripta/tsa"
)

// Bounds of what is read of a package besides leaves and records, in bytes.
const (
	maxSums   = 8 << 20
	maxProofs = 64 << 10 // at most 64 hashes a proof
)

// tolerate is how much later than the time stamp over it a record's time may be.
const tolerate = time.Second

// Verify checks the package in a folder with what anybody can have: no network,
// no key of the provider. previous is the package before, or nil where it is not
// at hand. Every check is made, also after one has failed, as far as the files
// can be read. The report's Pending says that no stamp is in the package that
// covers all of it. Whether the records open only the provider can tell:
// [VerifyRecords].
func Verify(dir string, trust evidence.Trust, previous *Package) *evidence.Report {
	v := &verifier{dir: dir, trust: trust, report: &evidence.Report{}, files: map[string]FileSum{}, roots: map[uint64][32]byte{}}
	v.run(previous)
	return v.report
}

// verifier holds what the checks share.
type verifier struct {
	dir    string
	trust  evidence.Trust
	report *evidence.Report
	files  map[string]FileSum // what is in the folder
	x      *Index
	roots  map[uint64][32]byte // of the log at the sizes that were stamped within
	cp     *checkpoint.Signed  // nil: not valid
}

func (v *verifier) add(name, detail string, err error) {
	v.report.Add(evidence.Check{Name: name, Detail: detail, Err: err})
}

func (v *verifier) run(previous *Package) {
	v.add("folder", "", v.readFolder())
	v.add(nameSums, "", v.checkSums())
	raw, err := v.read(nameIndex, maxIndex)
	if err == nil {
		v.x, err = ParseIndex(raw)
	}
	if err != nil {
		v.add("index", "", err)
		return
	}
	v.add("index", fmt.Sprintf("%s %s, %d records", v.x.Origin, v.x.Package, v.x.Records.Total), nil)
	v.checkSignature(raw)
	v.checkFiles()
	v.add("leaves", fmt.Sprintf("%d to %d", v.x.StartSize, v.x.EndSize), v.checkLeaves())
	v.add("records", "", v.checkRecords())
	v.checkCheckpoint()
	v.checkStamps()
	v.checkPrevious(previous)
}

// readFolder lists the folder and hashes its files.
func (v *verifier) readFolder() error {
	var bad evidence.Faults
	err := filepath.WalkDir(v.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(v.dir, path)
		if err != nil {
			return err
		}
		switch {
		case e.Type().IsRegular():
			sum, err := sumFile(path)
			if err != nil {
				bad.Add(fmt.Errorf("couldn't read %q: %w", name, err))
			}
			sum.Name = filepath.ToSlash(name)
			v.files[sum.Name] = sum
		case !e.IsDir():
			bad.Add(fmt.Errorf("%q is neither file nor folder", name))
		case name != "." && name != dirStamps && name != dirCertificates:
			bad.Add(fmt.Errorf("the folder %q does not belong here", name))
			return fs.SkipDir
		}
		return nil
	})
	return errors.Join(err, bad.Err())
}

func sumFile(path string) (sum FileSum, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	sum.Size, err = io.Copy(h, f)
	h.Sum(sum.SHA256[:0])
	return sum, err
}

// read returns a file that is small by its nature.
func (v *verifier) read(name string, limit int64) ([]byte, error) {
	if _, ok := v.files[name]; !ok {
		return nil, fmt.Errorf("%s is missing", name)
	}
	return readFile(filepath.Join(v.dir, filepath.FromSlash(name)), limit)
}

// checkSums checks that SHA256SUMS has every other file once, with its sum.
func (v *verifier) checkSums() error {
	b, err := v.read(nameSums, maxSums)
	if err != nil {
		return err
	}
	lines := map[string]bool{}
	n := 0
	for line := range bytes.Lines(b) {
		lines[string(line)] = true
		n++
	}
	var bad evidence.Faults
	if n != len(v.files)-1 {
		bad.Add(fmt.Errorf("%d lines for %d files", n, len(v.files)-1))
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if name != nameSums && !lines[string(sums([]FileSum{v.files[name]}))] {
			bad.Add(fmt.Errorf("%.80q has another SHA-256, or no line", name))
		}
	}
	return bad.Err()
}

func (v *verifier) checkSignature(index []byte) {
	detail := ""
	sig, err := v.read(nameSignature, cms.MaxDetached)
	if err == nil {
		var s *cms.Signature
		if s, err = cms.Verify(sig, cms.DigestOf(index), cms.Policy{Roots: v.trust.PEC, At: v.x.Created, EKU: x509.ExtKeyUsageEmailProtection, RequireESS: true}); err == nil {
			detail = s.Certificate.Subject.String()
			err = evidence.CheckSigner(s, v.x.Origin)
		}
	}
	v.add("index signature", detail, err)
}

// checkFiles compares the files with what the index lists.
func (v *verifier) checkFiles() {
	listed := map[string]bool{nameIndex: true, nameSignature: true, nameSums: true}
	good := 0
	for _, want := range v.x.Files {
		listed[want.Name] = true
		got, ok := v.files[want.Name]
		switch {
		case !ok:
			v.add("file "+want.Name, "", errors.New("it is missing"))
		case got != want:
			v.add("file "+want.Name, "", fmt.Errorf("it has %d bytes with the SHA-256 %s; signed for were %d bytes with %s", got.Size, got.SHA256, want.Size, want.SHA256))
		default:
			good++
		}
	}
	v.add("files", fmt.Sprintf("%d as listed", good), nil)
	var extra []string
	for name := range v.files {
		if !listed[name] {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	var bad evidence.Faults
	for _, name := range extra {
		bad.Add(fmt.Errorf("the index does not list %.200q", name))
	}
	v.add("no other files", "", bad.Err())
}

// checkLeaves recomputes the roots: from the frontier at the interval's begin,
// with the leaves, to its end.
func (v *verifier) checkLeaves() error {
	raw, err := v.read(nameFrontier, maxProofs)
	if err != nil {
		return err
	}
	hashes, err := decodeHashes(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", nameFrontier, err)
	}
	if len(hashes) != bits.OnesCount64(v.x.StartSize) {
		return fmt.Errorf("%s has %d hashes, a log of %d leaves has %d", nameFrontier, len(hashes), v.x.StartSize, bits.OnesCount64(v.x.StartSize))
	}
	edge := tiles.Frontier{Size: v.x.StartSize, Hashes: hashes}
	if Digest(edge.Root()) != v.x.StartRoot {
		return fmt.Errorf("%s does not give the root at %d leaves", nameFrontier, v.x.StartSize)
	}
	f, err := os.Open(filepath.Join(v.dir, nameLeaves))
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, buffer)
	var leaf [record.LeafSize]byte
	for edge.Size < v.x.EndSize {
		if _, err := io.ReadFull(r, leaf[:]); err != nil {
			return fmt.Errorf("%s ends before leaf %d: %w", nameLeaves, edge.Size, err)
		}
		edge.Append(tiles.LeafHash(leaf[:]))
		if _, stamped := slices.BinarySearch(v.x.Stamps, edge.Size); stamped {
			v.roots[edge.Size] = edge.Root()
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%s goes on after leaf %d", nameLeaves, v.x.EndSize)
	}
	if Digest(edge.Root()) != v.x.EndRoot {
		return fmt.Errorf("%s does not give the root at %d leaves", nameLeaves, v.x.EndSize)
	}
	return nil
}

// checkRecords checks the frames of the sealed records, and the numbers by class
// and month.
func (v *verifier) checkRecords() error {
	months := map[string]uint64{}
	disposed := map[string]bool{}
	for _, m := range v.x.Months {
		disposed[m.Month] = m.Disposed
	}
	p := &Package{Dir: v.dir, Index: v.x}
	err := p.each(func(f frame, _ record.Leaf) error {
		name := monthName(f.month)
		months[name]++
		if (len(f.body) == 0) != disposed[name] {
			return fmt.Errorf("%w: record %d has a body of %d bytes", errFrame, f.index, len(f.body))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", nameRecords, err)
	}
	for _, m := range v.x.Months {
		if months[m.Month] != m.Records {
			return fmt.Errorf("%s: %d records of %s, the index has %d", nameRecords, months[m.Month], m.Month, m.Records)
		}
	}
	return nil // the index's months add up to the total, so there is no other
}

// checkCheckpoint checks the log's signature and that the checkpoint continues
// the interval, and the interval what was before.
func (v *verifier) checkCheckpoint() {
	x := v.x
	raw, err := v.read(nameCheckpoint, checkpoint.MaxNoteSize)
	var cp *checkpoint.Signed
	if err == nil {
		cp, err = checkpoint.Open(raw, v.trust.Key(v.x.Origin))
	}
	switch {
	case err != nil:
	case cp.Size != x.Checkpoint:
		err = fmt.Errorf("it is of %d leaves, the index says %d", cp.Size, x.Checkpoint)
	case cp.Origin != x.Origin:
		err = fmt.Errorf("it is of the log %q", cp.Origin)
	case !bytes.Equal(cp.Stamped(), raw):
		err = errors.New("it has more than the log's own signature")
	default:
		v.cp = cp
	}
	v.add("checkpoint", fmt.Sprintf("%d leaves", x.Checkpoint), err)
	v.add("consistency", fmt.Sprintf("%d → %d → %d", x.StartSize, x.EndSize, x.Checkpoint), v.checkConsistency())
}

func (v *verifier) checkConsistency() error {
	x := v.x
	raw, err := v.read(nameConsistency, maxProofs)
	if err != nil {
		return err
	}
	steps, err := decodeSteps(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", nameConsistency, err)
	}
	if len(steps) != 2 || steps[0].from != x.StartSize || steps[0].to != x.EndSize || steps[1].from != x.EndSize || steps[1].to != x.Checkpoint {
		return fmt.Errorf("%s does not have the two proofs %d → %d → %d", nameConsistency, x.StartSize, x.EndSize, x.Checkpoint)
	}
	err = checkpoint.VerifyConsistency(steps[0].hashes, x.StartSize, x.EndSize, x.StartRoot, x.EndRoot)
	if v.cp == nil {
		return errors.Join(err, errors.New("there is no valid checkpoint to lead to"))
	}
	return errors.Join(err, checkpoint.VerifyConsistency(steps[1].hashes, x.EndSize, x.Checkpoint, x.EndRoot, v.cp.Root))
}

// checkStamps checks every time stamp, and that what it stamps is the log that
// the leaves give.
func (v *verifier) checkStamps() {
	for _, size := range v.x.Stamps {
		tok, err := v.checkStamp(size)
		detail := ""
		if err == nil {
			detail = tok.Time.Format(time.RFC3339) + ", " + tok.Certificate.Subject.CommonName
			if !tok.Qualified {
				detail += ", not qualified"
			}
		}
		v.add(fmt.Sprintf("time stamp %d", size), detail, err)
		if newest := v.x.Records.Newest; err == nil && size >= v.x.EndSize && newest != nil && newest.After(tok.Time.Add(tolerate)) {
			v.report.Add(evidence.Check{Name: "time", Warning: true,
				Err: fmt.Errorf("the newest record says %s, later than the stamp over it", newest.Format(time.RFC3339))})
		}
	}
	if v.x.Timestamp == Pending {
		v.report.Pending = true
		v.add("time stamp", "pending", nil)
	}
}

func (v *verifier) checkStamp(size uint64) (*tsa.Token, error) {
	text, err := v.read(stampName(size, "txt"), checkpoint.MaxNoteSize)
	if err != nil {
		return nil, err
	}
	cp, err := checkpoint.Open(text, v.trust.Key(v.x.Origin))
	if err != nil {
		return nil, err
	}
	root, known := v.roots[size]
	if size == v.x.Checkpoint && v.cp != nil {
		root, known = v.cp.Root, true
	}
	switch {
	case cp.Size != size || cp.Origin != v.x.Origin:
		return nil, fmt.Errorf("the stamped checkpoint is of %d leaves of %q", cp.Size, cp.Origin)
	case !known || cp.Root != root:
		return nil, errors.New("what was stamped is not the log that the leaves give")
	case !bytes.Equal(cp.Stamped(), text):
		return nil, errors.New("more than the log's own signature")
	}
	reply, err := v.read(stampName(size, "tsr"), tsa.MaxReply)
	if err != nil {
		return nil, err
	}
	return tsa.Verify(reply, tsa.Check{Digest: sha256.Sum256(text), Roots: v.trust.TSA})
}

// checkPrevious checks that the package continues the one before.
func (v *verifier) checkPrevious(p *Package) {
	x := v.x
	c := evidence.Check{Name: "previous package"}
	switch {
	case x.Previous == nil && p == nil:
		c.Detail = "none: the first of the log"
	case x.Previous == nil:
		c.Err = fmt.Errorf("it says that it is the first, %s comes before", p.Name())
	case p == nil:
		c.Detail, c.Warning, c.Err = x.Previous.Package, true, errors.New("it is not at hand: that this one continues it was not checked")
	case *x.Previous != Link{p.Name(), p.Digest}:
		c.Err = fmt.Errorf("it continues %s with the index %s, not %s with %s", x.Previous.Package, x.Previous.Index, p.Name(), p.Digest)
	case !x.Start.Equal(p.Index.End) || x.StartSize != p.Index.EndSize || x.StartRoot != p.Index.EndRoot || x.Origin != p.Index.Origin:
		c.Err = fmt.Errorf("it does not begin where %s ends", p.Name())
	default:
		c.Detail = p.Name()
	}
	v.report.Add(c)
}

// Verified is the outcome for one package of a folder.
type Verified struct {
	Name   string
	Report *evidence.Report
}

// VerifyAll checks every package in a folder, the oldest first, and that they
// continue one another. A package whose time stamp is pending is covered by that
// of a later one, as long as all between verify: each proves that the log of the
// one before is a part of its own. The error is about the folder itself.
func VerifyAll(dir string, trust evidence.Trust) ([]Verified, error) {
	intervals, err := list(durable.OS, dir)
	if err != nil {
		return nil, err
	}
	var all []Verified
	var before *Package
	for _, i := range intervals {
		path := filepath.Join(dir, i.String())
		r := Verify(path, trust, before)
		if before, err = load(path); err != nil {
			r.Add(evidence.Check{Name: "name", Err: err})
		}
		all = append(all, Verified{i.String(), r})
	}
	by := "" // the package whose stamp covers what comes before it
	for n := len(all) - 1; n >= 0; n-- {
		switch r := all[n].Report; {
		case !r.OK():
			by = ""
		case !r.Pending:
			by = all[n].Name
		case by != "":
			r.Pending = false
			r.Add(evidence.Check{Name: "time stamp", Detail: "that of " + by})
		}
	}
	return all, nil
}
