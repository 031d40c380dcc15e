package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"crypto/sha256"

	"scripta/merkle/checkpoint"
	"scripta/register/record"
)

// Signer signs the manifest (internal/cms).
type Signer interface {
	Sign(digest [32]byte, at time.Time) ([]byte, error)
}

// Checkpoint is one of an evidence file's checkpoints.
type Checkpoint struct {
	Signed      *checkpoint.Signed
	Reply       []byte     // time-stamp reply over Signed.Stamped(), DER; nil: none yet
	Consistency [][32]byte // with the checkpoint before it; nil for the first
	Cosigned    []byte     // its signed note with the cosignatures of witnesses; nil: none
}

// Record is one of an evidence file's records.
type Record struct {
	Index      uint64
	Opened     *record.Opened
	Checkpoint uint64     // size of the checkpoint that Proof leads to
	Proof      [][32]byte // inclusion
	Show       func(record.Field) bool
	Receipt    *Receipt // nil: none belongs to it, or it is not kept
}

// Receipt is the message that a record tells of.
type Receipt struct {
	Size int64
	Open func() (io.ReadCloser, error)
}

// Bundle is what an evidence file is made of.
type Bundle struct {
	Origin       string
	Provider     string
	Created      time.Time
	Query        Query
	Certificates []File // under certificates/
	Checkpoints  []Checkpoint
	Records      []Record
	Signer       Signer
	Gaps         []record.Gap // what the register lost within the query's period
	Disposed     []string     // months of the query's period whose records were disposed of: "2024-05"
	Previous     []*Bundle    // of logs that were frozen, the oldest first; they have no Previous of their own
}

// notice stands in every manifest.
const notice = "Il valore legale dipende dall'accreditamento del gestore e dalla qualifica dei suoi certificati e delle marche temporali. " +
	"Legal value depends on the provider's accreditation and on qualified certificates and time stamps."

// Write writes the evidence file.
func (b *Bundle) Write(w io.Writer) error {
	files, err := b.container()
	if err != nil {
		return err
	}
	return writeContainer(w, files)
}

// file is the evidence file as an entry of another. Its bytes are made anew each
// time it is read: they are not kept anywhere in clear.
func (b *Bundle) file() (File, error) {
	files, err := b.container()
	if err != nil {
		return File{}, err
	}
	var size counter
	if err := writeContainer(&size, files); err != nil {
		return File{}, err
	}
	return File{Name: previousName(b.Origin), Size: int64(size), Open: func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeContainer(w, files)) }()
		return r, nil
	}}, nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// container signs the manifest and returns every entry, in order.
func (b *Bundle) container() ([]File, error) {
	if len(b.Checkpoints) == 0 {
		return nil, errors.New("evidence: no checkpoint covers the records")
	}
	body, err := b.files()
	if err != nil {
		return nil, err
	}
	m := &manifest{Format: manifestFormat, Notice: notice, Origin: b.Origin, Provider: b.Provider, Created: b.Created.UTC().Truncate(time.Second),
		Query: b.Query, Records: len(b.Records), Disposed: b.Disposed}
	for _, g := range b.Gaps {
		_, english := g.Statement()
		m.Gaps = append(m.Gaps, gap{g.Origin, g.Next, g.Kept, g.Known, g.Contradicted, g.From.UTC(), g.To.UTC(), g.Lost(), english})
	}
	digests := map[string]string{} // by name
	note := func(f *File) error {
		_, d, err := f.sums()
		digests[f.Name] = hex.EncodeToString(d[:])
		return err
	}
	for i := range body {
		if err := note(&body[i]); err != nil {
			return nil, err
		}
		m.Files = append(m.Files, fileEntry{body[i].Name, body[i].Size, digests[body[i].Name]})
	}
	raw, err := encodeJSON(m)
	if err != nil {
		return nil, err
	}
	sig, err := b.Signer.Sign(sha256.Sum256(raw), m.Created)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the manifest: %w", err)
	}
	head := []File{bytesFile(nameManifest, raw), bytesFile(nameSignature, sig)}
	for i := range head {
		if err := note(&head[i]); err != nil {
			return nil, err
		}
	}
	files := append(append(body[:1:1], head...), body[1:]...) // LEGGIMI.txt stays first
	var sums strings.Builder
	for i := range files {
		sums.WriteString(sumsLine(digests[files[i].Name], files[i].Name))
	}
	return append(files, bytesFile(nameSums, []byte(sums.String()))), nil
}

// files are all entries that the manifest lists, in the container's order.
func (b *Bundle) files() ([]File, error) {
	files := []File{bytesFile(nameReadme, []byte(readme(b)))}
	files = append(files, b.Certificates...)
	for i, c := range b.Checkpoints {
		size := c.Signed.Size
		files = append(files, bytesFile(checkpointName(size, "txt"), c.Signed.Stamped()))
		if c.Reply != nil {
			files = append(files, bytesFile(checkpointName(size, "tsr"), c.Reply))
		}
		if i > 0 {
			files = append(files, bytesFile(checkpointName(size, "proof"), encodeHashes(c.Consistency)))
		}
		if c.Cosigned != nil {
			files = append(files, bytesFile(checkpointName(size, "cosigned"), c.Cosigned))
		}
	}
	for _, r := range b.Records {
		f := newRecordFile(r.Index, r.Opened.Leaf, r.Opened.Fields.Disclose(r.Opened.Nonce, r.Opened.Leaf.Class(), r.Show))
		f.Checkpoint = r.Checkpoint
		for _, h := range r.Proof {
			f.Proof = append(f.Proof, hex.EncodeToString(h[:]))
		}
		if r.Receipt != nil {
			f.Receipt = receiptName(r.Index)
		}
		raw, err := encodeJSON(f)
		if err != nil {
			return nil, err
		}
		files = append(files, bytesFile(recordName(r.Index), raw))
	}
	for _, r := range b.Records {
		if r.Receipt != nil {
			files = append(files, File{Name: receiptName(r.Index), Size: r.Receipt.Size, Open: r.Receipt.Open})
		}
	}
	for _, p := range b.Previous {
		f, err := p.file()
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// encodeHashes writes hashes in hexadecimal, one on a line.
func encodeHashes(hs [][32]byte) []byte {
	var b bytes.Buffer
	for _, h := range hs {
		fmt.Fprintf(&b, "%x\n", h)
	}
	return b.Bytes()
}

func decodeHashes(b []byte) ([][32]byte, error) {
	var hs [][32]byte
	for line := range bytes.Lines(b) {
		s, ok := bytes.CutSuffix(line, []byte("\n"))
		h, err := hash(string(s))
		if !ok || err != nil {
			return nil, fmt.Errorf("not a list of SHA-256 hashes: %.80q", line)
		}
		hs = append(hs, h)
	}
	if !bytes.Equal(encodeHashes(hs), b) {
		return nil, errors.New("not a list of SHA-256 hashes in its canonical form")
	}
	return hs, nil
}
