package bench

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"scripta/register"
	"scripta/register/record"
)

// recordMaker makes records like those that the mail path appends for a message
// between two mailboxes of one provider: the same kinds in the same order, with
// identifiers and digests of the same lengths.
type recordMaker struct {
	random *rand.ChaCha8
	step   int
	tx     [16]byte
	model  record.Record // what the records of a message have in common
}

// mailKinds are the records of one message.
var mailKinds = []record.Kind{record.Submitted, record.AcceptanceIssued, record.Enveloped, record.Received, record.TakeChargeIssued,
	record.Delivered, record.DeliveryIssued, record.NotificationDelivered, record.NotificationDelivered, record.NotificationDelivered}

// mailboxes is how many holders the records are about.
const mailboxes = 500

func newRecordMaker(worker int) *recordMaker {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(worker))
	binary.BigEndian.PutUint64(seed[8:], uint64(time.Now().UnixNano()))
	return &recordMaker{random: rand.NewChaCha8(seed)}
}

func (m *recordMaker) digest() []byte {
	d := make([]byte, 32)
	_, _ = m.random.Read(d)
	return d
}

func (m *recordMaker) mailbox() string {
	return fmt.Sprintf("casella%03d@bench.example", m.random.Uint64()%mailboxes)
}

// next makes the next record of a message, or the first of another message.
func (m *recordMaker) next() register.Entry {
	kind := mailKinds[m.step%len(mailKinds)]
	if m.step%len(mailKinds) == 0 {
		_, _ = m.random.Read(m.tx[:])
		to := m.mailbox()
		m.model = record.Record{MessageID: "opec." + hex.EncodeToString(m.tx[:]) + ".0004@bench.example", OriginalID: "<" + hex.EncodeToString(m.tx[:8]) + "@client.example>",
			Sender: m.mailbox(), Recipients: []record.Recipient{{Address: to, Certified: true}}, Subject: "Richiesta di accesso agli atti, pratica 2026/1234",
			Provider: "Scripta di prova", ReceiptType: "completa", Detail: []record.Pair{{Name: "clock", Value: "time not traceable: unknown"}}}
	}
	m.step++
	r := m.model
	r.Kind, r.Time = kind, time.Now().UTC().Truncate(time.Millisecond)
	r.Digest, r.Size = m.digest(), 10240
	switch kind {
	case record.Submitted:
		r.Peer, r.Actor = record.Peer{Address: "127.0.0.1:40000", TLS: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, r.Sender
	case record.AcceptanceIssued, record.Enveloped:
		r.Content, r.Generated = m.digest(), []string{r.MessageID}
	default:
		r.Content, r.Generated, r.About = m.digest(), []string{r.MessageID}, []string{r.Recipients[0].Address}
	}
	return register.Entry{ID: record.MakeID(m.tx, uint16(m.step), 0), Record: &r}
}
