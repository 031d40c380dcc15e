package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// transactions sends the letter over a connection that is ready: in one transaction, or in several if the server takes
// only so many recipients in one (RFC 5321 §4.5.3.1.10). It returns what [attempt.talk] does.
func (a *attempt) transactions(ctx context.Context, c *session, recipients []string) *Answer {
	for len(recipients) > 0 {
		more, ans := a.transaction(ctx, c, recipients)
		if ans != nil {
			return ans
		}
		recipients = more
	}
	return nil
}

// transaction sends the letter once. more are recipients that the server had no room for in this transaction; it took
// others.
func (a *attempt) transaction(ctx context.Context, c *session, recipients []string) (more []string, other *Answer) {
	l := a.letter
	all := func(ans Answer) {
		a.reached = true
		ans.Hop = c.hop
		a.settle(recipients, ans)
		c.quit()
	}
	elsewhere := func(doing string, rep reply, err error) (more []string, other *Answer) {
		if ctx.Err() != nil { // we are stopping: nobody's fault, and no answer
			return nil, nil
		}
		ans := judged(&rep, 0)
		if err != nil {
			ans = trouble(doing, err)
		}
		ans.Hop = c.hop
		return nil, &ans
	}
	if size, err := strconv.ParseInt(c.ext["SIZE"], 10, 64); err == nil && size > 0 && l.Size > size {
		all(Answer{State: Refused, Enhanced: "5.3.4", Text: fmt.Sprintf("the message has %d octets, and the server takes %d", l.Size, size)})
		return nil, nil
	}
	if l.EightBit && !c.offers("8BITMIME") {
		// Never recoded: the signature is over these octets.
		all(Answer{State: Refused, Enhanced: "5.6.3", Text: "the message has 8-bit octets, which the server does not take (no 8BITMIME)"})
		return nil, nil
	}
	body, err := a.open(ctx, l)
	if err != nil {
		if ctx.Err() == nil {
			all(ownFault(err))
		}
		return nil, nil
	}
	defer body.Close()

	mail := "MAIL FROM:<" + l.From + ">"
	if l.Size > 0 && c.offers("SIZE") {
		mail += fmt.Sprintf(" SIZE=%d", l.Size)
	}
	if l.EightBit {
		mail += " BODY=8BITMIME"
	}
	rep, err := c.say(a.times.Mail, mail)
	if err != nil || rep.code == 421 {
		return elsewhere("MAIL", rep, err)
	}
	if rep.class() != 2 && c.uses > 0 { // it may be that it takes one message over a connection; a new one tells
		return elsewhere("MAIL", rep, nil)
	}
	a.reached = true
	if rep.class() != 2 {
		all(judged(&rep, 2))
		return nil, nil
	}
	var taken []string
	for _, rcpt := range recipients {
		rep, err := c.say(a.times.Recipient, "RCPT TO:<"+rcpt+">")
		if err != nil || rep.code == 421 {
			return elsewhere("RCPT", rep, err)
		}
		ans := judged(&rep, 2)
		switch {
		case ans.State == Taken:
			taken = append(taken, rcpt)
			continue
		case tooMany(&rep):
			more = append(more, rcpt)
			ans.State = Deferred
		}
		ans.Hop = c.hop
		a.settle([]string{rcpt}, ans)
	}
	if len(taken) == 0 {
		c.quit()
		return nil, nil
	}
	forTaken := func(ans Answer) {
		ans.Hop = c.hop
		a.settle(taken, ans)
	}
	rep, err = c.say(a.times.Data, "DATA")
	if err != nil || rep.code == 421 {
		return elsewhere("DATA", rep, err)
	}
	if rep.code != 354 {
		forTaken(judged(&rep, 0))
		c.quit()
		return nil, nil
	}
	if err := copyMessage(c.w, body, l.Size); err != nil {
		if ctx.Err() == nil {
			forTaken(a.cut(c, err))
		}
		return nil, nil // without the final dot the server drops what it got
	}
	rep, err = c.hear(a.times.End)
	if err != nil {
		// Nobody knows whether it was taken: it is sent again, with the same Message-ID.
		if ctx.Err() == nil {
			forTaken(trouble("waiting for the answer to the message", err))
		}
		return nil, nil
	}
	ans := judged(&rep, 2)
	forTaken(ans)
	if ans.State != Taken {
		c.quit()
		return nil, nil
	}
	c.uses++
	c.reusable = len(more) == 0
	return more, nil
}

// tooMany says that a reply to RCPT is about how many recipients one transaction may have. A few servers say 552, which
// is to be taken for 452 then (RFC 5321 §4.5.3.1.10).
func tooMany(rep *reply) bool {
	switch rep.code {
	case 452:
		return rep.enhanced == "" || strings.HasSuffix(rep.enhanced, ".5.3")
	case 552:
		return strings.HasSuffix(rep.enhanced, ".5.3")
	}
	return false
}

// cut is the answer about a message whose sending broke off. A server that has heard enough may have said why.
func (a *attempt) cut(c *session, err error) Answer {
	var ours *messageError
	switch {
	case errors.Is(err, errOctets):
		return Answer{State: Refused, Enhanced: "5.6.11", Text: "the message has a line end that is not CRLF, or a NUL: it cannot be sent as it was signed"}
	case errors.As(err, &ours):
		return ownFault(ours)
	}
	if rep, herr := c.hear(min(a.times.End, 5*time.Second)); herr == nil && slices.Contains([]int{4, 5}, rep.class()) {
		return judged(&rep, 0)
	}
	return trouble("sending the message", err)
}

// ownFault is the answer when it is we who cannot read the message.
func ownFault(err error) Answer {
	return Answer{State: Deferred, Enhanced: "4.3.0", Text: printable(err.Error(), maxReplyText)}
}
