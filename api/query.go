package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"scripta/register"
	"scripta/register/index"
	"scripta/register/record"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	maxAddress   = 320 // bytes
	maxMessageID = 998 // bytes, a line of RFC 5322
	maxWords     = 998 // bytes
)

// messageQuery is what GET /v1/messages is asked.
type messageQuery struct {
	register.Query // without the mailbox
	limit          int
	after          *position // nil: from the start
}

// errParameter says which parameter is not valid, and why, for the client.
var errParameter = errors.New("bad parameter")

func badParameter(name, why string) error { return fmt.Errorf("%w %s: %s", errParameter, name, why) }

// parseMessageQuery reads a query string. Unknown and repeated parameters are
// errors, because to pass over a misspelt filter would give a wrong answer.
func parseMessageQuery(raw string) (q messageQuery, err error) {
	q.limit = defaultLimit
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, badParameter("string", "it is not percent-encoded correctly")
	}
	for name, v := range values {
		if len(v) != 1 {
			return q, badParameter(printable(name), "it stands there more than once")
		}
		switch name {
		case "from":
			q.From, err = parseTime(name, v[0])
		case "to":
			q.To, err = parseTime(name, v[0])
		case "counterpart":
			q.Counterpart, err = parseAddress(name, v[0])
		case "subject":
			q.Subject, err = parseWords(name, v[0])
		case "kind":
			q.Kinds, err = parseKind(name, v[0])
		case "message_id":
			q.MessageID, err = parseMessageID(name, v[0])
		case "receipt_id":
			q.Generated, err = parseMessageID(name, v[0])
		case "limit":
			if q.limit, err = strconv.Atoi(v[0]); err != nil || q.limit < 1 || q.limit > maxLimit || strconv.Itoa(q.limit) != v[0] {
				err = badParameter(name, fmt.Sprintf("it must be a number from 1 to %d", maxLimit))
			}
		case "cursor":
			var p position
			if p, err = parsePosition(v[0]); err == nil {
				q.after = &p
			}
		default:
			err = badParameter(printable(name), "there is no such parameter")
		}
		if err != nil {
			return q, err
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return q, badParameter("to", "it must be later than from")
	}
	return q, nil
}

// parseTime reads a time of RFC 3339 in the years that calendars have.
func parseTime(name, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 || t.IsZero() {
		return time.Time{}, badParameter(name, "it must be a time of RFC 3339, such as 2026-11-23T09:00:00Z (a + is written %2B)")
	}
	return t.UTC(), nil
}

func parseAddress(name, s string) (string, error) {
	if s == "" || len(s) > maxAddress || !clean(s) || strings.Count(s, "@") == 0 {
		return "", badParameter(name, "it must be a full address")
	}
	return strings.ToLower(s), nil
}

// parseWords reads words that are sought in subjects.
func parseWords(name, s string) (string, error) {
	if len(s) > maxWords || !utf8.ValidString(s) || len(index.Words(s)) == 0 {
		return "", badParameter(name, "it must be words, one of which has two letters or digits")
	}
	return s, nil
}

// parseKind reads the kind of an event of a message.
func parseKind(name, s string) ([]record.Kind, error) {
	k, ok := record.KindNamed(s)
	if !ok || !eventOfMessage(k) {
		return nil, badParameter(name, "there is no such kind of event of a message")
	}
	return []record.Kind{k}, nil
}

// parseMessageID reads a message identifier, with or without angle brackets.
func parseMessageID(name, s string) (string, error) {
	if s = strings.Trim(s, "<>"); s == "" || len(s) > maxMessageID || !clean(s) {
		return "", badParameter(name, "it must be a message identifier")
	}
	return s, nil
}

// identifier is the message identifier that a path names.
func identifier(c *gin.Context) (string, error) {
	id, err := url.PathUnescape(c.Param("id"))
	if err != nil {
		return "", badParameter("id", "it is not percent-encoded correctly")
	}
	return parseMessageID("id", id)
}

// clean says that a value has no characters that identifiers and addresses
// cannot have.
func clean(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// printable is a name that a client sent, as it may be repeated to him.
func printable(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most]
	}
	return strconv.QuoteToASCII(s)
}

// position is a place in the order in which a mailbox's records are listed: by
// month of their time, then by index.
type position struct {
	month uint16
	index uint64
}

const positionVersion = 1

// String is the position as a cursor: opaque for clients.
func (p position) String() string {
	b := binary.BigEndian.AppendUint16([]byte{positionVersion}, p.month)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, p.index))
}

func parsePosition(s string) (p position, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 11 || b[0] != positionVersion || base64.RawURLEncoding.EncodeToString(b) != s {
		return p, badParameter("cursor", "it is not one that an answer gave")
	}
	return position{binary.BigEndian.Uint16(b[1:]), binary.BigEndian.Uint64(b[3:])}, nil
}

func (p position) less(q position) bool {
	return p.month < q.month || p.month == q.month && p.index < q.index
}
