package retention

import "time"

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

// MonthDay is a date of every year: the last day of a fiscal year, such as 30 June.
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
	Minimum    Period   // statutory minimum: nothing may go before; never above Period
	Grace      Period   // how long after its day a row may still be there before that is an alert
}

// DeletableOn returns the first local day on which a record may be deleted whose event (voucher date, end of process
// …) fell on day. Starts at the end of a year count whole years from it, so the day is a first of January or the day
// after the fiscal year's end: a voucher of 2024-03-15 under P8Y from the end of the calendar year is deletable on
// 2033-01-01.
func (c Class) DeletableOn(day time.Time) time.Time {
	y, m, d := day.Date()
	day = time.Date(y, m, d, 0, 0, 0, 0, day.Location())
	switch c.Start {
	case EndOfCalendarYear:
		day = dayAfterYear(y, day.Location())
	case EndOfFiscalYear:
		day = c.fiscalEnd(day).AddDate(0, 0, 1)
	case EndOfYearAfterYear:
		day = dayAfterYear(c.fiscalEnd(day).Year(), day.Location())
	}
	return c.Period.After(day)
}

func dayAfterYear(year int, loc *time.Location) time.Time {
	return time.Date(year+1, time.January, 1, 0, 0, 0, 0, loc)
}

// fiscalEnd returns the last day of the fiscal year that contains day.
func (c Class) fiscalEnd(day time.Time) time.Time {
	end := c.FiscalYear
	if end.Month == 0 {
		end = MonthDay{time.December, 31}
	}
	last := func(year int) time.Time {
		d := end.Day
		if n := time.Date(year, end.Month+1, 0, 0, 0, 0, 0, time.UTC).Day(); d > n {
			d = n
		}
		return time.Date(year, end.Month, d, 0, 0, 0, 0, day.Location())
	}
	if e := last(day.Year()); !day.After(e) {
		return e
	}
	return last(day.Year() + 1)
}
