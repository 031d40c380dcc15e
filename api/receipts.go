package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scripta/register"
	"scripta/register/receipts"
	"scripta/register/record"
)

// getReceipt answers GET /v1/receipts/{id} with the bytes of a message that the
// provider issued. The order of its steps:
//
//  1. the record of the issue is found, and that the mailbox has part in it;
//  2. the message is put together, and its digest compared with the record's;
//  3. the reproduction is recorded;
//  4. the bytes are sent.
func (a *API) getReceipt(c *gin.Context) {
	id, err := identifier(c)
	if err != nil {
		fail(c, problemParameter.with(err.Error()))
		return
	}
	ctx, mailbox := c.Request.Context(), c.GetString(keyMailbox)
	issue, err := a.issueOf(ctx, mailbox, id)
	if err != nil {
		a.failed(c, err)
		return
	}
	if issue == nil {
		fail(c, problemNotFound.with("no receipt or envelope of your mailbox has this Message-ID"))
		return
	}
	etag := `"` + hex.EncodeToString(issue.Record.Digest) + `"`
	if matches(c.Request.Header, etag) { // nothing is handed out, so nothing is recorded
		c.Header("ETag", etag)
		c.Status(http.StatusNotModified)
		return
	}
	msg, err := a.o.Register.Receipts().Open(issue.Opened.ID, a.o.Register.Contents())
	if errors.Is(err, receipts.ErrNotFound) {
		fail(c, problemNotKept)
		return
	} else if err != nil {
		a.failed(c, err)
		return
	}
	defer msg.Close()
	if err := whole(msg, issue.Record); err != nil {
		a.failed(c, fmt.Errorf("couldn't reproduce the message of record %d: %w", issue.Index, err))
		return
	}
	at, err := a.reproduced(context.WithoutCancel(ctx), c.Request, mailbox, id, issue)
	if err != nil {
		a.failed(c, err)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "message/rfc822")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.eml"`, issue.Record.Kind, issue.Index))
	h.Set("Content-Length", strconv.FormatInt(msg.Size(), 10))
	h.Set("ETag", etag)
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(issue.Record.Digest)+":") // RFC 9530
	h.Set("Scripta-Record", strconv.FormatUint(issue.Index, 10))
	h.Set("Scripta-Reproduction", strconv.FormatUint(at.Index, 10))
	c.Status(http.StatusOK)
	a.send(c, msg, msg.Size())
}

// send streams a body; when it cannot be sent whole, the connection is cut, so
// that nobody takes a part for the whole.
func (a *API) send(c *gin.Context, r io.ReaderAt, size int64) {
	if err := stream(c.Request.Context(), c.Writer, r, size); err != nil {
		a.o.Logger.Debug("a file was not sent whole", "request", c.GetString(keyRequest), "err", err)
		panic(http.ErrAbortHandler)
	}
}

// issueOf finds the record of the issue of a message with this Message-ID, or nil
// if the mailbox has no part in it: the record is about the mailbox, or another
// one says that this message, by its digest, was put into it.
func (a *API) issueOf(ctx context.Context, mailbox, id string) (*register.Found, error) {
	issues := func(f *register.Found) bool { return f.Record.Kind.Issued() && slices.Contains(f.Record.Generated, id) }
	var (
		issue  *register.Found
		placed [][]byte // digests of messages with this identifier in the mailbox
	)
	err := a.o.Register.Search(ctx, register.Query{Mailbox: mailbox, Identifier: id}, a.o.Wall(), func(f *register.Found) bool {
		if issues(f) {
			issue = f
		} else if (f.Record.Kind == record.Delivered || f.Record.Kind == record.NotificationDelivered) && receiptOf(f.Record) == id &&
			slices.ContainsFunc(f.Record.About, func(s string) bool { return strings.EqualFold(s, mailbox) }) {
			placed = append(placed, f.Record.Digest)
		}
		return issue == nil && ctx.Err() == nil
	})
	if err != nil || issue != nil || len(placed) == 0 {
		return issue, errors.Join(err, ctx.Err())
	}
	err = a.o.Register.Search(ctx, register.Query{Identifier: id}, a.o.Wall(), func(f *register.Found) bool {
		if issues(f) && slices.ContainsFunc(placed, func(d []byte) bool { return bytes.Equal(d, f.Record.Digest) }) {
			issue = f
		}
		return issue == nil && ctx.Err() == nil
	})
	return issue, errors.Join(err, ctx.Err())
}

// whole checks that a message has the bytes that its record tells of.
func whole(msg *receipts.Message, rec *record.Record) error {
	sum := sha256.New()
	n, err := msg.WriteTo(sum)
	switch {
	case err != nil:
		return err
	case uint64(n) != rec.Size || !bytes.Equal(sum.Sum(nil), rec.Digest):
		return errors.New("it has other bytes than those that were issued")
	}
	return nil
}

// reproduced records that the holder of a mailbox is given an issued message.
// The record is about nobody else's mailbox: what a recipient reads is not the
// sender's to know.
func (a *API) reproduced(ctx context.Context, r *http.Request, mailbox, id string, issue *register.Found) (register.Appended, error) {
	now, marks, err := a.o.Now()
	if err != nil {
		return register.Appended{}, err
	}
	now = now.UTC().Truncate(time.Millisecond)
	if err := a.o.Register.Begin(now); err != nil {
		return register.Appended{}, err
	}
	detail := append(slices.Clone(marks), record.Pair{Name: "receipt", Value: id}, record.Pair{Name: "record", Value: strconv.FormatUint(issue.Index, 10)})
	rec := &record.Record{Kind: record.ReceiptReproduced, Time: now, MessageID: issue.Record.MessageID, OriginalID: issue.Record.OriginalID,
		Digest: issue.Record.Digest, Content: issue.Record.Content, Size: issue.Record.Size, Actor: mailbox, Peer: peerOf(r), Detail: record.SortDetail(detail)}
	var tx [16]byte
	rand.Read(tx[:])
	at, err := a.o.Register.Append(ctx, register.Entry{ID: record.MakeID(tx, 0, 0), Record: rec})
	if err != nil {
		return register.Appended{}, err
	}
	return at[0], nil
}

// matches says that If-None-Match names the entity tag (RFC 9110 §13.1.2).
func matches(h http.Header, etag string) bool {
	for _, v := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(v, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
