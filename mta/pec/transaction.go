package pec

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// Transaction is one handling of a message at one point. The caller makes both fields durable before anything is issued:
// everything that could differ between two runs is derived from them, so a rerun issues identical bytes.
type Transaction struct {
	// ID is random and stays inside the provider: Message-IDs and boundaries are one-way functions of it, so that
	// nobody can tell the boundary of a message before it is issued.
	ID [16]byte
	// Time is the only reading of the clock for all that the transaction issues (RFC 6109 section 4.1).
	Time time.Time
}

// Issue returns the place of one message among those that the transaction issues. No two messages of a transaction may
// have the same step and ordinal.
func (t Transaction) Issue(step uint16, ordinal uint32) Issue {
	return Issue{Transaction: t, Step: step, Ordinal: ordinal}
}

// Issue identifies one issued message: a step of a transaction, and which of the messages of that step.
type Issue struct {
	Transaction
	Step    uint16
	Ordinal uint32
}

// MessageID returns the Message-ID of the message, with angle brackets: 32 letters and digits at the provider's mail
// domain (RFC 6109 section 2.2.1).
func (i Issue) MessageID(p Provider) string {
	return "<" + i.derive("scripta/pec/message-id/v1", 20) + "@" + p.Domain + ">"
}

// boundary returns one of the two MIME boundaries. "=_" occurs neither in quoted-printable nor in base64 (RFC 2045 section
// 6.7).
func (i Issue) boundary(label string) string {
	return "=_" + i.derive("scripta/pec/boundary/v1/"+label, 20)
}

// derive returns n octets of SHA-256(label ‖ id ‖ step ‖ ordinal), integers big-endian, in lower-case base32.
func (i Issue) derive(label string, n int) string {
	b := make([]byte, 0, 64)
	b = append(b, label...)
	b = append(b, i.ID[:]...)
	b = binary.BigEndian.AppendUint16(b, i.Step)
	b = binary.BigEndian.AppendUint32(b, i.Ordinal)
	sum := sha256.Sum256(b)
	return base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).EncodeToString(sum[:n])
}
