package connectortest

import (
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// unfinished are the rows whose statutory minimum has not ended on a day, by entity and key, with their entity. What says
// keep has none that an erasure could meet.
func unfinished(sys *connectors.System, d Dataset, today time.Time) map[string]*connectors.Entity {
	out := map[string]*connectors.Entity{}
	if today.IsZero() {
		return out
	}
	o := everything(sys, d)
	for _, f := range o.rows {
		if f.e.Keep == nil && o.young(f, today) {
			out[f.e.Name+"\x00"+f.key] = f.e
		}
	}
	return out
}

// everything is an oracle over all rows of all tenants, which has followed nothing yet.
func everything(sys *connectors.System, d Dataset) *oracle {
	o := &oracle{sys: sys, data: d, batch: connectors.Batch{{}}}
	rows := d.rows()
	for i := range sys.Entities {
		e := &sys.Entities[i]
		for k, row := range rows[e.From()] {
			o.rows = append(o.rows, &fate{e: e, t: d.Table(e.From()), key: k, row: row})
		}
	}
	return o
}

// young reports whether a statutory minimum of the row has not ended on a day.
func (o *oracle) young(f *fate, today time.Time) bool {
	return slices.ContainsFunc(f.e.Rules, func(r connectors.Rule) bool {
		day, is := o.lawful(f, r, today.Location())
		return is && (day.IsZero() || day.After(today))
	})
}

// lawful is the first day on which a rule's statutory minimum lets a row go; zero when its period has not begun, and
// false when there is none.
func (o *oracle) lawful(f *fate, r connectors.Rule, zone *time.Location) (time.Time, bool) {
	if r.Class.Minimum == (retention.Period{}) || !meets(f.row, r.When) {
		return time.Time{}, false
	}
	minimum := r.Class
	minimum.Period = r.Class.Minimum
	start, state := o.start(f, r, zone)
	switch state {
	case never:
		return time.Time{}, true
	case always:
		return time.Time{}, false
	}
	return minimum.DeletableOn(start.In(zone)), true
}

// lastLawful is the first day on which every statutory minimum of a row has ended.
func (o *oracle) lastLawful(f *fate, zone *time.Location) time.Time {
	var last time.Time
	for _, r := range f.e.Rules {
		if day, is := o.lawful(f, r, zone); is && day.IsZero() {
			return day
		} else if day.After(last) {
			last = day
		}
	}
	return last
}

// expectLocated are Locate's counts of one subject on a day, as "entity method": what an erasure does, and what it would do
// if no minimum were left and does not, as dsr.Wait.
func expectLocated(sys *connectors.System, d Dataset, s connectors.Subject, today time.Time) map[string]int64 {
	now := expectOn(sys, d, connectors.Batch{s}, connectors.Holds{}, today).fates
	out := map[string]int64{}
	for entity, rows := range expect(sys, d, connectors.Batch{s}).fates {
		for k, then := range rows {
			is := now[entity][k].action
			switch {
			case (is == "" || is == dsr.Redact) && then.action != "" && then.action != is:
				out[entity+" "+string(dsr.Wait)]++
			case is != "":
				out[entity+" "+string(is)]++
			}
		}
	}
	return out
}
