package mta

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/register/calendar"
	"scripta/register/record"
)

// foreign is another provider.
type foreign struct {
	t        testing.TB
	domain   string
	composer *pec.Composer
	signer   *cms.Signer
	ca       *cmstest.CA
	entry    *providers.Provider
	cert     *x509.Certificate
	issued   byte
}

// newForeign makes a provider that is in nobody's index yet. changes are to its
// certificate.
func newForeign(t testing.TB, name, domain string, changes ...func(*x509.Certificate)) *foreign {
	t.Helper()
	f := &foreign{t: t, domain: domain, ca: cmstest.New(t)}
	key := cmstest.RSA(t)
	f.cert = f.ca.Issue(t, key.Public(), append([]func(*x509.Certificate){func(c *x509.Certificate) { c.EmailAddresses = []string{"posta-certificata@" + domain} }}, changes...)...)
	var err error
	if f.signer, err = cms.NewSigner(key, f.cert, f.ca.Intermediate); err != nil {
		t.Fatal(err)
	}
	f.composer = &pec.Composer{Provider: pec.Provider{Name: name, Domain: domain, ServiceAddress: "posta-certificata@" + domain}, Signer: f.signer, Location: calendar.Rome()}
	f.entry = &providers.Provider{Name: name, Domains: []string{domain}, ServiceAddress: "ricevute@" + domain, Certificates: []*x509.Certificate{f.cert}}
	return f
}

// join puts a provider into the index and trusts its root.
func (w *world) join(f *foreign) *foreign {
	w.foreign = append(w.foreign, f)
	w.roots.AddCert(f.ca.Root)
	return f
}

func (w *world) index(all ...*providers.Provider) *providers.Index {
	for _, f := range w.foreign {
		all = append(all, f.entry)
	}
	return providers.New(all...)
}

// issue is a place of its own for each message of the test.
func (f *foreign) issue() pec.Issue {
	f.issued++
	return pec.Transaction{ID: [16]byte{0xf0, f.issued}, Time: time.Now().Truncate(time.Second)}.Issue(1, 0)
}

func (f *foreign) at(local string) string { return local + "@" + f.domain }

func (f *foreign) bytes(m *pec.Message, included io.ReaderAt, err error) []byte {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := io.ReadAll(m.Reader(included))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// envelope makes a transport envelope from anna for recipients.
func (f *foreign) envelope(subject string, to ...string) []byte {
	f.t.Helper()
	original := fmt.Sprintf("Message-ID: <%s@client>\r\nFrom: %s\r\nTo: %s\r\nSubject: %[1]s\r\n\r\nperch\xc3\xa9\r\n", subject, f.at("anna"), strings.Join(to, ", "))
	o, err := pec.ReadOriginal(strings.NewReader(original), pec.Limits{})
	if err != nil {
		f.t.Fatal(err)
	}
	at := f.issue()
	facts := pec.Facts{Sender: f.at("anna"), Subject: subject, OriginalID: o.MessageID, EnvelopeID: at.MessageID(f.composer.Provider)}
	for _, a := range to {
		facts.Recipients = append(facts.Recipients, pec.Recipient{Address: a, Certified: true})
	}
	in, err := o.Included(strings.NewReader(original), facts.EnvelopeID)
	if err != nil {
		f.t.Fatal(err)
	}
	m, err := f.composer.TransportEnvelope(at, facts, o.Inherited(), in)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.bytes(m, in.Bytes, nil)
}

// facts are of a message of ours to a recipient of theirs.
func (f *foreign) facts(envelopeID string) pec.Facts {
	return pec.Facts{Sender: "mario@" + domain, Recipients: []pec.Recipient{{Address: f.at("anna"), Certified: true}}, Subject: "prova",
		OriginalID: "<prova@client>", EnvelopeID: "<" + envelopeID + ">"}
}

// resigned changes the signed entity of a message and signs it again.
func (f *foreign) resigned(msg []byte, edit func(entity string) string) []byte {
	f.t.Helper()
	_, outer, _ := strings.Cut(string(msg), "micalg=sha-256; boundary=\"")
	outer, _, _ = strings.Cut(outer, "\"")
	head, rest, _ := strings.Cut(string(msg), "\r\n--"+outer+"\r\n")
	entity, _, ok := strings.Cut(rest, "\r\n--"+outer+"\r\n")
	if !ok {
		f.t.Fatal("the message has no signed entity")
	}
	entity = edit(entity)
	der, err := f.signer.Sign(sha256.Sum256([]byte(entity)), time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return assemble(head, outer, entity, der)
}

// assemble puts a multipart/signed message together.
func assemble(head, outer, entity string, der []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n--%s\r\n%s\r\n--%[2]s\r\nContent-Type: application/x-pkcs7-signature; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%[4]s\r\n--%[2]s--\r\n",
		head, outer, entity, base64.StdEncoding.EncodeToString(der))
	return b.Bytes()
}

// withSignature exchanges the signature of a message.
func (f *foreign) withSignature(msg []byte, of func(entity string, der []byte) []byte) []byte {
	f.t.Helper()
	s, err := pec.ReadSigned(bytes.NewReader(msg), pec.Limits{})
	if err != nil {
		f.t.Fatal(err)
	}
	_, outer, _ := strings.Cut(string(msg), "boundary=\"")
	outer, _, _ = strings.Cut(outer, "\"")
	head, rest, _ := strings.Cut(string(msg), "\r\n--"+outer+"\r\n")
	entity, _, _ := strings.Cut(rest, "\r\n--"+outer+"\r\n")
	return assemble(head, outer, entity, of(entity, s.Signature))
}

// daticert changes the certification data of a signed entity.
func daticert(edit func(xml string) string) func(string) string {
	return func(entity string) string {
		head, rest, _ := strings.Cut(entity, "filename=\"daticert.xml\"\r\n\r\n")
		body, rest, _ := strings.Cut(rest, "\r\n--")
		xml, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", ""))
		if err != nil {
			panic(err)
		}
		return head + "filename=\"daticert.xml\"\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(edit(string(xml)))) + "\r\n--" + rest
	}
}

// come hands a message in as the Incoming Point does.
func (p *process) come(from string, msg []byte, to ...string) (*reception, error) {
	m := transit{from: from, helo: "mx.example", to: to, certified: p.certified(from), peer: record.Peer{Address: "192.0.2.1:25"}}
	return p.takeIn(p.ctx, bytes.NewReader(msg), m, func(err error) error { return err })
}
