package connectortest

import (
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// ruling is a rule with what it is carried out under.
type ruling struct {
	entity string
	rule   connectors.Rule
	cut    connectors.Cut
	held   connectors.Holds
}

// swept is what a Sweep must do.
type swept struct {
	after  Tables
	counts map[string]int64 // "entity method", with Held and Blocked
	due    connectors.Due
}

// expectSweep computes the outcome of a rule from the map and the rows alone: what is due goes with everything that it
// alone owns, unless a row would be left that refers to it.
func expectSweep(sys *connectors.System, d Dataset, r ruling) swept {
	o := everything(sys, d)
	rows := d.rows()
	held := frozen(sys, d, r.held.Subjects, r.held.Entities)
	out := swept{after: rows.clone(), counts: map[string]int64{}}
	pseudonymise := r.rule.Action == retention.Pseudonymise
	going := map[*fate]bool{}
	for _, f := range o.rows {
		if f.e.Name != r.entity {
			continue
		}
		out.due.Total++
		if !o.due(f, r) || pseudonymise && o.masks(f, r.rule.Masks) == nil {
			continue
		}
		out.due.Rows++
		if held[f.e.Name+"\x00"+f.key] {
			out.due.Held++
		} else {
			going[f] = true
		}
	}
	if out.due.Held > 0 {
		out.counts[r.entity+" "+string(dsr.Held)] = out.due.Held
	}
	switch r.rule.Action {
	case retention.Pseudonymise:
		for f := range going {
			for c, v := range o.masks(f, r.rule.Masks) {
				out.after[f.e.From()][f.key][c] = v
			}
			out.counts[r.entity+" "+string(dsr.Mask)]++
		}
		return out
	case retention.Next:
		return swept{after: rows, counts: map[string]int64{}, due: out.due}
	}
	stays := map[*fate]bool{}
	for again := true; again; {
		again = false
		for _, f := range o.rows {
			*f = fate{e: f.e, t: f.t, key: f.key, row: f.row, held: held[f.e.Name+"\x00"+f.key] || stays[f], seed: going[f], reached: going[f]}
		}
		for o.again() {
		}
		for f, by := range o.blocked(r.cut.Zone) {
			again = true
			if going[f] {
				delete(going, f)
				out.due.Blocked++
				if !slices.Contains(out.due.BlockedBy, by) {
					out.due.BlockedBy = append(out.due.BlockedBy, by)
				}
			} else {
				stays[f] = true
			}
		}
	}
	slices.Sort(out.due.BlockedBy)
	if out.due.Blocked > 0 {
		out.counts[r.entity+" "+string(dsr.Blocked)] = out.due.Blocked
	}
	o.apply(outcome{after: out.after, counts: out.counts, fates: map[string]map[string]fate{}})
	return out
}

// blocked gives each row its action, and returns those that should go and cannot: rows that must stay themselves, and
// rows that one which stays refers to, with the entity that is to blame.
func (o *oracle) blocked(zone *time.Location) map[*fate]string {
	out := map[*fate]string{}
	blame := map[*fate]string{}
	for _, f := range o.rows {
		blame[f] = f.e.Name
		switch {
		case f.doomed && f.seed:
			f.action = dsr.Delete
		case f.doomed && (f.e.Keep != nil || o.young(f, time.Now().In(zone))):
			out[f] = f.e.Name
		case f.doomed:
			f.action = f.e.Erase
		case f.reached && !f.held && slices.ContainsFunc(o.ownersOf(f), func(p *fate) bool { return p.doomed }):
			f.action = dsr.Release
		}
	}
	for again := true; again; {
		again = false
		for _, f := range o.rows {
			if f.action == dsr.Delete {
				continue
			}
			for _, p := range o.rows {
				if p == f || p.action != dsr.Delete {
					continue
				}
				needs := f.doomed && f.action == "" && slices.Contains(o.membersOf(f), p)
				for _, tie := range slices.Concat(f.e.OwnedBy, f.e.Owns) {
					if !o.refers(f, tie, p) || o.changes(f, tie.Columns) {
						continue
					}
					if f.action == dsr.Release && f.t.column(tie.Columns[0]).Nullable {
						f.nulls = append(f.nulls, tie.Columns[0])
					} else {
						needs = true
					}
				}
				if needs {
					p.action, out[p], blame[p], again = "", blame[f], blame[f], true
				}
			}
		}
	}
	return out
}

// due is the definition of a rule.
func (o *oracle) due(f *fate, r ruling) bool {
	early := func(rule connectors.Rule, before time.Time) bool {
		start, state := o.start(f, rule, r.cut.Zone)
		return state == always || state == dated && start.Before(before)
	}
	if !meets(f.row, r.rule.When) || !early(r.rule, r.cut.Before) {
		return false
	}
	return !slices.ContainsFunc(r.cut.After, func(b connectors.Bound) bool { return !early(b.Rule, b.Before) })
}

// begun says whether a period has begun.
type begun int

const (
	never  begun = iota // it has not
	dated               // it has, on a day
	always              // the row is due whatever day it is
)

// start is when a row's period began.
func (o *oracle) start(f *fate, r connectors.Rule, zone *time.Location) (time.Time, begun) {
	var at []time.Time
	if v := f.row[r.Start.Field]; r.Start.Field != "" && v != null {
		at = append(at, instant(v, zone))
	}
	for _, l := range r.Start.Latest {
		for _, child := range o.rows {
			if child.e.Name == l.Entity && slices.Contains(o.ownersOf(child), f) {
				if child.row[l.Field] == null {
					return time.Time{}, never
				}
				at = append(at, instant(child.row[l.Field], zone))
			}
		}
	}
	switch {
	case len(at) > 0:
		return slices.MaxFunc(at, time.Time.Compare), dated
	case r.Start.Null == retention.NullDue:
		return time.Time{}, always
	case r.Start.Null == retention.NullOther && f.row[r.Start.NullField] != null:
		return instant(f.row[r.Start.NullField], zone), dated
	}
	return time.Time{}, never
}

// instant reads a value of the suite's own: a time in UTC, or a day of the controller's.
func instant(v string, zone *time.Location) time.Time {
	layout := time.RFC3339
	if !strings.Contains(v, "T") {
		layout = time.DateOnly
	}
	at, err := time.ParseInLocation(layout, v, zone)
	if err != nil {
		panic("a value of the suite's own is not a time: " + err.Error())
	}
	return at
}

// masks are the values that a rule's masks would change; nil when the row has been masked.
func (o *oracle) masks(f *fate, specs masks) map[string]string {
	out, changed := map[string]string{}, false
	for c, spec := range specs {
		v := f.row[c]
		out[c] = o.masked(f, c, spec, mask.NewMatcher(nil, o.sys.Identifiers))
		if made := strings.HasSuffix(v, ".invalid"); out[c] != v && !(made && (out[c] == fresh || spec.Kind == mask.HMAC)) {
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return out
}
