package mta

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/emersion/go-smtp"

	"scripta/internal/keys"
	"scripta/mta/pec"
)

// reply is an answer of the SMTP dialog.
func reply(code int, class, subject, detail int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// The reply table: everything a client can be told, but for go-smtp's own
// answers to syntax (RFC 5321 §4.2.3) and 250. Enhanced codes: RFC 3463, RFC 4954.
var (
	replyAuthFailed    = reply(535, 5, 7, 8, "Authentication failed")
	replyAuthRequired  = reply(530, 5, 7, 0, "Authentication required")
	replyTooManyAuths  = reply(421, 4, 7, 0, "Too many failed authentications")
	replyTooManyLogins = reply(421, 4, 7, 0, "Too many connections of this account")
	replyNotOwner      = reply(553, 5, 7, 1, "Sender address rejected: not owned by the authenticated user")
	replyBadAddress    = reply(553, 5, 1, 3, "Address syntax not accepted")
	replyNoRelay       = reply(550, 5, 7, 1, "Only recipients of this provider are served: what cannot be forwarded is not certified")
	replyBareControl   = reply(550, 5, 6, 11, "Bare CR, bare LF or NUL in the message")
	replyHeaderTooBig  = reply(552, 5, 3, 4, "Message header too large")
	replyEmpty         = reply(550, 5, 6, 0, "Message without a header")
	replyTooBig        = reply(552, 5, 3, 4, "Message larger than the limit announced by SIZE")
	replyCutShort      = reply(451, 4, 4, 2, "Message cut short")
	replyNoSpace       = reply(452, 4, 3, 1, "Insufficient system storage, try again later")
	replyNoTime        = reply(451, 4, 3, 0, "No traceable time reference at the moment, try again later")
	replyUnforeseen    = reply(451, 4, 3, 0, "Local error in processing, try again later")
)

// replyFor is the one place that turns an error into what the client hears. What
// it does not know becomes 451 without internal text, and is logged.
func replyFor(err error, log *slog.Logger) error {
	var (
		known  *smtp.SMTPError
		jumped *keys.MonthError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		if known == smtp.ErrDataTooLarge {
			return replyTooBig
		}
		return known
	case errors.Is(err, pec.ErrHeaderTooLarge):
		return replyHeaderTooBig
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		log.Error("no space left: messages are refused until there is", "err", err)
		return replyNoSpace
	case errors.As(err, &jumped):
		log.Error("messages are refused: the clock jumped, and a person must set it right or confirm the month", "err", jumped)
		return replyNoTime
	case errors.Is(err, errUntrustedTime):
		log.Error("messages are refused: the time is not traceable", "err", err)
		return replyNoTime
	case errors.Is(err, context.Canceled), errors.Is(err, smtp.ErrDataReset), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrDeadlineExceeded):
		log.Info("a client went away, or was too slow, before the end of its message", "err", err)
		return replyCutShort
	}
	log.Error("a message was put off with 451", "err", err)
	return replyUnforeseen
}
