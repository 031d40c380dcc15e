package scan

import (
	"fmt"
	"strings"
	"time"
)

const maxVirusName = 128 // octets

// parseReply reads clamd's answer to INSTREAM: the virus's name, "" for none, or
// an error for everything that is no verdict.
func parseReply(reply string) (virus string, err error) {
	body, verdict := strings.CutPrefix(reply, "stream: ")
	if verdict && body == "OK" {
		return "", nil
	}
	if name, found := strings.CutSuffix(body, " FOUND"); verdict && found {
		if name = cleanName(name); name == "" {
			name = "unnamed"
		}
		return name, nil
	}
	if strings.Contains(reply, "size limit exceeded") {
		return "", ErrTooLarge
	}
	return "", fmt.Errorf("%w: it says %.200q", ErrUnavailable, reply)
}

// cleanName makes a virus's name fit for headers, certification data and records:
// printable ASCII without what delimits there.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"<>[]&`, r) {
			return '_'
		}
		return r
	}, strings.TrimSpace(name))
	return name[:min(len(name), maxVirusName)]
}

// Version is what clamd is and which signatures it has.
type Version struct {
	Engine string    // "ClamAV 1.4.6"
	Number string    // of the daily signatures, "" when it has none but local ones
	Date   time.Time // these were made; zero without them
}

// parseVersion reads clamd's answer to VERSION: engine, number and date of the
// daily signatures, in the local time of clamd's machine, which is taken for ours.
func parseVersion(reply string, local *time.Location) (Version, error) {
	engine, rest, dated := strings.Cut(reply, "/")
	if !strings.HasPrefix(engine, "ClamAV ") || len(engine) > 64 || cleanName(strings.ReplaceAll(engine, " ", "")) != strings.ReplaceAll(engine, " ", "") {
		return Version{}, fmt.Errorf("%w: its version is %.200q", ErrUnavailable, reply)
	}
	v := Version{Engine: engine}
	if !dated {
		return v, nil
	}
	number, date, _ := strings.Cut(rest, "/")
	at, err := time.ParseInLocation(time.ANSIC, date, local)
	if err != nil || number == "" || len(number) > 16 || strings.Trim(number, "0123456789") != "" {
		return Version{}, fmt.Errorf("%w: its version is %.200q", ErrUnavailable, reply)
	}
	v.Number, v.Date = number, at.UTC()
	return v, nil
}

// Age is how old the signatures are, and whether that is known.
func (v Version) Age(now time.Time) (age time.Duration, known bool) {
	if v.Date.IsZero() {
		return 0, false
	}
	return max(0, now.Sub(v.Date)), true
}

// Signatures says which signatures there are and how old, for records.
func (v Version) Signatures(now time.Time) string {
	age, known := v.Age(now)
	if !known {
		return "local ones of unknown age"
	}
	return fmt.Sprintf("%s of %s, %d hours old", v.Number, v.Date.Format(time.RFC3339), int(age/time.Hour))
}
