package memory

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Verify searches again. A row is residue when it should be gone, when a mask of its visibly did not happen, when a
// declared field still holds an identifier that nothing excuses, when its free text still mentions the subject, or
// when it refers to a row that was erased. What Erase would do if nothing were held, and does not do now, waits. See
// [connectors.Connector].
func (db *DB) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	if err := db.checkTenants(q.Batch); err != nil {
		return nil, err
	}
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	anchors, err := db.anchors(ctx, q.Keys)
	if err != nil {
		return nil, err
	}
	var out []dsr.Residue
	for _, s := range q.Batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found := residue{}
		report := func(i *item, field string, cause dsr.Cause, ends time.Time) {
			if s.Entities == nil || s.Entities[i.e.Name] {
				found.add(i, field, cause, ends)
			}
		}
		held, err := db.held(q.Held, s.Tenant)
		if err != nil {
			return nil, err
		}
		matcher := mask.NewMatcher(s.Identifiers, db.sys.Identifiers)
		now, err := db.wanted(s, q.Batch, held, anchors, true)
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		search := func(c *closure, why func(i *item) (dsr.Cause, time.Time)) {
			for _, i := range c.items {
				if i.action == "" {
					continue
				}
				for _, field := range c.left(i, matcher) {
					if at := i.e.Name + string(i.key) + field; !seen[at] {
						seen[at] = true
						cause, ends := why(i)
						report(i, field, cause, ends)
					}
				}
			}
		}
		search(now, func(i *item) (dsr.Cause, time.Time) { return i.waits(), time.Time{} })
		if slices.ContainsFunc(now.items, func(i *item) bool { return i.young }) {
			free, err := db.wanted(s, q.Batch, held, anchors, false)
			if err != nil {
				return nil, err
			}
			search(free, func(i *item) (dsr.Cause, time.Time) { return dsr.CauseMinimum, day(i, now) })
		}
		if len(held) > 0 {
			free, err := db.wanted(s, q.Batch, nil, anchors, false)
			if err != nil {
				return nil, err
			}
			search(free, func(*item) (dsr.Cause, time.Time) { return dsr.CauseHold, time.Time{} })
		}
		err = db.orphans(ctx, now, s, q.Keys, func(i *item, field string) {
			switch {
			case held[i.e.Name+string(i.key)]:
				report(i, field, dsr.CauseHold, time.Time{})
			case i.stays:
				report(i, field, dsr.CauseMinimum, i.ends)
			default:
				report(i, field, i.waits(), time.Time{})
			}
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found.list(s.Ref, db.sys.Name)...)
	}
	return out, nil
}

// wanted is what Erase would do for one subject of a batch, all of whom it erases. Where it cannot, what is there is found
// all the same.
func (db *DB) wanted(
	s connectors.Subject, batch connectors.Batch, held map[string]bool, anchors map[string]string, minima bool,
) (*closure, error) {
	batch = slices.DeleteFunc(slices.Clone(batch), func(other connectors.Subject) bool { return other.Tenant != s.Tenant })
	all, err := db.load(nil, held, s.Tenant)
	if err != nil {
		return nil, err
	}
	if err := all.minima(minima); err != nil {
		return nil, err
	}
	all.findAnchors(batch, anchors)
	all.spread(batch)
	c, err := db.load(nil, held, s.Tenant)
	if err != nil {
		return nil, err
	}
	if err := c.minima(minima); err != nil {
		return nil, err
	}
	for n, i := range c.items {
		i.gone = all.items[n].doomed // both are in the same order
	}
	c.findAnchors(connectors.Batch{s}, anchors)
	c.spread(connectors.Batch{s})
	var dangling *connectors.SubjectError
	if err := c.decide(); err != nil && !errors.As(err, &dangling) {
		return nil, err
	}
	return c, nil
}

// waits says why a row cannot go yet; it is empty when it can.
func (i *item) waits() dsr.Cause {
	if i.action == dsr.Expire {
		return dsr.CauseRetention
	}
	return ""
}

// residue is what was found of one subject, as rows by their place, with the day on which each can go where that is known.
type residue map[place]map[connectors.Key]time.Time

type place struct {
	entity, field string
	cause         dsr.Cause
}

func (r residue) add(i *item, field string, cause dsr.Cause, ends time.Time) {
	at := place{i.e.Name, field, cause}
	if r[at] == nil {
		r[at] = map[connectors.Key]time.Time{}
	}
	r[at][i.key] = ends
}

func (r residue) list(subject, system string) []dsr.Residue {
	var out []dsr.Residue
	for at, rows := range r {
		one := dsr.Residue{Subject: subject, System: system, Entity: at.entity, Field: at.field, Count: int64(len(rows))}
		if at.cause == dsr.CauseMinimum {
			days := map[time.Time]int64{}
			for _, day := range rows {
				days[day]++
			}
			out = append(out, connectors.Unfinished(one, days)...)
			continue
		}
		if at.cause != "" {
			one.Waits = &dsr.Exception{Cause: at.cause}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b dsr.Residue) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Count, b.Count))
	})
	return out
}

// left are the fields in which something of the subject is left.
func (c *closure) left(i *item, matcher *mask.Matcher) []string {
	out := mentions(i.e, i.t, i.row, matcher)
	specs := map[string]mask.Spec{}
	for _, m := range c.masks(i) {
		for name, spec := range m {
			specs[name] = spec
			switch {
			case spec.Kind == mask.Null && i.row[name] != nil,
				spec.Kind == mask.Constant && text(i.row[name]) != spec.Value,
				spec.Kind == mask.Redact && i.row[name] != nil && !slices.Contains(i.e.Mentions, name) &&
					i.t.column(name).Class != connectors.ClassJSON && text(i.row[name]) != mask.Redacted:
				out = append(out, name)
			}
		}
	}
	out = append(out, i.nulls...)
	for _, name := range i.matched {
		spec, masked := specs[name]
		kept := i.action == dsr.Keep || i.action == dsr.Anchor
		if !kept || masked && spec.Kind != mask.HMAC {
			out = append(out, name)
		}
	}
	if i.action == dsr.Delete && len(out) == 0 {
		out = append(out, "")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// orphans are rows that refer to a row of the subject's that is gone.
func (db *DB) orphans(ctx context.Context, c *closure, s connectors.Subject, keys connectors.Keys, report func(*item, string)) error {
	gone := map[string]bool{}
	for i := range db.sys.Entities {
		e := &db.sys.Entities[i]
		err := keys.Each(ctx, e.Name, func(subject string, page []connectors.Key) error {
			for _, k := range page {
				if subject == s.Ref {
					gone[e.Name+string(k)] = true
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, i := range c.items {
		delete(gone, i.e.Name+string(i.key))
	}
	for _, i := range c.items {
		if i.e.Keep != nil || s.Entities != nil && !s.Entities[i.e.Name] {
			continue
		}
		for _, tie := range slices.Concat(i.e.OwnedBy, i.e.Owns) {
			v, ok := c.refers(i, tie)
			if ok && gone[tie.Entity+string(v)] {
				report(i, tie.Columns[0])
			}
		}
	}
	return nil
}

// refers is the primary key that a row refers to by a tie.
func (c *closure) refers(i *item, tie connectors.Owner) (connectors.Key, bool) {
	e := c.db.sys.Entity(tie.Entity)
	if e == nil || tie.When != nil && text(i.row[tie.When.Column]) != tie.When.Value {
		return "", false
	}
	t := c.db.store.tables[e.From()]
	if t == nil || !slices.Equal(c.references(tie), t.PrimaryKey) {
		return "", false
	}
	r := Row{}
	for n, name := range tie.Columns {
		if i.row[name] == nil {
			return "", false
		}
		r[t.PrimaryKey[n]] = i.row[name]
	}
	return t.key(r), true
}
