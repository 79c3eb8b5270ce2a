package engine

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Reasons why an erasure does not run for now.
const (
	reasonHeld       = "held"       // its subject is under a legal hold: Art. 17(3)(e)
	reasonRestricted = "restricted" // its subject asked for a restriction: Art. 18
)

// holdsOn returns the Holds that last on the subject of a Request.
func (f *flow) holdsOn(r *dsr.Request) ([]*dsr.Hold, error) {
	if r.Kind != dsr.Erasure {
		return nil, nil
	}
	var commitments []string
	for _, s := range slices.Concat(f.sealed[r.ID], f.c.learned) {
		if s.Request == r.ID {
			commitments = append(commitments, s.Commitment)
		}
	}
	return f.c.tx.HoldsOn(r.Tenant, commitments)
}

// holdBack leaves an approved erasure until the Holds on its subject are lifted: deferred by a legal hold, for the
// subject is answered with Art. 17(3)(e) and Lethe still has to act; for a person to decide where the subject asked for
// a restriction, since only they, or the DPO for them, can say which of their two wishes counts. It returns when its
// Tasks are looked at again by themselves.
func (c *changes) holdBack(r *dsr.Request, holds []*dsr.Hold) (until time.Time) {
	legal := slices.DeleteFunc(slices.Clone(holds), func(h *dsr.Hold) bool { return h.Restriction })
	if len(legal) == 0 {
		c.attention(r, reasonRestricted, "the subject's data is restricted by "+holds[0].ID+
			" (Art. 18); lift that when the erasure is to go ahead, and this request goes on by itself",
			detail{"hold": holds[0].ID})
		return c.now.Add(parked)
	}
	for _, h := range legal {
		if h.Review.After(until) {
			until = h.Review
		}
	}
	if !until.After(c.now) { // its review is overdue, which is told elsewhere
		until = c.now.Add(24 * time.Hour)
	}
	r.DeferTo, r.Reason = &until, reasonHeld
	r.Hint = "the subject is under the legal hold " + legal[0].ID + " (Art. 17(3)(e)); when it is lifted, this request goes on by itself"
	c.to(r, dsr.Deferred, "deferred", detail{
		"reason": reasonHeld, "hold": legal[0].ID, "until": until.UTC().Format(time.DateOnly),
	})
	return until
}

// heldBack reports whether a Request waits for a Hold on its subject to be lifted.
func heldBack(r *dsr.Request) bool {
	return r.State == dsr.Deferred && r.Reason == reasonHeld || r.State == dsr.NeedsAttention && r.Reason == reasonRestricted
}

// waitForHold makes a Task wait for the same.
func (c *changes) waitForHold(t *dsr.Task, until time.Time) {
	t.Phase, t.State, t.Run, t.Reason, t.Hint, t.NotBefore = dsr.PhaseErase, dsr.TaskPending, "", reasonHeld, "", until
	c.task(t)
}

// heldMembers returns the Holds on the subjects of members, by Request.
func (c *changes) heldMembers(ms []*member) (map[string][]*dsr.Hold, error) {
	byTenant := map[string][]string{}
	for _, m := range ms {
		for _, s := range m.sealed {
			byTenant[m.request.Tenant] = append(byTenant[m.request.Tenant], s.Commitment)
		}
	}
	held := map[string][]*dsr.Hold{}
	for tenant, commitments := range byTenant {
		holds, err := c.tx.HoldsOn(tenant, commitments)
		if err != nil {
			return nil, err
		}
		for _, h := range holds {
			for _, m := range ms {
				if m.request.Tenant == tenant && slices.ContainsFunc(m.sealed, func(s SealedIdentifier) bool {
					return slices.Contains(h.Commitments, s.Commitment)
				}) && !slices.Contains(held[m.request.ID], h) {
					held[m.request.ID] = append(held[m.request.ID], h)
				}
			}
		}
	}
	return held, nil
}

// releaseHeld lets Requests go on whose subject is no longer held, under the Plan that was approved: it is located
// again before anything is changed. With lifted it also looks again at what was left because of Holds on others.
func (e *Engine) releaseHeld(ctx context.Context, lifted bool) error {
	cur, err := e.current(ctx)
	if err != nil {
		return nil //nolint:nilerr // without a data map nothing can go on
	}
	var waiting []string
	err = e.c.Store.InTx(ctx, func(tx Tx) error {
		waiting = waiting[:0]
		f := RequestFilter{States: []dsr.State{dsr.Deferred, dsr.NeedsAttention}, Kind: dsr.Erasure, Limit: upkeepBatch}
		for {
			page, next, err := tx.ListRequests(f)
			if err != nil {
				return err
			}
			for _, r := range page {
				if heldBack(r) || lifted && r.State == dsr.Deferred {
					waiting = append(waiting, r.ID)
				}
			}
			if f.Cursor = next; next == "" {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	for _, id := range waiting {
		if err := e.releaseOne(ctx, id, cur); err != nil {
			return err
		}
	}
	if lifted {
		return e.reopen(ctx)
	}
	return nil
}

func (e *Engine) releaseOne(ctx context.Context, id string, cur *atlas) error {
	before, err := e.Get(ctx, dsr.Engine, id)
	if err != nil {
		return err
	}
	m, err := e.atlas(ctx, before.MapVersion)
	if err != nil {
		return err
	}
	return e.change(ctx, dsr.Engine, func(c *changes) error {
		f, err := c.flow([]string{id}, cur)
		if err != nil {
			return err
		}
		r := f.requests[id]
		switch {
		case r == nil || r.MapVersion != m.version:
			return nil
		case !heldBack(r):
			if r.State == dsr.Deferred && slices.ContainsFunc(waiting(f.tasks[id]...), func(w dsr.Residue) bool {
				return w.Waits.Cause == dsr.CauseHold
			}) {
				at := c.now // reopen searches it again
				r.DeferTo = &at
				c.note(r, "released", nil)
			}
			return nil
		}
		holds, err := f.holdsOn(r)
		if err != nil {
			return err
		}
		if len(holds) > 0 {
			if r.State == dsr.Deferred && !r.DeferTo.After(c.now) {
				c.holdBack(r, holds) // by its next review
			}
			return nil
		}
		p, err := f.planOf(id)
		if err != nil {
			return err
		}
		r.DeferTo = nil
		c.to(r, dsr.Running, "released", nil)
		return f.start(r, m, f.tasks[id], p)
	})
}
