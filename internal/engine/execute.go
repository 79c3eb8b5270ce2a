package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// execute works a slice of an erase or export Run. At its first slice everything is located once more: who drifted
// from the approved Plan leaves the Run before anything is changed; the others go on.
func (e *Engine) execute(ctx context.Context, w *workload) (func(*changes, []*member) error, error) {
	plans, err := e.plansOf(ctx, w)
	if err != nil {
		return nil, err
	}
	j, err := e.journal(ctx, w)
	if err != nil {
		return nil, err
	}
	defer j.close()
	defer e.keepLease(ctx, w.run)()
	failed := map[string]error{}
	if w.checkpoint == nil {
		if err := e.sound(ctx, w.conn, ""); err != nil {
			return nil, err
		}
		if err := e.leaveDrifted(ctx, w, plans, failed); err != nil {
			return nil, err
		}
	}
	var in connectors.Batch
	for i, s := range batch(w.members, w.conn.system) {
		if failed[s.Ref] == nil {
			s.Entities = planned(plans[w.members[i].request.ID], w.run.System)
			in = append(in, s)
		}
	}
	if len(in) > 0 {
		job := connectors.Job{Batch: in, Limits: w.conn.system.Limits, Journal: j, Deadline: w.deadline}
		if w.run.Phase == dsr.PhaseErase {
			if err := j.know(ctx); err != nil {
				return nil, err
			}
			if job.Held, err = e.holdsFor(ctx, w.atlas, w.run.System); err != nil {
				return nil, err
			}
		}
		err = e.act(ctx, w, job, j)
		if err = splitErrors(err, func(task string, err error) { failed[task] = err }); err != nil {
			return nil, err
		}
		if err := j.flush(ctx); err != nil {
			return nil, err
		}
	}
	return func(c *changes, ms []*member) error {
		for _, m := range ms {
			if err := failed[m.task.ID]; err != nil {
				c.fault(m.task, err)
				continue
			}
			m.task.State, m.task.Reason, m.task.Hint = dsr.TaskDone, "", ""
			c.task(m.task)
		}
		return nil
	}, nil
}

// act calls the verb of the phase.
func (e *Engine) act(ctx context.Context, w *workload, job connectors.Job, j *journal) error {
	if w.run.Phase == dsr.PhaseErase {
		eraser, ok := w.conn.connector.(connectors.Eraser)
		if !ok {
			return unsupported(w.conn.system, "erase")
		}
		return eraser.Erase(ctx, job)
	}
	exporter, ok := w.conn.connector.(connectors.Exporter)
	if !ok {
		return unsupported(w.conn.system, "export")
	}
	if e.c.Packager == nil {
		return connectors.Permanent(reasonUnsupported, "this Lethe has no place for access packages", "configure one, then retry", nil)
	}
	return exporter.Export(ctx, job, j.sink)
}

func unsupported(s *connectors.System, verb string) error {
	return connectors.Permanent(reasonUnsupported, "connector "+s.Connector+" cannot "+verb,
		"handle this system by hand, limit the request to the others, or use another connector", nil)
}

// planned are the entities of a System in a Plan: a Run touches no other.
func planned(p *dsr.Plan, system string) map[string]bool {
	in := map[string]bool{}
	for _, l := range p.Lines {
		if l.System == system {
			in[l.Entity] = true
		}
	}
	return in
}

// plansOf reads the approved Plans of the members. A member whose stored Plan is not what was approved leaves the Run.
func (e *Engine) plansOf(ctx context.Context, w *workload) (map[string]*dsr.Plan, error) {
	var plans map[string]*dsr.Plan
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		plans, err = tx.PlansOf(requestIDs(w.members)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	other := map[string]error{}
	for _, m := range w.members {
		if p := plans[m.request.ID]; p == nil || p.Hash() != m.request.ApprovedHash {
			other[m.task.ID] = nil
		}
	}
	return plans, e.setAside(ctx, w, other, func(c *changes, _ *dsr.Request, t *dsr.Task) {
		c.fail(t, string(dsr.CodeHashMismatch), "the stored plan is not the one that was approved; cancel the request and file it again")
	})
}

// leaveDrifted locates the batch again, sends Requests that drifted back, and takes their Tasks out of the Run.
// Faults of single subjects go into failed.
func (e *Engine) leaveDrifted(ctx context.Context, w *workload, plans map[string]*dsr.Plan, failed map[string]error) error {
	now := map[string]*finding{}
	for _, m := range w.members {
		now[m.task.ID] = &finding{}
	}
	q := connectors.Query{Batch: batch(w.members, w.conn.system), Export: w.run.Phase == dsr.PhaseExport}
	taught, err := e.ask(ctx, w, q, now)
	if err != nil {
		return err
	}
	drifted, codes := map[string]error{}, map[string][]string{}
	for _, m := range w.members {
		f := now[m.task.ID]
		if f.err != nil {
			failed[m.task.ID] = f.err
			continue
		}
		why := e.drift(m, w, plans[m.request.ID], f)
		if len(newTo(m.ids, taught[m.task.ID])) > 0 {
			why = append(why, "identifier")
		}
		if len(f.ambiguous) > 0 {
			why = append(why, reasonAmbiguous)
		}
		if f.share != "" {
			why = append(why, reasonShare)
		}
		if len(why) > 0 {
			slices.Sort(why)
			drifted[m.task.ID], codes[m.task.ID] = nil, why
		}
	}
	// A drifted Request's other Tasks leave their Runs too, and with the last of them it is discovered again, for a
	// fresh Plan that a person reviews.
	return e.setAside(ctx, w, drifted, func(c *changes, r *dsr.Request, t *dsr.Task) {
		t.State, t.Reason = dsr.TaskCancelled, reasonDrift
		c.task(t)
		r.Reason, r.Hint = reasonDrift, "more was found than was approved; the new plan needs a review"
		c.note(r, "drifted", detail{"system": w.run.System, "drift": strings.Join(codes[t.ID], ",")})
	})
}

// drift compares one System's part of the approved Plan with what is there now.
func (e *Engine) drift(m *member, w *workload, approved *dsr.Plan, f *finding) []string {
	now := &dsr.Plan{MapHash: approved.MapHash}
	now.Lines = planLines(m.request.Kind, w.atlas, w.conn.system, f.receipt, e.now())
	return approved.Drift(now, dsr.Bounds{Share: e.c.Policy.CountMargin, Rows: e.c.Policy.CountSlack})
}
