package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/register/calendar"
	"scripta/register/extract"
)

// extractRequest is the body of POST /v1/extracts. Everything is optional; an
// empty object asks for all events of the mailbox.
type extractRequest struct {
	From      *string `json:"from"`
	To        *string `json:"to"`
	MessageID *string `json:"message_id"`

	// The filters of GET /v1/messages.
	ReceiptID   *string `json:"receipt_id"`
	Counterpart *string `json:"counterpart"`
	Subject     *string `json:"subject"`
	Kind        *string `json:"kind"`
}

// extractState is a request as its holder sees it.
type extractState struct {
	ID          string        `json:"id"`
	Href        string        `json:"href"`
	State       extract.State `json:"state"`
	From        *time.Time    `json:"from,omitempty"`
	To          *time.Time    `json:"to"`
	MessageID   string        `json:"message_id,omitempty"`
	ReceiptID   string        `json:"receipt_id,omitempty"`
	Counterpart string        `json:"counterpart,omitempty"`
	Subject     string        `json:"subject,omitempty"`
	Kind        string        `json:"kind,omitempty"`
	Asked       time.Time     `json:"asked"`
	Due         time.Time     `json:"due"` // in Italian time: it is the end of a working day there
	Produced    *time.Time    `json:"produced,omitempty"`
	Delivered   *time.Time    `json:"delivered,omitempty"`
	Refused     *time.Time    `json:"refused,omitempty"`
	Reason      string        `json:"reason,omitempty"`
	Text        string        `json:"reason_text,omitempty"` // Italian
	Events      int           `json:"events,omitempty"`
	File        *extractFile  `json:"file,omitempty"`
}

type extractFile struct {
	Href   string `json:"href"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func newExtractState(x *extract.Request) extractState {
	s := extractState{ID: x.ID.String(), Href: extractHref(x), State: x.State(), From: x.Query.From, To: x.Query.To, MessageID: x.Query.MessageID,
		ReceiptID: x.Query.ReceiptID, Counterpart: x.Query.Counterpart, Subject: x.Query.Subject, Kind: strings.Join(x.Query.Kinds, " "),
		Asked: x.Asked.Time, Due: x.Due.In(calendar.Rome()), Events: x.Events, Reason: string(x.Reason)}
	if x.Reason != "" {
		s.Text = x.Reason.Text()
	}
	for _, step := range []struct {
		made *extract.Step
		at   **time.Time
	}{{x.Produced, &s.Produced}, {x.Delivered, &s.Delivered}, {x.Refused, &s.Refused}} {
		if step.made != nil {
			*step.at = &step.made.Time
		}
	}
	if x.Produced != nil {
		s.File = &extractFile{Href: s.Href + "/file", Size: x.Size, SHA256: hex.EncodeToString(x.Digest)}
	}
	return s
}

func extractHref(x *extract.Request) string { return "/v1/extracts/" + x.ID.String() }

// askExtract answers POST /v1/extracts.
func (a *API) askExtract(c *gin.Context) {
	media, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || media != "application/json" {
		fail(c, problemMediaType)
		return
	}
	ask, err := parseAsk(c.Request.Body)
	switch tooLarge := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLarge):
		fail(c, problemTooLarge)
		return
	case err != nil:
		fail(c, problemBody.with(err.Error()))
		return
	}
	ask.Mailbox, ask.Peer = c.GetString(keyMailbox), peerOf(c.Request)
	x, err := a.o.Requests.Ask(c.Request.Context(), ask)
	switch {
	case errors.Is(err, extract.ErrPeriod):
		fail(c, problemBody.with("the period is empty or in the future"))
	case errors.Is(err, extract.ErrTooManyOpen):
		fail(c, problemTooMany.with("requests of this mailbox are waiting for their answer").after(time.Minute))
	case errors.Is(err, extract.ErrBusy):
		fail(c, problemUnavailable.with("too many requests are waiting for their answer").after(10*time.Minute))
	case err != nil:
		a.failed(c, err)
	default:
		c.Header("Location", extractHref(x))
		writeJSON(c, http.StatusAccepted, newExtractState(x))
	}
}

// errBody says what is wrong with a body, for the client.
var errBody = errors.New("the body must be one JSON object with from, to, message_id, receipt_id, counterpart, subject and kind or some of them")

func parseAsk(r io.Reader) (ask extract.Ask, err error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var body *extractRequest
	if err := d.Decode(&body); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return ask, err
		}
		return ask, errBody // the decoder's words are about Go
	}
	if _, err := d.Token(); body == nil || err != io.EOF {
		return ask, errBody
	}
	for _, x := range []struct {
		name  string
		value *string
		read  func(name, s string) error
	}{
		{"from", body.From, into(&ask.From, parseTime)}, {"to", body.To, into(&ask.To, parseTime)},
		{"message_id", body.MessageID, into(&ask.MessageID, parseMessageID)}, {"receipt_id", body.ReceiptID, into(&ask.ReceiptID, parseMessageID)},
		{"counterpart", body.Counterpart, into(&ask.Counterpart, parseAddress)}, {"subject", body.Subject, into(&ask.Subject, parseWords)},
		{"kind", body.Kind, into(&ask.Kinds, parseKind)},
	} {
		if x.value != nil {
			if err := x.read(x.name, *x.value); err != nil {
				return ask, err
			}
		}
	}
	return ask, nil
}

// into parses a field to where it belongs.
func into[T any](to *T, parse func(name, s string) (T, error)) func(name, s string) error {
	return func(name, s string) (err error) {
		*to, err = parse(name, s)
		return err
	}
}

// listExtracts answers GET /v1/extracts: the requests of the mailbox that are
// kept, the newest first.
func (a *API) listExtracts(c *gin.Context) {
	all := []extractState{}
	for _, x := range a.o.Requests.List(c.GetString(keyMailbox)) {
		all = append(all, newExtractState(x))
	}
	writeJSON(c, http.StatusOK, map[string]any{"extracts": all})
}

// getExtract answers GET /v1/extracts/{id}.
func (a *API) getExtract(c *gin.Context) {
	id, ok := extract.ParseRequestID(c.Param("id"))
	if !ok {
		fail(c, problemNotFound.with("your mailbox has no request for an extract with this id, or it is not kept any more"))
		return
	}
	x, err := a.o.Requests.Get(c.GetString(keyMailbox), id)
	if err != nil {
		fail(c, problemNotFound.with("your mailbox has no request for an extract with this id, or it is not kept any more"))
		return
	}
	writeJSON(c, http.StatusOK, newExtractState(x))
}

// getExtractFile answers GET /v1/extracts/{id}/file with the evidence file.
func (a *API) getExtractFile(c *gin.Context) {
	id, ok := extract.ParseRequestID(c.Param("id"))
	if !ok {
		fail(c, problemNotFound.with("your mailbox has no request for an extract with this id, or it is not kept any more"))
		return
	}
	x, file, err := a.o.Requests.Deliver(c.Request.Context(), c.GetString(keyMailbox), id, peerOf(c.Request))
	switch {
	case errors.Is(err, extract.ErrNoRequest):
		fail(c, problemNotFound.with("your mailbox has no request for an extract with this id, or it is not kept any more"))
		return
	case errors.Is(err, extract.ErrNotReady):
		fail(c, problemNotReady.with("it is due on "+x.Due.In(calendar.Rome()).Format(time.RFC3339)).after(5*time.Second))
		return
	case errors.Is(err, extract.ErrRefused):
		fail(c, problemRefused.with(string(x.Reason)+": "+x.Reason.Text()))
		return
	case err != nil:
		a.failed(c, err)
		return
	}
	defer file.Close()
	h := c.Writer.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="estratto-%s.zip"`, x.ID))
	h.Set("Content-Length", strconv.FormatInt(file.Size(), 10))
	h.Set("ETag", `"`+hex.EncodeToString(x.Digest)+`"`)
	c.Status(http.StatusOK)
	a.send(c, file, file.Size())
}
