package evidence

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/cms"
	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
	"scripta/register/record"
	"scripta/tsa"
)

// Trust is what a verifier brings along, from elsewhere than the evidence file.
type Trust struct {
	PEC *x509.CertPool // roots of providers' signing certificates
	TSA *x509.CertPool // roots of time-stamp authorities
	Log note.Verifier  // the log's public key
	// Witnesses are those of whom a quorum must have cosigned a checkpoint that
	// covers every record; nil asks for none.
	Witnesses *witness.Policy
	// Past are the keys of logs that the provider had before, each frozen when a
	// rollback was accepted. A file is verified with the key of its own log.
	Past []note.Verifier

	// Receipt checks a message that the provider signed, beyond its digest; at
	// is the time of its record. Nil skips that check.
	Receipt func(message io.Reader, rec *record.Record, at time.Time) error
}

// Key is the key of a log by its origin: Log, unless one of Past has that name.
func (t *Trust) Key(origin string) note.Verifier {
	for _, v := range t.Past {
		if v.Name() == origin {
			return v
		}
	}
	return t.Log
}

// ServiceAddress is the address in whose name the provider of a log signs: the
// log's origin begins with the provider's mail domain (RFC 6109 §5.5).
func ServiceAddress(origin string) string {
	domain, _, _ := strings.Cut(origin, "/")
	return "posta-certificata@" + domain
}

// CheckSigner checks that a signature is the provider's of a log, and not that of
// another provider below the same root.
func CheckSigner(s *cms.Signature, origin string) error {
	want, signers := ServiceAddress(origin), s.Certificate.EmailAddresses
	if len(signers) != 1 || !strings.EqualFold(signers[0], want) {
		return fmt.Errorf("signed by %q, not by the provider of the log, %s", signers, want)
	}
	return nil
}

// Tolerances of a record's time against the stamps around it: a record is
// appended soon after its time is read, unless a crash put its transaction off.
const (
	tolerateBefore = time.Minute
	tolerateAfter  = time.Second
)

// verifier holds what the checks share.
type verifier struct {
	trust  Trust
	report *Report
	files  map[string]*File
	used   map[string]bool
	man    manifest

	checkpoints map[uint64]*checkpoint.Signed
	cosigned    uint64  // size of the largest checkpoint that a quorum of the trusted witnesses cosigned
	covered     uint64  // leaves up to the last record
	stamps      []stamp // ascending by size
	rollbacks   []*record.Record
	inner       bool // the file is an entry of another
}

type stamp struct {
	size uint64
	at   time.Time
}

// Verify checks an evidence file of size bytes. It needs no network. Every check
// is made, also after one has failed, as far as the file can be read.
func Verify(r io.ReaderAt, size int64, trust Trust) *Report {
	v := &verifier{trust: trust, report: &Report{}, files: map[string]*File{}, used: map[string]bool{}, checkpoints: newCheckpoints()}
	v.run(r, size)
	return v.report
}

func newCheckpoints() map[uint64]*checkpoint.Signed { return map[uint64]*checkpoint.Signed{} }

func (v *verifier) run(r io.ReaderAt, size int64) {
	files, err := readContainer(r, size)
	if !v.report.add("container", "", err) {
		return
	}
	v.report.add("container form", fmt.Sprintf("%d files, %d bytes", len(files), size), checkCanonical(r, size, files))
	for i := range files {
		if v.files[files[i].Name] != nil {
			v.report.add("container", files[i].Name, errors.New("two files of this name"))
			return
		}
		v.files[files[i].Name] = &files[i]
	}
	v.checkSums(files)
	if !v.checkManifest(files) {
		return
	}
	v.checkCheckpoints()
	v.checkRecords()
	v.checkWitnesses()
	v.checkGaps()
	v.checkPrevious()
	v.checkUnused()
}

// read returns a file that a check is about.
func (v *verifier) read(name string, limit int64) ([]byte, error) {
	f := v.files[name]
	if f == nil {
		return nil, fmt.Errorf("%s is missing", name)
	}
	v.used[name] = true
	return f.readAll(limit)
}

func (v *verifier) checkSums(files []File) {
	got, err := v.read(nameSums, maxJSON)
	var bad Faults
	if err == nil {
		lines := map[string]bool{}
		for line := range strings.Lines(string(got)) {
			lines[line] = true
		}
		var want bytes.Buffer
		for i := range files {
			if files[i].Name == nameSums {
				continue
			}
			_, d, serr := files[i].sums()
			line := sumsLine(hex.EncodeToString(d[:]), files[i].Name)
			want.WriteString(line)
			if serr != nil {
				bad.Add(serr)
			} else if !lines[line] {
				bad.Add(fmt.Errorf("%.200q has another SHA-256", files[i].Name))
			}
		}
		if err = bad.Err(); err == nil && !bytes.Equal(got, want.Bytes()) {
			err = errors.New("it is not the list of the container's files in their order")
		}
	}
	v.report.add("SHA256SUMS", "", err)
}

// checkManifest checks the manifest's form, its signature, and that the
// container holds the files it lists and no others.
func (v *verifier) checkManifest(files []File) bool {
	raw, err := v.read(nameManifest, maxJSON)
	if err == nil {
		err = decodeJSON(raw, &v.man)
	}
	if err == nil && v.man.Format != manifestFormat {
		err = fmt.Errorf("format %.40q is not %q", v.man.Format, manifestFormat)
	}
	if !v.report.add("manifest", fmt.Sprintf("%s, made %s", v.man.Origin, v.man.Created.Format(time.RFC3339)), err) {
		return false
	}
	v.report.Query = v.man.Query
	if len(v.man.Disposed) > 0 {
		v.report.Checks = append(v.report.Checks, Check{Name: "DISPOSED", Warning: true,
			Err: fmt.Errorf("the records of %.400s were destroyed at the end of their retention", strings.Join(v.man.Disposed, ", "))})
	}
	detail := ""
	sig, err := v.read(nameSignature, cms.MaxDetached)
	if err == nil {
		var s *cms.Signature
		if s, err = cms.Verify(sig, cms.DigestOf(raw), cms.Policy{Roots: v.trust.PEC, At: v.man.Created, EKU: x509.ExtKeyUsageEmailProtection, RequireESS: true}); err == nil {
			detail = s.Certificate.Subject.String()
			err = CheckSigner(s, v.man.Origin)
		}
	}
	v.report.add("manifest signature", detail, err)

	v.report.add("files", fmt.Sprintf("%d listed", len(v.man.Files)), v.checkFiles(files))
	return true
}

// checkFiles checks that the container holds the files that the manifest lists,
// in its order. From here on the manifest lists each once, so that none is read
// more often than its part in the file costs.
func (v *verifier) checkFiles(files []File) error {
	var bad Faults
	listed := v.man.Files
	v.man.Files = nil
	if len(listed)+3 != len(files) {
		bad.Add(fmt.Errorf("the manifest lists %d files, the container has %d beside manifest, signature and sums", len(listed), len(files)-3))
	}
	seen := make(map[string]bool, len(listed))
	for _, e := range listed {
		if seen[e.Name] {
			bad.Add(fmt.Errorf("%.200q is listed twice", e.Name))
			continue
		}
		seen[e.Name] = true
		v.man.Files = append(v.man.Files, e)
		f := v.files[e.Name]
		if f == nil {
			bad.Add(fmt.Errorf("%.200q is missing", e.Name))
			continue
		}
		_, d, serr := f.sums()
		if serr != nil || f.Size != e.Size || hex.EncodeToString(d[:]) != e.SHA256 {
			bad.Add(errors.Join(fmt.Errorf("%.200q is not the file that was signed for", e.Name), serr))
		}
	}
	if err := bad.Err(); err != nil {
		return err
	}
	return checkOrder(files, listed)
}

// checkOrder checks that the container's files stand in the order in which the
// manifest lists them: the canonical form has only one.
func checkOrder(files []File, listed []fileEntry) error {
	names := make([]string, 0, len(listed)+3)
	for i, e := range listed {
		if names = append(names, e.Name); i == 0 {
			names = append(names, nameManifest, nameSignature)
		}
	}
	names = append(names, nameSums)
	for i := range files {
		if i >= len(names) || files[i].Name != names[i] {
			return fmt.Errorf("%.200q is out of order", files[i].Name)
		}
	}
	return nil
}

// checkCheckpoints checks each checkpoint's signature, its time stamp, and that
// each continues the one before.
func (v *verifier) checkCheckpoints() {
	var before *checkpoint.Signed
	for _, e := range v.man.Files {
		var size uint64
		if _, err := fmt.Sscanf(e.Name, "checkpoints/%012d.txt", &size); err != nil || e.Name != checkpointName(size, "txt") {
			continue
		}
		text, err := v.read(e.Name, checkpoint.MaxNoteSize)
		var cp *checkpoint.Signed
		if err == nil {
			cp, err = checkpoint.Open(text, v.trust.Key(v.man.Origin))
		}
		switch {
		case err != nil:
		case cp.Size != size:
			err = fmt.Errorf("the checkpoint is of size %d", cp.Size)
		case cp.Origin != v.man.Origin:
			err = fmt.Errorf("the checkpoint is of log %q", cp.Origin)
		case !bytes.Equal(cp.Stamped(), text):
			err = errors.New("more than the log's own signature")
		}
		if !v.report.add(fmt.Sprintf("checkpoint %d", size), "", err) {
			continue
		}
		v.checkpoints[size] = cp
		v.checkStamp(cp)
		v.checkCosigned(cp)
		if before != nil {
			name := checkpointName(size, "proof")
			raw, err := v.read(name, maxJSON)
			var proof [][32]byte
			if err == nil {
				proof, err = decodeHashes(raw)
			}
			if err == nil {
				err = checkpoint.VerifyConsistency(proof, before.Size, cp.Size, before.Root, cp.Root)
			}
			v.report.add(fmt.Sprintf("consistency %d → %d", before.Size, size), "", err)
		}
		before = cp
	}
	slices.SortFunc(v.stamps, func(a, b stamp) int { return cmp.Compare(a.size, b.size) })
	if before == nil {
		v.report.add("checkpoint", "", errors.New("there is none"))
	}
}

func (v *verifier) checkStamp(cp *checkpoint.Signed) {
	name := checkpointName(cp.Size, "tsr")
	if v.files[name] == nil {
		return
	}
	reply, err := v.read(name, tsa.MaxReply)
	var tok *tsa.Token
	if err == nil {
		tok, err = tsa.Verify(reply, tsa.Check{Digest: sha256.Sum256(cp.Stamped()), Roots: v.trust.TSA})
	}
	detail := ""
	if err == nil {
		detail = tok.Time.Format(time.RFC3339) + ", " + tok.Certificate.Subject.CommonName
		if !tok.Qualified {
			detail += ", not qualified"
		}
		v.stamps = append(v.stamps, stamp{cp.Size, tok.Time})
	}
	v.report.add(fmt.Sprintf("time stamp %d", cp.Size), detail, err)
}

func (v *verifier) checkRecords() {
	n := 0
	for _, e := range v.man.Files {
		var index uint64
		if _, err := fmt.Sscanf(e.Name, "records/%012d.json", &index); err != nil || e.Name != recordName(index) {
			continue
		}
		n++
		v.covered = max(v.covered, index+1)
		v.checkRecord(e.Name, index)
	}
	var err error
	if n != v.man.Records {
		err = fmt.Errorf("the manifest promises %d records", v.man.Records)
	}
	v.report.add("records", fmt.Sprintf("%d", n), err)
}

// checkRecord checks one record: its fields give its leaf, the leaf is in the
// tree, its time fits the stamps around it, and its message is the one that was
// issued.
func (v *verifier) checkRecord(name string, index uint64) {
	var f recordFile
	raw, err := v.read(name, maxJSON)
	if err == nil {
		err = decodeJSON(raw, &f)
	}
	if err == nil && f.Index != index {
		err = fmt.Errorf("%w: its index is %d", errRecordFile, f.Index)
	}
	var (
		leaf record.Leaf
		d    *record.Disclosure
		rec  *record.Record
	)
	if err == nil {
		leaf, d, err = f.disclosure()
	}
	if err == nil {
		var again record.Leaf
		if again, err = d.Leaf(); err == nil && again != leaf {
			err = errors.New("its fields do not give its leaf")
		}
	}
	if err == nil {
		rec, err = d.Shown()
	}
	detail := ""
	if err == nil {
		detail = rec.Kind.String() + " " + rec.Time.Format(time.RFC3339)
	}
	if !v.report.add(fmt.Sprintf("record %d", index), detail, err) {
		return
	}
	if rec.Kind == record.RollbackAccepted {
		v.rollbacks = append(v.rollbacks, rec)
	}
	v.report.add(fmt.Sprintf("inclusion %d", index), fmt.Sprintf("in checkpoint %d", f.Checkpoint), v.included(&f, leaf))
	v.checkTime(index, f.Checkpoint, rec)
	if f.Receipt != "" {
		v.report.add(fmt.Sprintf("receipt %d", index), f.Receipt, v.receipt(f.Receipt, index, rec))
	}
}

func (v *verifier) included(f *recordFile, leaf record.Leaf) error {
	cp := v.checkpoints[f.Checkpoint]
	if cp == nil {
		return fmt.Errorf("no valid checkpoint of size %d", f.Checkpoint)
	}
	proof := make([][32]byte, 0, len(f.Proof))
	for _, s := range f.Proof {
		h, err := hash(s)
		if err != nil {
			return err
		}
		proof = append(proof, h)
	}
	return checkpoint.VerifyInclusion(proof, f.Index, cp.Size, sha256.Sum256(append([]byte{0}, leaf[:]...)), cp.Root)
}

// checkTime reports a record whose time lies outside what the stamps allow. It
// is a warning: a transaction that a crash put off is recorded late.
func (v *verifier) checkTime(index, size uint64, rec *record.Record) {
	var after, before *stamp
	n, _ := slices.BinarySearchFunc(v.stamps, index+1, func(s stamp, size uint64) int { return cmp.Compare(s.size, size) })
	if n < len(v.stamps) && v.stamps[n].size <= size {
		after = &v.stamps[n] // the first over the record
	}
	if n > 0 {
		before = &v.stamps[n-1]
	}
	if after == nil {
		v.report.Pending = true
		return
	}
	c := Check{Name: fmt.Sprintf("time %d", index), Detail: "not after " + after.at.Format(time.RFC3339), Warning: true}
	if before != nil {
		c.Detail += ", not before " + before.at.Format(time.RFC3339)
	}
	switch {
	case rec.Time.After(after.at.Add(tolerateAfter)):
		c.Err = fmt.Errorf("the record says %s, later than the stamp over it", rec.Time.Format(time.RFC3339))
	case before != nil && rec.Time.Before(before.at.Add(-tolerateBefore)):
		c.Err = fmt.Errorf("the record says %s, and was not in the log at the stamp before", rec.Time.Format(time.RFC3339))
	}
	v.report.Add(c)
}

func (v *verifier) receipt(name string, index uint64, rec *record.Record) error {
	f := v.files[name]
	if f == nil || name != receiptName(index) {
		return fmt.Errorf("%.200q is missing", name)
	}
	v.used[name] = true
	_, d, err := f.sums()
	if err != nil {
		return err
	}
	if !bytes.Equal(d[:], rec.Digest) {
		return errors.New("it is not the message whose digest is in the record")
	}
	if uint64(f.Size) != rec.Size {
		return fmt.Errorf("it has %d bytes, the record says %d", f.Size, rec.Size)
	}
	if v.trust.Receipt == nil {
		return nil
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return v.trust.Receipt(r, rec, rec.Time)
}

// checkUnused finds files that no check was about.
func (v *verifier) checkUnused() {
	var extra []string
	for name := range v.files {
		if !v.used[name] && name != nameReadme && !strings.HasPrefix(name, "certificates/") {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	var bad Faults
	for _, name := range extra {
		bad.Add(fmt.Errorf("nothing refers to %.200q", name))
	}
	v.report.add("no other files", "", bad.Err())
}
