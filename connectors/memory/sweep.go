package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// sweepPoint is what Sweep resumes from.
type sweepPoint struct {
	Keys []connectors.Key // of the rows that were due, free and not blocked when the Sweep began
	Next int              // Keys before it are done
	Size int              // of the transaction that is about to commit, 0 when none is
	Tx   int64            // its number
}

// Sweep carries out a deletion rule. See [connectors.Sweeper].
func (db *DB) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	var measures connectors.SweepMeasures
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return measures, err
	}
	var cp sweepPoint
	var done []connectors.Tally // committed, not saved
	if raw != nil {
		if err := json.Unmarshal(raw, &cp); err != nil {
			return measures, connectors.Permanent(dsr.CodeInvalid, "the checkpoint cannot be read", "Start the sweep again.", nil)
		}
		erasing := checkpoint{Next: cp.Next, Size: cp.Size, Tx: cp.Tx}
		done = db.resolve(&erasing)
		cp.Next, cp.Size = erasing.Next, 0
	} else {
		db.store.mu.Lock()
		s, err := db.due(j.Entity, j.Rule, j.Cut, j.Held)
		db.store.mu.Unlock()
		if err != nil {
			return measures, err
		}
		if j.Rule.Action == retention.Next {
			return measures, nil
		}
		for _, i := range s.going {
			cp.Keys = append(cp.Keys, i.key)
		}
		done = append(add(done, connectors.Tally{Entity: j.Entity, Method: dsr.Held, Rows: s.held}),
			connectors.Tally{Entity: j.Entity, Method: dsr.Blocked, Rows: int64(len(s.blocked))})
		if err := saveSweep(ctx, j, &cp, done); err != nil {
			return measures, err
		}
		done = nil
		j.Journal.Step(StepPlanned)
	}
	for cp.Next < len(cp.Keys) {
		if j.Pace.Stop != nil && j.Pace.Stop() {
			return measures, yield(ctx, j, &cp, done)
		}
		cp.Size, cp.Tx = min(db.ChunkRows, len(cp.Keys)-cp.Next), db.begin()
		if err := saveSweep(ctx, j, &cp, done); err != nil {
			return measures, err
		}
		j.Journal.Step(StepIntent)
		if err := ctx.Err(); err != nil {
			return measures, err
		}
		began := time.Now()
		if done, err = db.sweepChunk(j, &cp); err != nil {
			return measures, err
		}
		measures.Transactions, measures.Longest = measures.Transactions+1, max(measures.Longest, time.Since(began))
		j.Journal.Step(StepCommitted)
		cp.Next, cp.Size = cp.Next+cp.Size, 0
		if cp.Next < len(cp.Keys) && !j.Deadline.IsZero() && !db.now().Before(j.Deadline) {
			return measures, yield(ctx, j, &cp, done)
		}
	}
	if err := saveSweep(ctx, j, &cp, done); err != nil {
		return measures, err
	}
	return measures, db.allRead(j)
}

// allRead fails a Sweep that has left rows whose start it cannot read.
func (db *DB) allRead(j connectors.SweepJob) error {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	s, err := db.due(j.Entity, j.Rule, j.Cut, j.Held)
	if err == nil && s.unread > 0 {
		err = connectors.Permanent(connectors.CodeStart, fmt.Sprintf("%s: the start of %d rows is not a date; they stay", j.Entity, s.unread),
			"Everything else that was due is gone. Correct the rows, or let the rule start elsewhere.", nil)
	}
	return err
}

// errUnread says that a row's start is there and is not a date: it is never due.
var errUnread = errors.New("the start is not a date")

func saveSweep(ctx context.Context, j connectors.SweepJob, cp *sweepPoint, done []connectors.Tally) error {
	b, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	return j.Journal.Save(ctx, b, done)
}

func yield(ctx context.Context, j connectors.SweepJob, cp *sweepPoint, done []connectors.Tally) error {
	if err := saveSweep(ctx, j, cp, done); err != nil {
		return err
	}
	return connectors.ErrYield
}

// Due counts what a rule makes due. See [connectors.Sweeper].
func (db *DB) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	var out []connectors.Due
	for _, cut := range q.Cuts {
		s, err := db.due(q.Entity, q.Rule, cut, q.Held)
		if err != nil {
			return nil, err
		}
		d := connectors.Due{Held: s.held, Blocked: int64(len(s.blocked)), Total: s.total}
		d.Rows = int64(len(s.going)) + d.Held + d.Blocked
		for _, by := range s.blocked {
			if !slices.Contains(d.BlockedBy, by) {
				d.BlockedBy = append(d.BlockedBy, by)
			}
		}
		slices.Sort(d.BlockedBy)
		out = append(out, d)
	}
	return out, nil
}

// sweepChunk works one chunk's rows in one transaction, those of them that are still due and free.
func (db *DB) sweepChunk(j connectors.SweepJob, cp *sweepPoint) ([]connectors.Tally, error) {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	s, err := db.due(j.Entity, j.Rule, j.Cut, j.Held)
	if err != nil {
		return nil, err
	}
	chunk := map[string]bool{}
	for _, k := range cp.Keys[cp.Next : cp.Next+cp.Size] {
		chunk[string(k)] = true
	}
	var todo []task
	if j.Rule.Action == retention.Pseudonymise {
		for _, i := range s.going {
			todo = append(todo, task{Entity: i.e.Name, Key: i.key, Method: dsr.Mask, Masks: []map[string]mask.Spec{j.Rule.Masks}})
		}
		todo = slices.DeleteFunc(todo, func(t task) bool { return !chunk[string(t.Key)] })
	} else {
		for _, i := range s.c.items {
			in := false
			for seed := range i.subjects {
				in = in || chunk[seed]
			}
			if !in {
				i.action = ""
			}
		}
		todo = s.c.tasks()
	}
	tallies := []connectors.Tally{}
	for _, n := range todo {
		t, at, err := db.row(n)
		if err != nil {
			return nil, err
		}
		if n.Method == dsr.Delete {
			t.Rows = slices.Delete(t.Rows, at, at+1)
		} else {
			values, err := db.change(db.sys.Entity(n.Entity), t, t.Rows[at], n, nil)
			if err != nil {
				return nil, err
			}
			for name, v := range values {
				t.Rows[at][name] = v
			}
		}
		if n.Method != "" {
			tallies = add(tallies, connectors.Tally{Entity: n.Entity, Method: n.Method, Rows: 1})
		}
	}
	db.store.committed[cp.Tx] = tallies
	return tallies, nil
}

// sweeping is what a rule makes due, and what happens to it.
type sweeping struct {
	c       *closure // of the rows that go, with the action of each
	going   []*item
	held    int64
	unread  int64            // neither due nor not: see [errUnread]
	blocked map[*item]string // by which entity
	total   int64
}

// due decides about every row of the entity, and about the rows that those which go own.
func (db *DB) due(entity string, rule connectors.Rule, cut connectors.Cut, holds connectors.Holds) (*sweeping, error) {
	e := db.sys.Entity(entity)
	if e == nil {
		return nil, connectors.Permanent(dsr.CodeInvalid, entity+": the entity is not in this system", "Run `lethe check`.", nil)
	}
	held := map[string]bool{}
	for _, tenant := range db.tenants(holds.Subjects) {
		more, err := db.held(holds, tenant)
		if err != nil {
			return nil, err
		}
		for k := range more {
			held[k] = true
		}
	}
	c, err := db.load(nil, held, "")
	if err != nil {
		return nil, err
	}
	s := &sweeping{c: c, blocked: map[*item]string{}}
	for _, i := range c.items {
		if i.e != e {
			continue
		}
		s.total++
		is, err := c.isDue(i, rule, cut)
		switch {
		case errors.Is(err, errUnread):
			s.unread++
		case err != nil:
			return nil, err
		case is && i.held:
			s.held++
		case is:
			s.going = append(s.going, i)
		}
	}
	if rule.Action == retention.Delete {
		err = s.decide(cut.Zone)
	}
	return s, err
}

// tenants are those of subjects under a hold; without any, the one of maps without tenants.
func (db *DB) tenants(b connectors.Batch) []string {
	out := []string{""}
	for _, s := range b {
		if !slices.Contains(out, s.Tenant) {
			out = append(out, s.Tenant)
		}
	}
	return out
}

// isDue reports whether a row's period has ended by a rule and by those before it.
func (c *closure) isDue(i *item, rule connectors.Rule, cut connectors.Cut) (bool, error) {
	if !meets(i.row, rule.When) {
		return false, nil
	}
	for _, b := range append([]connectors.Bound{{Rule: rule, Before: cut.Before}}, cut.After...) {
		if !meets(i.row, b.Rule.When) {
			continue // it does not wait for a rule that is not about it
		}
		ended, err := c.ended(i, b.Rule, b.Before, cut.Zone)
		if err != nil || !ended {
			return false, err
		}
	}
	return rule.Action != retention.Pseudonymise || !c.db.isMasked(i.e, i.t, i.row, rule.Masks), nil
}

// ended reports whether a row's starting point lies before a cut-off.
func (c *closure) ended(i *item, rule connectors.Rule, before time.Time, zone *time.Location) (bool, error) {
	start, begun, err := c.started(i, rule, zone)
	return begun && start.Before(before), err
}

// started is when a row's period began, if it has. What is due at once began before all time.
func (c *closure) started(i *item, rule connectors.Rule, zone *time.Location) (start time.Time, begun bool, err error) {
	start, begun, err = c.moment(i, rule.Start.Field, zone)
	if err != nil {
		return start, false, err
	}
	for _, r := range rule.Start.Latest {
		for _, child := range c.items {
			if child.e.Name != r.Entity || !slices.ContainsFunc(child.e.OwnedBy, func(tie connectors.Owner) bool {
				return slices.Contains(c.parents(child, tie), i)
			}) {
				continue
			}
			at, ok, err := c.moment(child, r.Field, zone)
			if err != nil || !ok {
				return start, false, err // what is related and has not ended
			}
			if !begun || at.After(start) {
				start, begun = at, true
			}
		}
	}
	switch {
	case begun:
		return start, true, nil
	case rule.Start.Null == retention.NullDue:
		return time.Time{}, true, nil
	case rule.Start.Null == retention.NullOther:
		return c.moment(i, rule.Start.NullField, zone)
	}
	return start, false, nil
}

// moment reads a date or a time; one without a zone is the controller's. Of what is neither the error is errUnread.
func (c *closure) moment(i *item, column string, zone *time.Location) (at time.Time, ok bool, err error) {
	if column == "" || i.row[column] == nil {
		return time.Time{}, false, nil
	}
	if zone == nil {
		zone = time.UTC
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text(i.row[column]), zone); err == nil {
			return at, true, nil
		}
	}
	return time.Time{}, false, errUnread
}

// isMasked reports whether nothing would change if a rule's masks were applied again.
func (db *DB) isMasked(e *connectors.Entity, t *Table, r Row, masks map[string]mask.Spec) bool {
	for name, spec := range masks {
		v := r[name]
		switch {
		case v == nil:
			if spec.Kind == mask.Constant || spec.Kind == mask.Random {
				return false
			}
		case spec.Kind == mask.Random || spec.Kind == mask.HMAC:
			if !mask.Made(text(v), db.target(e, t, name).Format) {
				return false
			}
		default:
			if again, err := db.masked(e, t, name, v, spec, nil); err != nil || text(again) != text(v) {
				return false
			}
		}
	}
	return true
}

// decide works out what goes with the due rows: everything that they alone own. A due row is blocked when a row would
// stay that refers to it; then what it owns stays as well, and so the decision is taken again without it.
func (s *sweeping) decide(zone *time.Location) error {
	if zone == nil {
		zone = time.UTC
	}
	for {
		blocked, stay, err := s.family(zone)
		if err != nil {
			return err
		}
		if len(blocked)+len(stay) == 0 {
			return nil
		}
		for i, by := range blocked {
			s.blocked[i] = by
		}
		s.going = slices.DeleteFunc(s.going, func(i *item) bool { return blocked[i] != "" })
		for _, i := range stay {
			i.held = true // an owner who lives
		}
	}
}

// family decides once. It returns due rows that are blocked, and other rows that stay although all their owners go.
func (s *sweeping) family(zone *time.Location) (blocked map[*item]string, stay []*item, err error) {
	c := s.c
	for _, i := range c.items {
		i.touched, i.doomed, i.seed, i.action, i.nulls, i.subjects = false, false, false, "", nil, map[string]bool{}
	}
	for _, i := range s.going {
		i.touched, i.seed = true, true
		i.subjects[string(i.key)] = true
	}
	for c.step() {
	}
	type why struct {
		i  *item
		by string
	}
	var staying []why
	for _, i := range c.items {
		young, _, err := c.minimum(i, c.db.now().In(zone))
		if err != nil {
			return nil, nil, err
		}
		switch {
		case i.doomed && i.seed:
			i.action = dsr.Delete
		case i.doomed && (i.e.Keep != nil || young):
		case i.doomed:
			i.action = method(i.e)
		case i.touched && !i.held && len(c.leaving(i)) > 0:
			i.action = dsr.Release
		}
		if i.action != dsr.Delete {
			staying = append(staying, why{i, i.e.Name})
		}
	}
	blocked = map[*item]string{}
	block := func(p *item, by string) {
		if p.action != dsr.Delete {
			return
		}
		if p.action = ""; p.seed {
			blocked[p] = by
		}
		staying = append(staying, why{p, by})
	}
	for n := 0; n < len(staying); n++ {
		i, by := staying[n].i, staying[n].by
		for _, tie := range slices.Concat(i.e.OwnedBy, i.e.Owns) {
			for _, p := range c.parents(i, tie) {
				nullable := slices.IndexFunc(tie.Columns, func(name string) bool { return i.t.column(name).Nullable })
				switch {
				case p == i || p.action != dsr.Delete || c.rewrites(i, tie):
				case i.action == dsr.Release && nullable >= 0:
					i.nulls = append(i.nulls, tie.Columns[nullable])
				default:
					block(p, by)
				}
			}
		}
		if i.doomed && i.action == "" { // it keeps the memberships through which it is owned
			for _, m := range c.memberships(i) {
				block(m, by)
			}
		}
	}
	for _, i := range c.items {
		if i.doomed && i.action == "" && !i.seed {
			stay = append(stay, i)
		}
	}
	return blocked, stay, nil
}
