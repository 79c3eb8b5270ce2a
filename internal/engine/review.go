package engine

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// approve starts the Run of an approved Plan.
func (f *flow) approve(r *dsr.Request, m *atlas, tasks []*dsr.Task, p *dsr.Plan, by string) error {
	r.ApprovedHash, r.ApprovedBy, r.Reason = r.PlanHash, by, ""
	f.c.to(r, dsr.Running, "approved", detail{"hash": r.PlanHash, "by": by})
	for _, t := range tasks {
		t.Attempt = 1
	}
	return f.start(r, m, tasks, p)
}

// start makes the Tasks of an approved Plan due, unless the subject is held. A System where nothing was found has
// nothing to run; it is verified all the same. What has run already does not run again.
func (f *flow) start(r *dsr.Request, m *atlas, tasks []*dsr.Task, p *dsr.Plan) error {
	c := f.c
	holds, err := f.holdsOn(r)
	if err != nil {
		return err
	}
	var until time.Time
	if len(holds) > 0 {
		until = c.holdBack(r, holds)
	}
	phase := dsr.PhaseErase
	if r.Kind == dsr.Access {
		phase = dsr.PhaseExport
	}
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || !inScope(r, s) || t.State == dsr.TaskCancelled {
			continue
		}
		if t.Phase == phase && (t.State == dsr.TaskDone || t.State == dsr.TaskClaimed) {
			continue
		}
		switch planned := slices.ContainsFunc(p.Lines, func(l dsr.PlanLine) bool { return l.System == t.System }); {
		case planned && len(holds) > 0:
			c.waitForHold(t, until)
		case planned:
			t.Receipt = nil
			c.pend(t, phase, c.now.Add(s.Window))
		default:
			t.Phase, t.State, t.Reason, t.Hint = phase, dsr.TaskDone, "", ""
			t.Receipt = &dsr.Receipt{Request: r.ID, System: t.System, Started: c.now, Finished: c.now}
			c.task(t)
		}
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
