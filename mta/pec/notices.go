package pec

import (
	"fmt"
	"strings"
)

// NonAcceptanceVirus issues the notice that tells the sender that the original was not accepted because a virus scanner
// found something in it, which it calls virus (RFC 6109 section 3.1.3). The envelope ID of f is one that no envelope ever
// gets.
func (c *Composer) NonAcceptanceVirus(at Issue, f Facts, virus string) (*Message, error) {
	d, err := c.draft(at, &f, NonAcceptance)
	if err != nil {
		return nil, err
	}
	if virus == "" {
		return nil, fmt.Errorf("%w: the virus has no name", ErrFacts)
	}
	c.infected(d, virus)
	d.wording = texts(NonAcceptance, forVirus)
	return c.issueReceipt(d)
}

// DelayNotice issues the notice that 12 hours have passed without a take-charge or a delivery to one recipient (RFC 6109
// section 3.1.6).
func (c *Composer) DelayNotice(at Issue, f Facts, recipient string) (*Message, error) {
	return c.late(at, f, recipient, plain, NotDeliveredIn12Hours())
}

// TimeoutNotice issues the notice that 24 hours have passed without a delivery to one recipient (RFC 6109 section 3.1.6).
// It is to be issued between 22 and 24 hours after the message was sent.
func (c *Composer) TimeoutNotice(at Issue, f Facts, recipient string) (*Message, error) {
	return c.late(at, f, recipient, lastDelay, NotDeliveredIn24Hours())
}

func (c *Composer) late(at Issue, f Facts, recipient string, v variant, why ErrorText) (*Message, error) {
	d, err := c.draft(at, &f, DelayNotice)
	if err != nil {
		return nil, err
	}
	if recipient == "" {
		return nil, fmt.Errorf("%w: a delay notice is about a recipient", ErrFacts)
	}
	d.wording = texts(DelayNotice, v)
	d.about(recipient)
	d.failing(OtherError, why.Extended(c.Provider.Name))
	return c.issueReceipt(d)
}

// VirusDetection issues the notice by which the receiving provider tells the sending one, at its service mailbox, that the
// envelope for one recipient holds a virus and is not delivered (RFC 6109 section 3.2.3).
func (c *Composer) VirusDetection(at Issue, f Facts, serviceMailbox, recipient, virus string) (*Message, error) {
	d, err := c.draft(at, &f, VirusDetection)
	if err != nil {
		return nil, err
	}
	if serviceMailbox == "" || recipient == "" || virus == "" {
		return nil, fmt.Errorf("%w: a virus detection needs a service mailbox, a recipient and the virus", ErrFacts)
	}
	d.to = serviceMailbox
	d.about(recipient)
	c.infected(d, virus)
	return c.issueReceipt(d)
}

// VirusNonDelivery issues the notice that tells the sender that the message was not delivered to one recipient because the
// receiving provider detected a virus (RFC 6109 section 3.2.4).
func (c *Composer) VirusNonDelivery(at Issue, f Facts, recipient, virus string) (*Message, error) {
	d, err := c.draft(at, &f, NonDelivery)
	if err != nil {
		return nil, err
	}
	if recipient == "" || virus == "" {
		return nil, fmt.Errorf("%w: a non-delivery for a virus needs a recipient and the virus", ErrFacts)
	}
	d.wording = texts(NonDelivery, forVirus)
	d.about(recipient)
	c.infected(d, virus)
	return c.issueReceipt(d)
}

// infected makes d a message about a virus: programs read its code, persons its name.
func (c *Composer) infected(d *draft, virus string) {
	d.failing(Virus, VirusFound(virus).Extended(c.Provider.Name))
	d.text.errore = "[" + virus + "]"
}

// Anomaly is what an anomaly envelope is about: a received message none of whose claims could be certified.
type Anomaly struct {
	Sender     string   // the reverse path, or who the message says it is from when that is empty
	Recipients []string // those of the SMTP transaction that it is put into the mailboxes of
	Subject    string   // decoded
	MessageID  string   // its own, which the envelope keeps, with angle brackets; empty when it has none
	Inherited  Inherited
	Reason     string // a phrase in Italian; see AnomalyNotSigned and those beside it

	// ReversePath is that of the SMTP transaction, kept in Return-Path; "" is the null one.
	ReversePath string
	// Results are what was found out about the sender, as methods of an Authentication-Results field (RFC 8601), such as
	// "spf=pass smtp.mailfrom=a.example"; none: nothing was asked.
	Results []string
	// Spam is what a spam filter said of it; nil: none was asked.
	Spam *SpamMark
}

// SpamMark goes into the outer header of an anomaly envelope, which no signature covers, as other mail servers mark
// messages: for the rules of mail programs, not as evidence. The envelope inherits no such field of the message in it.
type SpamMark struct {
	Score float64
	Spam  bool     // the filter takes it for spam
	Tests []string // what the filter goes by
}

// append writes the fields.
func (s *SpamMark) append(b []byte) []byte {
	flag, status := "NO", "No"
	if s.Spam {
		flag, status = "YES", "Yes"
	}
	b = appendField(b, "X-Spam-Flag", flag)
	b = appendField(b, "X-Spam-Score", fmt.Sprintf("%.2f", s.Score))
	return appendField(b, "X-Spam-Status", oneLine(cut(fmt.Sprintf("%s, score=%.2f tests=%s", status, s.Score, strings.Join(s.Tests, ",")), maxResult)))
}

// AnomalyEnvelope issues the envelope in which a message that is no correct PEC message reaches its recipients, whole and
// with no word about it that is certified (RFC 6109 section 3.2.2).
func (c *Composer) AnomalyEnvelope(at Issue, a Anomaly, received Included) (*Message, error) {
	f := Facts{Sender: a.Sender, Subject: a.Subject, EnvelopeID: at.MessageID(c.Provider)}
	for _, r := range a.Recipients {
		f.Recipients = append(f.Recipients, Recipient{Address: r})
	}
	d, err := c.draft(at, &f, AnomalyEnvelope)
	if err != nil {
		return nil, err
	}
	if a.Reason == "" {
		return nil, fmt.Errorf("%w: an anomaly envelope needs a reason", ErrFacts)
	}
	d.included, d.id, d.text.errore = &received, cleanMessageID(a.MessageID), a.Reason
	b := make([]byte, 0, d.sizeHint()+a.Inherited.size())
	b = appendField(b, "Return-Path", "<"+oneLine(cut(a.ReversePath, maxAddress))+">")
	if len(a.Results) > 0 {
		b = append(b, "Authentication-Results: "+c.Provider.Domain...)
		for _, r := range a.Results {
			b = append(b, ";\r\n "+oneLine(cut(r, maxResult))...)
		}
		b = append(b, "\r\n"...)
	}
	if a.Spam != nil {
		b = a.Spam.append(b)
	}
	return c.issue(d, d.appendInherited(b, a.Inherited, c.Provider.ServiceAddress))
}

// maxResult bounds one of Anomaly.Results, octets: a line has at most 998 (RFC 5322 section 2.1.1).
const maxResult = 900
