package calendar

import (
	"testing"
	"time"
)

func day(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, Rome())
	if err != nil {
		panic(err)
	}
	return t
}

func TestHoliday(t *testing.T) {
	t.Parallel()
	c, err := New("12-07", false)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"2027-10-04 10:00": true, "2025-10-04 10:00": false, // San Francesco, since 2026
		"2026-04-06 10:00": true, "2027-03-29 10:00": true, "2040-04-02 10:00": true, // Easter Monday
		"2026-12-07 10:00": true, "2026-12-08 10:00": true, "2026-12-09 10:00": false,
		"1980-01-06 10:00": true /* a Sunday */, "1981-01-06 10:00": false, "1987-01-06 10:00": true,
		"2026-11-22 10:00": true /* Sunday */, "2026-11-21 10:00": false, "2000-06-02 10:00": false, "2001-06-02 10:00": true,
	} {
		if got := c.Holiday(day(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
	// 7 December 23:30 UTC is the 8th in Rome.
	if !new(Calendar).Holiday(time.Date(2026, 12, 7, 23, 30, 0, 0, time.UTC)) {
		t.Error("the day was taken in UTC")
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ from, want string }{
		{"2027-09-29 09:00", "2027-10-07 23:59"}, // over 4 October 2027, a Monday
		{"2026-11-23 23:59", "2026-11-30 23:59"},
		{"2026-11-21 10:00", "2026-11-27 23:59"}, // asked on a Saturday
		{"2026-12-23 10:00", "2026-12-31 23:59"}, // Christmas on a Friday, St Stephen's on a Saturday
		{"2027-03-24 10:00", "2027-04-01 23:59"}, // Easter 28 March, and the clock goes forward
	} {
		if got := new(Calendar).Due(day(x.from), 5); !got.Equal(day(x.want).Add(59 * time.Second)) {
			t.Errorf("5 working days after %s: %v, want %s", x.from, got, x.want)
		}
	}
	if got := (&Calendar{SaturdayIsWorking: true}).Due(day("2026-11-23 10:00"), 5); got.Day() != 28 {
		t.Errorf("with Saturdays: %v", got)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := New("7 dicembre", false); err == nil {
		t.Error("accepted")
	}
}

// Easter Sundays as published for these years.
func TestEaster(t *testing.T) {
	t.Parallel()
	for y, want := range map[int]string{2020: "04-12", 2021: "04-04", 2022: "04-17", 2023: "04-09", 2024: "03-31", 2025: "04-20", 2026: "04-05",
		2027: "03-28", 2028: "04-16", 2029: "04-01", 2030: "04-21", 2031: "04-13", 2032: "03-28", 2033: "04-17", 2034: "04-09", 2035: "03-25",
		2036: "04-13", 2037: "04-05", 2038: "04-25", 2039: "04-10", 2040: "04-01"} {
		m, d := easter(y)
		if got := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Format("01-02"); got != want {
			t.Errorf("%d: %s, want %s", y, got, want)
		}
	}
}
