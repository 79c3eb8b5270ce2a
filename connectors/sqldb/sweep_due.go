package sqldb

import (
	"context"
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
)

// duePage is how many rows Due reads at once where it must look at what refers to them.
const duePage = 2000

// Due counts what a rule makes due. See [connectors.Sweeper].
func (d *DB) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	m, err := d.modelOf(ctx)
	if err != nil {
		return nil, err
	}
	r, release, err := d.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	rules := make([]*sweepRule, len(q.Cuts))
	for i, cut := range q.Cuts {
		if rules[i], err = m.newSweepRule(q.Entity, q.Rule, cut, q.Held); err != nil {
			return nil, err
		}
	}
	if len(rules) == 0 {
		return nil, nil
	}
	out, err := countDue(ctx, r, rules)
	if err != nil {
		return nil, err
	}
	e := rules[0].e
	total, size, err := e.size(ctx, r)
	if err != nil {
		return nil, err
	}
	held, err := m.heldRows(ctx, r, q.Held, everyTenant, rules[0].e)
	if err != nil {
		return nil, err
	}
	for i, u := range rules {
		out[i].Total, out[i].Bytes = total, out[i].Rows*size
		if out[i].Held, err = u.countHeld(ctx, r, q.Held); err != nil {
			return nil, err
		}
		if u.simple(q.Held) || out[i].Rows == out[i].Held {
			continue
		}
		if out[i].Blocked, out[i].BlockedBy, err = u.countBlocked(ctx, r, held); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// countDue counts the due rows at every cut in one pass.
func countDue(ctx context.Context, r session, rules []*sweepRule) ([]connectors.Due, error) {
	u := rules[0]
	q := u.m.d.dialect.statement("SELECT ")
	for i, u := range rules {
		if i > 0 {
			q.add(", ")
		}
		q.add("coalesce(sum(CASE WHEN ")
		u.where(q).add(" THEN 1 ELSE 0 END), 0)")
	}
	q.add(" FROM ", u.e.from)
	if u.start.field != nil { // so that the index on the starting point bounds the pass
		latest := slices.MaxFunc(rules, func(a, b *sweepRule) int { return a.start.before.Compare(b.start.before) })
		q.add(" WHERE ").meets("", u.e, u.rule.When).add(" AND (")
		latest.start.earlier(q, "", u.start.field)
		if u.start.mayBeNull() {
			q.add(" OR ", u.start.field.quoted, " IS NULL")
		}
		q.add(")")
	}
	out := make([]connectors.Due, len(rules))
	err := r.run(ctx, q.call(func(values [][]byte) error {
		for i := range out {
			out[i].Rows = parseInt(values[i])
		}
		return nil
	}))
	return out, err
}

// countBlocked decides about due rows, page by page, as a sweep would.
func (u *sweepRule) countBlocked(ctx context.Context, s session, held map[*entity]map[string]bool) (int64, []string, error) {
	var blocked int64
	by := map[string]bool{}
	phases, err := u.phases(ctx, s)
	if err != nil {
		return 0, nil, err
	}
	for _, p := range phases {
		for from := []string(nil); ; {
			rows, err := u.feed(ctx, s, p, from, nil, duePage)
			if err != nil {
				return 0, nil, err
			}
			if len(rows) > 0 {
				from = texts(rows[len(rows)-1])
				keys := make([]key, len(rows))
				for i, r := range rows {
					keys[i] = r[len(r)-len(u.e.key):]
				}
				found, err := u.rows(ctx, s, keys, held, false)
				if err != nil {
					return 0, nil, err
				}
				for tenant, part := range groupByTenant(found) {
					n, err := u.blockedOf(ctx, s, tenant, part, held, by)
					if err != nil {
						return 0, nil, err
					}
					blocked += n
				}
			}
			if len(rows) < duePage {
				break
			}
		}
	}
	return blocked, sortedNames(by), nil
}

// blockedOf decides about some rows of one tenant, in halves where their families are too large. It adds to by.
func (u *sweepRule) blockedOf(
	ctx context.Context, s session, tenant string, rows []sweptRow, held map[*entity]map[string]bool, by map[string]bool,
) (int64, error) {
	f := &familyOf{u: u, s: s, held: held, tenant: tenant}
	err := f.decide(ctx, rows)
	var large *familyTooLargeError
	if errors.As(err, &large) {
		first, err := u.blockedOf(ctx, s, tenant, rows[:len(rows)/2], held, by)
		if err != nil {
			return 0, err
		}
		second, err := u.blockedOf(ctx, s, tenant, rows[len(rows)/2:], held, by)
		return first + second, err
	}
	for name := range f.blockedBy {
		by[name] = true
	}
	return f.blocked, err
}

func sortedNames(set map[string]bool) []string {
	var out []string
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// size returns how many rows the table has, counted while they are few and else as the server estimates, and an estimate
// of what one takes.
func (e *entity) size(ctx context.Context, s session) (rows, bytes int64, err error) {
	d := e.table
	err = s.run(ctx, &call{text: "SELECT count(*) FROM (SELECT 1 FROM " + e.from + " LIMIT 100000) AS t", row: func(v [][]byte) error {
		rows = parseInt(v[0])
		return nil
	}})
	if rows >= countLimit {
		rows = max(rows, d.Rows)
	}
	return rows, e.rowBytes(), err
}
