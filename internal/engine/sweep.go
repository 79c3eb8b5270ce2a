package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

// Reasons why a Sweep is stopped, paused or ended. They are stable codes; those of faults are the same as of Runs.
const (
	reasonOverCap     = "over-cap"
	reasonRuleChanged = "rule-changed"
	reasonSuperseded  = "superseded"
	reasonPaused      = "paused"
	reasonClock       = "clock-set-back"
	reasonHalted      = "stopped"
	reasonTurn        = "turn"
)

// sweeping is one slice of a Sweep and the means to work on it.
type sweeping struct {
	sweep    *retention.Sweep
	cur      *atlas // the current map
	atlas    *atlas // the Sweep's
	rule     *datamap.Rule
	conn     *connection
	sweeper  connectors.Sweeper
	journal  *sweepJournal
	watch    *watch
	due      *connectors.Due // counted in this slice
	stopped  string          // above a cap: what a person is told
	left     *connectors.Due // counted once nothing was left to do
	measures connectors.SweepMeasures
	started  time.Time
	deadline time.Time
}

// SweepSlice works one slice of a Sweep. It ends without a word when another worker has the Sweep or it is not to be
// worked now.
func (e *Engine) SweepSlice(ctx context.Context, w SweepSlice) error {
	x, err := e.takeSweep(ctx, w)
	if err != nil || x == nil {
		return err
	}
	x.started = e.now()
	x.deadline = x.started.Add(e.c.Policy.Slice)
	err = e.guardedSweep(ctx, x)
	rest := ctx
	if ctx.Err() != nil { // Lethe is stopping, or the job has run out of time: what is durable stays
		var cancel context.CancelFunc
		rest, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
	}
	if err = e.afterSlice(rest, ctx.Err(), x, err); errors.Is(err, connectors.ErrFenced) {
		return nil
	}
	return err
}

// takeSweep takes the lease and looks at everything that may keep the Sweep from going on: pauses, stops, a changed
// rule, a clock that was ahead, the nightly window, other Sweeps of the System. It returns nil when there is nothing to work
// now.
func (e *Engine) takeSweep(ctx context.Context, w SweepSlice) (*sweeping, error) {
	cur, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	var x *sweeping
	err = e.change(ctx, dsr.Engine, func(c *changes) error {
		x = nil
		if err := c.lockTurns(w.SweepID); err != nil {
			return err
		}
		s, err := c.tx.AcquireSweep(w.SweepID, w.Fence, c.now, e.c.Policy.Lease)
		if err != nil {
			return err
		}
		works, err := c.mayWork(cur, s)
		switch {
		case err != nil:
			return err
		case works:
			x = &sweeping{sweep: s, cur: cur}
			return nil
		}
		return c.passTurn(cur, s.System)
	})
	switch dsr.CodeOf(err) {
	case dsr.CodeConflict, dsr.CodeWrongState, dsr.CodeNotFound:
		return nil, nil
	}
	return x, err
}

// earlier reports whether one cut of a rule makes less due than another does, by the rule or by one that it waits for.
func earlier(now, then connectors.Cut) bool {
	if now.Before.Before(then.Before) {
		return true
	}
	for i := range min(len(now.After), len(then.After)) {
		if now.After[i].Before.Before(then.After[i].Before) {
			return true
		}
	}
	return false
}

// mayWork reports whether a Sweep that was acquired works now. One that does not is left as it is to wait, or has ended.
func (c *changes) mayWork(cur *atlas, s *retention.Sweep) (bool, error) {
	stop, err := c.tx.Stopped(StopOfSweeps)
	if err != nil {
		return false, err
	}
	states, err := c.tx.RuleStates()
	if err != nil {
		return false, err
	}
	s.Works = false
	paused := stateOf(states, s.Rule).PausedAt != nil
	if stop != nil || paused {
		s.State, s.Reason, s.Hint, s.UpdatedAt = retention.SweepPaused, reasonHalted, "every sweep is stopped", c.now
		if paused {
			s.Reason, s.Hint = reasonPaused, "the rule is paused"
		}
		return false, c.tx.UpdateSweep(s)
	}
	r, err := cur.find(s.Rule)
	if dsr.CodeOf(err) == dsr.CodeNotFound || err == nil && r.Hash() != s.RuleHash {
		return false, c.endSweep(s, retention.SweepEnded, reasonRuleChanged, "the rule has changed or is gone from the data map")
	}
	if err != nil {
		return false, err
	}
	if earlier(cur.cut(r, c.now, 0), cur.cut(r, s.CreatedAt, 0)) || cur.cut(r, c.now, 0).Before.Before(s.Before) {
		return false, c.endSweep(s, retention.SweepEnded, reasonClock,
			"the clock has been set back since the sweep began; what is due by it as it is now goes with the next one")
	}
	if open, next := c.e.c.Policy.Retention.Window.open(c.now, cur.Controller.Zone); !open && !s.Now {
		if err := c.tx.UpdateSweep(s); err != nil {
			return false, err
		}
		return false, c.waitUntil(s, next)
	}
	return c.takeTurn(cur, s)
}

// waitUntil leaves a Sweep to a slice at a later time; its lease lasts until then.
func (c *changes) waitUntil(s *retention.Sweep, at time.Time) error {
	if _, err := c.tx.BeatSweep(s.ID, s.Fence, at.Add(c.e.c.Policy.Lease)); err != nil {
		return err
	}
	c.enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, at)
	return nil
}

// guardedSweep is workSweep, where a panic is a fault like any other. Its value may hold anything, so it is not logged.
func (e *Engine) guardedSweep(ctx context.Context, x *sweeping) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.c.Logger.ErrorContext(ctx, "a sweep panicked", "system", x.sweep.System, "rule", x.sweep.Rule, "sweep", x.sweep.ID,
				"type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = &dsr.Error{Code: reasonFault, Msg: "Lethe itself failed", Hint: "see the log of the worker"}
		}
	}()
	return e.workSweep(ctx, x)
}

// workSweep connects, counts where that was not done yet, and sweeps until the slice is over.
func (e *Engine) workSweep(ctx context.Context, x *sweeping) (err error) {
	s := x.sweep
	if x.atlas, err = e.atlas(ctx, s.MapVersion); err != nil {
		return err
	}
	if x.rule, err = x.atlas.find(s.Rule); err != nil {
		return connectors.Permanent(reasonRuleChanged, "the data map of this sweep has no such rule", "", nil)
	}
	conn, release, err := e.connect(ctx, x.atlas, s.System)
	if err != nil {
		return err
	}
	defer release()
	x.conn = conn
	var ok bool
	if x.sweeper, ok = conn.connector.(connectors.Sweeper); !ok {
		return unsupported(conn.system, "sweep")
	}
	if x.journal, err = e.sweepJournal(ctx, s); err != nil {
		return err
	}
	ctx, x.watch = e.watchSweep(ctx, s)
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), connectors.ErrYield) && !errors.Is(err, connectors.ErrFenced) {
			err = connectors.ErrYield
		}
		x.watch.stop()
	}()
	ttl := e.c.Policy.FindingsTTL
	if s.Due == nil { // before each Sweep what its Holds cover is learned anew
		if err := e.sound(ctx, conn, s.Rule); err != nil {
			return err
		}
		ttl = 0
	}
	held, err := e.heldIn(ctx, x.atlas, s.System, ttl)
	if err != nil {
		return err
	}
	if s.Due == nil {
		if x.due, err = e.countFor(ctx, x, held); err != nil {
			return err
		}
		if x.stopped, err = e.stopsAt(ctx, x); err != nil || x.stopped != "" {
			return err
		}
		if err := e.counted(ctx, x); err != nil {
			return err
		}
	}
	done, err := e.doneSweeps(ctx, s.Rule)
	if err != nil {
		return err
	}
	pace := e.c.Policy.Retention.Pace
	pace.Stop = x.watch.interrupted
	job := connectors.SweepJob{
		Entity: s.Entity, Rule: x.rule.Rule, Cut: x.cut(), Held: held, Limits: conn.system.Limits,
		Most: mostOf(x.rule, e.c.Policy.CountSlack, x.sweep, done), Pace: pace, Journal: x.journal, Deadline: x.deadline,
	}
	if _, until := e.c.Policy.Retention.Window.open(x.started, x.atlas.Controller.Zone); !s.Now && !until.IsZero() && until.Before(job.Deadline) {
		job.Deadline = until
	}
	if x.measures, err = x.sweeper.Sweep(ctx, job); err != nil {
		return err
	}
	if x.left, err = e.countFor(ctx, x, held); err != nil {
		return err
	}
	for code, n := range x.left.Unreadable { // since the Sweep has been there: what is left in it nobody knows
		return connectors.Permanent(code, s.Entity+": "+thousands(n)+" cannot be read, and nobody knows whether something is due in them",
			"Everything else that was due is gone.", nil)
	}
	return nil
}

// cut is where the Sweep cuts: where it cut when it began, however long it takes.
func (x *sweeping) cut() connectors.Cut {
	c := x.atlas.cut(x.rule, x.sweep.CreatedAt, 0)
	c.Before = x.sweep.Before.In(x.atlas.Controller.Zone)
	return c
}

func (e *Engine) countFor(ctx context.Context, x *sweeping, held connectors.Holds) (*connectors.Due, error) {
	due, err := x.sweeper.Due(ctx, connectors.DueQuery{
		Entity: x.sweep.Entity, Rule: x.rule.Rule, Cuts: []connectors.Cut{x.cut()}, Held: held,
	})
	switch {
	case err != nil:
		return nil, err
	case len(due) != 1:
		return nil, connectors.Permanent(reasonFault, "the connector counted for other cut-offs than it was asked for", "", nil)
	}
	return &due[0], nil
}

// stopsAt says which cap the count is above that nobody has approved.
func (e *Engine) stopsAt(ctx context.Context, x *sweeping) (string, error) {
	n := free(*x.due)
	if x.sweep.ApprovedBy != "" && n <= x.sweep.Approved {
		return "", nil
	}
	done, err := e.doneSweeps(ctx, x.sweep.Rule)
	if err != nil {
		return "", err
	}
	return overCap(x.rule, e.c.Policy.CountSlack, *x.due, done), nil
}

// doneSweeps are the last Sweeps of a rule that were done, with which a cap on growth compares.
func (e *Engine) doneSweeps(ctx context.Context, rule string) (done []*retention.Sweep, err error) {
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		done, err = tx.DoneSweeps(rule, growthRuns)
		return err
	})
	return done, err
}

// counted makes the count durable before anything is deleted: a Sweep that goes on does not ask its caps again, for
// what it has deleted by then no longer counts.
func (e *Engine) counted(ctx context.Context, x *sweeping) error {
	return e.settle(ctx, x, func(c *changes, s *retention.Sweep, r *retention.RuleState) error {
		r.Backlog = *s.Due
		x.sweep = s
		return nil
	})
}

// settle writes what a slice came to: in one transaction, fenced, with the counts and measures that it made.
func (e *Engine) settle(ctx context.Context, x *sweeping, fn func(c *changes, s *retention.Sweep, r *retention.RuleState) error) error {
	err := e.change(ctx, dsr.Engine, func(c *changes) error {
		if err := c.tx.LockSubjects(turnsOf(x.sweep.System), lastOf(x.sweep.Rule)); err != nil {
			return err
		}
		s, err := c.tx.LockSweep(x.sweep.ID)
		if err != nil {
			return err
		}
		if s.Fence != x.sweep.Fence || s.State != retention.SweepRunning {
			return connectors.ErrFenced
		}
		states, err := c.tx.RuleStates()
		if err != nil {
			return err
		}
		r := stateOf(states, s.Rule)
		measure(&s.Measures, x.measures, c.now.Sub(x.started))
		if x.due != nil {
			n := free(*x.due)
			s.Due, s.Held, s.Blocked, s.Total, s.BlockedBy = &n, x.due.Held, x.due.Blocked, x.due.Total, x.due.BlockedBy
			c.remember(r, *x.due)
		}
		s.UpdatedAt = c.now
		if err := fn(c, s, r); err != nil {
			return err
		}
		if err := c.tx.PutRuleState(r); err != nil {
			return err
		}
		if s.State.Open() { // else endSweep has written it
			if err := c.tx.UpdateSweep(s); err != nil {
				return err
			}
		}
		if s.Works {
			return nil
		}
		return c.passTurn(x.cur, s.System)
	})
	if err == nil {
		x.due, x.measures, x.started = nil, connectors.SweepMeasures{}, e.now()
	}
	return err
}

// leave is settle at the end of a slice: the next Sweep of the System may work.
func (e *Engine) leave(ctx context.Context, x *sweeping, fn func(c *changes, s *retention.Sweep, r *retention.RuleState) error) error {
	return e.settle(ctx, x, func(c *changes, s *retention.Sweep, r *retention.RuleState) error {
		s.Works = false
		return fn(c, s, r)
	})
}

// remember keeps what was counted for the metrics.
func (c *changes) remember(r *retention.RuleState, d connectors.Due) {
	at := c.now
	r.Counted, r.Due, r.Held, r.Blocked = &at, free(d), d.Held, d.Blocked
}

// measure adds what one slice measured.
func measure(sum *retention.SweepMeasures, m connectors.SweepMeasures, worked time.Duration) {
	sum.Bytes += m.Bytes
	sum.Transactions += m.Transactions
	sum.Longest = max(sum.Longest, m.Longest)
	sum.Worked += max(0, worked)
	for why, took := range m.Pauses {
		if sum.Pauses == nil {
			sum.Pauses = map[string]time.Duration{}
		}
		sum.Pauses[string(why)] += took
	}
}

// afterSlice decides what follows: the Sweep's end, another slice, a pause, or a person. over is why the job's context
// has ended, nil while it goes on.
func (e *Engine) afterSlice(ctx context.Context, over error, x *sweeping, err error) error {
	failures := x.sweep.Failures
	switch {
	case err == nil && x.stopped != "":
		return e.leave(ctx, x, func(c *changes, s *retention.Sweep, r *retention.RuleState) error {
			s.State, s.Reason, s.Hint = retention.SweepStopped, reasonOverCap, x.stopped
			r.Backlog = *s.Due
			c.sweepLeaf("sweep.stopped", s)
			return nil
		})
	case err == nil:
		return e.sweepDone(ctx, x)
	case errors.Is(err, connectors.ErrFenced):
		return err
	case over != nil:
		if errors.Is(over, context.DeadlineExceeded) {
			failures++
		}
		if failures < e.c.Policy.Attempts {
			return e.sweepAgain(ctx, x, time.Time{}, failures)
		}
		err = connectors.Permanent("too-slow", "the system did not answer within the time of a job",
			"look for a missing index on the starting point", nil)
	case errors.Is(err, connectors.ErrYield):
		return e.sweepAgain(ctx, x, time.Time{}, 0)
	case !connectors.IsPermanent(err) && failures+1 < e.c.Policy.Attempts:
		pause := min(e.c.Policy.Backoff<<min(failures, 10), 5*time.Minute)
		e.c.Logger.WarnContext(ctx, "a system failed; its sweep goes on later", "system", x.sweep.System, "rule", x.sweep.Rule,
			"sweep", x.sweep.ID, "failures", failures+1, "code", dsr.CodeOf(err), "in", pause)
		return e.sweepAgain(ctx, x, e.now().Add(pause), failures+1)
	}
	e.c.Logger.ErrorContext(ctx, "a sweep failed", "system", x.sweep.System, "rule", x.sweep.Rule, "sweep", x.sweep.ID,
		"code", dsr.CodeOf(err))
	return e.leave(ctx, x, func(c *changes, s *retention.Sweep, _ *retention.RuleState) error {
		reason, hint := explain(err)
		return c.endSweep(s, retention.SweepFailed, reason, hint)
	})
}

// sweepAgain leaves the Sweep to another slice, at a later time when at is not zero.
func (e *Engine) sweepAgain(ctx context.Context, x *sweeping, at time.Time, failures int) error {
	return e.leave(ctx, x, func(c *changes, s *retention.Sweep, _ *retention.RuleState) error {
		s.Failures = failures
		if !at.After(c.now) {
			at = c.now
		}
		return c.waitUntil(s, at)
	})
}

// sweepDone ends a Sweep that has nothing left to do.
func (e *Engine) sweepDone(ctx context.Context, x *sweeping) error {
	return e.leave(ctx, x, func(c *changes, s *retention.Sweep, r *retention.RuleState) error {
		left := free(*x.left)
		s.Left = &left
		s.Held, s.Blocked, s.BlockedBy = x.left.Held, x.left.Blocked, x.left.BlockedBy // Holds may have come and gone meanwhile
		c.remember(r, *x.left)
		at := c.now
		r.LastSuccess, r.Backlog = &at, left
		return c.endSweep(s, retention.SweepDone, "", "")
	})
}

// endSweep writes the end of a Sweep, its certificate in the ledger, and its numbers. The Sweep is locked.
func (c *changes) endSweep(s *retention.Sweep, state retention.SweepState, reason, hint string) error {
	at := c.now
	s.State, s.Reason, s.Hint, s.FinishedAt, s.UpdatedAt = state, reason, hint, &at, at
	if err := c.tx.UpdateSweep(s); err != nil {
		return err
	}
	c.sweepLeaf("sweep."+string(state), s)
	if m := c.e.c.Metrics; m != nil {
		c.after = append(c.after, func() { m.SweepEnded(s) })
	}
	return nil
}

// sweepLeaf is the evidence of a Sweep: what rule, as approved, cut where, and what became of the rows.
func (c *changes) sweepLeaf(kind string, s *retention.Sweep) {
	d := detail{
		"sweep": s.ID, "rule": s.Rule, "entity": s.Entity, "action": string(s.Action), "rule_hash": s.RuleHash,
		"map": count(int64(s.MapVersion)), "before": s.Before.UTC().Format(time.RFC3339), "started_by": s.StartedBy,
		"started": s.CreatedAt.UTC().Format(time.RFC3339),
	}
	for name, n := range map[string]*int64{"due": s.Due, "left": s.Left} {
		if n != nil {
			d[name] = count(*n)
		}
	}
	if s.Due != nil { // counted with it, and again at the end
		d["held"], d["blocked"] = count(s.Held), count(s.Blocked)
		if len(s.BlockedBy) > 0 {
			d["blocked_by"] = strings.Join(s.BlockedBy, " ")
		}
	}
	if s.ApprovedBy != "" {
		d["approved_by"], d["approved"] = s.ApprovedBy, count(s.Approved)
	}
	if s.Reason != "" {
		d["reason"] = s.Reason
	}
	for _, l := range s.Results {
		d[l.Entity+"."+string(l.Method)] = count(l.Count)
		if l.Resolved > 0 {
			d[l.Entity+"."+string(l.Method)+".resolved_after_interruption"] = count(l.Resolved)
		}
	}
	c.evidence(kind, s.System, d)
}
