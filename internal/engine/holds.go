package engine

import (
	"cmp"
	"context"
	"regexp"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// reference is what the file number of a matter looks like. Free text could name a person.
var reference = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`)

// learnWithin bounds how long placing a Hold waits for Systems that teach. Without them the Hold holds what was given, and
// says so (Unlearned); the rest is learned by a scheduled job, and before the next Sweep or Run.
const learnWithin = 20 * time.Second

// PlaceHold implements [Retention].
func (e *Engine) PlaceHold(ctx context.Context, a dsr.Actor, n NewHold) (*dsr.Hold, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	h := &dsr.Hold{
		ID: e.newID("hold_"), Restriction: n.Restriction, Tenant: n.Tenant, System: n.System, Entity: n.Entity, When: n.When,
		Reference: n.Reference, Request: n.Request, Review: n.Review.Truncate(time.Microsecond), PlacedBy: a.ID, CreatedAt: e.now(),
		Version: 1,
	}
	if err := e.validateHold(ctx, a, m, h, n); err != nil {
		return nil, err
	}
	var ids []dsr.Identifier
	switch {
	case n.Entity != "":
		return h, e.change(ctx, a, func(c *changes) error { return c.place(h, nil, nil) })
	case n.Request != "":
		var last *dsr.Hold
		if ids, last, err = e.restricted(ctx, a, n.Request, h); last != nil {
			return last, err
		}
	default:
		ids, err = e.normaliseAll(m, n.Identifiers)
	}
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	news, err := e.learn(within, m, connectors.Batch{{Ref: h.ID, Tenant: h.Tenant, Identifiers: ids}})
	if err != nil {
		h.Unlearned = cmp.Or(string(dsr.CodeOf(err)), reasonFault)
		e.c.Logger.WarnContext(ctx, "a hold was placed before everything about its subject was learned", "hold", h.ID,
			"code", h.Unlearned)
	}
	wrapped, key, err := e.c.Cipher.NewDataKey(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := e.sealForHold(h, key, append(ids, news[h.ID]...))
	if err != nil {
		return nil, err
	}
	for _, s := range sealed {
		h.Commitments = append(h.Commitments, s.Commitment)
	}
	return h, e.change(ctx, a, func(c *changes) error { return c.place(h, wrapped, sealed) })
}

// place stores a Hold, and makes every Sweep look again before its next chunk, and Systems that delete by themselves heed it.
func (c *changes) place(h *dsr.Hold, wrapped []byte, sealed []SealedIdentifier) error {
	if err := c.tx.LockSubjects(lockOfHolds); err != nil {
		return err
	}
	if err := c.tx.InsertHold(h, wrapped); err != nil {
		return err
	}
	if err := skipEmpty(sealed, c.tx.AddHoldIdentifiers); err != nil {
		return err
	}
	c.holdLeaf("hold.placed", h)
	c.enqueue(Heed{System: h.System}, c.now)
	return c.tx.InterruptSweeps("")
}

// holdLeaf is the evidence of what happened to a Hold: of whom it is no word, and of what conditions their number.
func (c *changes) holdLeaf(kind string, h *dsr.Hold) {
	d := detail{"hold": h.ID, "kind": holdKind(h), "version": count(h.Version)}
	if h.Reference != "" {
		d["reference"] = h.Reference
	}
	if !h.Review.IsZero() {
		d["review"] = h.Review.UTC().Format(time.DateOnly)
	}
	if h.Request != "" {
		d["request"] = h.Request
	}
	if h.Entity != "" {
		d["entity"], d["conditions"] = h.Entity, strconv.Itoa(len(h.When))
	}
	c.evidence(kind, h.System, d)
}

func holdKind(h *dsr.Hold) string {
	if h.Restriction {
		return "restriction"
	}
	return "legal"
}

// validateHold checks what was given.
func (e *Engine) validateHold(ctx context.Context, a dsr.Actor, m *atlas, h *dsr.Hold, n NewHold) error {
	ways := 0
	for _, given := range []bool{len(n.Identifiers) > 0, n.Request != "", n.Entity != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return invalid("identifiers", "says what is held in no way or in several",
			"give the identifiers of a subject, or a restriction request of theirs, or a system and an entity")
	case h.Reference != "" && !reference.MatchString(h.Reference):
		return invalid("reference", "is not a file number", "letters, digits and ._-/ only; never a person's name")
	case !h.Restriction && h.Reference == "":
		return invalid("reference", "is missing", "the file number of the matter; never a person's name")
	case !h.Restriction && h.Review.IsZero():
		return invalid("review", "is missing", "a legal hold is looked at again by a date")
	case !h.Review.IsZero() && !h.Review.After(e.now()):
		return invalid("review", "is not in the future", "")
	case n.Request != "" && !h.Restriction:
		return invalid("request", "is for restrictions only", "a legal hold names identifiers or an entity")
	case n.Request != "":
		return nil // its tenant is the Request's
	case n.Entity != "":
		return e.validateFrozen(ctx, a, m, h)
	case n.System != "" || len(n.When) > 0:
		return invalid("system", "goes with an entity", "a hold on a subject reaches every system")
	}
	return e.validateTenant(a, m, h.Tenant)
}

// restricted returns the identifiers of an open restriction Request, whose tenant the Hold takes, and the Hold that there
// is for it already.
func (e *Engine) restricted(ctx context.Context, a dsr.Actor, request string, h *dsr.Hold) ([]dsr.Identifier, *dsr.Hold, error) {
	m := &member{}
	var last []*dsr.Hold
	err := e.read(ctx, a, request, func(tx Tx, r *dsr.Request) error {
		if r.Kind != dsr.Restriction {
			return invalid("request", "is not a restriction request", "")
		}
		if err := inState(r, "restrict by", dsr.Manual, dsr.NeedsAttention); err != nil {
			return err
		}
		var err error
		if last, _, err = tx.ListHolds(HoldSelection{Request: request, Limit: 1}); err != nil {
			return err
		}
		sealed, err := tx.IdentifiersOf(request)
		if err != nil {
			return err
		}
		keys, err := tx.DataKeys(request)
		m.request, m.sealed, m.wrapped = r, sealed[request], keys[request]
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(last) > 0 {
		return nil, last[0], nil
	}
	h.Tenant = m.request.Tenant
	err = e.open(ctx, m)
	return m.ids, nil, err
}

// reasonPending is of a Hold that Lethe has not asked any System about yet.
const reasonPending = "pending"

// restrict places the Hold of a restriction Request whose work begins, unless one was placed for it: from when it is known
// who asks, the data is stored and nothing else (Art. 18(2)), for what a Sweep deletes meanwhile nobody can restrict.
func (f *flow) restrict(ctx context.Context, r *dsr.Request) error {
	if r.Kind != dsr.Restriction || r.State != dsr.Manual {
		return nil
	}
	keys, err := f.c.tx.DataKeys(r.ID)
	if err != nil {
		return err
	}
	m := &member{request: r, sealed: f.sealed[r.ID], wrapped: keys[r.ID]}
	if err := f.c.e.open(ctx, m); err != nil {
		return err
	}
	return f.c.restrict(ctx, r, m.ids)
}

func (c *changes) restrict(ctx context.Context, r *dsr.Request, ids []dsr.Identifier) error {
	if last, err := c.restrictionsOf(r); err != nil || len(last) > 0 {
		return err
	}
	h := &dsr.Hold{
		ID: c.e.newID("hold_"), Restriction: true, Tenant: r.Tenant, Request: r.ID, PlacedBy: c.actor, CreatedAt: c.now, Version: 1,
		Unlearned: reasonPending,
	}
	wrapped, key, err := c.e.c.Cipher.NewDataKey(ctx)
	if err != nil {
		return err
	}
	sealed, err := c.e.sealForHold(h, key, ids)
	if err != nil {
		return err
	}
	c.note(r, "restricted", detail{"hold": h.ID})
	c.enqueue(Tick{Name: TickDeferred}, c.now) // which asks the Systems what else the subject is called
	return c.place(h, wrapped, sealed)
}

// restrictionsOf returns the Hold of a Request that lasts, where there is one.
func (c *changes) restrictionsOf(r *dsr.Request) ([]*dsr.Hold, error) {
	last, _, err := c.tx.ListHolds(HoldSelection{Request: r.ID, Limit: maxRetentionPage})
	return last, err
}

// unrestrict lifts what holds for a restriction Request that is refused or withdrawn.
func (c *changes) unrestrict(r *dsr.Request) error {
	if err := c.tx.LockSubjects(lockOfHolds); err != nil {
		return err
	}
	last, err := c.restrictionsOf(r)
	if err != nil {
		return err
	}
	for _, h := range last {
		at := c.now
		h.LiftedAt, h.LiftedBy = &at, c.actor
		if err := c.tx.UpdateHold(h); err != nil {
			return err
		}
		c.holdLeaf("hold.lifted", h)
		if err := c.tx.ForgetHold(h.ID); err != nil {
			return err
		}
		c.enqueue(Tick{Name: TickDeferred}, c.now) // which lets go on what waited for it
		c.enqueue(Heed{System: h.System}, c.now)
	}
	return nil
}

// ReviewHold implements [Retention].
func (e *Engine) ReviewHold(ctx context.Context, a dsr.Actor, id string, version int64, review time.Time) (*dsr.Hold, error) {
	return e.decideHold(ctx, a, id, version, func(c *changes, h *dsr.Hold) error {
		if !review.After(c.now) {
			return invalid("review", "is not in the future", "")
		}
		h.Review = review.Truncate(time.Microsecond)
		if err := c.tx.UpdateHold(h); err != nil {
			return err
		}
		c.holdLeaf("hold.reviewed", h)
		return nil
	})
}

// LiftHold implements [Retention].
func (e *Engine) LiftHold(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Hold, error) {
	h, err := e.decideHold(ctx, a, id, version, func(c *changes, h *dsr.Hold) error {
		at := c.now
		h.LiftedAt, h.LiftedBy = &at, a.ID
		if err := c.tx.UpdateHold(h); err != nil {
			return err
		}
		c.holdLeaf("hold.lifted", h)
		c.enqueue(Heed{System: h.System}, c.now)
		return c.tx.ForgetHold(id)
	})
	if err != nil {
		return nil, err
	}
	// The Hold is lifted whatever becomes of this: a scheduled job looks again.
	if err := e.releaseHeld(ctx, true); err != nil {
		e.c.Logger.WarnContext(ctx, "what a lifted hold kept goes on later", "hold", id, "code", dsr.CodeOf(err))
	}
	return h, nil
}

// decideHold runs a decision on a Hold that lasts, of the version that the caller saw.
func (e *Engine) decideHold(
	ctx context.Context, a dsr.Actor, id string, version int64, fn func(c *changes, h *dsr.Hold) error,
) (*dsr.Hold, error) {
	var out *dsr.Hold
	err := e.change(ctx, a, func(c *changes) error {
		if err := c.tx.LockSubjects(lockOfHolds); err != nil {
			return err
		}
		h, err := c.tx.HoldOf(id)
		switch {
		case dsr.CodeOf(err) == dsr.CodeNotFound || err == nil && !a.MayReach(h.Tenant):
			return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such hold"}
		case err != nil:
			return err
		case h.Version != version:
			return &dsr.Error{Code: dsr.CodeConflict, Msg: "the hold has changed meanwhile", Hint: "read it again"}
		case h.LiftedAt != nil:
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the hold is lifted already"}
		}
		out = h
		return fn(c, h)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Hold implements [Retention].
func (e *Engine) Hold(ctx context.Context, a dsr.Actor, id string) (*dsr.Hold, error) {
	var h *dsr.Hold
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		h, err = tx.HoldOf(id)
		return err
	})
	if dsr.CodeOf(err) == dsr.CodeNotFound || err == nil && !a.MayReach(h.Tenant) {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such hold"}
	}
	return h, err
}

// Holds implements [Retention].
func (e *Engine) Holds(ctx context.Context, a dsr.Actor, f HoldFilter) ([]*dsr.Hold, string, error) {
	s := HoldSelection{
		Lifted: f.Lifted, Tenants: a.Tenants, System: f.System, Cursor: f.Cursor, Limit: min(f.Limit, maxRetentionPage),
	}
	if f.Overdue {
		now := e.now()
		s.Overdue = &now
	}
	if f.Tenant != "" {
		if !a.MayReach(f.Tenant) {
			return nil, "", nil
		}
		s.Tenants = []string{f.Tenant}
	}
	if f.Identifier != nil {
		m, err := e.current(ctx)
		if err != nil {
			return nil, "", err
		}
		ids, err := e.normaliseAll(m, []RawIdentifier{*f.Identifier})
		if err != nil {
			return nil, "", err
		}
		if s.Commitments, err = e.candidates(f.Tenant, ids); err != nil {
			return nil, "", err
		}
	}
	var page []*dsr.Hold
	var next string
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		page, next, err = tx.ListHolds(s)
		return err
	})
	return page, next, err
}

// maxRetentionPage is the longest page of Sweeps and Holds.
const maxRetentionPage = 200
