package pec

import "strings"

// Kind is the type of a PEC message.
type Kind uint8

// The kinds of PEC message, with the section of RFC 6109 that describes each.
const (
	Ordinary          Kind = iota // no PEC message, or not a correct one
	Acceptance                    // accettazione, section 3.1.4
	NonAcceptance                 // non-accettazione, sections 3.1.2 and 3.1.3
	TransportEnvelope             // busta di trasporto, section 3.1.5
	AnomalyEnvelope               // busta di anomalia, section 3.2.2
	TakeCharge                    // presa-in-carico, section 3.2.1
	Delivery                      // avvenuta-consegna, section 3.3.2
	NonDelivery                   // errore-consegna, sections 3.2.4 and 3.3.3
	DelayNotice                   // preavviso-errore-consegna, after 12 and after 24 hours (section 3.1.6): errore-esteso tells which
	VirusDetection                // rilevazione-virus, section 3.2.3
)

// marks are the wire constants of a kind: the header field that marks a message, its value, and the "tipo" of its
// daticert.xml, empty when it has none.
type marks struct{ field, value, tipo string }

// The two fields that mark a PEC message. Only those of the top level count, and one excludes the other.
const (
	receiptField  = "X-Ricevuta"
	envelopeField = "X-Trasporto"
)

// marks returns the wire constants of k.
func (k Kind) marks() marks {
	receipt := func(value string) marks { return marks{receiptField, value, value} }
	switch k {
	case Acceptance:
		return receipt("accettazione")
	case NonAcceptance:
		return receipt("non-accettazione")
	case TransportEnvelope:
		return marks{envelopeField, "posta-certificata", "posta-certificata"}
	case AnomalyEnvelope:
		return marks{envelopeField, "errore", ""}
	case TakeCharge:
		return receipt("presa-in-carico")
	case Delivery:
		return receipt("avvenuta-consegna")
	case NonDelivery:
		return receipt("errore-consegna")
	case DelayNotice:
		return receipt("preavviso-errore-consegna")
	case VirusDetection:
		return receipt("rilevazione-virus")
	}
	return marks{}
}

// String returns the value that marks the kind on the wire ("accettazione"), or "ordinaria" or "errore".
func (k Kind) String() string {
	if v := k.marks().value; v != "" {
		return v
	}
	return "ordinaria"
}

// findKind returns the kind whose marks are accepted by match, Ordinary when none is.
func findKind(match func(marks) bool) Kind {
	for k := Acceptance; k <= VirusDetection; k++ {
		if match(k.marks()) {
			return k
		}
	}
	return Ordinary
}

// ReceiptType is the type of delivery receipt that a sender asks for (RFC 6109 section 3.3.2).
type ReceiptType uint8

// The types of delivery receipt. The zero value says that none is stated, which means Complete wherever one is needed.
const (
	NoReceiptType ReceiptType = iota
	Complete                  // completa: the whole original message comes with it
	Brief                     // breve: the original with its attachments replaced by their hashes
	Concise                   // sintetica: without the original
)

// ParseReceiptType reads the value of an X-TipoRicevuta field. Anything but "breve" and "sintetica", in any case, is
// Complete, as is the absence of the field.
func ParseReceiptType(value string) ReceiptType {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "breve":
		return Brief
	case "sintetica":
		return Concise
	}
	return Complete
}

// String returns the value on the wire: "completa", "breve" or "sintetica".
func (t ReceiptType) String() string {
	switch t {
	case Brief:
		return "breve"
	case Concise:
		return "sintetica"
	}
	return "completa"
}

// For returns the type of receipt to issue for one recipient when t was asked for: recipients who are only in Cc
// get a concise one, and in doubt a recipient counts as primary (RFC 6109 sections 3.3.2.1 to 3.3.2.3). to and cc are the
// addr-specs in the fields of the original.
func (t ReceiptType) For(recipient string, to, cc []string) ReceiptType {
	if t == NoReceiptType {
		t = Complete
	}
	if contains(cc, recipient) && !contains(to, recipient) {
		return Concise
	}
	return t
}

func contains(list []string, address string) bool {
	for _, a := range list {
		if SameAddress(a, address) {
			return true
		}
	}
	return false
}

// ErrorKind is the "errore" attribute of daticert.xml. Providers use it differently for the same event: the code in
// errore-esteso is what tells events apart.
type ErrorKind string

// The values of ErrorKind.
const (
	NoError          ErrorKind = "nessuno"
	UnknownRecipient ErrorKind = "no-dest"
	UnknownDomain    ErrorKind = "no-dominio"
	Virus            ErrorKind = "virus"
	OtherError       ErrorKind = "altro"
)

func (e ErrorKind) valid() bool {
	switch e {
	case NoError, UnknownRecipient, UnknownDomain, Virus, OtherError:
		return true
	}
	return false
}
