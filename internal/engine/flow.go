package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/dsr"
)

// flow is a batch of locked Requests with all their Tasks and identifiers: what is needed to move them on.
type flow struct {
	c        *changes
	cur      *atlas // the newest map, for Requests that are discovered again
	requests map[string]*dsr.Request
	tasks    map[string][]*dsr.Task
	sealed   map[string][]SealedIdentifier
	plans    map[string]*dsr.Plan // read for all when the first is asked for
}

// flow locks Requests and reads what belongs to them, in three statements.
func (c *changes) flow(ids []string, cur *atlas) (*flow, error) {
	requests, err := c.tx.LockRequests(ids...)
	if err != nil {
		return nil, err
	}
	f := &flow{c: c, cur: cur, requests: map[string]*dsr.Request{}, tasks: map[string][]*dsr.Task{}}
	for _, r := range requests {
		f.requests[r.ID] = r
	}
	tasks, err := c.tx.TasksOf(ids...)
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		f.tasks[t.Request] = append(f.tasks[t.Request], t)
	}
	f.sealed, err = c.tx.IdentifiersOf(ids...)
	return f, err
}

func (f *flow) task(request, id string) *dsr.Task {
	for _, t := range f.tasks[request] {
		if t.ID == id {
			return t
		}
	}
	return nil
}

func (f *flow) planOf(request string) (*dsr.Plan, error) {
	if f.plans == nil {
		var err error
		if f.plans, err = f.c.tx.PlansOf(slices.Sorted(maps.Keys(f.requests))...); err != nil {
			return nil, err
		}
	}
	p := f.plans[request]
	if p == nil {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "the plan of the request is missing"}
	}
	return p, nil
}

// advanceAll moves on Requests some of whose Tasks were put aside.
func (c *changes) advanceAll(rs map[string]*dsr.Request, cur *atlas) error {
	if len(rs) == 0 {
		return nil
	}
	ids := make([]string, 0, len(rs))
	for id := range rs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	f, err := c.flow(ids, cur)
	if err != nil {
		return err
	}
	for _, id := range ids {
		f.requests[id] = rs[id]
		for i, t := range f.tasks[id] {
			if changed := c.tasks[t.ID]; changed != nil {
				f.tasks[id][i] = changed
			}
		}
		if err := f.advance(rs[id], cur); err != nil {
			return err
		}
	}
	return nil
}

// advance moves a Request on when no Task of its phase is open any more. m is the map that it runs under.
func (f *flow) advance(r *dsr.Request, m *atlas) error {
	tasks := f.tasks[r.ID]
	for _, t := range tasks {
		if t.State == dsr.TaskPending || t.State == dsr.TaskClaimed {
			return nil
		}
	}
	switch r.State {
	case dsr.Discovering:
		return f.roundDone(r, m, tasks)
	case dsr.Running:
		return f.runDone(r, m, tasks)
	case dsr.Verifying:
		return f.verifyDone(r, m, tasks)
	}
	return nil
}

// failed returns the Task whose failure a person is told first; nil when none failed.
func failed(tasks []*dsr.Task) *dsr.Task {
	var worst *dsr.Task
	for _, t := range tasks {
		if t.State == dsr.TaskFailed && (worst == nil || cmp.Compare(t.System, worst.System) < 0) {
			worst = t
		}
	}
	return worst
}

// runDone ends the erase or export phase.
func (f *flow) runDone(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	if r.Reason == reasonDrift {
		c.begin(r, f.cur, tasks, "drift")
		return nil
	}
	if t := failed(tasks); t != nil {
		c.attention(r, t.Reason, t.Hint, detail{"system": t.System})
		return nil
	}
	if r.Kind == dsr.Access {
		c.note(r, "exported", nil)
		return c.assemble(r)
	}
	c.to(r, dsr.Verifying, "erased", nil)
	return f.verifyAll(r, m, tasks)
}

// verifyAll has every System in scope searched again after its settle delay. Of a Request that was deferred these are
// the Systems in which something waited: the identifiers that the others need are forgotten.
func (f *flow) verifyAll(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	pending := 0
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || !inScope(r, s) || r.DeferTo != nil && len(t.Residue) == 0 {
			continue
		}
		f.c.pend(t, dsr.PhaseVerify, f.c.now.Add(s.Settle))
		pending++
	}
	if pending == 0 {
		return f.verifyDone(r, m, tasks)
	}
	return nil
}

// verifyDone ends the verify phase: close without Residue; another round of erasure, or attention, with it.
func (f *flow) verifyDone(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	if t := failed(tasks); t != nil {
		c.attention(r, t.Reason, t.Hint, detail{"system": t.System})
		return nil
	}
	var residue int64
	var again []*dsr.Task
	rounds := 0
	for _, t := range tasks {
		n := residueOf(t)
		residue += n
		if n > 0 {
			again = append(again, t)
			rounds = max(rounds, t.Attempt)
		}
	}
	switch {
	case residue == 0:
		return f.closeErasure(r, m, tasks)
	case rounds >= c.e.c.Policy.ResidueRounds:
		t := again[0]
		at := t.System
		if len(t.Residue) > 0 {
			at += "." + t.Residue[0].Entity
		}
		c.attention(r, reasonResidue, "still found after "+count(int64(rounds))+" rounds, first in "+at+
			"; see what puts it back, then retry", detail{"residue": count(residue)})
		return nil
	}
	c.to(r, dsr.Running, "residue", detail{"residue": count(residue), "round": count(int64(rounds + 1))})
	for _, t := range again {
		t.Attempt++
		c.pend(t, dsr.PhaseErase, c.now)
	}
	return nil
}

// residueOf counts what an erasure should have removed and did not.
func residueOf(t *dsr.Task) int64 {
	if t.State == dsr.TaskCancelled {
		return 0
	}
	var n int64
	for _, r := range t.Residue {
		if r.Waits == nil {
			n += max(r.Count, 1)
		}
	}
	return n
}

// waiting returns what cannot go yet in the Systems of Tasks, as Verify found it.
func waiting(tasks ...*dsr.Task) []dsr.Residue {
	var out []dsr.Residue
	for _, t := range tasks {
		if t.State == dsr.TaskCancelled {
			continue
		}
		for _, r := range t.Residue {
			if r.Waits != nil {
				out = append(out, r)
			}
		}
	}
	return out
}
