package engine

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/lethe-gdpr/lethe/dsr"
)

// schedule is a cron expression that is read by the wall clock of a time zone.
type schedule struct {
	text string
	cron *cron.SpecSchedule
	zone *time.Location
}

// parseSchedule reads the five fields of cron, or @daily and its like. Intervals (@every) know no time of day, and a
// zone of its own would be another than the cut-offs are made in: both are refused, and so is a time that never comes.
func parseSchedule(text string, zone *time.Location) (*schedule, error) {
	parsed, err := cron.ParseStandard(text)
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok || strings.Contains(text, "TZ=") {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "retention.schedule", Msg: "is not a cron expression",
			Hint: `five fields in the controller's time zone, such as "30 2 * * *"`,
		}
	}
	spec.Location = time.UTC
	if spec.Next(time.Date(2023, time.March, 1, 0, 0, 0, 0, time.UTC)).IsZero() { // a leap day comes next year
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "retention.schedule", Msg: "never comes: no year has such a day", Hint: `write for example "30 2 * * *"`,
		}
	}
	return &schedule{text: text, cron: spec, zone: zone}, nil
}

// next returns the first time of the schedule after an instant; zero when there is none within five years.
//
// The expression is followed on a calendar without zones, and each time of day found there becomes one instant: of a
// time that the clock shows twice the first, of one that it skips the moment at which it jumps. So each is met once,
// whatever the clocks do. A time whose instant is not after the given one was met already.
func (s *schedule) next(after time.Time) time.Time {
	wall := wallOf(after.In(s.zone)).Add(-time.Second)
	for {
		if wall = s.cron.Next(wall); wall.IsZero() {
			return wall
		}
		if at := instant(wall, s.zone); at.After(after) {
			return at
		}
	}
}

// wallOf is the date and time of day of a local time, as a time of UTC.
func wallOf(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// instant is when a clock in the zone first shows a date and time of day, or passes it.
func instant(wall time.Time, zone *time.Location) time.Time {
	// The offset a day before and a day after: every zone changes it at most once in between.
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	early, late := wall.Add(-max(before, after)), wall.Add(-min(before, after))
	switch {
	case wallOf(early.In(zone)).Equal(wall):
		return early.In(zone)
	case wallOf(late.In(zone)).Equal(wall):
		return late.In(zone)
	}
	// Skipped: find the jump, to the second, between an instant before it and one after it.
	low, high := early, late
	for high.Sub(low) > time.Second {
		middle := low.Add(high.Sub(low) / 2).Truncate(time.Second)
		if wallOf(middle.In(zone)).Before(wall) {
			low = middle
		} else {
			high = middle
		}
	}
	return high.In(zone)
}

// zero reports whether the window is all day.
func (w Window) zero() bool { return w.From == w.To }

// open tells whether an instant lies in the window, and when the window closes if it does, or opens next if it does
// not. Times of day are met as in a schedule.
func (w Window) open(at time.Time, zone *time.Location) (is bool, until time.Time) {
	if w.zero() {
		return true, time.Time{}
	}
	y, m, d := at.In(zone).Date()
	midnight := func(day int) time.Time { return time.Date(y, m, d+day, 0, 0, 0, 0, time.UTC) }
	for day := -1; ; day++ { // yesterday's may reach into today
		from := instant(midnight(day).Add(w.From), zone)
		end := midnight(day).Add(w.To)
		if w.To < w.From {
			end = midnight(day + 1).Add(w.To)
		}
		to := instant(end, zone)
		switch {
		case !from.Before(to): // skipped as a whole
		case at.Before(from):
			return false, from
		case at.Before(to):
			return true, to
		}
	}
}

// ParseWindow reads "22:00-06:00"; empty is all day. Its error is a *dsr.Error with CodeInvalid.
func ParseWindow(text string) (Window, error) {
	if text == "" {
		return Window{}, nil
	}
	from, to, ok := strings.Cut(text, "-")
	bad := &dsr.Error{
		Code: dsr.CodeInvalid, Field: "retention.window", Msg: "is not a window of the day", Hint: `such as "22:00-06:00"`,
	}
	if !ok {
		return Window{}, bad
	}
	var w Window
	for _, part := range []struct {
		text string
		to   *time.Duration
	}{{from, &w.From}, {to, &w.To}} {
		t, err := time.Parse("15:04", strings.TrimSpace(part.text))
		if err != nil {
			return Window{}, bad
		}
		*part.to = t.Sub(t.Truncate(24 * time.Hour))
	}
	if w.zero() {
		return Window{}, bad
	}
	return w, nil
}

// String is what ParseWindow reads.
func (w Window) String() string {
	if w.zero() {
		return ""
	}
	clock := func(d time.Duration) string { return time.Time{}.Add(d).Format("15:04") }
	return clock(w.From) + "-" + clock(w.To)
}
