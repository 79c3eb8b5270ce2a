package retention_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

var june = retention.MonthDay{Month: time.June, Day: 30}

func TestDeletableOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		class retention.Class
		event string
		want  string
	}{
		"German voucher":        {retention.Class{Period: retention.Period{Years: 8}, Start: retention.EndOfCalendarYear}, "2024-03-15", "2033-01-01"},
		"last day of the year":  {retention.Class{Period: retention.Period{Years: 8}, Start: retention.EndOfCalendarYear}, "2024-12-31", "2033-01-01"},
		"first day of the next": {retention.Class{Period: retention.Period{Years: 8}, Start: retention.EndOfCalendarYear}, "2025-01-01", "2034-01-01"},
		"Swedish fiscal year":   {retention.Class{Period: retention.Period{Years: 7}, Start: retention.EndOfYearAfterYear, FiscalYear: june}, "2024-06-30", "2032-01-01"},
		"next fiscal year":      {retention.Class{Period: retention.Period{Years: 7}, Start: retention.EndOfYearAfterYear, FiscalYear: june}, "2024-07-01", "2033-01-01"},
		"no fiscal year given":  {retention.Class{Period: retention.Period{Years: 7}, Start: retention.EndOfYearAfterYear}, "2024-07-01", "2032-01-01"},
		"fiscal year end":       {retention.Class{Period: retention.Period{Years: 1}, Start: retention.EndOfFiscalYear, FiscalYear: june}, "2024-06-30", "2025-07-01"},
		"fiscal year ends in a leap February": {
			retention.Class{Period: retention.Period{Years: 1}, Start: retention.EndOfFiscalYear, FiscalYear: retention.MonthDay{Month: time.February, Day: 29}},
			"2024-02-29", "2025-03-01",
		},
		"fiscal year ends in a common February": {
			retention.Class{Period: retention.Period{Years: 1}, Start: retention.EndOfFiscalYear, FiscalYear: retention.MonthDay{Month: time.February, Day: 29}},
			"2025-03-01", "2027-03-01",
		},
		"leap day":                 {retention.Class{Period: retention.Period{Years: 1}, Start: retention.Collection}, "2024-02-29", "2025-02-28"},
		"leap day to leap day":     {retention.Class{Period: retention.Period{Years: 4}, Start: retention.Collection}, "2024-02-29", "2028-02-29"},
		"month end is not skipped": {retention.Class{Period: retention.Period{Months: 1}, Start: retention.Collection}, "2025-01-31", "2025-02-28"},
		"months before days":       {retention.Class{Period: retention.Period{Months: 1, Days: 1}, Start: retention.Collection}, "2025-01-31", "2025-03-01"},
		"months beyond a year":     {retention.Class{Period: retention.Period{Months: 18}, Start: retention.EndOfProcess}, "2024-08-31", "2026-02-28"},
		"no period":                {retention.Class{Start: retention.EndOfRelationship}, "2024-08-31", "2024-08-31"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.class.DeletableOn(date(t, c.event)).Format(time.DateOnly))
		})
	}
}

func TestCutoff(t *testing.T) {
	t.Parallel()
	year := retention.Class{Period: retention.Period{Years: 1}, Start: retention.Collection}
	month := retention.Class{Period: retention.Period{Months: 1}, Start: retention.Collection}
	accounting := retention.Class{Period: retention.Period{Years: 7}, Start: retention.EndOfYearAfterYear, FiscalYear: june}
	for name, c := range map[string]struct {
		class retention.Class
		zone  string
		today string
		want  string
	}{
		"the day itself is due":                  {year, "Europe/Stockholm", "2025-05-10T00:00", "2024-05-11T00:00:00+02:00"},
		"whatever the hour":                      {year, "Europe/Stockholm", "2025-05-10T23:59", "2024-05-11T00:00:00+02:00"},
		"28 February takes the leap day with it": {year, "Europe/Stockholm", "2025-02-28T12:00", "2024-03-01T00:00:00+01:00"},
		"27 February does not":                   {year, "Europe/Stockholm", "2025-02-27T12:00", "2024-02-28T00:00:00+01:00"},
		"a short month takes four days at once":  {month, "Europe/Stockholm", "2025-02-28T12:00", "2025-02-01T00:00:00+01:00"},
		"nothing new on the first of January":    {accounting, "Europe/Stockholm", "2031-12-31T12:00", "2023-07-01T00:00:00+02:00"},
		"a whole fiscal year in one day":         {accounting, "Europe/Stockholm", "2032-01-01T00:00", "2024-07-01T00:00:00+02:00"},
		"midnight that does not exist":           {year, "America/Sao_Paulo", "2019-11-03T12:00", "2018-11-04T01:00:00-02:00"},
		"a midnight that comes twice":            {year, "America/Havana", "2025-11-01T12:00", "2024-11-02T00:00:00-04:00"},
		"the first of the two":                   {year, "America/Havana", "2025-11-02T12:00", "2024-11-03T00:00:00-04:00"},
		"a day that was left out":                {year, "Pacific/Apia", "2012-12-29T12:00", "2011-12-31T00:00:00+14:00"},
		"east of everybody":                      {year, "Pacific/Kiritimati", "2025-01-01T00:00", "2024-01-02T00:00:00+14:00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(c.zone)
			require.NoError(t, err)
			today, err := time.ParseInLocation("2006-01-02T15:04", c.today, zone)
			require.NoError(t, err)
			require.Equal(t, c.want, c.class.Cutoff(today).Format(time.RFC3339))
		})
	}
}

// zones are those whose clocks do what breaks calendar arithmetic: midnights that do not exist or come twice, a clock put
// back a minute after midnight, days left out, half hours.
var zones = []string{
	"UTC", "Europe/Stockholm", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Asia/Beirut", "Pacific/Apia",
	"Pacific/Kiritimati", "Asia/Tehran", "Australia/Lord_Howe", "America/Asuncion", "Africa/Cairo", "Asia/Gaza",
}

func drawPeriod(t *rapid.T, label string) retention.Period {
	return retention.Period{
		Years:  rapid.IntRange(0, 12).Draw(t, label+" years"),
		Months: rapid.IntRange(0, 30).Draw(t, label+" months"),
		Days:   rapid.IntRange(0, 400).Draw(t, label+" days"),
	}
}

func drawClass(t *rapid.T) retention.Class {
	month := time.Month(rapid.IntRange(1, 12).Draw(t, "fiscal month"))
	return retention.Class{
		Period: drawPeriod(t, "period"),
		Start:  rapid.SampledFrom(retention.Starts()).Draw(t, "from"),
		Grace:  drawPeriod(t, "grace"),
		FiscalYear: rapid.SampledFrom([]retention.MonthDay{
			{}, june, {Month: month, Day: rapid.IntRange(1, time.Date(2024, month+1, 0, 0, 0, 0, 0, time.UTC).Day()).Draw(t, "fiscal day")},
		}).Draw(t, "fiscal year"),
	}
}

// drawDay draws a day: any, or one of those on which calendars differ.
func drawDay(t *rapid.T, label string) time.Time {
	year := rapid.IntRange(1990, 2060).Draw(t, label+" year")
	day := rapid.IntRange(0, 365).Draw(t, label+" day")
	if rapid.Bool().Draw(t, label+" special") {
		special := []int{30, 58, 59, 60, 180, 181, 364, 365} // month ends, the leap day, the fiscal year's end, New Year
		day = rapid.SampledFrom(special).Draw(t, label+" special day")
	}
	return time.Date(year, time.January, 1+day, 0, 0, 0, 0, time.UTC)
}

// dayStart finds the start of a local day by walking the clock, quarter of an hour by quarter of an hour, and then back
// to the second; nothing of it is shared with the code under test.
func dayStart(day time.Time, zone *time.Location) time.Time {
	want := day.Format(time.DateOnly)
	at := day.Add(-26 * time.Hour)
	for at.In(zone).Format(time.DateOnly) < want {
		at = at.Add(15 * time.Second)
	}
	return at.In(zone)
}

// TestDueInBothDirections is property 15 of the domain: what is deletable today lies before the cut-off, and nothing else
// does.
func TestDueInBothDirections(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		c := drawClass(t)
		local := drawDay(t, "today")
		today := dayStart(local, zone).Add(time.Duration(rapid.IntRange(0, 22*3600).Draw(t, "second")) * time.Second)
		if got, want := today.Format(time.DateOnly), local.Format(time.DateOnly); got != want {
			t.Skip("a day that this zone left out")
		}
		cutoff := c.Cutoff(today)
		// Around the day that Cutoff names, around the event whose day is today, and anywhere.
		for _, near := range []time.Time{cutoff, today, drawDay(t, "event")} {
			y, m, d := near.Date()
			for offset := -2; offset <= 2; offset++ {
				day := time.Date(y, m, d+offset, 0, 0, 0, 0, time.UTC)
				start := dayStart(day, zone)
				if start.Format(time.DateOnly) != day.Format(time.DateOnly) {
					continue // left out in this zone
				}
				due := !c.DeletableOn(start).After(today)
				if due != start.Before(cutoff) {
					t.Fatalf("%s: event on %s: deletable on %s, today %s, cut-off %s", zone, start, c.DeletableOn(start), today, cutoff)
				}
			}
		}
	})
}

func TestCutoffIsTheStartOfADay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		c := drawClass(t)
		at := c.Cutoff(dayStart(drawDay(t, "today"), zone))
		y, m, d := at.Date()
		require.Equal(t, dayStart(time.Date(y, m, d, 0, 0, 0, 0, time.UTC), zone).Unix(), at.Unix(), "%s", at)
		require.Equal(t, zone, at.Location())
	})
}

func TestNeitherGoesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		c := drawClass(t)
		day := drawDay(t, "day")
		later := day.AddDate(0, 0, rapid.IntRange(0, 800).Draw(t, "later"))
		a, b := dayStart(day, zone), dayStart(later, zone)
		require.False(t, c.DeletableOn(a).After(c.DeletableOn(b)), "deletable: %s, %s", a, b)
		require.False(t, c.Cutoff(a).After(c.Cutoff(b)), "cut-off: %s, %s", a, b)
		require.False(t, c.DeletableOn(a).Before(a), "before the event")
		require.False(t, c.Overdue(a).After(c.Cutoff(a)), "overdue before due")
	})
}

// TestOverdue: grace counts from the day on which a record was deletable, not from the event.
func TestOverdue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, today := drawClass(t), drawDay(t, "today")
		at := c.Overdue(today)
		for _, day := range []time.Time{at.AddDate(0, 0, -1), at} {
			late := !c.Grace.After(c.DeletableOn(day)).After(today)
			require.Equal(t, day.Before(at), late, "%s", day)
		}
	})
}

func TestMinimum(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		period, minimum string
		ok              bool
	}{
		{"P1Y", "P0D", true},
		{"P7Y", "P7Y", true},
		{"P7Y", "P7Y1D", false},
		{"P12M", "P1Y", true},
		{"P1Y", "P12M", true},
		{"P365D", "P1Y", false},
		{"P366D", "P1Y", true},
		{"P30D", "P1M", false},
		{"P31D", "P1M", true},
		{"P1M", "P28D", true},
		{"P1M", "P29D", false},
		{"P11M31D", "P1Y", true},
		{"P11M30D", "P1Y", false},
		{"P1461D", "P4Y", true},
		{"P1460D", "P4Y", false},
		{"P2W", "P14D", true},
	} {
		t.Run(c.period+" "+c.minimum, func(t *testing.T) {
			t.Parallel()
			period, err := retention.ParsePeriod(c.period)
			require.NoError(t, err)
			minimum, err := retention.ParsePeriod(c.minimum)
			require.NoError(t, err)
			err = retention.Class{Period: period, Minimum: minimum}.Validate()
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
		})
	}
}

// TestNothingBeforeTheMinimum: whatever Validate takes never deletes earlier than the minimum alone would.
func TestNothingBeforeTheMinimum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawClass(t)
		c.Minimum = drawPeriod(t, "minimum")
		if rapid.Bool().Draw(t, "near") {
			c.Minimum = c.Period
			c.Minimum.Days = max(0, c.Minimum.Days+rapid.IntRange(-40, 40).Draw(t, "days"))
			c.Minimum.Months = max(0, c.Minimum.Months-rapid.IntRange(0, 1).Draw(t, "months"))
		}
		lawful := c
		lawful.Period = c.Minimum
		day := drawDay(t, "day")
		if early := c.DeletableOn(day).Before(lawful.DeletableOn(day)); early {
			require.Error(t, c.Validate(), fmt.Sprint(c, day))
		}
	})
}

func TestStartsThatEndAYear(t *testing.T) {
	t.Parallel()
	for _, s := range retention.Starts() {
		day := date(t, "2024-03-15")
		c := retention.Class{Start: s}
		require.Equal(t, s.EndsYear(), c.DeletableOn(day).After(day), s)
	}
}
