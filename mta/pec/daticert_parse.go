package pec

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrCertificationData is wrapped by every error about a daticert.xml that is not well-formed XML, or does not hold what
// its DTD demands, or exceeds Limits.CertificationBytes.
var ErrCertificationData = errors.New("pec: invalid daticert.xml")

// maxXMLDepth bounds the nesting of elements; the DTD needs four.
const maxXMLDepth = 8

// ParseCertificationData parses daticert.xml. Entities other than the five of XML are an error and nothing is ever
// fetched; a DOCTYPE, a style sheet instruction, CRLF, comments and elements the DTD does not know are passed over. An
// element that the DTD allows once must not come twice: one program could otherwise read the first sender and another
// the second. Of what the DTD demands, "risposte" and "gestore-emittente" may be missing or empty.
func ParseCertificationData(document []byte, lim Limits) (*CertificationData, error) {
	lim = lim.orDefault()
	if len(document) > lim.CertificationBytes {
		return nil, fmt.Errorf("%w: it is larger than %d octets", ErrCertificationData, lim.CertificationBytes)
	}
	var p certificationParser
	if err := p.run(document); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificationData, err)
	}
	return &p.data, nil
}

// element is an element of the DTD.
type element uint8

const (
	outside element = iota // of the root element
	unknown                // passed over with all it holds
	postacert
	intestazione
	mittente
	destinatari
	risposte
	oggetto
	dati
	gestoreEmittente
	data
	giorno
	ora
	identificativo
	msgid
	ricevuta
	consegna
	ricezione
	erroreEsteso
)

// dtd says where each element may stand and what it is called there.
var dtd = [...]struct {
	parent element
	name   string
}{
	postacert:        {outside, "postacert"},
	intestazione:     {postacert, "intestazione"},
	mittente:         {intestazione, "mittente"},
	destinatari:      {intestazione, "destinatari"},
	risposte:         {intestazione, "risposte"},
	oggetto:          {intestazione, "oggetto"},
	dati:             {postacert, "dati"},
	gestoreEmittente: {dati, "gestore-emittente"},
	data:             {dati, "data"},
	giorno:           {data, "giorno"},
	ora:              {data, "ora"},
	identificativo:   {dati, "identificativo"},
	msgid:            {dati, "msgid"},
	ricevuta:         {dati, "ricevuta"},
	consegna:         {dati, "consegna"},
	ricezione:        {dati, "ricezione"},
	erroreEsteso:     {dati, "errore-esteso"},
}

// child returns the element of that name inside e. The DTD has no namespaces.
func (e element) child(name xml.Name) element {
	for i := postacert; name.Space == "" && int(i) < len(dtd); i++ {
		if dtd[i].parent == e && dtd[i].name == name.Local {
			return i
		}
	}
	return unknown
}

// certificationParser walks the document.
type certificationParser struct {
	data CertificationData
	open []element // the open elements, the innermost last
	seen [len(dtd)]bool
	text []byte // of the innermost element, as long as leaf holds
	leaf bool   // no child has begun or ended in the innermost element

	certified        bool // type of the open destinatari
	day, clock, zone string
}

func (p *certificationParser) run(document []byte) error {
	d := xml.NewDecoder(bytes.NewReader(document))
	d.CharsetReader = readCharset
	for {
		token, err := d.Token()
		if err == io.EOF {
			return p.finish()
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			err = p.begin(t)
		case xml.EndElement:
			p.end()
		case xml.CharData:
			if p.leaf {
				p.text = append(p.text, t...)
			}
		}
		if err != nil {
			return err
		}
	}
}

// readCharset serves documents that declare one of the old charsets.
func readCharset(label string, r io.Reader) (io.Reader, error) {
	if _, known := decodeCharset(label, nil); !known {
		return nil, fmt.Errorf("unknown charset %.40q", label)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s, _ := decodeCharset(label, b)
	return strings.NewReader(s), nil
}

func (p *certificationParser) begin(t xml.StartElement) error {
	if len(p.open) == maxXMLDepth {
		return errors.New("elements are nested too deep")
	}
	parent := outside
	if n := len(p.open); n > 0 {
		parent = p.open[n-1]
	}
	e := parent.child(t.Name)
	if e == unknown && parent == outside {
		return fmt.Errorf("the root element is %.40q", t.Name.Local)
	}
	p.open = append(p.open, e)
	p.text, p.leaf = p.text[:0], true
	if p.seen[e] && e != unknown && e != destinatari && e != ricezione {
		return fmt.Errorf("element %s comes twice", dtd[e].name)
	}
	p.seen[e] = true
	return p.attributes(e, t.Attr)
}

// attributes reads those of the elements that have some.
func (p *certificationParser) attributes(e element, attrs []xml.Attr) (err error) {
	var tipo, errore string
	switch e {
	case postacert, destinatari, ricevuta:
		if tipo, err = attribute(attrs, "tipo"); err != nil {
			return err
		}
	case data:
		p.zone, err = attribute(attrs, "zona")
		return err
	default:
		return nil
	}
	switch d := &p.data; e {
	case postacert:
		if errore, err = attribute(attrs, "errore"); err != nil {
			return err
		}
		if errore == "" {
			errore = string(NoError) // the DTD's default
		}
		d.Error = ErrorKind(errore)
		d.Kind = findKind(func(m marks) bool { return m.tipo != "" && m.tipo == tipo })
		if d.Kind == Ordinary || !d.Error.valid() {
			return fmt.Errorf("unknown tipo %.40q or errore %.40q", tipo, errore)
		}
	case destinatari:
		p.certified = tipo != "esterno"
		if tipo != "" && tipo != "certificato" && tipo != "esterno" {
			return fmt.Errorf("unknown type of recipient %.40q", tipo)
		}
	case ricevuta:
		d.ReceiptType = ParseReceiptType(tipo)
		if d.ReceiptType.String() != tipo {
			return fmt.Errorf("unknown type of receipt %.40q", tipo)
		}
	}
	return nil
}

// attribute returns the value of the attribute of that name, empty when there is none.
func attribute(attrs []xml.Attr, name string) (value string, err error) {
	found := false
	for _, a := range attrs {
		if a.Name.Space != "" || a.Name.Local != name {
			continue
		}
		if found {
			return "", fmt.Errorf("attribute %s comes twice", name)
		}
		value, found = a.Value, true
	}
	return value, nil
}

// end stores the value of the element that ends.
func (p *certificationParser) end() {
	e := p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
	leaf := p.leaf
	p.leaf = false
	if !leaf || e == unknown {
		return
	}
	d := &p.data
	value := strings.Trim(string(p.text), xmlSpace)
	switch e {
	case mittente:
		d.Sender = value
	case destinatari:
		d.Recipients = append(d.Recipients, Recipient{Address: value, Certified: p.certified})
	case risposte:
		d.ReplyTo = value
	case oggetto:
		d.Subject = value
	case gestoreEmittente:
		d.Provider = value
	case giorno:
		p.day = value
	case ora:
		p.clock = value
	case identificativo:
		d.EnvelopeID = value
		if value != "" {
			d.EnvelopeID = "<" + bare(value) + ">"
		}
	case msgid:
		d.OriginalID = value
	case consegna:
		d.Recipient = value
	case ricezione:
		d.Taken = append(d.Taken, value)
	case erroreEsteso:
		d.Detail = value
	}
}

// finish checks that what every kind needs was there.
func (p *certificationParser) finish() error {
	switch d := &p.data; {
	case !p.seen[postacert]:
		return errors.New("there is no postacert element")
	case d.Sender == "":
		return errors.New("mittente is missing")
	case len(d.Recipients) == 0:
		return errors.New("destinatari is missing")
	case d.EnvelopeID == "":
		return errors.New("identificativo is missing")
	}
	return p.finishTime()
}

// finishTime reads giorno, ora and zona; the zone may also be written "+01:00".
func (p *certificationParser) finishTime() error {
	zone := strings.Replace(p.zone, ":", "", 1)
	z, err := time.Parse("-0700", zone)
	if err != nil || len(zone) != len("+0100") {
		return fmt.Errorf("invalid zona %.40q", p.zone)
	}
	_, offset := z.Zone()
	t, err := time.ParseInLocation("02/01/2006 15:04:05", p.day+" "+p.clock, time.FixedZone("", offset))
	if err != nil || len(p.clock) != len("15:04:05") {
		return fmt.Errorf("invalid data %.40q", p.day+" "+p.clock)
	}
	p.data.Time = t
	return nil
}
