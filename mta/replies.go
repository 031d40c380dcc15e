package mta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"scripta/internal/keys"
	"scripta/mta/pec"
	"scripta/mta/rates"
	"scripta/register"
)

// reply is an answer of the SMTP dialog.
func reply(code int, class, subject, detail int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// The reply table: everything a client can be told, Italian first, in ASCII, each
// on one line of at most 512 octets (RFC 5321 §4.5.3.1.5), but for the server's
// own answers (mta/smtpd). Codes: RFC 5321 §4.2.3; enhanced codes: RFC 3463, RFC 4954, RFC 5248.
var (
	replyAuthFailed       = reply(535, 5, 7, 8, "Autenticazione fallita / Authentication failed")
	replyAuthRequired     = reply(530, 5, 7, 0, "Autenticazione necessaria / Authentication required")
	replySuspended        = reply(525, 5, 7, 13, "Casella sospesa: rivolgersi al gestore / Account suspended: contact the provider")
	replySendingSuspended = reply(550, 5, 7, 1, "Invio sospeso per questa casella: rivolgersi al gestore / Sending is suspended for this account: contact the provider")
	replyTooManyAuths     = reply(421, 4, 7, 0, "Troppe autenticazioni fallite / Too many failed authentications")
	replyTooManyLogins    = reply(421, 4, 7, 0, "Troppe connessioni di questa casella / Too many connections of this account")
	replyNotOwner         = reply(553, 5, 7, 1, "Il mittente non e' la casella autenticata / Sender address is not that of the authenticated user")
	replyBadAddress       = reply(553, 5, 1, 3, "Indirizzo scritto in una forma non ammessa / Address syntax not accepted")
	replyNoRelay          = reply(550, 5, 7, 1, "Sono serviti solo i destinatari di posta certificata / Only recipients of certified mail are served")
	replyBareControl      = reply(550, 5, 6, 11, "CR o LF isolati, o NUL, nel messaggio / Bare CR, bare LF or NUL in the message")
	replyBareBefore       = reply(421, 4, 5, 0, "Riconnettersi: il messaggio precedente aveva CR o LF isolati, o e' stato interrotto / Connect again: the message before had bare CR or LF, or was broken off")
	replyNested           = reply(503, 5, 5, 1, "Una transazione e' gia' aperta / A mail transaction is open already")
	replyHeaderTooBig     = reply(552, 5, 3, 4, "Intestazione del messaggio troppo grande / Message header too large")
	replyFactsTooBig      = reply(552, 5, 3, 4, "Destinatari o oggetto troppo lunghi / Recipients or subject too long")
	replyEmpty            = reply(550, 5, 6, 0, "Messaggio senza intestazione / Message without a header")
	replyTooBig           = reply(552, 5, 3, 4, "Messaggio oltre il limite dichiarato da SIZE / Message larger than the limit announced by SIZE")
	replyCutShort         = reply(451, 4, 4, 2, "Messaggio interrotto / Message cut short")
	replyNoSpace          = reply(452, 4, 3, 1, "Spazio insufficiente, riprovare piu' tardi / Insufficient system storage, try again later")
	replyNoTime           = reply(451, 4, 3, 0, "Riferimento temporale non disponibile, riprovare piu' tardi / No traceable time reference, try again later")
	replyBusy             = reply(451, 4, 3, 2, "Sistema occupato, riprovare piu' tardi / System busy, try again later")
	replyNotScanned       = reply(451, 4, 3, 0, "Controllo antivirus non disponibile, riprovare piu' tardi / Virus check not available, try again later")
	replyUnforeseen       = reply(451, 4, 3, 0, "Errore interno, riprovare piu' tardi / Local error in processing, try again later")
)

// What only other mail servers are told.
var (
	replyOwnSender    = reply(550, 5, 7, 1, "I mittenti di questo dominio inviano dal punto di accesso / Senders of this domain hand in at the Access Point")
	replyNoMailbox    = reply(550, 5, 1, 1, "Casella inesistente / No such mailbox")
	replyMailboxFull  = reply(452, 4, 2, 2, "Casella piena, riprovare piu' tardi / Mailbox full, try again later")
	replyOrdinary     = reply(550, 5, 7, 1, "Questa casella riceve solo posta elettronica certificata (PEC) / This mailbox takes certified mail (PEC) only")
	replyNotCertified = reply(554, 5, 7, 1, "Messaggio senza firma valida di un gestore PEC, per caselle che ricevono solo PEC / No valid signature of a PEC provider, for mailboxes that take certified mail only")
	replyTooManyRcpt  = reply(452, 4, 5, 3, "Troppi destinatari: gli altri in un'altra transazione / Too many recipients: the others in another transaction")
	replyNoRevocation = reply(451, 4, 7, 5, "Stato di revoca del certificato non disponibile, riprovare piu' tardi / Revocation status of the certificate not available, try again later")
	replySpam         = reply(554, 5, 7, 1, "Messaggio rifiutato: sembra posta indesiderata / Message refused: it looks like spam")
	replyInfected     = reply(554, 5, 7, 1, "Messaggio rifiutato: contiene un virus / Message refused: it contains a virus")
)

// replyFor is the one place that turns an error into what the client hears. What
// it does not know becomes 451 without internal text, and is logged.
func replyFor(err error, log *slog.Logger) error {
	var (
		known  *smtp.SMTPError
		over   *rates.Excess
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
	case errors.As(err, &over):
		log.Info("a message was put off: "+over.Error(), "limit", over.Limit)
		return replyOver(over)
	case errors.Is(err, pec.ErrHeaderTooLarge):
		return replyHeaderTooBig
	case errors.Is(err, register.ErrTooLarge):
		log.Error("a message was refused: its record would be too large", "err", err)
		return replyFactsTooBig
	case errors.Is(err, register.ErrBusy):
		log.Warn("a message was put off: too many records wait for the disk", "err", err)
		return replyBusy
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		log.Error("no space left: messages are refused until there is", "err", err)
		return replyNoSpace
	case errors.Is(err, errNotScanned):
		log.Error("messages are refused: they cannot be scanned for viruses", "err", err)
		return replyNotScanned
	case errors.As(err, &jumped):
		log.Error("messages are refused: the clock jumped, and a person must set it right or confirm the month", "err", jumped)
		return replyNoTime
	case errors.Is(err, errRevocationUnknown):
		log.Warn("a message was put off: whether its provider's certificate was revoked is not known", "err", err)
		return replyNoRevocation
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

// replyOver tells who is over a limit in time what of, and when there is room.
func replyOver(e *rates.Excess) error {
	it, en := "Troppe transazioni in un minuto", "Too many transactions in a minute"
	switch e.Limit {
	case rates.MessagesPerHour:
		it, en = "Troppi messaggi di questa casella in un'ora", "Too many messages of this account in an hour"
	case rates.RecipientsPerDay:
		it, en = "Troppi destinatari di questa casella in un giorno", "Too many recipients of this account in a day"
	}
	minutes := int(e.Wait/time.Minute) + 1
	return reply(451, 4, 7, 1, fmt.Sprintf("%s, riprovare tra %d min / %s, try again in %d min", it, minutes, en, minutes))
}
