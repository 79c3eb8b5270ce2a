package engine

import (
	"context"
	"errors"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// upkeepBatch bounds what one Tick takes on at a time.
const upkeepBatch = 200

// Ticks says which Ticks to run and how often. Each remembers when it ran last as a row, so that a restarted process
// neither forgets one nor repeats it.
func (e *Engine) Ticks() map[string]time.Duration {
	return map[string]time.Duration{
		TickLeases:   10 * time.Second,
		TickNudges:   time.Minute,
		TickDeferred: 15 * time.Minute,
		TickPackages: time.Hour,
		TickPurge:    time.Hour,
		TickSweeps:   time.Minute,
	}
}

// Tick does one piece of upkeep. Running it twice does no more than running it once.
func (e *Engine) Tick(ctx context.Context, w Tick) error {
	var err error
	switch w.Name {
	case TickLeases:
		err = e.takeOver(ctx)
	case TickNudges:
		err = e.nudge(ctx)
	case TickDeferred:
		err = e.deferred(ctx)
	case TickPackages:
		err = e.expirePackages(ctx)
	case TickPurge:
		err = e.purge(ctx)
	case TickSweeps:
		err = e.startDue(ctx)
	default:
		return &dsr.Error{Code: dsr.CodeInvalid, Msg: "no such tick"}
	}
	if err != nil {
		return err
	}
	return e.c.Store.InTx(ctx, func(tx Tx) error { return tx.SetLastRun(w.Name, e.now()) })
}

// takeOver enqueues the next Slice, or Assemble, for every Run and Sweep whose worker has given no sign of life. Whoever
// works it first gets a higher Fence; the lost worker, should it come back, is refused.
func (e *Engine) takeOver(ctx context.Context) error {
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		runs, err := tx.ExpiredRuns(e.now(), upkeepBatch)
		if err != nil {
			return err
		}
		for _, r := range runs {
			var next Work = Slice{RunID: r.ID, Fence: r.Fence}
			if r.Phase == dsr.PhaseAssemble {
				next = Assemble{Request: string(r.Checkpoint), RunID: r.ID, Fence: r.Fence}
			}
			if err := tx.Enqueue(next, time.Time{}); err != nil {
				return err
			}
		}
		sweeps, err := tx.ExpiredSweeps(e.now(), upkeepBatch)
		if err != nil {
			return err
		}
		for _, s := range sweeps {
			if err := tx.Enqueue(SweepSlice{SweepID: s.ID, Fence: s.Fence}, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// nudge gathers every System of the current map that has Tasks waiting. Nudges are enqueued when a Task is made
// pending; this finds those whose job was lost, and closes connectors that nobody needs.
func (e *Engine) nudge(ctx context.Context) error {
	m, err := e.current(ctx)
	if err != nil {
		if dsr.CodeOf(err) == dsr.CodeUnavailable {
			return nil
		}
		return err
	}
	e.prune(m.version)
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		stats, err := tx.Stats(e.now())
		if err != nil {
			return err
		}
		for system, pending := range stats.Pending {
			if pending == 0 {
				continue
			}
			for _, phase := range []dsr.Phase{dsr.PhaseLocate, dsr.PhaseErase, dsr.PhaseExport, dsr.PhaseVerify} {
				due, err := tx.PendingMapVersions(system, phase, e.now())
				if err != nil {
					return err
				}
				if len(due) == 0 {
					continue
				}
				if err := tx.Enqueue(Gather{System: system, Phase: phase}, time.Time{}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// deferred lets Requests go on whose subject is no longer held, and those whose day has come, and learns about the subjects
// of Holds what could not be learned yet. Rules that do not run heed Holds too, whose identifiers or data came later.
func (e *Engine) deferred(ctx context.Context) error {
	if err := e.releaseHeld(ctx, false); err != nil {
		return err
	}
	return errors.Join(e.reopen(ctx), e.relearn(ctx), e.heed(ctx, "", func(sweeps bool) bool { return !sweeps }))
}

// reopen verifies deferred Requests again whose day has come.
func (e *Engine) reopen(ctx context.Context) error {
	cur, err := e.current(ctx)
	if err != nil {
		return nil //nolint:nilerr // without a data map there is nothing to verify
	}
	var due []*dsr.Request
	err = e.c.Store.InTx(ctx, func(tx Tx) error {
		due = due[:0]
		f := RequestFilter{States: []dsr.State{dsr.Deferred}, Limit: upkeepBatch}
		for {
			page, next, err := tx.ListRequests(f)
			if err != nil {
				return err
			}
			for _, r := range page {
				if r.DeferTo != nil && !r.DeferTo.After(e.now()) && !heldBack(r) {
					due = append(due, r)
				}
			}
			if f.Cursor = next; next == "" {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	for _, r := range due {
		m, err := e.atlas(ctx, r.MapVersion)
		if err != nil {
			return err
		}
		err = e.change(ctx, dsr.Engine, func(c *changes) error {
			f, err := c.flow([]string{r.ID}, cur)
			if err != nil {
				return err
			}
			r := f.requests[r.ID]
			if r == nil || r.State != dsr.Deferred || heldBack(r) || r.DeferTo == nil || r.DeferTo.After(c.now) {
				return nil
			}
			return f.reopen(r, m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reopen searches again for what a deferred Request waits for.
func (f *flow) reopen(r *dsr.Request, m *atlas) error {
	f.c.to(r, dsr.Verifying, "reopened", nil)
	for _, t := range f.tasks[r.ID] {
		t.Attempt = 1 // what could not go until now has its own rounds
	}
	return f.verifyAll(r, m, f.tasks[r.ID])
}

// expirePackages removes access packages that are past their time, the file first: a row without a file says so, a
// file without a row would be forgotten.
func (e *Engine) expirePackages(ctx context.Context) error {
	if e.c.Packager == nil {
		return nil
	}
	var expired []*Package
	err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		expired, err = tx.ExpiredPackages(e.now(), upkeepBatch)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range expired {
		if err := e.c.Packager.Remove(p); err != nil {
			return staging(err)
		}
		err := e.change(ctx, dsr.Engine, func(c *changes) error {
			at := c.now
			p.RemovedAt, p.DataKey = &at, nil
			if err := c.tx.PutPackage(p); err != nil {
				return err
			}
			rs, err := c.tx.LockRequests(p.Request)
			if err != nil || len(rs) == 0 {
				return err
			}
			c.note(rs[0], "package.removed", nil)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// purge is Lethe's own retention.
func (e *Engine) purge(ctx context.Context) error {
	for {
		var n int64
		err := e.c.Store.InTx(ctx, func(tx Tx) (err error) {
			n, err = tx.Purge(e.now().Add(-e.c.Policy.FinishedTTL), e.now(), upkeepBatch)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}
