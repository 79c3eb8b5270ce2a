package dsr

import "time"

// Calendar knows the working days of the controller's state.
type Calendar interface {
	// Workday reports whether a local day is neither Saturday, Sunday nor a public holiday.
	Workday(day time.Time) bool
}

// StartClock starts the clock of a Request received at an instant: one month (GDPR Art. 12(3)) from the local date of
// receipt, which is not counted itself (Regulation 1182/71 Art. 3).
func StartClock(received time.Time, zone *time.Location, cal Calendar) Clock {
	c := Clock{Received: localDay(received, zone)}
	c.count(cal)
	return c
}

// Extend adds the two further months of Art. 12(3). Of the two readings, three months from receipt or two months from
// the first due date, the earlier is taken, and only the final date is moved to a working day.
func (c *Clock) Extend(cal Calendar) {
	c.Extended = true
	c.count(cal)
}

// Pause stops the clock on the local date of at. Pausing a paused clock changes nothing.
func (c *Clock) Pause(at time.Time, reason string, cal Calendar) {
	if c.Paused() {
		return
	}
	c.Pauses = append(c.Pauses, Pause{From: localDay(at, c.Received.Location()), Reason: reason})
	c.count(cal)
}

// Resume starts it again; the days of the pause are added to the due date.
func (c *Clock) Resume(at time.Time, cal Calendar) {
	if !c.Paused() {
		return
	}
	to := localDay(at, c.Received.Location())
	c.Pauses[len(c.Pauses)-1].To = &to
	c.count(cal)
}

// Paused reports whether the clock stands still.
func (c *Clock) Paused() bool {
	return len(c.Pauses) > 0 && c.Pauses[len(c.Pauses)-1].To == nil
}

// FirstDue is the unextended due date, by which a refusal (Art. 12(4)) and the notice of an extension are due. It
// counts pauses.
func (c *Clock) FirstDue(cal Calendar) time.Time {
	return nextWorkday(addMonths(c.Received, 1).AddDate(0, 0, c.pausedDays()), cal)
}

func (c *Clock) count(cal Calendar) {
	end := addMonths(c.Received, 1)
	if c.Extended {
		end = addMonths(end, 2)
		if whole := addMonths(c.Received, 3); whole.Before(end) {
			end = whole
		}
	}
	c.DueUnpaused = nextWorkday(end, cal)
	c.Due = nextWorkday(end.AddDate(0, 0, c.pausedDays()), cal)
}

// pausedDays counts the days of the pauses that have ended; a pause that lasts is counted when it ends.
func (c *Clock) pausedDays() int {
	days := 0
	for _, p := range c.Pauses {
		if p.To != nil {
			days += int(dayNumber(*p.To) - dayNumber(p.From))
		}
	}
	return days
}

func localDay(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, zone)
}

// dayNumber counts calendar days, so that a day of 23 or 25 hours is one day.
func dayNumber(t time.Time) int64 {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

// addMonths returns the same date n months later, or the last day of that month when there is no such date
// (Regulation 1182/71 Art. 3(2)(c)). It is not sticky: 28 February leads to 28 March.
func addMonths(day time.Time, n int) time.Time {
	y, m, d := day.Date()
	last := time.Date(y, m+time.Month(n)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Date(y, m+time.Month(n), min(d, last), 0, 0, 0, 0, day.Location())
}

// nextWorkday moves the end of a period off Saturdays, Sundays and public holidays (Regulation 1182/71 Art. 3(4)).
func nextWorkday(day time.Time, cal Calendar) time.Time {
	for !cal.Workday(day) {
		day = day.AddDate(0, 0, 1)
	}
	return day
}
