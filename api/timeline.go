package api

import (
	"encoding/hex"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/register"
	"scripta/register/record"
)

// timeline is the answer of GET /v1/messages/{id}.
type timeline struct {
	message
	Events    []event `json:"events"`
	Truncated bool    `json:"truncated,omitempty"` // there are more events than are shown
}

// event is one record of the register.
type event struct {
	Index       uint64            `json:"index"` // of its leaf in the log
	Leaf        string            `json:"leaf"`  // hexadecimal
	Kind        string            `json:"kind"`
	Time        time.Time         `json:"time"`
	About       []string          `json:"about,omitempty"`
	Outcome     *outcome          `json:"outcome,omitempty"`
	ReceiptType string            `json:"receipt_type,omitempty"`
	Digest      string            `json:"digest,omitempty"` // SHA-256, hexadecimal
	Size        uint64            `json:"size,omitempty"`
	Receipt     *link             `json:"receipt,omitempty"`
	Actor       string            `json:"actor,omitempty"`
	Peer        *peer             `json:"peer,omitempty"`
	Detail      map[string]string `json:"detail,omitempty"`
}

type outcome struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

type peer struct {
	Address string `json:"address"`
	TLS     string `json:"tls,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
}

// link leads to the bytes of a message that the provider issued.
type link struct {
	ID   string `json:"id"` // its Message-ID, without angle brackets
	Href string `json:"href"`
}

// getMessage answers GET /v1/messages/{id}.
func (a *API) getMessage(c *gin.Context) {
	id, err := identifier(c)
	if err != nil {
		fail(c, problemParameter.with(err.Error()))
		return
	}
	mailbox := c.GetString(keyMailbox)
	records, err := a.events(c.Request.Context(), mailbox, id, maxEvents+1)
	if err != nil {
		a.failed(c, err)
		return
	}
	t := timeline{Events: []event{}}
	if len(records) > maxEvents {
		t.Truncated, records = true, records[:maxEvents]
	}
	var of []*register.Found
	for _, f := range records {
		if eventOfMessage(f.Record.Kind) {
			of = append(of, f)
		}
		t.Events = append(t.Events, newEvent(mailbox, f))
	}
	if len(of) == 0 {
		fail(c, problemNotFound.with("no message of your mailbox has this identifier; it is the PEC one, as GET /v1/messages gives it"))
		return
	}
	t.message = *summary(mailbox, of)
	writeJSON(c, http.StatusOK, t)
}

func newEvent(mailbox string, f *register.Found) event {
	r := visible(mailbox, f.Record)
	e := event{Index: f.Index, Leaf: hex.EncodeToString(f.Opened.Leaf[:]), Kind: r.Kind.String(), Time: r.Time, About: r.About,
		ReceiptType: r.ReceiptType, Digest: hex.EncodeToString(r.Digest), Size: r.Size, Actor: r.Actor}
	if r.Outcome != (record.Outcome{}) {
		e.Outcome = &outcome{r.Outcome.Code, r.Outcome.Text}
	}
	if r.Peer.Address != "" || r.Peer.TLS != "" {
		e.Peer = &peer{r.Peer.Address, r.Peer.TLS, r.Peer.Cipher}
	}
	if id := receiptOf(r); id != "" {
		e.Receipt = &link{id, receiptHref(id)}
	}
	for _, d := range r.Detail {
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail[d.Name] = d.Value
	}
	return e
}

// receiptOf is the identifier of the issued message that a record tells of: that
// it was issued, or put into a mailbox.
func receiptOf(r *record.Record) string {
	switch {
	case r.Kind == record.Delivered:
		return r.MessageID
	case (r.Kind.Issued() || r.Kind == record.NotificationDelivered) && len(r.Generated) > 0:
		return r.Generated[0]
	}
	return ""
}
