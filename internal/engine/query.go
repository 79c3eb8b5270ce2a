package engine

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// visible reports whether an actor may see a Request: of a tenant they act for, and for a portal one that it filed.
func visible(a dsr.Actor, r *dsr.Request) bool {
	return a.MayReach(r.Tenant) && (!a.OnlyOwn() || r.FiledBy == a.ID)
}

// read runs fn on a Request that the actor may see.
func (e *Engine) read(ctx context.Context, a dsr.Actor, id string, fn func(tx Tx, r *dsr.Request) error) error {
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		r, err := tx.Request(id)
		if dsr.CodeOf(err) == dsr.CodeNotFound {
			return noRequest()
		}
		if err != nil {
			return err
		}
		if !visible(a, r) {
			return noRequest()
		}
		return fn(tx, r)
	})
}

// Get returns a Request.
func (e *Engine) Get(ctx context.Context, a dsr.Actor, id string) (*dsr.Request, error) {
	var out *dsr.Request
	err := e.read(ctx, a, id, func(_ Tx, r *dsr.Request) error {
		out = r
		return nil
	})
	return out, err
}

// List returns a page of the Requests that the actor may see, nearest deadline first. A search by identifier is by
// its commitment: the value reaches no log and no query text.
func (e *Engine) List(ctx context.Context, a dsr.Actor, f Filter) ([]*dsr.Request, string, error) {
	rf := RequestFilter{Kind: f.Kind, States: f.States, Tenants: a.Tenants, Cursor: f.Cursor, Limit: f.Limit}
	if a.OnlyOwn() {
		rf.FiledBy = a.ID
	}
	if f.Tenant != "" {
		if !a.MayReach(f.Tenant) {
			return nil, "", nil
		}
		rf.Tenants = []string{f.Tenant}
	}
	commitments := []string{""}
	if f.Identifier != nil {
		m, err := e.current(ctx)
		if err != nil {
			return nil, "", err
		}
		if m.Tenants != "" && f.Tenant == "" { // commitments are made per tenant: none would match
			return nil, "", &dsr.Error{
				Code: dsr.CodeInvalid, Field: "tenant", Msg: "is needed to search by an identifier", Hint: "name the tenant",
			}
		}
		ids, err := e.normaliseAll(m, []RawIdentifier{*f.Identifier})
		if err != nil {
			return nil, "", err
		}
		if commitments, err = e.candidates(f.Tenant, ids); err != nil {
			return nil, "", err
		}
	}
	var page []*dsr.Request
	var next string
	err := e.c.Store.InTx(ctx, func(tx Tx) error {
		page, next = nil, ""
		for _, c := range commitments {
			rf.Commitment = c
			rs, n, err := tx.ListRequests(rf)
			if err != nil {
				return err
			}
			page, next = append(page, rs...), n
			if len(rs) > 0 {
				break
			}
		}
		return nil
	})
	return page, next, err
}

// Plan returns the latest Plan and its hash; CodeNotFound before there is one.
func (e *Engine) Plan(ctx context.Context, a dsr.Actor, id string) (hash string, p *dsr.Plan, err error) {
	err = e.read(ctx, a, id, func(tx Tx, _ *dsr.Request) error {
		hash, p, err = tx.PlanOf(id)
		if dsr.CodeOf(err) == dsr.CodeNotFound {
			return &dsr.Error{Code: dsr.CodeNotFound, Msg: "the request has no plan yet", Hint: "it is made when discovery ends"}
		}
		return err
	})
	return hash, p, err
}

// Tasks returns a Request's Tasks by System. What still waits when a Request ends is shown as cancelled: no Run will
// claim it.
func (e *Engine) Tasks(ctx context.Context, a dsr.Actor, id string) ([]*dsr.Task, error) {
	var out []*dsr.Task
	err := e.read(ctx, a, id, func(tx Tx, r *dsr.Request) (err error) {
		out, err = tx.TasksOf(id)
		for _, t := range out {
			if r.State.Final() && t.State == dsr.TaskPending {
				t.State = dsr.TaskCancelled
			}
		}
		return err
	})
	return out, err
}

// maxEvents is the longest page of a timeline.
const maxEvents = 500

// Events returns a page of the timeline, oldest first.
func (e *Engine) Events(ctx context.Context, a dsr.Actor, id string, after int64, limit int) ([]dsr.Event, error) {
	if limit <= 0 || limit > maxEvents {
		limit = maxEvents
	}
	var out []dsr.Event
	err := e.read(ctx, a, id, func(tx Tx, _ *dsr.Request) (err error) {
		out, err = tx.Events(id, after, limit)
		return err
	})
	return out, err
}

// Stats feeds the metrics. Rules are those of the current map.
func (e *Engine) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		s, err = tx.Stats(e.now())
		return err
	})
	if err != nil {
		return s, err
	}
	known := s.Rules
	s.Rules, s.Active = nil, map[string]bool{}
	m, err := e.current(ctx)
	if err != nil {
		return s, nil //nolint:nilerr // without a data map there are no rules
	}
	for _, r := range m.running() {
		state := retention.RuleState{Rule: r.Name}
		if i := slices.IndexFunc(known, func(o retention.RuleState) bool { return o.Rule == r.Name }); i >= 0 {
			state = known[i]
		}
		s.Rules = append(s.Rules, state)
		s.Active[r.Name] = !s.SweepsHalted && state.PausedAt == nil && !needsApproval(r, &state)
	}
	return s, nil
}

// Reveal returns a Request's identifiers to a person who gave a reason. That it was done, by whom and why is in the
// timeline; an auditor or a machine never sees them.
func (e *Engine) Reveal(ctx context.Context, a dsr.Actor, id, reason string) ([]dsr.Identifier, error) {
	if a.System || !slices.ContainsFunc([]string{dsr.RoleDPO, dsr.RoleOperator}, a.Has) {
		return nil, &dsr.Error{Code: dsr.CodeForbidden, Msg: "identifiers are shown to persons with the role dpo or operator only"}
	}
	if code(reason) == "other" {
		return nil, invalid("reason", "is not a short code", "such as identity-check or ambiguous-match")
	}
	if _, err := e.Get(ctx, a, id); err != nil {
		return nil, err
	}
	var ids []dsr.Identifier
	err := e.change(ctx, a, func(c *changes) error {
		rs, err := c.tx.LockRequests(id)
		if err != nil {
			return err
		}
		if len(rs) == 0 {
			return noRequest()
		}
		sealed, err := c.tx.IdentifiersOf(id)
		if err != nil {
			return err
		}
		keys, err := c.tx.DataKeys(id)
		if err != nil {
			return err
		}
		m := &member{request: rs[0], sealed: sealed[id], wrapped: keys[id]}
		if err := e.open(ctx, m); err != nil {
			return err
		}
		ids = m.ids
		c.note(rs[0], "revealed", detail{"reason": code(reason)})
		return nil
	})
	return ids, err
}
