package engine

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

const hintRules = "GET /v1/retention/rules (lethe retention rules) lists them"

// runs reports whether a rule has Sweeps of its own.
func runs(r *datamap.Rule) bool { return r.Action != retention.Next }

// running lists the rules of a map that have Sweeps of their own, in its order.
func (m *atlas) running() []*datamap.Rule {
	var all []*datamap.Rule
	for _, r := range m.Rules() {
		if runs(&r) {
			all = append(all, &r)
		}
	}
	return all
}

// find returns the named rule.
func (m *atlas) find(name string) (*datamap.Rule, error) {
	r, ok := m.Rule(name)
	if !ok {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such rule", Hint: hintRules}
	}
	return &r, nil
}

// cut is where a rule cuts some days after an instant, by the controller's calendar.
func (m *atlas) cut(r *datamap.Rule, at time.Time, days int) connectors.Cut {
	y, mo, d := at.In(m.Controller.Zone).Date()
	return r.Cut(time.Date(y, mo, d+days, 12, 0, 0, 0, m.Controller.Zone)) // noon: there may be no midnight
}

// needsApproval reports whether a rule may not run before its disposition review.
func needsApproval(r *datamap.Rule, s *retention.RuleState) bool {
	return runs(r) && !r.Unreviewed && s.ApprovedHash != r.Hash()
}

// stateOf returns what is remembered of a rule, or that nothing is.
func stateOf(states map[string]*retention.RuleState, rule string) *retention.RuleState {
	if s := states[rule]; s != nil {
		return s
	}
	return &retention.RuleState{Rule: rule}
}

// scheduleOf is the policy's schedule by the clocks of a map's controller.
func (e *Engine) scheduleOf(m *atlas) (*schedule, error) {
	return parseSchedule(e.c.Policy.Retention.Schedule, m.Controller.Zone)
}

// lastOf is the name under which it is remembered until when a rule's schedule was served.
func lastOf(rule string) string { return "sweep:" + rule }

// Rules implements [Retention].
func (e *Engine) Rules(ctx context.Context, a dsr.Actor) (*RetentionStatus, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	all := e.everyTenant(ctx, a) == nil
	sched, err := e.scheduleOf(m)
	if err != nil {
		return nil, err
	}
	out := &RetentionStatus{Schedule: sched.text, Window: e.c.Policy.Retention.Window, Zone: m.Controller.Zone}
	err = e.c.Store.InTx(ctx, func(tx Tx) error {
		out.Rules = nil
		if out.Stopped, err = tx.Stopped(StopOfSweeps); err != nil {
			return err
		}
		states, err := tx.RuleStates()
		if err != nil {
			return err
		}
		last, err := tx.LastSweeps()
		if err != nil {
			return err
		}
		for _, r := range m.Rules() {
			s := RuleStatus{
				Rule: r.Rule, System: r.System, Entity: r.Entity, Hash: r.Hash(), State: *stateOf(states, r.Name), Last: last[r.Name],
			}
			if !all { // its figures are of every tenant together
				s.Last, s.State.Counted, s.State.Due, s.State.Held, s.State.Blocked, s.State.Backlog = nil, nil, 0, 0, 0, 0
			}
			s.NeedsApproval = needsApproval(&r, &s.State)
			if runs(&r) && !s.NeedsApproval && s.State.PausedAt == nil && out.Stopped == nil {
				served, err := tx.LastRun(lastOf(r.Name))
				if err != nil {
					return err
				}
				if served.IsZero() {
					served = e.now()
				}
				if next := sched.next(served); !next.IsZero() {
					s.NextRun = &next
				}
			}
			out.Rules = append(out.Rules, s)
		}
		return nil
	})
	return out, err
}

// Rule implements [Retention].
func (e *Engine) Rule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error) {
	all, err := e.Rules(ctx, a)
	if err != nil {
		return nil, err
	}
	for i := range all.Rules {
		if all.Rules[i].Rule.Name == name {
			return &all.Rules[i], nil
		}
	}
	return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such rule", Hint: hintRules}
}

// everyTenant refuses decisions about the rows of every tenant, and their figures, to whoever works for some of them only.
func (e *Engine) everyTenant(ctx context.Context, a dsr.Actor) error {
	m, err := e.current(ctx)
	if err != nil || m.Tenants == "" || a.Tenants == nil {
		return nil //nolint:nilerr // without a data map there is no tenant
	}
	return &dsr.Error{
		Code: dsr.CodeForbidden, Msg: "a deletion rule reaches the rows of every tenant, and its figures are of all of them together",
		Hint: "ask somebody who works for all of them",
	}
}

// changeRule runs a decision on what is remembered of a rule and returns where it stands then.
func (e *Engine) changeRule(
	ctx context.Context, a dsr.Actor, name string, fn func(c *changes, r *datamap.Rule, s *retention.RuleState) error,
) (*RuleStatus, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	r, err := m.find(name)
	if err != nil {
		return nil, err
	}
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	if !runs(r) {
		return nil, &dsr.Error{Code: dsr.CodeWrongState, Msg: "the rule has no sweeps of its own", Hint: "its action is next: rules after it wait for it"}
	}
	err = e.change(ctx, a, func(c *changes) error {
		if err := c.tx.LockSubjects(lastOf(name)); err != nil {
			return err
		}
		states, err := c.tx.RuleStates()
		if err != nil {
			return err
		}
		return fn(c, r, stateOf(states, name))
	})
	if err != nil {
		return nil, err
	}
	return e.Rule(ctx, a, name)
}

// ApproveRule implements [Retention].
func (e *Engine) ApproveRule(ctx context.Context, a dsr.Actor, name, hash string) (*RuleStatus, error) {
	return e.changeRule(ctx, a, name, func(c *changes, r *datamap.Rule, s *retention.RuleState) error {
		if hash != r.Hash() {
			return &dsr.Error{
				Code: dsr.CodeRuleMismatch, Field: "hash", Msg: "is not the hash of the rule as it is now", Hint: "read the rule again",
			}
		}
		if s.ApprovedHash == hash {
			return nil
		}
		at := c.now
		s.ApprovedHash, s.ApprovedBy, s.ApprovedAt = hash, a.ID, &at
		c.evidence("rule.approved", r.System, detail{"rule": name, "hash": hash, "entity": r.Entity})
		return c.tx.PutRuleState(s)
	})
}

// PauseRule implements [Retention].
func (e *Engine) PauseRule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error) {
	return e.changeRule(ctx, a, name, func(c *changes, r *datamap.Rule, s *retention.RuleState) error {
		if s.PausedAt != nil {
			return nil
		}
		if err := c.tx.InterruptSweeps(name); err != nil {
			return err
		}
		at := c.now
		s.PausedBy, s.PausedAt = a.ID, &at
		c.evidence("rule.paused", r.System, detail{"rule": name})
		return c.tx.PutRuleState(s)
	})
}

// ResumeRule implements [Retention].
func (e *Engine) ResumeRule(ctx context.Context, a dsr.Actor, name string) (*RuleStatus, error) {
	return e.changeRule(ctx, a, name, func(c *changes, r *datamap.Rule, s *retention.RuleState) error {
		if s.PausedAt == nil {
			return nil
		}
		s.PausedBy, s.PausedAt = "", nil
		c.evidence("rule.resumed", r.System, detail{"rule": name})
		if err := c.tx.PutRuleState(s); err != nil {
			return err
		}
		return c.goOn(name)
	})
}

// StopSweeps implements [Retention].
func (e *Engine) StopSweeps(ctx context.Context, a dsr.Actor, reason string) (*RetentionStatus, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	err := e.change(ctx, a, func(c *changes) error { return c.stopSweeps(code(reason)) })
	if err != nil {
		return nil, err
	}
	return e.Rules(ctx, a)
}

func (c *changes) stopSweeps(reason string) error {
	if err := c.tx.LockSubjects(StopOfSweeps); err != nil {
		return err
	}
	was, err := c.tx.Stopped(StopOfSweeps)
	if err != nil || was != nil {
		return err
	}
	c.evidence("sweeps.stopped", "", detail{"reason": reason})
	if err := c.tx.InterruptSweeps(""); err != nil {
		return err
	}
	return c.tx.PutStop(StopOfSweeps, Stop{By: c.actor, At: c.now, Reason: reason})
}

// StartSweeps implements [Retention].
func (e *Engine) StartSweeps(ctx context.Context, a dsr.Actor) (*RetentionStatus, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	err := e.change(ctx, a, func(c *changes) error {
		if err := c.tx.LockSubjects(StopOfSweeps); err != nil {
			return err
		}
		was, err := c.tx.Stopped(StopOfSweeps)
		if err != nil || was == nil {
			return err
		}
		c.evidence("sweeps.started", "", nil)
		if err := c.tx.DropStop(StopOfSweeps); err != nil {
			return err
		}
		return c.goOn("")
	})
	if err != nil {
		return nil, err
	}
	return e.Rules(ctx, a)
}

// goOn lets paused Sweeps go on, of one rule or of all, whose rule is not paused and which nothing stops.
func (c *changes) goOn(rule string) error {
	stop, err := c.tx.Stopped(StopOfSweeps)
	if err != nil || stop != nil {
		return err
	}
	states, err := c.tx.RuleStates()
	if err != nil {
		return err
	}
	open, err := c.tx.OpenSweeps(rule)
	if err != nil {
		return err
	}
	for _, s := range open {
		if s.State != retention.SweepPaused || stateOf(states, s.Rule).PausedAt != nil {
			continue
		}
		if s, err = c.tx.LockSweep(s.ID); err != nil {
			return err
		}
		if s.State != retention.SweepPaused {
			continue
		}
		s.State, s.Reason, s.Hint, s.UpdatedAt = retention.SweepRunning, "", "", c.now
		if err := c.tx.UpdateSweep(s); err != nil {
			return err
		}
		c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, c.now)
	}
	return nil
}
