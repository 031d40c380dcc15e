package keys

import (
	"fmt"
	"time"
)

// Month is a UTC month: year*12 + month-1. It reaches from the year 0 to
// April 5461.
type Month uint16

// maxYear is the last year of which every month fits.
const maxYear = 5460

// MonthOf returns the UTC month of t. Times before the year 0 and after the
// year 5460 give the first and the last month of that span, which no store
// opens without a person.
func MonthOf(t time.Time) Month {
	y, m, _ := t.UTC().Date()
	switch {
	case y < 0:
		return 0
	case y > maxYear:
		return maxYear*12 + 11
	}
	return Month(y*12 + int(m) - 1)
}

// ParseMonth reads the form of [Month.String], four digits, a hyphen and two
// digits.
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || len(s) != len("2006-01") || t.Year() > maxYear {
		return 0, fmt.Errorf("%q is not a month; write year and month as 2026-11", s)
	}
	return MonthOf(t), nil
}

// String returns the month as "2026-11".
func (m Month) String() string { return fmt.Sprintf("%04d-%02d", m/12, m%12+1) }

// Next returns the month after m.
func (m Month) Next() Month { return m + 1 }

// Start returns the first instant of the month, in UTC.
func (m Month) Start() time.Time {
	return time.Date(int(m/12), time.Month(m%12+1), 1, 0, 0, 0, 0, time.UTC)
}
