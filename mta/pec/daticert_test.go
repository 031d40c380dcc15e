package pec

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// foreign is a daticert.xml in the manner of another provider: CRLF, a DOCTYPE elsewhere, a style sheet, empty risposte.
const foreign = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\r\n" +
	"<?xml-stylesheet type=\"text/xsl\" href=\"http://127.0.0.1:9/x.xsl\"?>\r\n" +
	"<!DOCTYPE postacert SYSTEM \"http://127.0.0.1:9/x.dtd\">\r\n" +
	"<postacert tipo=\"preavviso-errore-consegna\" errore='altro'>\r\n" +
	"\t<intestazione>\r\n" +
	"\t\t<mittente> a@x.it </mittente>\r\n" +
	"\t\t<destinatari>b@y.it</destinatari>\r\n" +
	"\t\t<destinatari tipo=\"esterno\"><![CDATA[c@z.it]]></destinatari>\r\n" +
	"\t\t<risposte/>\r\n" +
	"\t\t<oggetto>Citt\xe0 &amp; &#8364;<!-- comment --> x</oggetto>\r\n" +
	"\t</intestazione>\r\n" +
	"\t<dati>\r\n" +
	"\t\t<gestore-emittente>G</gestore-emittente>\r\n" +
	"\t\t<data zona=\"+02:00\"><giorno>01/07/2026</giorno><ora>09:08:07</ora></data>\r\n" +
	"\t\t<identificativo>id@x.it</identificativo>\r\n" +
	"\t\t<consegna>b@y.it</consegna>\r\n" +
	"\t\t<new-element><consegna>x</consegna></new-element>\r\n" +
	"\t\t<errore-esteso>5.4.1 - G - ...</errore-esteso>\r\n" +
	"\t</dati>\r\n" +
	"</postacert>\r\n"

func TestParseForeignCertification(t *testing.T) {
	t.Parallel()
	got, err := ParseCertificationData([]byte(foreign), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 7, 1, 7, 8, 7, 0, time.UTC); !got.Time.Equal(want) {
		t.Errorf("time is %v", got.Time)
	}
	got.Time = time.Time{}
	want := &CertificationData{
		Kind: DelayNotice, Error: OtherError, Sender: "a@x.it", Recipients: []Recipient{{"b@y.it", true}, {"c@z.it", false}},
		Subject: "Città & € x", Provider: "G", EnvelopeID: "<id@x.it>", Recipient: "b@y.it", Detail: "5.4.1 - G - ...",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestCertificationRoundTrip(t *testing.T) {
	t.Parallel()
	d := CertificationData{
		Kind: TakeCharge, Error: Virus, Sender: "a@x.it", Recipients: []Recipient{{"b@y.it", true}, {"c@z.it", false}}, ReplyTo: "d@x.it",
		Subject: `<&>"' è 👍`, Provider: "G & C.", EnvelopeID: "<id@x.it>", OriginalID: "<old@x.it>", ReceiptType: Brief, Recipient: "b@y.it",
		Taken: []string{"b@y.it", "e@y.it"}, Detail: "5.2.2 - G - piena", Time: time.Date(2026, 7, 1, 9, 8, 7, 0, time.FixedZone("", -5400)),
	}
	got, err := ParseCertificationData(d.XML(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, offset := got.Time.Zone(); !got.Time.Equal(d.Time) || offset != -5400 {
		t.Errorf("time is %v", got.Time)
	}
	got.Time = d.Time
	if !reflect.DeepEqual(*got, d) {
		t.Errorf("got\n%+v\nwant\n%+v", *got, d)
	}
	validate(t, "every element", d.XML())
}

func TestParseCertificationRefuses(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) string {
		if !strings.Contains(foreign, old) {
			t.Fatalf("%q is not in the example", old)
		}
		return strings.Replace(foreign, old, new, 1)
	}
	for name, document := range map[string]string{
		"empty":              "",
		"not XML":            "postacert",
		"another root":       "<a/>",
		"two roots":          foreign + "<postacert tipo=\"accettazione\"/>",
		"cut short":          foreign[:len(foreign)-15],
		"namespace":          replace("<postacert ", "<postacert xmlns=\"urn:x\" "),
		"unknown tipo":       replace("preavviso-errore-consegna", "preavviso"),
		"anomaly":            replace("preavviso-errore-consegna", ""),
		"unknown errore":     replace("'altro'", "'x'"),
		"unknown recipient":  replace("\"esterno\"", "\"interno\""),
		"unknown receipt":    replace("<consegna>", "<ricevuta tipo=\"Completa\"/><consegna>"),
		"two attributes":     replace("tipo=\"esterno\"", "tipo=\"esterno\" tipo=\"certificato\""),
		"two senders":        replace("<risposte/>", "<mittente>e@x.it</mittente><risposte/>"),
		"two headers":        replace("</intestazione>", "</intestazione><intestazione></intestazione>"),
		"no sender":          replace("<mittente> a@x.it </mittente>", ""),
		"sender with child":  replace(" a@x.it ", "a@x.it<b/>"),
		"no id":              replace("id@x.it", " "),
		"no date":            replace("<data zona=\"+02:00\"><giorno>01/07/2026</giorno><ora>09:08:07</ora></data>", ""),
		"bad day":            replace("01/07/2026", "2026-07-01"),
		"no such day":        replace("01/07/2026", "31/06/2026"),
		"bad hour":           replace("09:08:07", "9:08"),
		"fraction":           replace("09:08:07", "09:08:07.5"),
		"bad zone":           replace("+02:00", "CEST"),
		"zone without sign":  replace("+02:00", "0200"),
		"zone Z":             replace("+02:00", "Z"),
		"entity":             strings.Replace(replace("SYSTEM \"http://127.0.0.1:9/x.dtd\"", "[<!ENTITY e \"a@x.it\">]"), " a@x.it ", "&e;", 1),
		"file entity":        strings.Replace(replace("SYSTEM \"http://127.0.0.1:9/x.dtd\"", "[<!ENTITY e SYSTEM \"file:///etc/hostname\">]"), " a@x.it ", "&e;", 1),
		"deep":               replace("<new-element>", strings.Repeat("<x>", 20)+strings.Repeat("</x>", 20)+"<new-element>"),
		"unknown charset":    replace("ISO-8859-1", "EBCDIC"),
		"not in its charset": replace("ISO-8859-1", "UTF-8"),
		"too large":          replace("Citt", strings.Repeat("x", 100_000)),
	} {
		got, err := ParseCertificationData([]byte(document), Limits{CertificationBytes: 50_000})
		if !errors.Is(err, ErrCertificationData) || got != nil {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
}

// Many elements under one of a very long name would take a time that grows with the square of the size, if names were
// joined to paths.
func TestParseCertificationIsLinear(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	document := strings.Replace(foreign, "<risposte/>", "<"+long+">"+strings.Repeat("<a/>", 1<<17)+"</"+long+"><risposte/>", 1)
	if _, err := ParseCertificationData([]byte(document), Limits{}); err != nil {
		t.Error(err)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for e, want := range map[ErrorText]string{
		InvalidAddress():  "5.1.1 - G - indirizzo non valido",
		MailboxDisabled(): "5.2.1 - G - casella inibita alla ricezione",
		MailboxFull():     "5.2.2 - G - casella piena",
	} {
		if got := e.Extended("G"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
