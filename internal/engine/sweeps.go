package engine

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

// Sweep implements [Retention].
func (e *Engine) Sweep(ctx context.Context, a dsr.Actor, rule string, now bool) (*retention.Sweep, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	r, err := m.find(rule)
	if err != nil {
		return nil, err
	}
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	sane, err := e.saneClock(ctx)
	if err != nil {
		return nil, err
	}
	var out *retention.Sweep
	err = e.change(ctx, a, func(c *changes) (err error) {
		if err := c.tx.LockSubjects(lastOf(rule)); err != nil {
			return err
		}
		states, err := c.tx.RuleStates()
		if err != nil {
			return err
		}
		stop, err := c.tx.Stopped(StopOfSweeps)
		if err != nil {
			return err
		}
		s := stateOf(states, rule)
		wrong := func(msg, hint string) error { return &dsr.Error{Code: dsr.CodeWrongState, Msg: msg, Hint: hint} }
		switch {
		case !runs(r):
			return wrong("the rule has no sweeps of its own", "its action is next: rules after it wait for it")
		case stop != nil:
			return wrong("every sweep is stopped ("+stop.Reason+")", "start them again first: POST /v1/retention/start (lethe retention start)")
		case !sane:
			return wrong("this machine's clock and the control database's disagree", "set them right: what is due depends on the day")
		case s.PausedAt != nil:
			return wrong("the rule is paused", "resume it first (lethe retention resume "+rule+")")
		case needsApproval(r, s):
			return wrong("the rule is new or has changed and waits for its approval", "look at its forecast, then approve it")
		}
		out, err = c.openSweep(m, r, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.tellWaits(ctx, out)
	return out, nil
}

// openSweep begins the Sweep of a rule that may run, or returns the one that is under way. Lock the rule's schedule
// first.
func (c *changes) openSweep(m *atlas, r *datamap.Rule, now bool) (*retention.Sweep, error) {
	if err := c.tx.LockSubjects(lockOfHolds); err != nil {
		return nil, err
	}
	open, err := c.tx.OpenSweeps(r.Name)
	if err != nil {
		return nil, err
	}
	for _, s := range open {
		if s, err = c.tx.LockSweep(s.ID); err != nil {
			return nil, err
		}
		switch {
		case s.State == retention.SweepStopped:
			if err := c.endSweep(s, retention.SweepEnded, reasonSuperseded, s.Hint); err != nil {
				return nil, err
			}
		case !s.State.Open():
		case now && !s.Now && s.LeaseUntil.After(c.now.Add(c.e.c.Policy.Lease)): // it waits for its window
			s.Now, s.UpdatedAt = true, c.now
			c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, c.now)
			return s, c.tx.UpdateSweep(s)
		default:
			return s, nil
		}
	}
	s := &retention.Sweep{
		ID: c.e.newID("swp_"), Rule: r.Name, System: r.System, Entity: r.Entity, Action: r.Action, RuleHash: r.Hash(),
		MapVersion: m.version, State: retention.SweepRunning, StartedBy: c.actor, Now: now, Before: m.cut(r, c.now, 0).Before,
		CreatedAt: c.now, UpdatedAt: c.now, Fence: 1, LeaseUntil: c.now.Add(c.e.c.Policy.Lease), Version: 1,
	}
	if err := c.tx.InsertSweep(s); err != nil {
		return nil, err
	}
	c.sweepLeaf("sweep.started", s)
	c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, c.now)
	return s, nil
}

// ApproveSweep implements [Retention].
func (e *Engine) ApproveSweep(ctx context.Context, a dsr.Actor, id string, version, due int64) (*retention.Sweep, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	var out *retention.Sweep
	err := e.change(ctx, a, func(c *changes) error {
		s, err := c.tx.LockSweep(id)
		switch {
		case dsr.CodeOf(err) == dsr.CodeNotFound:
			return noSweep()
		case err != nil:
			return err
		case s.Version != version:
			return &dsr.Error{Code: dsr.CodeConflict, Msg: "the sweep has changed meanwhile", Hint: "read it again"}
		case s.State != retention.SweepStopped || s.Due == nil:
			return &dsr.Error{Code: dsr.CodeWrongState, Msg: "cannot approve a sweep that is " + string(s.State)}
		case *s.Due != due:
			return &dsr.Error{
				Code: dsr.CodeDueMismatch, Field: "due", Msg: "is not what is due: " + thousands(*s.Due), Hint: "read the sweep again",
			}
		}
		s.State, s.Reason, s.Hint, s.ApprovedBy, s.Approved, s.Due = retention.SweepRunning, "", "", a.ID, due, nil
		s.UpdatedAt = c.now
		if err := c.tx.UpdateSweep(s); err != nil {
			return err
		}
		c.sweepLeaf("sweep.approved", s)
		c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, c.now)
		out = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func noSweep() error { return &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such sweep"} }

// GetSweep implements [Retention].
func (e *Engine) GetSweep(ctx context.Context, a dsr.Actor, id string) (*retention.Sweep, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	var s *retention.Sweep
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		s, err = tx.Sweep(id)
		return err
	})
	if dsr.CodeOf(err) == dsr.CodeNotFound {
		return nil, noSweep()
	}
	if err != nil {
		return nil, err
	}
	e.tellWaits(ctx, s)
	return s, nil
}

// Sweeps implements [Retention].
func (e *Engine) Sweeps(ctx context.Context, a dsr.Actor, f SweepFilter) (page []*retention.Sweep, next string, err error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, "", err
	}
	f.Limit = min(f.Limit, maxRetentionPage)
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		page, next, err = tx.ListSweeps(f)
		return err
	})
	e.tellWaits(ctx, page...)
	return page, next, err
}

// CountDue counts what a rule makes due that did not run tonight, so that what piles up is seen. Tomorrow it counts
// again, so a fault is only logged.
func (e *Engine) CountDue(ctx context.Context, w CountDue) error {
	m, err := e.current(ctx)
	if err != nil {
		return err
	}
	r, err := m.find(w.Rule)
	if err != nil || !runs(r) {
		return nil //nolint:nilerr // it has gone from the map
	}
	cuts := []connectors.Cut{m.cut(r, e.now(), 0)}
	due, err := e.due(ctx, m, r, cuts, e.c.Policy.FindingsTTL, func() (*connection, func(), error) { return e.connect(ctx, m, r.System) })
	if err != nil {
		e.c.Logger.WarnContext(ctx, "what is due was not counted", "system", r.System, "rule", r.Name, "code", dsr.CodeOf(err))
		return nil
	}
	return e.change(ctx, dsr.Engine, func(c *changes) error {
		if err := c.tx.LockSubjects(lastOf(r.Name)); err != nil {
			return err
		}
		states, err := c.tx.RuleStates()
		if err != nil {
			return err
		}
		s := stateOf(states, r.Name)
		c.remember(s, due[0])
		s.Backlog = s.Due
		return c.tx.PutRuleState(s)
	})
}

const (
	// clockRow is the newest time that the schedules have seen.
	clockRow = "clock"
	// clockSkew is how far this machine's clock may be from the database's while Sweeps begin.
	clockSkew = 5 * time.Minute
	// clockJump is how far time may have moved on unseen: a clock that is ahead makes data due before its time.
	clockJump = 30 * 24 * time.Hour
	// clockBack is from when a time that was seen is taken for a clock that was ahead then.
	clockBack = 24 * time.Hour
)

// startDue begins the Sweeps whose scheduled time has come. Of several times that were missed it makes up for one.
func (e *Engine) startDue(ctx context.Context) error {
	m, err := e.current(ctx)
	if err != nil {
		if dsr.CodeOf(err) == dsr.CodeUnavailable {
			return nil
		}
		return err
	}
	rules := m.running()
	if len(rules) == 0 {
		return nil
	}
	sched, err := e.scheduleOf(m)
	if err != nil {
		return err
	}
	sane, err := e.saneClock(ctx)
	if err != nil || !sane {
		return err
	}
	for _, r := range rules {
		if err := e.change(ctx, dsr.Engine, func(c *changes) error { return c.startOne(m, r, sched) }); err != nil {
			return err
		}
	}
	return nil
}

// startOne begins one rule's Sweep when its time has come. A rule that is seen for the first time waits for the next
// time; one that may not run is counted, and its time has passed.
func (c *changes) startOne(m *atlas, r *datamap.Rule, sched *schedule) error {
	if err := c.tx.LockSubjects(lastOf(r.Name)); err != nil {
		return err
	}
	served, err := c.tx.LastRun(lastOf(r.Name))
	if err != nil {
		return err
	}
	if served.IsZero() || served.Sub(c.now) > clockBack {
		return c.tx.SetLastRun(lastOf(r.Name), c.now)
	}
	if next := sched.next(served); next.IsZero() || next.After(c.now) {
		return nil
	}
	if err := c.tx.SetLastRun(lastOf(r.Name), c.now); err != nil {
		return err
	}
	states, err := c.tx.RuleStates()
	if err != nil {
		return err
	}
	stop, err := c.tx.Stopped(StopOfSweeps)
	if err != nil {
		return err
	}
	if s := stateOf(states, r.Name); stop != nil || s.PausedAt != nil || needsApproval(r, s) {
		c.enqueue(CountDue{Rule: r.Name}, c.now)
		return nil
	}
	_, err = c.openSweep(m, r, false)
	return err
}

// saneClock reports whether this machine's clock may be believed when it says that data is due. One that disagrees with
// the control database's begins nothing until they agree. One that has jumped ahead stops every Sweep until a person has
// looked: whether Lethe was down for so long, or the clock is wrong, nobody else can tell.
func (e *Engine) saneClock(ctx context.Context) (bool, error) {
	sane := true
	err := e.change(ctx, dsr.Engine, func(c *changes) error {
		sane = true
		theirs, err := c.tx.Clock()
		if err != nil {
			return err
		}
		if skew := theirs.Sub(c.now).Abs(); !theirs.IsZero() && skew > clockSkew {
			e.c.Logger.ErrorContext(ctx, "no sweep begins: this machine's clock and the control database's disagree", "by", skew)
			sane = false
			return nil
		}
		seen, err := c.tx.LastRun(clockRow)
		if err != nil {
			return err
		}
		if !seen.IsZero() && c.now.Sub(seen) > clockJump {
			sane = false
			e.c.Logger.ErrorContext(ctx, "every sweep is stopped: time has moved on unseen", "since", seen,
				"hint", "see whether the clock is right, then start the sweeps again")
			if err := c.stopSweeps("clock-jumped"); err != nil {
				return err
			}
		}
		if c.now.Before(seen) && seen.Sub(c.now) <= clockBack {
			return nil
		}
		return c.tx.SetLastRun(clockRow, c.now)
	})
	return sane, err
}
