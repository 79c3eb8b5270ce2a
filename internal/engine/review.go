package engine

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// plan builds the Plan of a Request that everything has been located for, then halts it at a cap, approves it by
// policy, or leaves it to a person.
func (f *flow) plan(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	p := c.buildPlan(r, m, tasks)
	for _, s := range f.sealed[r.ID] {
		p.Commitments = append(p.Commitments, s.Commitment)
	}
	for _, s := range c.learned {
		if s.Request == r.ID {
			p.Commitments = append(p.Commitments, s.Commitment)
		}
	}
	p.Sort()
	hash := p.Hash()
	c.plans = append(c.plans, p)
	r.PlanHash = hash
	rows := rowsOf(p)
	d := detail{"hash": hash, "lines": count(int64(len(p.Lines))), "rows": count(rows)}
	reason, hint, err := c.overCap(r, m, p)
	if err != nil {
		return err
	}
	if reason != "" {
		c.note(r, "planned", d)
		c.attention(r, reason, hint, nil)
		return nil
	}
	c.to(r, dsr.AwaitingReview, "planned", d)
	name, err := c.policy(r, rows)
	if err != nil || name == "" {
		return err
	}
	return f.approve(r, m, tasks, p, "policy:"+name)
}

func rowsOf(p *dsr.Plan) int64 {
	var rows int64
	for _, l := range p.Lines {
		rows += l.Count
	}
	return rows
}

// buildPlan turns what was located into lines, with the exceptions that the map declares.
func (c *changes) buildPlan(r *dsr.Request, m *atlas, tasks []*dsr.Task) *dsr.Plan {
	p := &dsr.Plan{Request: r.ID, Kind: r.Kind, MapVersion: m.version, MapHash: m.hash, CreatedAt: c.now}
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || !inScope(r, s) || t.Receipt == nil {
			continue
		}
		p.Lines = append(p.Lines, planLines(r.Kind, m, s, t.Receipt, c.now)...)
		p.Unsearched = append(p.Unsearched, t.Receipt.Unsearched...)
		p.Copies = append(p.Copies, copiesOf(s)...)
	}
	p.Sort()
	return p
}

func copiesOf(s *connectors.System) []dsr.Copy {
	out := slices.Clone(s.Copies)
	for i := range out {
		out[i].System = s.Name
	}
	return out
}

// planLines are one System's part of a Plan.
func planLines(kind dsr.Kind, m *atlas, s *connectors.System, found *dsr.Receipt, now time.Time) []dsr.PlanLine {
	var lines []dsr.PlanLine
	for _, l := range found.Lines {
		line := dsr.PlanLine{System: s.Name, Entity: l.Entity, Method: l.Method, Count: l.Count}
		if kind != dsr.Access {
			line.Exception = exceptionOf(m, s, l, now)
		}
		lines = append(lines, line)
	}
	return lines
}

// exceptionOf says why rows stay: of a kept entity its own reason, of an anchor the reason of the kept rows that
// refer to it.
func exceptionOf(m *atlas, s *connectors.System, l dsr.ReceiptLine, now time.Time) *dsr.Exception {
	entity := s.Entity(l.Entity)
	if entity == nil {
		return nil
	}
	switch l.Method {
	case dsr.Keep:
		return keepException(m, entity.Keep, now)
	case dsr.Expire:
		if entity.Keep != nil {
			return keepException(m, entity.Keep, now)
		}
		return &dsr.Exception{Article: "17(1)"}
	case dsr.Anchor:
		var latest *dsr.Exception
		for i := range s.Entities {
			kept := &s.Entities[i]
			if kept.Keep == nil || !slices.ContainsFunc(kept.OwnedBy, func(o connectors.Owner) bool { return o.Entity == l.Entity }) {
				continue
			}
			x := keepException(m, kept.Keep, now)
			if latest == nil || later(x, latest) {
				latest = x
			}
		}
		if latest == nil {
			latest = &dsr.Exception{Article: "17(3)"}
		}
		return latest
	}
	return nil
}

func later(a, b *dsr.Exception) bool {
	return a.Ends != nil && (b.Ends == nil || a.Ends.After(*b.Ends))
}

// keepException carries the latest end: that of a row whose period starts today. A row's own date is the sweep's
// concern.
func keepException(m *atlas, k *connectors.Keep, now time.Time) *dsr.Exception {
	if k == nil {
		return &dsr.Exception{Article: "17(3)"}
	}
	x := &dsr.Exception{Article: k.Article, Statute: k.Statute, Class: k.Class}
	if class, ok := m.Classes[k.Class]; ok {
		y, mo, d := now.In(m.Controller.Zone).Date()
		ends := class.DeletableOn(time.Date(y, mo, d, 0, 0, 0, 0, m.Controller.Zone))
		x.Ends = &ends
	}
	return x
}

// overCap reports the first cap that a Plan is above. Only what changes rows has a blast radius.
func (c *changes) overCap(r *dsr.Request, m *atlas, p *dsr.Plan) (reason, hint string, err error) {
	if r.Kind != dsr.Erasure {
		return "", "", nil
	}
	rows := map[string]int64{}
	for _, l := range p.Lines {
		if destructive(l.Method) || l.Method == dsr.Keep && kepts(m, l) {
			rows[l.System] += l.Count
		}
	}
	for _, s := range m.Systems {
		if limit := s.Limits.RowsPerRequest; limit > 0 && rows[s.Name] > limit {
			return reasonRows, s.Name + " would change " + count(rows[s.Name]) + " rows, above rows_per_request " + count(limit) +
				"; raise the limit or look closer, then retry", nil
		}
	}
	limit := c.e.c.Policy.RequestsPerHour[r.Kind]
	if limit <= 0 {
		return "", "", nil
	}
	n, ok := c.hourly[r.Kind]
	if !ok {
		if n, err = c.tx.CountRequestsSince(r.Kind, c.now.Add(-time.Hour)); err != nil {
			return "", "", err
		}
		if c.hourly == nil {
			c.hourly = map[dsr.Kind]int64{}
		}
		c.hourly[r.Kind] = n
	}
	if n > limit {
		return reasonRate, count(n) + " erasures were filed within an hour, above the cap of " + count(limit) +
			"; when that is meant, retry later", nil
	}
	return "", "", nil
}

// kepts reports whether kept rows are changed by masks of theirs.
func kepts(m *atlas, l dsr.PlanLine) bool {
	s := m.System(l.System)
	if s == nil {
		return false
	}
	e := s.Entity(l.Entity)
	return e != nil && len(e.Masks) > 0
}

// policy returns the name of the rule that approves a Plan by itself; empty when a person must. What has drifted once
// is always a person's decision.
func (c *changes) policy(r *dsr.Request, rows int64) (string, error) {
	if r.Reason == reasonDrift {
		return "", nil
	}
	for _, p := range c.e.c.Policy.AutoApprove {
		if !slices.Contains(p.Kinds, r.Kind) || len(p.FiledBy) > 0 && !slices.Contains(p.FiledBy, r.FiledBy) ||
			p.MaxRows > 0 && rows > p.MaxRows {
			continue
		}
		if p.Verified {
			verified, err := c.verified(r)
			if err != nil {
				return "", err
			}
			if !verified {
				continue
			}
		}
		return p.Name, nil
	}
	return "", nil
}

// verified reports whether somebody vouched for the subject's identity. The timeline says so: a Request that never
// waited for it, or whose wait was ended.
func (c *changes) verified(r *dsr.Request) (bool, error) {
	es, err := c.tx.Events(r.ID, 0, 20)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(es, func(e dsr.Event) bool { return e.Type == "identity.verified" }), nil
}

// approve starts the Run of an approved Plan. A System where nothing was found has nothing to run; it is verified all
// the same.
func (f *flow) approve(r *dsr.Request, m *atlas, tasks []*dsr.Task, p *dsr.Plan, by string) error {
	c := f.c
	r.ApprovedHash, r.ApprovedBy, r.Reason = r.PlanHash, by, ""
	c.to(r, dsr.Running, "approved", detail{"hash": r.PlanHash, "by": by})
	phase := dsr.PhaseErase
	if r.Kind == dsr.Access {
		phase = dsr.PhaseExport
	}
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || !inScope(r, s) || t.State == dsr.TaskCancelled {
			continue
		}
		t.Attempt = 1
		if slices.ContainsFunc(p.Lines, func(l dsr.PlanLine) bool { return l.System == t.System }) {
			t.Receipt = nil
			c.pend(t, phase, c.now.Add(s.Window))
			continue
		}
		t.Phase, t.State, t.Reason, t.Hint = phase, dsr.TaskDone, "", ""
		t.Receipt = &dsr.Receipt{Request: r.ID, System: t.System, Started: c.now, Finished: c.now}
		c.task(t)
	}
	return f.advance(r, m)
}

// Approve approves the Plan with this hash. It asks for four eyes: the approver is not who filed the Request,
// whichever key they use.
func (e *Engine) Approve(ctx context.Context, a dsr.Actor, id string, version int64, hash string) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if err := inState(r, "approve", dsr.AwaitingReview); err != nil {
			return err
		}
		if r.Clock.Paused() {
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the request is paused", Hint: "resume it first"}
		}
		if a.ID == r.FiledBy {
			return &dsr.Error{Code: dsr.CodeFourEyes, Msg: "who filed a request may not approve it", Hint: "ask a second person"}
		}
		stored, p, err := f.c.tx.PlanOf(r.ID)
		if err != nil {
			return err
		}
		if hash != r.PlanHash || hash != stored || p.Hash() != stored {
			return &dsr.Error{
				Code: dsr.CodeHashMismatch, Field: "hash", Msg: "is not the hash of the current plan",
				Hint: "read the plan again",
			}
		}
		return f.approve(r, m, f.tasks[r.ID], p, a.ID)
	})
}

// Refuse ends a Request without carrying it out: Art. 12(4) and 12(5), or an exception of 17(3) as a whole.
func (e *Engine) Refuse(
	ctx context.Context, a dsr.Actor, id string, version int64, article, reason string,
) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if err := inState(r, "refuse", beforeRun...); err != nil {
			return err
		}
		if !validArticle(article) {
			return invalid("article", "is not an article of the GDPR", "such as 12(5)(b) or 17(3)(b)")
		}
		r.Article, r.Reason, r.Hint = article, code(reason), ""
		return f.c.end(f, r, m, dsr.Refused, "refused", detail{"article": article, "reason": code(reason)})
	})
}

// beforeRun are the states in which nothing has been changed yet and nothing is being changed.
var beforeRun = []dsr.State{
	dsr.AwaitingInstruction, dsr.AwaitingIdentity, dsr.Discovering, dsr.AwaitingReview, dsr.NeedsAttention, dsr.Manual,
}

func validArticle(s string) bool {
	if s == "" || len(s) > 16 || s[0] < '1' || s[0] > '9' {
		return false
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '(' && r != ')' {
			return false
		}
	}
	return true
}

// Cancel withdraws a Request. It ends where a Run has claimed one of its Tasks.
func (e *Engine) Cancel(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if r.State != dsr.Running {
			if err := inState(r, "cancel", beforeRun...); err != nil {
				return err
			}
		}
		for _, t := range f.tasks[r.ID] {
			touched := t.State == dsr.TaskClaimed || t.State == dsr.TaskDone && t.Receipt != nil && len(t.Receipt.Lines) > 0
			if t.Phase == dsr.PhaseVerify || t.Phase == dsr.PhaseErase && (touched || t.State == dsr.TaskFailed) ||
				t.Phase == dsr.PhaseExport && t.State == dsr.TaskClaimed {
				return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the request is being carried out", Hint: "it can no longer be withdrawn"}
			}
		}
		return f.c.end(f, r, m, dsr.Cancelled, "cancelled", nil)
	})
}

// Extend takes the two further months of Art. 12(3). The subject must be told before the first due date.
func (e *Engine) Extend(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		switch {
		case r.State.Final():
			return inState(r, "extend")
		case r.Clock.Extended:
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the deadline is extended already"}
		case reason != "complexity" && reason != "number":
			return invalid("reason", "is not a reason of Art. 12(3)", "complexity or number")
		case !f.c.now.Before(r.Clock.FirstDue(m.calendar).AddDate(0, 0, 1)):
			return &dsr.Error{
				Code: dsr.CodeWrongState, Msg: "the first due date has passed",
				Hint: "an extension must be notified within the first month (Art. 12(3))",
			}
		}
		r.Clock.Extend(m.calendar)
		f.c.note(r, "extended", detail{"reason": reason, "due": r.Clock.Due.Format(time.DateOnly)})
		return nil
	})
}

// Reasons of a pause (EDPB Guidelines 01/2022 §5.3).
const (
	pauseIdentity      = "identity"
	pauseClarification = "clarification"
)

// Pause stops the clock. Doubt about the identity sends the Request back to awaiting_identity.
func (e *Engine) Pause(ctx context.Context, a dsr.Actor, id string, version int64, reason string) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if reason != pauseIdentity && reason != pauseClarification {
			return invalid("reason", "does not stop the clock", "identity or clarification")
		}
		if err := inState(r, "pause", dsr.AwaitingInstruction, dsr.AwaitingIdentity, dsr.AwaitingReview, dsr.NeedsAttention,
			dsr.Manual); err != nil {
			return err
		}
		if r.Clock.Paused() {
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the request is paused already"}
		}
		r.Clock.Pause(f.c.now, reason, m.calendar)
		state := r.State
		if reason == pauseIdentity && !touchedAny(f.tasks[r.ID]) {
			state = dsr.AwaitingIdentity
		}
		f.c.to(r, state, "paused", detail{"reason": reason})
		return nil
	})
}

// touchedAny reports whether a Task has begun to change or verify anything.
func touchedAny(tasks []*dsr.Task) bool {
	return slices.ContainsFunc(tasks, func(t *dsr.Task) bool {
		return t.Phase == dsr.PhaseErase || t.Phase == dsr.PhaseVerify
	})
}

// Resume starts the clock again. A Request that waits for the subject's identity needs ConfirmIdentity instead.
func (e *Engine) Resume(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		switch {
		case r.State.Final() || !r.Clock.Paused():
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the request is not paused"}
		case r.State == dsr.AwaitingIdentity:
			return &dsr.Error{
				Code: dsr.CodeWrongState, Msg: "the subject's identity is not confirmed",
				Hint: "confirm the identity; that resumes the request",
			}
		}
		r.Clock.Resume(f.c.now, m.calendar)
		f.c.note(r, "resumed", detail{"due": r.Clock.Due.Format(time.DateOnly)})
		return nil
	})
}

// ConfirmIdentity ends awaiting_identity.
func (e *Engine) ConfirmIdentity(
	ctx context.Context, a dsr.Actor, id string, version int64, method string,
) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, _ *atlas) error {
		if err := inState(r, "confirm the identity of", dsr.AwaitingIdentity); err != nil {
			return err
		}
		r.Clock.Resume(f.c.now, f.cur.calendar)
		f.c.note(r, "identity.verified", detail{"method": code(method)})
		f.c.begin(r, f.cur, f.tasks[r.ID], "started")
		return nil
	})
}

// Instruct records the controller's instruction to a processor (Art. 28(3)(a)).
func (e *Engine) Instruct(
	ctx context.Context, a dsr.Actor, id string, version int64, reference string,
) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, _ *atlas) error {
		if err := inState(r, "instruct", dsr.AwaitingInstruction); err != nil {
			return err
		}
		f.c.note(r, "instructed", detail{"reference": code(reference)})
		verified, err := f.c.verified(r)
		if err != nil {
			return err
		}
		if verified {
			f.c.begin(r, f.cur, f.tasks[r.ID], "started")
			return nil
		}
		r.Clock.Pause(f.c.now, pauseIdentity, f.cur.calendar)
		f.c.to(r, dsr.AwaitingIdentity, "paused", detail{"reason": pauseIdentity})
		return nil
	})
}

// Retry takes a Request out of needs_attention. Failed Tasks go on in their phase under the approved Plan; where no
// Task failed, or the data map has changed since, it is discovered and planned again.
func (e *Engine) Retry(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if err := inState(r, "retry", dsr.NeedsAttention); err != nil {
			return err
		}
		c, tasks := f.c, f.tasks[r.ID]
		if r.Reason == reasonPackage && m.version == f.cur.version {
			c.to(r, dsr.Running, "retried", nil)
			return c.assemble(r)
		}
		residue := r.Reason == reasonResidue
		var phase dsr.Phase
		for _, t := range tasks {
			if t.State == dsr.TaskFailed || residue && residueOf(t) > 0 {
				phase = t.Phase
			}
		}
		if phase == "" || phase == dsr.PhaseLocate || m.version != f.cur.version {
			c.begin(r, f.cur, tasks, "retried")
			if p := e.c.Packager; p != nil && r.Kind == dsr.Access {
				return p.Discard(r.ID)
			}
			return nil
		}
		if residue {
			phase = dsr.PhaseErase
		}
		c.to(r, expects(phase), "retried", nil)
		for _, t := range tasks {
			switch {
			case t.State == dsr.TaskFailed:
				if err := c.resume(t, phase); err != nil {
					return err
				}
			case residue && residueOf(t) > 0:
				t.Attempt = 1
				c.pend(t, phase, c.now)
			}
		}
		return nil
	})
}

// resume lets a failed Task go on: in its parked Run, whose checkpoint knows what the last chunk meant to do, or in a
// new one.
func (c *changes) resume(t *dsr.Task, phase dsr.Phase) error {
	if t.Run != "" {
		run, err := c.tx.Run(t.Run)
		if err != nil && dsr.CodeOf(err) != dsr.CodeNotFound {
			return err
		}
		if err == nil && !run.Done && run.Phase == phase {
			t.State, t.Reason, t.Hint = dsr.TaskClaimed, "", ""
			c.task(t)
			c.enqueue(Slice{RunID: run.ID, Fence: run.Fence}, c.now)
			return nil
		}
	}
	c.pend(t, phase, c.now)
	return nil
}

// decide runs a decision on one Request under its lock: visible to the actor, of the version that they saw.
func (e *Engine) decide(
	ctx context.Context, a dsr.Actor, id string, version int64, fn func(f *flow, r *dsr.Request, m *atlas) error,
) (*dsr.Request, error) {
	cur, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	before, err := e.Get(ctx, a, id)
	if err != nil {
		return nil, err
	}
	m, err := e.atlas(ctx, before.MapVersion)
	if err != nil {
		return nil, err
	}
	var out *dsr.Request
	err = e.change(ctx, a, func(c *changes) error {
		f, err := c.flow([]string{id}, cur)
		if err != nil {
			return err
		}
		r := f.requests[id]
		switch {
		case r == nil:
			return noRequest()
		case r.Version != version:
			return &dsr.Error{Code: dsr.CodeConflict, Msg: "the request has changed meanwhile", Hint: "read it again"}
		case r.MapVersion != m.version:
			return &dsr.Error{Code: dsr.CodeConflict, Msg: "the request has changed meanwhile", Hint: "read it again"}
		}
		out = r
		return fn(f, r, m)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func noRequest() error { return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such request"} }

func inState(r *dsr.Request, action string, states ...dsr.State) error {
	if slices.Contains(states, r.State) {
		return nil
	}
	return &dsr.Error{Code: dsr.CodeWrongState, Msg: "cannot " + action + " a request that is " + string(r.State)}
}
