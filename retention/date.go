package retention

import (
	"sort"
	"time"
)

// date is a day of the calendar, without a time zone: midnight of that day in UTC. All arithmetic is done on dates, since
// a local midnight may not exist or come twice; only a result is turned into an instant, by startOf.
type date struct{ t time.Time }

// dateOf returns the day that t falls on in its own location.
func dateOf(t time.Time) date {
	y, m, d := t.Date()
	return newDate(y, m, d)
}

// newDate normalises as time.Date does: 32 January is 1 February.
func newDate(year int, month time.Month, day int) date {
	return date{time.Date(year, month, day, 0, 0, 0, 0, time.UTC)}
}

// clamped returns the day of a month, or the month's last day where it has no such day. Months above 12 are of the years
// that follow.
func clamped(year int, month time.Month, day int) date {
	return newDate(year, month, min(day, newDate(year, month+1, 0).t.Day()))
}

func dayAfterYear(year int) date { return newDate(year+1, time.January, 1) }

func (d date) year() int             { return d.t.Year() }
func (d date) add(days int) date     { return date{d.t.AddDate(0, 0, days)} }
func (d date) after(other date) bool { return d.t.After(other.t) }

// startOf returns the first instant in loc at which the local date is d or later. That is midnight, but for days that
// begin at one o'clock because the clock is put forward at midnight (Brazil until 2018), and for days that a country left
// out (Samoa, 30 December 2011).
//
// It walks the hours around midnight rather than asking Time.ZoneBounds, whose end lies in the past on the last day of
// leap years beyond a zone's table.
func startOf(d date, loc *time.Location) time.Time {
	// A day earlier it is before midnight in every zone: no offset reaches 24 hours.
	at := d.t.Add(-24 * time.Hour)
	for {
		_, offset := at.In(loc).Zone()
		midnight := d.t.Add(-time.Duration(offset) * time.Second)
		if midnight.Before(at) {
			midnight = at // the clock was put forward across it
		}
		// The next change of the clock, to the second, or the end of the hour.
		next := at.Add(time.Second * time.Duration(sort.Search(3600, func(n int) bool {
			_, then := at.Add(time.Duration(n) * time.Second).In(loc).Zone()
			return then != offset
		})))
		if midnight.Before(next) {
			return midnight.In(loc)
		}
		at = next
	}
}
