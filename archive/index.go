package archive

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"scripta/internal/keys"
)

// Format names the format of a package and of its index.
const Format = "scripta/package/v1"

// Names of a package's files.
const (
	nameRecords     = "records.sealed"
	nameLeaves      = "leaves.bin"
	nameCheckpoint  = "checkpoint.txt"
	nameFrontier    = "frontier.txt"
	nameConsistency = "consistency.txt"
	nameIndex       = "index.json"
	nameSignature   = "index.json.p7s"
	nameSums        = "SHA256SUMS"

	dirStamps       = "timestamps"
	dirCertificates = "certificates"
)

// stampName is the name of a stamp's file: txt, tsq or tsr.
func stampName(size uint64, ext string) string {
	return fmt.Sprintf("%s/%012d.%s", dirStamps, size, ext)
}

// States of a package's time stamp.
const (
	Granted = "granted" // its checkpoint is stamped
	Pending = "pending" // it is not: the stamp of a later package covers it
)

// Digest is a SHA-256, in JSON in lower-case hexadecimal.
type Digest [32]byte

// String is the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("%.80q is no SHA-256 in hexadecimal", b)
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// Index is index.json: what a package is, signed by the provider.
type Index struct {
	Format   string    `json:"format"`
	Notice   string    `json:"notice"` // what its legal value depends on
	Origin   string    `json:"origin"` // of the log
	Provider string    `json:"provider"`
	Package  string    `json:"package"` // the interval's name
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Created  time.Time `json:"created"` // by the provider's clock, whole seconds of UTC

	StartSize  uint64   `json:"start_size"` // leaves of the log before the interval
	StartRoot  Digest   `json:"start_root"`
	EndSize    uint64   `json:"end_size"` // leaves of the log with the interval
	EndRoot    Digest   `json:"end_root"`
	Checkpoint uint64   `json:"checkpoint"` // size of checkpoint.txt, at least end_size
	Timestamp  string   `json:"timestamp"`  // of the checkpoint: granted or pending
	Stamps     []uint64 `json:"timestamps"` // sizes of the stamped checkpoints in timestamps/, ascending

	Records  Counts     `json:"records"`
	Months   []MonthSum `json:"months"`             // of the records, ascending
	Previous *Link      `json:"previous,omitempty"` // absent in the first package
	Files    []FileSum  `json:"files"`              // all but index, signature and sums
}

// Counts are the numbers of an interval's records.
type Counts struct {
	Total    uint64     `json:"total"`
	Personal uint64     `json:"personal"` // class 1
	Service  uint64     `json:"service"`  // class 2
	Oldest   *time.Time `json:"oldest,omitempty"`
	Newest   *time.Time `json:"newest,omitempty"`
}

// MonthSum commits to the plaintext of the records of one month, so that it can
// be checked while the month's secret lives, whatever happens to the others. It
// tells nothing about them: each record holds a secret nonce of 32 bytes.
type MonthSum struct {
	Month     string `json:"month"`     // "2026-11", or "service"
	Records   uint64 `json:"records"`   // of this month
	Disposed  bool   `json:"disposed"`  // its secret had been destroyed before: the records are not in the package
	Plaintext Digest `json:"plaintext"` // SHA-256 of the frames with the plaintext as body
}

// Link names the package before.
type Link struct {
	Package string `json:"package"`
	Index   Digest `json:"index"` // SHA-256 of its index.json
}

// FileSum is one file of a package.
type FileSum struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 Digest `json:"sha256"`
}

// notice stands in every index.
const notice = "Il valore legale dipende dall'accreditamento del gestore e dalla qualifica dei suoi certificati e delle marche temporali. " +
	"Legal value depends on the provider's accreditation and on qualified certificates and time stamps."

// service is how month 0 is called.
const service = "service"

func monthName(month uint16) string {
	if month == 0 {
		return service
	}
	return keys.Month(month).String()
}

func parseMonth(s string) (uint16, error) {
	if s == service {
		return 0, nil
	}
	m, err := keys.ParseMonth(s)
	return uint16(m), err
}

// Interval is what the package covers.
func (x *Index) Interval() Interval { return Interval{x.Start, x.End} }

// ID names the package among all logs; its records are sealed under keys that
// are derived with it.
func (x *Index) ID() string { return packageID(x.Origin, x.Interval()) }

func packageID(origin string, i Interval) string { return origin + "/" + i.String() }

// encode is the canonical form of an index: members in the order of the type,
// indented by one space a level, nothing escaped that need not be, ended by a
// line feed.
func (x *Index) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(x); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ErrIndex says that an index is malformed, not canonical, or contradicts itself.
var ErrIndex = errors.New("archive: not the index of a package")

// ParseIndex reads an index.json. It accepts the canonical form only, and what
// agrees with itself; otherwise the error is [ErrIndex]. It verifies nothing
// against the package's other files.
func ParseIndex(b []byte) (*Index, error) {
	x := new(Index)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the JSON value", ErrIndex)
	}
	again, err := x.encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: the JSON is not in its canonical form", ErrIndex)
	}
	if err := x.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	return x, nil
}

// check finds contradictions.
func (x *Index) check() error {
	if x.Format != Format {
		return fmt.Errorf("format %.40q is not %q", x.Format, Format)
	}
	if err := x.Interval().check(); err != nil {
		return err
	}
	switch {
	case x.Package != x.Interval().String():
		return fmt.Errorf("it calls itself %.80q", x.Package)
	case x.Created.Location() != time.UTC || x.Created.Nanosecond() != 0 || x.Created.Before(x.End):
		return errors.New("created before the interval's end, or not in whole seconds of UTC")
	case x.StartSize > x.EndSize || x.EndSize > x.Checkpoint:
		return fmt.Errorf("sizes %d, %d and %d do not grow", x.StartSize, x.EndSize, x.Checkpoint)
	case x.Records.Total != x.EndSize-x.StartSize || x.Records.Personal+x.Records.Service != x.Records.Total:
		return errors.New("the records' numbers do not add up")
	case x.Previous == nil && x.StartSize != 0:
		return errors.New("a first package must begin with the log")
	}
	if err := x.checkMonths(); err != nil {
		return err
	}
	if err := x.checkStamps(); err != nil {
		return err
	}
	return x.checkFiles()
}

func (x *Index) checkMonths() error {
	var total, ofService uint64
	last := -1
	for _, m := range x.Months {
		n, err := parseMonth(m.Month)
		if err != nil {
			return err
		}
		if int(n) <= last || m.Records == 0 || m.Disposed && (n == 0 || m.Plaintext != Digest{}) {
			return fmt.Errorf("month %s is out of order, or has no records", m.Month)
		}
		last = int(n)
		total += m.Records
		if n == 0 {
			ofService = m.Records
		}
	}
	if total != x.Records.Total || ofService != x.Records.Service {
		return errors.New("the months' records do not add up")
	}
	return nil
}

func (x *Index) checkStamps() error {
	want := Pending
	for i, size := range x.Stamps {
		if i > 0 && size <= x.Stamps[i-1] {
			return errors.New("the time stamps are out of order")
		}
		if size == x.Checkpoint {
			want = Granted
		} else if size <= x.StartSize || size > x.EndSize {
			return fmt.Errorf("the time stamp over %d leaves is not this interval's", size)
		}
	}
	if x.Timestamp != want {
		return fmt.Errorf("the time stamp is called %.40q, it is %s", x.Timestamp, want)
	}
	return nil
}

func (x *Index) checkFiles() error {
	listed := map[string]bool{}
	for _, f := range x.Files {
		if listed[f.Name] {
			return fmt.Errorf("%.80q is listed twice", f.Name)
		}
		listed[f.Name] = true
	}
	need := []string{nameRecords, nameLeaves, nameCheckpoint, nameFrontier, nameConsistency}
	var may []string
	for _, size := range x.Stamps {
		need = append(need, stampName(size, "txt"), stampName(size, "tsr"))
		may = append(may, stampName(size, "tsq"))
	}
	for _, name := range need {
		if !listed[name] {
			return fmt.Errorf("%s is not listed", name)
		}
		delete(listed, name)
	}
	for name := range listed {
		rest, ok := strings.CutPrefix(name, dirCertificates+"/")
		if !(ok && plainName(rest)) && !slices.Contains(may, name) {
			return fmt.Errorf("%.80q does not belong into a package", name)
		}
	}
	return nil
}

// plainName reports whether s names a file in a folder and nothing else: ASCII
// letters, digits, '.', '-' and '_', not beginning with a point.
func plainName(s string) bool {
	return s != "" && s[0] != '.' && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}) < 0
}
