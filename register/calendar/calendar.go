// Package calendar counts Italian working days, in which the due date of a log
// extract is promised.
//
// Holidays are those of L. 260/1949 as amended: Sundays, twelve fixed days and
// Easter Monday, each with the years in which it holds. 4 October is one since
// 2026 (L. 8 October 2025 n. 151). The patron's day of the provider's seat and
// whether Saturday counts are configuration: by law Saturday is a working day,
// in contracts it usually is not.
//
// Days are civil days in Europe/Rome, whatever the location of the time given.
package calendar

import (
	"fmt"
	"time"
	_ "time/tzdata" // a machine without zone files counts the same days
)

// Calendar counts working days. The zero value has no patron's day and does not
// work on Saturdays.
type Calendar struct {
	PatronMonth       time.Month // 0: none
	PatronDay         int
	SaturdayIsWorking bool
}

// New reads the configuration's patron day, MM-DD or empty.
func New(patron string, saturdayIsWorking bool) (*Calendar, error) {
	c := &Calendar{SaturdayIsWorking: saturdayIsWorking}
	if patron == "" {
		return c, nil
	}
	t, err := time.Parse("2006-01-02", "2000-"+patron)
	if err != nil {
		return nil, fmt.Errorf("the patron's day %q is not MM-DD, such as 12-07", patron)
	}
	c.PatronMonth, c.PatronDay = t.Month(), t.Day()
	return c, nil
}

// Rome is the legal time zone of Italy.
func Rome() *time.Location {
	l, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		panic(err) // time/tzdata is linked in
	}
	return l
}

// fixed holidays, with the first and last years in which they hold (0: no bound).
var fixed = []struct {
	month    time.Month
	day      int
	from, to int
}{
	{time.January, 1, 0, 0},
	{time.January, 6, 0, 1976}, // abolished by L. 54/1977,
	{time.January, 6, 1986, 0}, // and restored by DPR 792/1985
	{time.April, 25, 0, 0},
	{time.May, 1, 0, 0},
	{time.June, 2, 0, 1976}, // moved to a Sunday by L. 54/1977,
	{time.June, 2, 2001, 0}, // and restored by L. 336/2000
	{time.August, 15, 0, 0},
	{time.October, 4, 2026, 0}, // L. 151/2025
	{time.November, 1, 0, 0},
	{time.December, 8, 0, 0},
	{time.December, 25, 0, 0},
	{time.December, 26, 0, 0},
}

// Holiday reports whether t's civil day in Rome is a holiday: a Sunday, a
// national holiday, Easter Monday or the patron's day.
func (c *Calendar) Holiday(t time.Time) bool {
	t = t.In(Rome())
	y, m, d := t.Date()
	if t.Weekday() == time.Sunday || (m == c.PatronMonth && d == c.PatronDay) {
		return true
	}
	for _, h := range fixed {
		if m == h.month && d == h.day && y >= h.from && (h.to == 0 || y <= h.to) {
			return true
		}
	}
	em, ed := easter(y)
	monday := time.Date(y, em, ed+1, 0, 0, 0, 0, time.UTC)
	return m == monday.Month() && d == monday.Day()
}

// Working reports whether t's civil day in Rome is a working day.
func (c *Calendar) Working(t time.Time) bool {
	return !c.Holiday(t) && (c.SaturdayIsWorking || t.In(Rome()).Weekday() != time.Saturday)
}

// Due returns the end of the n-th working day after t: 23:59:59 in Rome. The day
// of t itself is not counted (art. 2963 of the civil code).
func (c *Calendar) Due(t time.Time, n int) time.Time {
	y, m, d := t.In(Rome()).Date()
	for n > 0 {
		d++
		if c.Working(time.Date(y, m, d, 12, 0, 0, 0, Rome())) {
			n--
		}
	}
	return time.Date(y, m, d, 23, 59, 59, 0, Rome())
}

// easter returns the month and day of Easter Sunday in the Gregorian calendar
// (Meeus, Jones, Butcher).
func easter(y int) (time.Month, int) {
	a, b, c := y%19, y/100, y%100
	d, e := b/4, b%4
	f := (b + 8) / 25
	g := (b - f + 1) / 3
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 22*l) / 451
	n := h + l - 7*m + 114
	return time.Month(n / 31), n%31 + 1
}
