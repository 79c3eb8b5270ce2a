package engine

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

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
		return f.c.end(f, r, dsr.Refused, "refused", detail{"article": article, "reason": code(reason)})
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
		begun, err := f.begun(r)
		if err != nil {
			return err
		}
		if begun {
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "the request is being carried out", Hint: "it can no longer be withdrawn"}
		}
		return f.c.end(f, r, dsr.Cancelled, "cancelled", nil)
	})
}

// begun reports whether a Run has taken a Request on: a Task is claimed for it, or something was changed already, under
// this Plan or one before it.
func (f *flow) begun(r *dsr.Request) (bool, error) {
	var ids []string
	for _, t := range f.tasks[r.ID] {
		if t.Phase == dsr.PhaseVerify || t.Run != "" && t.Phase != dsr.PhaseLocate {
			return true, nil
		}
		ids = append(ids, t.ID)
	}
	tallies, err := f.c.tx.TalliesOf(ids...)
	return slices.ContainsFunc(tallies, func(t connectors.Tally) bool { return t.Method != dsr.Export }), err
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
		return f.restrict(ctx, r)
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
			return f.restrict(ctx, r)
		}
		r.Clock.Pause(f.c.now, pauseIdentity, f.cur.calendar)
		f.c.to(r, dsr.AwaitingIdentity, "paused", detail{"reason": pauseIdentity})
		return nil
	})
}

// Retry takes a Request out of needs_attention, or looks again at what it is deferred for. Failed Tasks go on in their phase
// under the approved Plan; where no Task failed, or the data map has changed since, it is discovered and planned again.
func (e *Engine) Retry(ctx context.Context, a dsr.Actor, id string, version int64) (*dsr.Request, error) {
	return e.decide(ctx, a, id, version, func(f *flow, r *dsr.Request, m *atlas) error {
		if r.State == dsr.Deferred && !heldBack(r) { // somebody knows that it need not wait any more
			return f.reopen(r, m)
		}
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
