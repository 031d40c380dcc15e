package archive

import (
	"fmt"
	"strings"
	"time"
)

// Interval is what one package covers: from Start, included, to End, not
// included. Both are whole seconds in UTC, and no UTC midnight lies between
// them, so that it is at most 24 hours long.
type Interval struct{ Start, End time.Time }

// nameForm is how an instant stands in a package's name.
const nameForm = "20060102T150405Z"

// String is the name of the interval's package, such as
// "20261123T000000Z_20261124T000000Z".
func (i Interval) String() string {
	return i.Start.UTC().Format(nameForm) + "_" + i.End.UTC().Format(nameForm)
}

// ParseInterval reads the form of [Interval.String], and no other.
func ParseInterval(s string) (Interval, error) {
	from, to, _ := strings.Cut(s, "_")
	start, err := time.Parse(nameForm, from)
	if err != nil {
		return Interval{}, fmt.Errorf("%.80q is not the name of a package", s)
	}
	end, err := time.Parse(nameForm, to)
	if err != nil {
		return Interval{}, fmt.Errorf("%.80q is not the name of a package", s)
	}
	i := Interval{start, end}
	if i.String() != s {
		return Interval{}, fmt.Errorf("%.80q is not the name of a package", s)
	}
	return i, i.check()
}

// check refuses what is no interval of a closing.
func (i Interval) check() error {
	switch {
	case i.Start.Location() != time.UTC || i.End.Location() != time.UTC || i.Start.Nanosecond() != 0 || i.End.Nanosecond() != 0:
		return fmt.Errorf("interval %v: not whole seconds in UTC", i)
	case !i.Start.Before(i.End):
		return fmt.Errorf("interval %v: it ends before it begins", i)
	case i.End.After(nextMidnight(i.Start)):
		return fmt.Errorf("interval %v: a midnight lies within", i)
	}
	return nil
}

// midnight is the begin of the UTC day of t.
func midnight(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// nextMidnight is the end of the UTC day of t.
func nextMidnight(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}
