package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/internal/keys"
	"scripta/register"
)

// messageList is the answer of GET /v1/messages.
type messageList struct {
	Messages []*message `json:"messages"`
	Next     string     `json:"next,omitempty"` // cursor; absent on the last page
	Gaps     []gap      `json:"gaps,omitempty"` // what the register lost in the period
}

// gap says that events of a period may be missing ([record.Gap]).
type gap struct {
	Origin  string    `json:"origin"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Italian string    `json:"it"`
	English string    `json:"en"`
}

// maxOpened bounds how many records one page may open: a page that would need
// more ends early.
const maxOpened = 20_000

// listMessages answers GET /v1/messages: the messages of the mailbox with an
// event that matches the query, the oldest first. A message stands where its
// first event that matches does, and only there, so that pages never repeat one.
func (a *API) listMessages(c *gin.Context) {
	q, err := parseMessageQuery(c.Request.URL.RawQuery)
	if err != nil {
		fail(c, problemParameter.with(err.Error()))
		return
	}
	l := &lister{a: a, ctx: c.Request.Context(), mailbox: c.GetString(keyMailbox), q: q, seen: map[string]bool{}, budget: maxOpened}
	l.q.Mailbox = l.mailbox
	if l.matcher, err = register.NewMatcher(l.q.Query); err != nil {
		a.failed(c, err)
		return
	}
	if err := l.run(); err != nil {
		a.failed(c, err)
		return
	}
	out := messageList{Messages: l.found}
	for _, g := range a.o.Register.Gaps(q.From, q.To) {
		it, en := g.Statement()
		out.Gaps = append(out.Gaps, gap{g.Origin, g.From, g.To, it, en})
	}
	if l.more {
		out.Next = l.at.String()
	}
	writeJSON(c, http.StatusOK, out)
}

// lister makes one page.
type lister struct {
	a       *API
	ctx     context.Context
	mailbox string
	q       messageQuery
	matcher *register.Matcher // of q
	seen    map[string]bool   // messages that this page has dealt with
	budget  int               // records that may still be opened

	found []*message
	at    position // the last record that was dealt with
	more  bool     // the page ended before the records did
	err   error
}

// run goes through the mailbox's records from the cursor on. The register's lower
// bound on indices holds for every month, but a record of the next month may
// stand before one of this month (its transaction was shorter); so the cursor's
// month is searched apart from those that follow.
func (l *lister) run() error {
	l.found = []*message{}
	parts := []register.Query{l.q.Query}
	if after := l.q.after; after != nil {
		l.at = *after
		month := keys.Month(after.month)
		first, rest := parts[0], parts[0]
		first.After = after.index + 1
		if start := month.Start(); first.From.Before(start) {
			first.From = start
		}
		if end := month.Next().Start(); first.To.IsZero() || end.Before(first.To) {
			first.To = end
		}
		if end := month.Next().Start(); rest.From.Before(end) {
			rest.From = end
		}
		parts = []register.Query{first, rest}
	}
	for _, p := range parts {
		if !p.To.IsZero() && !p.From.Before(p.To) {
			continue
		}
		if err := l.a.o.Register.Search(l.ctx, p, l.a.o.Wall(), l.visit); err != nil || l.err != nil {
			return errors.Join(err, l.err)
		}
		if l.more {
			break
		}
	}
	return nil
}

// visit deals with one record; false ends the page.
func (l *lister) visit(f *register.Found) bool {
	if l.err = l.ctx.Err(); l.err != nil {
		return false
	}
	if len(l.found) == l.q.limit || l.budget <= 0 {
		l.more = true
		return false
	}
	l.budget--
	id := f.Record.MessageID
	if id != "" && eventOfMessage(f.Record.Kind) && !l.seen[id] {
		l.seen[id] = true
		if l.err = l.add(f); l.err != nil {
			return false
		}
	}
	l.at = placeOf(f)
	return true
}

// add lists the message of a record, unless an earlier page has.
func (l *lister) add(f *register.Found) error {
	events, err := l.a.events(l.ctx, l.mailbox, f.Record.MessageID, maxEvents)
	if err != nil {
		return err
	}
	l.budget -= len(events)
	here := placeOf(f)
	events = slices.DeleteFunc(events, func(e *register.Found) bool { return !eventOfMessage(e.Record.Kind) })
	if slices.ContainsFunc(events, func(e *register.Found) bool { return placeOf(e).less(here) && l.matcher.Match(e.Record) }) {
		return nil
	}
	if len(events) == 0 { // more than maxEvents, the first of which are of other kinds
		events = []*register.Found{f}
	}
	l.found = append(l.found, summary(l.mailbox, events))
	return nil
}

// maxEvents bounds what is shown of one message. The pipeline's limits keep
// every message far below it.
const maxEvents = 10_000

// events returns the records about the mailbox that bear a PEC identifier, in the
// register's order, at most so many.
func (a *API) events(ctx context.Context, mailbox, id string, most int) ([]*register.Found, error) {
	var (
		all  []*register.Found
		gone error
	)
	err := a.o.Register.Search(ctx, register.Query{Mailbox: mailbox, Identifier: id}, a.o.Wall(), func(f *register.Found) bool {
		if gone = ctx.Err(); gone != nil {
			return false
		}
		if f.Record.MessageID == id {
			all = append(all, f)
		}
		return len(all) < most
	})
	return all, errors.Join(err, gone)
}

func messageHref(id string) string { return "/v1/messages/" + url.PathEscape(id) }
func receiptHref(id string) string { return "/v1/receipts/" + url.PathEscape(id) }

// writeJSON answers with a JSON document. Characters are kept as they are: the
// answer is never HTML.
func writeJSON(c *gin.Context, status int, v any) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // types of this package, which encode
	}
	c.Writer.Header().Set("Content-Type", "application/json")
	c.Status(status)
	_, _ = c.Writer.WriteString(b.String()) // an error is the client's
}
