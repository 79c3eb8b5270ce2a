package engine

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// claim makes due Tasks the members of a new Run. It returns nil when nothing is due.
func (e *Engine) claim(ctx context.Context, g Gather) (*workload, error) {
	cur, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	var w *workload
	err = e.change(ctx, dsr.Engine, func(c *changes) error {
		w = nil
		versions, err := c.tx.PendingMapVersions(g.System, g.Phase, c.now)
		if err != nil || len(versions) == 0 {
			return err
		}
		run := &dsr.Run{
			ID: e.newID("run_"), System: g.System, Phase: g.Phase, MapVersion: versions[0], Fence: 1,
			LeaseUntil: c.now.Add(e.c.Policy.Lease),
		}
		limit := e.c.Policy.BatchSize
		if g.Phase == dsr.PhaseExport {
			limit = min(limit, maxOpenParts)
		}
		tasks, err := c.tx.ClaimTasks(run.ID, g.System, g.Phase, run.MapVersion, c.now, limit)
		if err != nil {
			return err
		}
		if len(tasks) == limit || len(versions) > 1 {
			c.enqueue(g, time.Time{})
		}
		ms, err := loadMembers(c.tx, tasks)
		if err != nil {
			return err
		}
		if ms, err = c.screen(ms, cur, g.Phase); err != nil {
			return err
		}
		w = &workload{run: run, members: ms}
		if len(ms) == 0 {
			return nil
		}
		return c.tx.InsertRun(run)
	})
	if err != nil || w == nil {
		return nil, err
	}
	return w, nil
}

// maxOpenParts bounds how many subjects are exported at once: each has a file open.
const maxOpenParts = 64

// expects is the state that a Request is in while its Tasks are in a phase.
func expects(p dsr.Phase) dsr.State {
	switch p {
	case dsr.PhaseLocate:
		return dsr.Discovering
	case dsr.PhaseVerify:
		return dsr.Verifying
	default:
		return dsr.Running
	}
}

// screen puts aside claimed Tasks that must not be worked: their Request has ended or is to be reviewed again, its
// subject is held, or it waits for the same subject's export.
func (c *changes) screen(ms []*member, cur *atlas, phase dsr.Phase) ([]*member, error) {
	var blocked map[string]bool
	var held map[string][]*dsr.Hold
	if phase == dsr.PhaseErase {
		var err error
		if blocked, err = c.exporting(ms); err != nil {
			return nil, err
		}
		if held, err = c.heldMembers(ms); err != nil {
			return nil, err
		}
	}
	var in []*member
	drifted := map[string]*dsr.Request{}
	for _, m := range ms {
		switch {
		case heldBack(m.request) && phase == dsr.PhaseErase: // a scheduled job tells when
			c.waitForHold(m.task, c.now.Add(heldWait))
		case m.request.State != expects(phase):
			m.task.State, m.task.Run = dsr.TaskCancelled, ""
			c.task(m.task)
		case m.request.Reason == reasonDrift && m.request.State == dsr.Running:
			m.task.State, m.task.Run, m.task.Reason = dsr.TaskCancelled, "", reasonDrift
			c.task(m.task)
			drifted[m.request.ID] = m.request
		case len(held[m.request.ID]) > 0: // since it was approved
			c.waitForHold(m.task, c.holdBack(m.request, held[m.request.ID]))
		case blocked[m.request.ID]:
			c.pend(m.task, phase, c.now.Add(exportWait))
			m.task.Reason = reasonExport
			if m.request.Reason != reasonExport {
				m.request.Reason = reasonExport
				m.request.Hint = "an open access request of the same subject is answered first"
				c.note(m.request, "waits", detail{"reason": reasonExport})
			}
		default:
			in = append(in, m)
		}
	}
	return in, c.advanceAll(drifted, cur)
}

// heldWait is how often a Task of a held subject may be claimed in vain.
const heldWait = 24 * time.Hour

// exportWait is how often an erasure looks whether the subject's export is done, should its nudge be lost.
const exportWait = 30 * time.Second

// exporting tells which members' subjects have an open export that comes first. An access request whose subject is
// not verified does not count: a stranger could hold up an erasure with it.
func (c *changes) exporting(ms []*member) (map[string]bool, error) {
	byTenant := map[string][]string{}
	for _, m := range ms {
		for _, s := range m.sealed {
			byTenant[m.request.Tenant] = append(byTenant[m.request.Tenant], s.Commitment)
		}
	}
	blocked := map[string]bool{}
	for tenant, commitments := range byTenant {
		open, err := c.tx.OpenRequests(dsr.Access, tenant, commitments)
		if err != nil {
			return nil, err
		}
		if len(open) == 0 {
			continue
		}
		exports := map[string]bool{}
		for _, id := range open {
			r, err := c.tx.Request(id)
			if err != nil {
				return nil, err
			}
			switch r.State {
			case dsr.Discovering, dsr.AwaitingReview, dsr.Running, dsr.NeedsAttention:
			default:
				continue
			}
			sealed, err := c.tx.IdentifiersOf(id)
			if err != nil {
				return nil, err
			}
			for _, s := range sealed[id] {
				exports[s.Commitment] = true
			}
		}
		for _, m := range ms {
			for _, s := range m.sealed {
				if m.request.Tenant == tenant && exports[s.Commitment] {
					blocked[m.request.ID] = true
				}
			}
		}
	}
	return blocked, nil
}
