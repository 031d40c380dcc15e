package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"scripta/register/record"
)

// recordFormat names the format of records/INDEX.json.
const recordFormat = "scripta/evidence-record/v1"

// recordFile is records/INDEX.json. Bytes are in lower-case hexadecimal. text is
// for people: what value says; it is checked against value.
type recordFile struct {
	Format     string      `json:"format"`
	Index      uint64      `json:"index"`
	Leaf       string      `json:"leaf"`
	Checkpoint uint64      `json:"checkpoint"` // size of the checkpoint that proof leads to
	Proof      []string    `json:"proof"`      // RFC 6962 inclusion proof, from the leaf up
	Receipt    string      `json:"receipt,omitempty"`
	Fields     []fieldFile `json:"fields"`
}

// fieldFile is one field: value and salt, or elements, or the digest that hides it.
type fieldFile struct {
	Number   int           `json:"number"`
	Name     string        `json:"name"`
	Digest   string        `json:"digest,omitempty"`
	Value    *string       `json:"value,omitempty"`
	Salt     string        `json:"salt,omitempty"`
	Text     string        `json:"text,omitempty"`
	Elements []elementFile `json:"elements,omitempty"`
	Empty    bool          `json:"empty,omitempty"` // a shown list without elements
}

type elementFile struct {
	Digest string  `json:"digest,omitempty"`
	Value  *string `json:"value,omitempty"`
	Salt   string  `json:"salt,omitempty"`
	Text   string  `json:"text,omitempty"`
}

func newRecordFile(index uint64, leaf record.Leaf, d *record.Disclosure) *recordFile {
	r := &recordFile{Format: recordFormat, Index: index, Leaf: hex.EncodeToString(leaf[:]), Proof: []string{}}
	for i := record.Field(1); i <= record.NumFields; i++ {
		x := &d.Fields[i]
		f := fieldFile{Number: int(i), Name: i.String()}
		switch {
		case !x.Shown:
			f.Digest = hex.EncodeToString(x.Digest[:])
		case i.IsList():
			f.Empty = len(x.Elements) == 0
			for _, e := range x.Elements {
				if !e.Shown {
					f.Elements = append(f.Elements, elementFile{Digest: hex.EncodeToString(e.Digest[:])})
					continue
				}
				v := hex.EncodeToString(e.Value)
				f.Elements = append(f.Elements, elementFile{Value: &v, Salt: hex.EncodeToString(e.Salt[:]), Text: render(i, e.Value)})
			}
		default:
			v := hex.EncodeToString(x.Value)
			f.Value, f.Salt, f.Text = &v, hex.EncodeToString(x.Salt[:]), render(i, x.Value)
		}
		r.Fields = append(r.Fields, f)
	}
	return r
}

var errRecordFile = errors.New("malformed record")

// disclosure decodes the record again and checks that every text says what its
// value is.
func (r *recordFile) disclosure() (leaf record.Leaf, d *record.Disclosure, err error) {
	b, err := unhex(r.Leaf)
	if err == nil {
		leaf, err = record.ParseLeaf(b)
	}
	if err != nil {
		return leaf, nil, fmt.Errorf("%w: leaf: %w", errRecordFile, err)
	}
	if r.Format != recordFormat || len(r.Fields) != record.NumFields {
		return leaf, nil, fmt.Errorf("%w: format %.40q with %d fields", errRecordFile, r.Format, len(r.Fields))
	}
	d = &record.Disclosure{Class: leaf.Class()}
	for n, f := range r.Fields {
		i := record.Field(n + 1)
		x := &d.Fields[i]
		if f.Number != n+1 || f.Name != i.String() {
			return leaf, nil, fmt.Errorf("%w: field %d is called %d %.40q", errRecordFile, n+1, f.Number, f.Name)
		}
		if f.Digest != "" {
			if x.Digest, err = hash(f.Digest); err != nil || f.Value != nil || f.Elements != nil || f.Empty {
				return leaf, nil, fmt.Errorf("%w: %s is both hidden and shown, or its digest is no SHA-256", errRecordFile, f.Name)
			}
			continue
		}
		x.Shown = true
		if !i.IsList() {
			if x.Value, x.Salt, err = shown(i, f.Value, f.Salt, f.Text); err != nil {
				return leaf, nil, err
			}
			continue
		}
		if f.Value != nil || f.Empty != (len(f.Elements) == 0) {
			return leaf, nil, fmt.Errorf("%w: %s is a list", errRecordFile, f.Name)
		}
		for _, e := range f.Elements {
			var y record.DisclosedElement
			if e.Digest != "" {
				y.Digest, err = hash(e.Digest)
			} else {
				y.Shown = true
				y.Value, y.Salt, err = shown(i, e.Value, e.Salt, e.Text)
			}
			if err != nil {
				return leaf, nil, err
			}
			x.Elements = append(x.Elements, y)
		}
	}
	return leaf, d, nil
}

func shown(i record.Field, value *string, salt, text string) (v []byte, s [32]byte, err error) {
	if value == nil {
		return nil, s, fmt.Errorf("%w: %v has neither value nor digest", errRecordFile, i)
	}
	if v, err = unhex(*value); err != nil {
		return nil, s, fmt.Errorf("%w: %v: %w", errRecordFile, i, err)
	}
	if s, err = hash(salt); err != nil {
		return nil, s, fmt.Errorf("%w: salt of %v: %w", errRecordFile, i, err)
	}
	if render(i, v) != text {
		return nil, s, fmt.Errorf("%w: the text of %v is not what its value says", errRecordFile, i)
	}
	return v, s, nil
}

// unhex decodes lower-case hexadecimal: upper case would be a second form of the
// same bytes.
func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err == nil && hex.EncodeToString(b) != s {
		err = fmt.Errorf("%w: %.80q is not lower-case hexadecimal", errRecordFile, s)
	}
	return b, err
}

func hash(s string) (h [32]byte, err error) {
	b, err := unhex(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%w: %.80q is not 32 bytes in hexadecimal", errRecordFile, s)
	}
	return [32]byte(b), nil
}

// render says in text what a field's value, or one element, is: "" for what has
// no text form.
func render(i record.Field, v []byte) string {
	switch i {
	case record.FieldKind:
		if len(v) == 2 {
			return record.Kind(uint16(v[0])<<8 | uint16(v[1])).String()
		}
		return ""
	case record.FieldTime:
		if n, ok := uint64Of(v); ok {
			return time.UnixMilli(int64(n)).UTC().Format("2006-01-02T15:04:05.000Z07:00")
		}
		return ""
	case record.FieldSize:
		if n, ok := uint64Of(v); ok {
			return strconv.FormatUint(n, 10)
		}
		return ""
	case record.FieldDigest, record.FieldContent:
		return ""
	case record.FieldRecipients, record.FieldOutcome, record.FieldPeer, record.FieldDetail:
		return renderParts(v)
	}
	return plain(v)
}

func uint64Of(v []byte) (n uint64, ok bool) {
	if len(v) != 8 {
		return 0, false
	}
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	return n, true
}

// renderParts joins the parts of a compound value by " | ".
func renderParts(v []byte) string {
	var parts []string
	for len(v) > 0 {
		if len(v) < 4 {
			return ""
		}
		n := uint64(v[0])<<24 | uint64(v[1])<<16 | uint64(v[2])<<8 | uint64(v[3])
		if n > uint64(len(v)-4) {
			return ""
		}
		parts = append(parts, plain(v[4:4+n]))
		v = v[4+n:]
	}
	return strings.Join(parts, " | ")
}

// plain is a value as text, or "" when it is not valid UTF-8.
func plain(v []byte) string {
	if !utf8.Valid(v) {
		return ""
	}
	return string(v)
}

// encodeJSON is the one form in which this package writes JSON.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decodeJSON decodes what [encodeJSON] wrote, and nothing else.
func decodeJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	again, err := encodeJSON(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errors.New("the JSON is not in its canonical form")
	}
	return nil
}
