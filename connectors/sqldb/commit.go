package sqldb

import (
	"context"
	"encoding/json"
	"slices"
)

// commit makes the intent durable, then commits.
func (e *erasure) commit(ctx context.Context, tx transaction, w *work, then checkpointPosition) error {
	e.job.Journal.Step(StepChanged)
	if !w.changed() {
		if err := tx.commit(ctx); err != nil {
			return err
		}
		e.position(then)
		return nil
	}
	in := &intent{Tallies: w.tallies(), Then: then, Probe: w.probe, XID: w.xid}
	cp := e.cp
	cp.Intent = in
	b, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	if err := e.journal(ctx, b); err != nil {
		return err
	}
	e.job.Journal.Step(StepIntent)
	if err := tx.commit(ctx); err != nil {
		// It may have been committed all the same: the next call finds out from the intent.
		return &uncertainError{err}
	}
	e.job.Journal.Step(StepCommitted)
	e.done, e.moved = in.Tallies, true
	e.cp.Chunks++
	e.position(then)
	return nil
}

// uncertainError is a COMMIT whose outcome is not known. It must not be followed by a Save in the same call: the
// intent in the journal is what resolves it.
type uncertainError struct{ err error }

func (u *uncertainError) Error() string { return u.err.Error() }
func (u *uncertainError) Unwrap() error { return u.err }

func (e *erasure) position(p checkpointPosition) {
	e.moved = e.moved || p.Next != e.cp.Next || p.Heavy != e.cp.Heavy || p.Mentions != e.cp.Mentions ||
		p.Batch != e.cp.Batch || p.Entity != e.cp.Entity || !slices.Equal(p.After, e.cp.After)
	e.cp.Next, e.cp.Heavy, e.cp.Mentions, e.cp.Entity, e.cp.Batch, e.cp.After = p.Next, p.Heavy, p.Mentions, p.Entity, p.Batch, p.After
	e.cp.Intent, e.dirty = nil, true
}

// resolve settles a transaction that was interrupted around its commit.
func (e *erasure) resolve(ctx context.Context) error {
	in := e.cp.Intent
	if in == nil {
		return nil
	}
	committed, err := e.wasCommitted(ctx, in)
	if err != nil {
		return err
	}
	e.cp.Intent = nil
	if committed {
		for _, t := range in.Tallies {
			t.Resolved = true
			e.done = append(e.done, t)
		}
		e.cp.Chunks++
		e.position(in.Then)
		return e.save(ctx)
	}
	return nil
}

func (e *erasure) wasCommitted(ctx context.Context, in *intent) (bool, error) {
	tx, err := e.d.begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.rollback()
	if committed, known, err := e.d.outcome(ctx, tx, in.XID); known || err != nil {
		return committed, err
	}
	p := in.Probe
	if p == nil {
		return false, nil
	}
	en := e.m.byName[p.Entity]
	k, ok := parseKey(p.Key)
	if en == nil || !ok || len(k) != len(en.key) {
		return false, nil
	}
	s := e.d.dialect.statement("SELECT 1")
	for _, c := range en.mentions {
		s.add(", ").selected("", c)
	}
	s.add(" FROM ", en.from, " WHERE ").in("", en.key, []key{k})
	if c := en.columns[p.Column]; c != nil {
		s.add(" AND ", c.quoted, " = ").value(c, cell{p.Value, true})
	}
	s.add(e.d.dialect.forUpdate(true)) // waits for a transaction that is still committing
	present := false
	err = tx.run(ctx, s.call(func(values [][]byte) error {
		present = true
		if !p.Mention {
			return nil
		}
		present = false
		for tenant := range tenantsOf(e.batch) {
			if mentionedIn(e.matcherOf(tenant), en, values[1:]) {
				present = true
			}
		}
		return nil
	}))
	return !present, err
}

// outcome asks PostgreSQL whether a transaction was committed. It forgets those of long ago.
func (d *DB) outcome(ctx context.Context, s session, xid string) (committed, known bool, err error) {
	if xid == "" {
		return false, false, nil
	}
	status := ""
	q := d.dialect.statement("SELECT pg_xact_status(").arg(xid).add("::text::xid8)")
	if err := s.run(ctx, q.call(func(values [][]byte) error { status = string(values[0]); return nil })); err != nil {
		return false, false, err
	}
	if status == "in progress" {
		return false, false, transient("the interrupted transaction has not ended yet", nil)
	}
	return status == "committed", status == "committed" || status == "aborted", nil
}
