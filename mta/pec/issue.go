package pec

import (
	"fmt"
	"strings"
)

// Acceptance issues the receipt that tells the sender that the original was accepted (RFC 6109 section 3.1.4).
func (c *Composer) Acceptance(at Issue, f Facts) (*Message, error) {
	d, err := c.draft(at, &f, Acceptance)
	if err != nil {
		return nil, err
	}
	return c.issueReceipt(d)
}

// NonAcceptance issues the notice that tells the sender that the original was not accepted for formal reasons (RFC 6109
// section 3.1.2). The reasons are sentences in Italian; see ReasonRecipientNotListed and those beside it. The envelope ID of
// f is one that no envelope ever gets.
func (c *Composer) NonAcceptance(at Issue, f Facts, reasons []string) (*Message, error) {
	d, err := c.draft(at, &f, NonAcceptance)
	if err != nil {
		return nil, err
	}
	if len(reasons) == 0 {
		return nil, fmt.Errorf("%w: a non-acceptance needs a reason", ErrFacts)
	}
	d.failing(OtherError, strings.Join(reasons, "; "))
	d.text.errori = reasons
	return c.issueReceipt(d)
}

// TransportEnvelope issues the envelope that carries the original to its recipients (RFC 6109 section 3.1.5). Its
// Message-ID, at.MessageID, must be the EnvelopeID of f, which the original was patched with. The fields it inherits are
// those of Original.Inherited; where To is missing it is made from the recipients.
func (c *Composer) TransportEnvelope(at Issue, f Facts, inherited Inherited, original Included) (*Message, error) {
	if f.EnvelopeID != at.MessageID(c.Provider) {
		return nil, fmt.Errorf("%w: the envelope ID is %.80q and not that of its issue", ErrFacts, f.EnvelopeID)
	}
	d, err := c.draft(at, &f, TransportEnvelope)
	if err != nil {
		return nil, err
	}
	d.included = &original
	d.data.ReceiptType = f.receiptType()

	b := make([]byte, 0, d.sizeHint()+inherited.size())
	return c.issue(d, d.appendInherited(b, inherited, c.Provider.ServiceAddress))
}

// appendInherited appends the header of an envelope as far as it comes from what it carries.
func (d *draft) appendInherited(b []byte, in Inherited, service string) []byte {
	for _, r := range in.Received {
		b = append(b, r...)
	}
	b = appendField(b, "Date", d.when.date)
	b = appendOnBehalf(b, d.facts.Sender, service)
	if in.ReplyTo != "" {
		b = append(b, in.ReplyTo...)
	} else {
		b = appendAddresses(b, "Reply-To", []string{d.facts.Sender})
	}
	if in.To != "" {
		b = append(b, in.To...)
	} else {
		b = appendAddresses(b, "To", addressesOf(d.facts.Recipients))
	}
	return append(b, in.Cc...)
}

// TakeCharge issues the receipt by which the receiving provider tells the sending one that it answers for the message
// from now on (RFC 6109 section 3.2.1). It goes to the service mailbox of the sending provider, and is about those of the
// recipients that were taken in charge.
func (c *Composer) TakeCharge(at Issue, f Facts, serviceMailbox string, taken []string) (*Message, error) {
	d, err := c.draft(at, &f, TakeCharge)
	if err != nil {
		return nil, err
	}
	if serviceMailbox == "" || len(taken) == 0 {
		return nil, fmt.Errorf("%w: a take-charge needs a service mailbox and recipients", ErrFacts)
	}
	d.to = serviceMailbox
	d.data.Taken = taken
	d.text.recipients = make([]Recipient, len(taken))
	for i, a := range taken {
		d.text.recipients[i].Address = a
	}
	return c.issueReceipt(d)
}

// Delivery issues the receipt that tells the sender that the message is in the mailbox of one recipient (RFC 6109 section
// 3.3.2). ReceiptType.For says what type to issue; a Complete one includes the original, a Brief one the original with the
// edits of Included.Brief, which the caller has applied, and a Concise one ignores it. Its daticert.xml states the type that
// the sender asked for, as the DTD says.
func (c *Composer) Delivery(at Issue, f Facts, recipient string, issued ReceiptType, original *Included) (*Message, error) {
	d, err := c.draft(at, &f, Delivery)
	if err != nil {
		return nil, err
	}
	if recipient == "" || issued != Concise && original == nil {
		return nil, fmt.Errorf("%w: a delivery receipt needs a recipient, and an original unless it is concise", ErrFacts)
	}
	if issued != Concise {
		d.included = original
	}
	switch issued {
	case Brief:
		d.wording = texts(Delivery, brief)
	case Concise:
		d.wording = texts(Delivery, concise)
	}
	d.data.ReceiptType = f.receiptType()
	d.about(recipient)
	return c.issueReceipt(d)
}

// NonDelivery issues the notice that tells the sender that the message could not be delivered to one recipient (RFC 6109
// section 3.3.3). extended is the value of errore-esteso, which ErrorText.Extended makes.
func (c *Composer) NonDelivery(at Issue, f Facts, recipient string, errore ErrorKind, extended string) (*Message, error) {
	d, err := c.draft(at, &f, NonDelivery)
	if err != nil {
		return nil, err
	}
	if recipient == "" || extended == "" || errore == NoError || !errore.valid() {
		return nil, fmt.Errorf("%w: a non-delivery needs a recipient and an error", ErrFacts)
	}
	d.about(recipient)
	d.failing(errore, extended)
	return c.issueReceipt(d)
}

// receiptType is the type asked for, Complete when none is stated.
func (f *Facts) receiptType() ReceiptType {
	if f.ReceiptType == NoReceiptType {
		return Complete
	}
	return f.ReceiptType
}

func addressesOf(recipients []Recipient) []string {
	a := make([]string, len(recipients))
	for i, r := range recipients {
		a[i] = r.Address
	}
	return a
}
