package pec

import "time"

// stamp is the one moment of a transaction in legal time, in the forms that its messages need (RFC 6109 sections 4.1
// and 4.2, with the "+0100" that providers write instead of "+01:00").
type stamp struct {
	day, clock, zone string // "23/11/2026", "10:15:30", "+0100"
	date             string // of the Date field, RFC 5322 section 3.3
}

func stampOf(t time.Time, legal *time.Location) stamp {
	t = t.In(legal)
	all := t.Format("02/01/2006" + "15:04:05" + "-0700" + "Mon, 02 Jan 2006 15:04:05 -0700")
	return stamp{day: all[:10], clock: all[10:18], zone: all[18:23], date: all[23:]}
}
