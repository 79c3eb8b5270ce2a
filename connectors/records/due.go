package records

import (
	"errors"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// due is what a rule makes due at one cut-off.
type due struct {
	rule   connectors.Rule
	cut    connectors.Cut
	stored time.Time // what object_age and event_time mean
	at     func(name string) int
}

// Due looks for records that a rule makes due, minus what is held: they are deleted, or masked when the rule
// pseudonymises and a mask does not hold yet. A rule that starts with the object's age needs [Finder.Stored]. A record
// whose start is there and is not a time is not due; it stays, and is counted in [Totals.Unread].
func (l *Layout) Due(rule connectors.Rule, cut connectors.Cut, held connectors.Holds) (*Finder, error) {
	d := &due{rule: rule, cut: cut}
	for _, b := range d.bounds() {
		if len(b.Rule.Start.Latest) > 0 {
			return nil, invalid("starts with the latest of other entities' records, which records in objects have no tie to",
				"give the rule a field to start with")
		}
	}
	if rule.Action != retention.Delete && rule.Action != retention.Pseudonymise {
		return nil, invalid("has an action that does nothing to records", "")
	}
	return l.finder(nil, held, d)
}

// Stored returns a Finder for one object: what starts with the object's age, or with an event's own time, starts at t.
func (f *Finder) Stored(t time.Time) *Finder {
	if f.due == nil {
		return f
	}
	g, d := *f, *f.due
	d.stored, g.due = t, &d
	return &g
}

// bounds are the rule and those before it that a record must be due by too.
func (d *due) bounds() []connectors.Bound {
	return append(slices.Clone(d.cut.After), connectors.Bound{Rule: d.rule, Before: d.cut.Before})
}

func (d *due) fields() []string {
	var names []string
	for _, b := range d.bounds() {
		names = append(names, ruleFields(b.Rule)...)
	}
	for name := range d.rule.Masks {
		names = append(names, name)
	}
	return names
}

func (d *due) bind(at func(name string) int) { d.at = at }

// isDue reports whether a record's time has come. For a rule that pseudonymises, one whose masks all hold is not due.
func (w *worker) isDue(r *record) (bool, error) {
	if !w.meets(r, w.due.rule.When) {
		return false, nil
	}
	for _, b := range w.due.cut.After {
		if !w.meets(r, b.Rule.When) {
			continue // it says nothing about this record
		}
		if over, err := w.over(r, b); err != nil || !over {
			return false, err
		}
	}
	over, err := w.over(r, connectors.Bound{Rule: w.due.rule, Before: w.due.cut.Before})
	if err != nil || !over || w.due.rule.Action == retention.Delete {
		return over, err
	}
	edits, err := w.edits(r, w.due.rule.Masks)
	return len(edits) > 0, err
}

// over reports whether a record's period has ended by one rule.
func (w *worker) over(r *record, b connectors.Bound) (bool, error) {
	start := b.Rule.Start
	if start.Kind != retention.StartField {
		return w.due.stored.Before(b.Before), nil
	}
	t, ok, err := w.start(r, start.Field)
	if err == nil && !ok {
		switch start.Null {
		case retention.NullDue:
			return true, nil
		case retention.NullOther:
			t, ok, err = w.start(r, start.NullField)
		}
	}
	return err == nil && ok && t.Before(b.Before), err
}

// start reads a time; ok is false when there is none. Of several the latest counts.
func (w *worker) start(r *record, name string) (t time.Time, ok bool, err error) {
	i := w.due.at(name)
	for _, v := range r.values {
		if v.field != i || v.kind == null {
			continue
		}
		at, is := w.l.times.parse(string(w.text(r.body, v)), w.due.cut.Zone)
		if !is {
			return t, false, errUnread
		}
		if !ok || at.After(t) {
			t, ok = at, true
		}
	}
	return t, ok, nil
}

// errUnread says that a record's start is there and is not a time.
var errUnread = errors.New("the start is not a time")

// UnreadStart says that a Sweep left n records whose start is not a time. where is the first of them.
func UnreadStart(where string, n int64) connectors.Failure {
	return connectors.Failure{
		Code: connectors.CodeStart, Count: n, Msg: "the start of a record is not a time in " + where,
		Hint: "Correct the records or time_format, or let the rule start elsewhere.",
	}
}

// method is what a Sweep does to a record that is due.
func (d *due) method() dsr.Method {
	if d.rule.Action == retention.Pseudonymise {
		return dsr.Mask
	}
	return dsr.Delete
}
