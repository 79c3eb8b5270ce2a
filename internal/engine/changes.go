package engine

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/ledger"
)

// changes collects what one transaction does to a batch of Requests, so that it is written in a few statements
// however many there are: every change of a Request with its event, its leaf and the work that follows.
type changes struct {
	e     *Engine
	tx    Tx
	now   time.Time
	actor string

	requests     map[string]*dsr.Request
	tasks        map[string]*dsr.Task
	inserted     []*dsr.Request
	wrapped      [][]byte // data keys of inserted
	fresh        []*dsr.Task
	plans        []*dsr.Plan
	events       []dsr.Event
	leaves       []ledger.Leaf
	learned      []SealedIdentifier
	suppressions []Suppression
	forget       []string
	forgetBut    map[string][]string // names of identifiers that are still needed, by Request
	hourly       map[dsr.Kind]int64  // requests filed within the hour, read once
	drop         []string            // Tasks whose spool goes
	work         []nudge
	after        []func() // once committed: metrics, staged files
}

type nudge struct {
	work Work
	at   time.Time
}

func (e *Engine) changes(tx Tx, a dsr.Actor) *changes {
	return &changes{
		e: e, tx: tx, now: e.now(), actor: a.ID, requests: map[string]*dsr.Request{}, tasks: map[string]*dsr.Task{},
		forgetBut: map[string][]string{},
	}
}

// detail is what an event says: codes, counts and hashes.
type detail = map[string]string

func count(n int64) string { return strconv.FormatInt(n, 10) }

// note writes an event and its leaf without a change of state.
func (c *changes) note(r *dsr.Request, kind string, d detail) { c.to(r, r.State, kind, d) }

// to moves a Request. Leaving needs_attention or deferred clears the reason why it was there.
func (c *changes) to(r *dsr.Request, state dsr.State, kind string, d detail) {
	from := r.State
	if from != state {
		r.State = state
		if state != dsr.NeedsAttention && state != dsr.Deferred && state != dsr.Refused {
			if r.Reason != reasonDrift {
				r.Reason = ""
			}
			r.Hint = ""
		}
		if state.Final() {
			at := c.now
			r.ClosedAt = &at
		}
		if m := c.e.c.Metrics; m != nil {
			c.after = append(c.after, func() {
				m.Transition(r.Kind, from, state)
				if state.Final() {
					m.Finished(r.Kind, state, c.now.Sub(r.CreatedAt))
				}
			})
		}
	}
	r.UpdatedAt = c.now
	if !c.isNew(r) {
		c.requests[r.ID] = r
	}
	c.record(r, from, state, kind, d)
}

// filed inserts a Request with its data key, and writes its first event.
func (c *changes) filed(r *dsr.Request, wrapped []byte, d detail) {
	c.inserted = append(c.inserted, r)
	c.wrapped = append(c.wrapped, wrapped)
	c.record(r, "", r.State, "filed", d)
}

func (c *changes) isNew(r *dsr.Request) bool { return slices.Contains(c.inserted, r) }

func (c *changes) record(r *dsr.Request, from, state dsr.State, kind string, d detail) {
	c.events = append(c.events, dsr.Event{
		Request: r.ID, At: c.now, Actor: c.actor, Type: kind, From: from, To: state, Detail: d,
	})
	c.leaf(r, kind, "", d)
}

// leaf appends evidence alone.
func (c *changes) leaf(r *dsr.Request, kind, system string, d detail) {
	full := maps.Clone(d)
	if full == nil {
		full = detail{}
	}
	full["kind"], full["state"] = string(r.Kind), string(r.State)
	c.leaves = append(c.leaves, ledger.Leaf{
		At: c.now.UTC().Truncate(time.Microsecond), Type: kind, Request: r.ID, System: system, Actor: c.actor,
		Subject: r.Subject, Detail: full,
	})
}

// mapActivated appends the evidence of a new version of the data map.
func (c *changes) mapActivated(version int, hash string) {
	c.evidence("map.activated", "", detail{"version": strconv.Itoa(version), "hash": hash})
}

// evidence appends a leaf of what belongs to no Request.
func (c *changes) evidence(kind, system string, d detail) {
	c.leaves = append(c.leaves, ledger.Leaf{
		At: c.now.UTC().Truncate(time.Microsecond), Type: kind, System: system, Actor: c.actor, Detail: d,
	})
}

// attention stops a Request until a person decides.
func (c *changes) attention(r *dsr.Request, reason, hint string, d detail) {
	if d == nil {
		d = detail{}
	}
	d["reason"] = reason
	r.Reason, r.Hint = reason, hint
	c.to(r, dsr.NeedsAttention, "needs_attention", d)
}

// task marks a Task as changed.
func (c *changes) task(t *dsr.Task) {
	t.Updated = c.now
	if !slices.Contains(c.fresh, t) {
		c.tasks[t.ID] = t
	}
}

// pend makes a Task wait for a Run of its phase, and nudges one. What is due at once carries no time, so that it is due
// for a machine whose clock is behind this one's too, or after this one's is set back.
func (c *changes) pend(t *dsr.Task, phase dsr.Phase, notBefore time.Time) {
	if !notBefore.After(c.now) {
		notBefore = time.Time{}
	}
	t.Phase, t.State, t.Run, t.Reason, t.Hint, t.NotBefore = phase, dsr.TaskPending, "", "", "", notBefore
	c.task(t)
	c.enqueue(Gather{System: t.System, Phase: phase}, notBefore)
}

// fail ends a Task's phase with a fault that a person must see.
func (c *changes) fail(t *dsr.Task, reason, hint string) {
	t.State, t.Reason, t.Hint = dsr.TaskFailed, reason, hint
	c.task(t)
	if m := c.e.c.Metrics; m != nil {
		system, phase := t.System, t.Phase
		c.after = append(c.after, func() { m.TaskFailed(system, phase, reason) })
	}
}

// enqueue adds work, once per transaction; a time that has come is as soon as possible.
func (c *changes) enqueue(w Work, at time.Time) {
	if !at.After(c.now) {
		at = time.Time{}
	}
	n := nudge{w, at}
	if !slices.Contains(c.work, n) {
		c.work = append(c.work, n)
	}
}

// flush writes everything. Call it last in the transaction.
func (c *changes) flush() error {
	for i, r := range c.inserted {
		if err := c.tx.InsertRequest(r); err != nil {
			return err
		}
		if err := c.tx.PutDataKey(r.ID, c.wrapped[i]); err != nil {
			return err
		}
	}
	for _, write := range []func() error{
		func() error { return c.tx.UpdateRequests(inOrder(c.requests)...) },
		func() error { return c.tx.InsertTasks(c.fresh...) },
		func() error { return c.tx.UpdateTasks(inOrder(c.tasks)...) },
		func() error { return skipEmpty(c.learned, c.tx.AddIdentifiers) },
		func() error { return skipEmpty(c.plans, c.tx.PutPlans) },
		func() error { return skipEmpty(c.events, c.tx.AddEvents) },
		func() error { return skipEmpty(c.leaves, c.tx.AppendLeaves) },
		func() error { return skipEmpty(c.suppressions, c.tx.AddSuppressions) },
		func() error { return skipEmpty(c.drop, c.tx.DropSpool) },
		func() error {
			for _, r := range slices.Sorted(maps.Keys(c.forgetBut)) {
				if err := c.tx.ForgetBut(r, c.forgetBut[r]); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return skipEmpty(c.forget, c.tx.Forget) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	for _, n := range c.work {
		if err := c.tx.Enqueue(n.work, n.at); err != nil {
			return err
		}
	}
	return nil
}

func skipEmpty[T any](rows []T, write func(...T) error) error {
	if len(rows) == 0 {
		return nil
	}
	return write(rows...)
}

// inOrder returns a map's values in the order of its keys: rows are locked in one order everywhere.
func inOrder[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// change runs fn in a transaction, writes what it collected, and calls what waits for the commit.
func (e *Engine) change(ctx context.Context, a dsr.Actor, fn func(c *changes) error) error {
	var last *changes
	err := e.c.Store.InTx(ctx, func(tx Tx) error {
		c := e.changes(tx, a)
		if err := fn(c); err != nil {
			return err
		}
		last = c
		return c.flush()
	})
	if err != nil {
		return err
	}
	for _, f := range last.after {
		f()
	}
	return nil
}
