package retention

import (
	"sort"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Start is an abstract starting point of a deletion class (ISO/IEC 27555).
type Start string

// Starting points.
const (
	Collection         Start = "collection"
	EndOfProcess       Start = "end_of_process"
	EndOfRelationship  Start = "end_of_relationship"
	EndOfCalendarYear  Start = "end_of_calendar_year" // of the year that the event lies in
	EndOfFiscalYear    Start = "end_of_fiscal_year"   // of the fiscal year that the event lies in
	EndOfYearAfterYear Start = "end_of_calendar_year_of_fiscal_year"
)

// Starts lists every Start.
func Starts() []Start {
	return []Start{
		Collection, EndOfProcess, EndOfRelationship, EndOfCalendarYear, EndOfFiscalYear, EndOfYearAfterYear,
	}
}

// EndsYear reports whether the period starts at the end of a year and not on the day of the event itself.
func (s Start) EndsYear() bool {
	return s == EndOfCalendarYear || s == EndOfFiscalYear || s == EndOfYearAfterYear
}

// MonthDay is a date of every year: the last day of a fiscal year, such as 30 June. 29 February is the last day of
// February.
type MonthDay struct {
	Month time.Month
	Day   int
}

// Class is a deletion class: a regular deletion period counted from an abstract starting point.
type Class struct {
	Name       string
	Period     Period
	Start      Start
	FiscalYear MonthDay // last day of the fiscal year; the zero value is 31 December
	Minimum    Period   // statutory minimum, counted as Period is: nothing may go before; never above Period
	Grace      Period   // how long after its day a row may still be there before that is an alert
}

// Validate refuses a regular deletion period that would end, from any day, before the statutory minimum does: P365D is
// shorter than P1Y. The error is a *dsr.Error with CodeInvalid.
func (c Class) Validate() error {
	if c.Period.Covers(c.Minimum) {
		return nil
	}
	return &dsr.Error{
		Code: dsr.CodeInvalid,
		Msg:  "is longer than the regular deletion period " + c.Period.String() + ": data would go before the law allows it",
		Hint: "lengthen period to at least minimum; of days and months the shortest month and year count",
	}
}

// Statutory returns the class with its statutory minimum as its period, so that its days say from when on anything may go
// at all; false when there is no minimum.
func (c Class) Statutory() (Class, bool) {
	minimum := c.Minimum
	c.Period = minimum
	return c, minimum != (Period{})
}

// DeletableOn returns the start of the first local day on which a record may be deleted whose event (voucher date, end
// of process …) fell on day, in day's location. Starts at the end of a year count whole years from it, so the result is
// a first of January or the day after the fiscal year's end: a voucher of 2024-03-15 under P8Y from the end of the
// calendar year is deletable on 2033-01-01. A later day is never deletable earlier.
func (c Class) DeletableOn(day time.Time) time.Time {
	return startOf(c.deletable(dateOf(day)), day.Location())
}

// Cutoff returns where a sweep cuts on today: what starts before it is due, and what starts at or after it is not. It is
// the start of a local day in today's location, the controller's time zone, so that everything of one day becomes due
// together: DeletableOn(day) <= today if and only if the start of day is before Cutoff(today). An hour that a clock
// turned back repeats across midnight counts with the later day.
func (c Class) Cutoff(today time.Time) time.Time {
	return startOf(firstAfter(dateOf(today), c.longest(), c.deletable), today.Location())
}

// Overdue is the Cutoff of an alert: what starts before it was deletable so long ago that its grace has passed too.
func (c Class) Overdue(today time.Time) time.Time {
	late := func(day date) date { return c.Grace.after(c.deletable(day)) }
	return startOf(firstAfter(dateOf(today), c.longest()+c.Grace.longest(), late), today.Location())
}

// firstAfter returns the earliest day that due puts after today. due never decreases, never precedes its day, and adds
// at most span days.
func firstAfter(today date, span int, due func(date) date) date {
	first := today.add(-span)
	return first.add(sort.Search(span+1, func(n int) bool { return due(first.add(n)).after(today) }))
}

// longest is a bound on the days from an event to the day on which it may be deleted: the period, and at most two year
// ends before it.
func (c Class) longest() int { return c.Period.longest() + 2*366 }

func (c Class) deletable(day date) date {
	switch c.Start {
	case EndOfCalendarYear:
		day = dayAfterYear(day.year())
	case EndOfFiscalYear:
		day = c.fiscalEnd(day).add(1)
	case EndOfYearAfterYear:
		day = dayAfterYear(c.fiscalEnd(day).year())
	}
	return c.Period.after(day)
}

// fiscalEnd returns the last day of the fiscal year that contains day.
func (c Class) fiscalEnd(day date) date {
	end := c.FiscalYear
	if end.Month == 0 {
		end = MonthDay{time.December, 31}
	}
	if last := clamped(day.year(), end.Month, end.Day); !day.after(last) {
		return last
	}
	return clamped(day.year()+1, end.Month, end.Day)
}
