package config

import (
	"strings"
	"time"
)

// Duration is a [time.Duration] that the file holds as a Go duration in
// quotes: "250ms", "1h30m". It is a struct because the TOML decoder would
// read a bare number into an integer type, and nobody can tell seconds from
// milliseconds in it.
type Duration struct {
	time.Duration
	// bad says that text is no duration. It waits for Config.Check because an
	// error of UnmarshalText would lose its place in the file.
	bad  bool
	text string
}

// String returns the shortest form that parses back: "1h" and not "1h0m0s".
func (d Duration) String() string {
	if d.bad {
		return d.text
	}
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText returns the form of [Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [time.ParseDuration] does. It never fails: a text
// that is no duration is reported by [Config.Check].
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		*d = Duration{bad: true, text: string(text)}
		return nil
	}
	*d = Duration{Duration: v}
	return nil
}
