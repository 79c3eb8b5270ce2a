package connectors

import (
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// A statutory minimum is of the rows that its rule means, by its conditions, and wins over an erasure row by row, as a Hold
// does: until it has ended a row is neither deleted, nor masked, nor redacted, and counts as an owner who lives, so that
// what belongs to it stays with it. What leads to the row, so that it is found when its minimum has ended, is anchored
// where that is declared and stays otherwise. A person's own row is the exception: it stays alone, and what they own goes.
// What an erasure would do and does not for that reason Locate counts with dsr.Wait, and Verify returns it with
// Residue.Waits, both with dsr.CauseMinimum. An Entity that says keep has said what stays of its rows and what is masked of
// them: for an erasure it has no minima.

// Minima are the rules of the Entity whose class has a statutory minimum. Each cuts where that ends on a day: what started
// earlier may go. today is in the controller's time zone.
func (e *Entity) Minima(today time.Time) []Bound {
	var all []Bound
	for _, r := range e.Rules {
		if class, ok := r.Class.Statutory(); ok {
			r.Class = class
			all = append(all, Bound{Rule: r, Before: class.Cutoff(today)})
		}
	}
	return all
}

// Today is a time in the controller's zone, in which days are counted.
func (s *System) Today(now time.Time) time.Time {
	if s.Zone == nil {
		return now.UTC()
	}
	return now.In(s.Zone)
}

// Unfinished is residue whose statutory minimum has not ended: how many rows can go from which day on, the zero Time where
// nobody knows it. It is returned as one Residue for what ends first, one for all that ends later, with the last of its
// days, and one for what has no day: a Request is looked at again on the first of its Residues' days.
func Unfinished(r dsr.Residue, days map[time.Time]int64) []dsr.Residue {
	var first, last time.Time
	var later int64
	for day, n := range days {
		switch {
		case day.IsZero():
			continue
		case first.IsZero() || day.Before(first):
			first = day
		}
		if day.After(last) {
			last = day
		}
		later += n
	}
	later -= days[first]
	var out []dsr.Residue
	add := func(n int64, day *time.Time) {
		if n > 0 {
			one := r
			one.Count, one.Waits = n, &dsr.Exception{Cause: dsr.CauseMinimum, Ends: day}
			out = append(out, one)
		}
	}
	if !first.IsZero() {
		add(days[first], &first)
		add(later, &last)
	}
	add(days[time.Time{}], nil)
	return out
}

// LastDay is the last of some days; nil when one of them is not known.
func LastDay(days map[time.Time]int64) *time.Time {
	var last time.Time
	for day := range days {
		if day.IsZero() {
			return nil
		}
		if day.After(last) {
			last = day
		}
	}
	if last.IsZero() {
		return nil
	}
	return &last
}
