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
)

// workload is one slice of a Run: what was claimed, and the means to work on it.
type workload struct {
	run      *dsr.Run
	atlas    *atlas
	conn     *connection
	members  []*member
	failures int
	park     bool // keep the Run for a retry
	started  time.Time
	deadline time.Time

	checkpoint []byte // sealed, as it was saved last
}

// Gather claims what is due for one System and Phase and works the first slice of each Run.
func (e *Engine) Gather(ctx context.Context, g Gather) error {
	for range maxRunsPerGather {
		w, err := e.claim(ctx, g)
		if err != nil || w == nil {
			return err
		}
		if len(w.members) == 0 {
			continue
		}
		if err := e.work(ctx, w); err != nil {
			return err
		}
		if e.now().After(w.deadline) {
			break
		}
	}
	return nil
}

// maxRunsPerGather bounds one job; the claim of the last Run has enqueued the next Gather.
const maxRunsPerGather = 1

// Slice continues a Run. It ends without a word when another worker has the Run or it is done.
func (e *Engine) Slice(ctx context.Context, s Slice) error {
	w := &workload{failures: s.Failures}
	err := e.c.Store.InTx(ctx, func(tx Tx) error {
		run, err := tx.AcquireRun(s.RunID, s.Fence, e.now(), e.c.Policy.Lease)
		if err != nil {
			return err
		}
		tasks, err := tx.RunTasks(run.ID)
		if err != nil {
			return err
		}
		claimed := tasks[:0]
		for _, t := range tasks {
			if t.State == dsr.TaskClaimed {
				claimed = append(claimed, t)
			}
		}
		w.run, w.checkpoint = run, run.Checkpoint
		w.members, err = loadMembers(tx, claimed)
		return err
	})
	switch dsr.CodeOf(err) {
	case dsr.CodeConflict, dsr.CodeWrongState, dsr.CodeNotFound:
		return nil
	}
	if err != nil {
		return err
	}
	return e.work(ctx, w)
}

// work does one slice and decides what follows: the end of the Run, another slice, a pause, or failed Tasks.
func (e *Engine) work(ctx context.Context, w *workload) error {
	w.started = e.now()
	w.deadline = w.started.Add(e.c.Policy.Slice)
	apply, err := e.guarded(ctx, w)
	switch {
	case err == nil:
		err = e.finish(ctx, w, apply)
	case errors.Is(err, connectors.ErrFenced):
	case ctx.Err() != nil:
		// Lethe is stopping, or the job has run out of time. What is durable stays; another slice goes on.
		// Running out of time counts as a failure, so that a verb which never ends in time does not run for ever.
		failures := w.failures
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			failures++
		}
		rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if failures < e.c.Policy.Attempts {
			err = e.again(rest, w, time.Time{}, failures)
		} else {
			err = e.giveUp(rest, w, connectors.Permanent("too-slow", "the system did not answer within the time of a job",
				"look for a missing index, or limit what the request covers; then retry", nil))
		}
	case errors.Is(err, connectors.ErrYield):
		err = e.again(ctx, w, time.Time{}, 0)
	case !connectors.IsPermanent(err) && w.failures+1 < e.c.Policy.Attempts:
		pause := min(e.c.Policy.Backoff<<min(w.failures, 10), 5*time.Minute)
		e.c.Logger.WarnContext(ctx, "a system failed; its work goes on later", "system", w.run.System,
			"phase", w.run.Phase, "run", w.run.ID, "failures", w.failures+1, "code", dsr.CodeOf(err), "in", pause)
		err = e.again(ctx, w, e.now().Add(pause), w.failures+1)
	default:
		err = e.giveUp(ctx, w, err)
	}
	if errors.Is(err, connectors.ErrFenced) {
		return nil
	}
	return err
}

// giveUp ends a Run that cannot go on. A permanent fault of a batch may be one member's: each goes on alone, and only
// who fails alone has failed. Where the last chunk's outcome is not known, the Run is parked with its checkpoint, so
// that a retry settles it.
func (e *Engine) giveUp(ctx context.Context, w *workload, fault error) error {
	reason, _ := explain(fault)
	if len(w.members) > 1 && w.conn != nil && connectors.IsPermanent(fault) && !strings.HasPrefix(reason, "check-") &&
		reason != reasonUnsupported {
		return e.scatter(ctx, w)
	}
	e.c.Logger.ErrorContext(ctx, "a run failed", "system", w.run.System, "phase", w.run.Phase, "run", w.run.ID,
		"code", dsr.CodeOf(fault))
	w.park = w.run.Phase == dsr.PhaseErase && w.checkpoint != nil && !connectors.IsPermanent(fault)
	return e.finish(ctx, w, func(c *changes, ms []*member) error {
		for _, m := range ms {
			c.fault(m.task, fault)
		}
		return nil
	})
}

// parked is the lease of a Run that waits for a person's retry.
const parked = 10 * 365 * 24 * time.Hour

// scatter ends a Run and gives each of its members one of its own.
func (e *Engine) scatter(ctx context.Context, w *workload) error {
	e.c.Logger.WarnContext(ctx, "a batch failed; its members go on alone", "system", w.run.System, "phase", w.run.Phase,
		"run", w.run.ID, "members", len(w.members))
	return e.change(ctx, dsr.Engine, func(c *changes) error {
		if err := c.tx.FinishRun(w.run.ID, w.run.Fence); err != nil {
			return err
		}
		if _, err := c.tx.LockRequests(requestIDs(w.members)...); err != nil {
			return err
		}
		tasks, err := c.tx.RunTasks(w.run.ID)
		if err != nil {
			return err
		}
		for _, t := range tasks {
			if t.State != dsr.TaskClaimed {
				continue
			}
			run := &dsr.Run{
				ID: e.newID("run_"), System: t.System, Phase: t.Phase, MapVersion: w.run.MapVersion, Fence: 1,
				LeaseUntil: c.now.Add(e.c.Policy.Lease),
			}
			if err := c.tx.InsertRun(run); err != nil {
				return err
			}
			t.Run = run.ID
			c.task(t)
			c.enqueue(Slice{RunID: run.ID, Fence: run.Fence}, c.now)
		}
		return nil
	})
}

// guarded is attempt, where a panic is a failure like any other: tried again as often as the policy says, then shown to
// a person. Else every worker that takes the Run over would panic in its turn, for ever. The panic's value may hold
// anything, so it is not logged.
func (e *Engine) guarded(ctx context.Context, w *workload) (apply func(*changes, []*member) error, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.c.Logger.ErrorContext(ctx, "a run panicked", "system", w.run.System, "phase", w.run.Phase, "run", w.run.ID,
				"type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			apply, err = nil, &dsr.Error{
				Code: reasonFault, Msg: "Lethe itself failed", Hint: "see the log of the worker, then retry",
			}
		}
	}()
	return e.attempt(ctx, w)
}

// attempt connects, decrypts and runs the phase's verb. It returns what to write when the phase is over.
func (e *Engine) attempt(ctx context.Context, w *workload) (func(*changes, []*member) error, error) {
	var err error
	if w.atlas, err = e.atlas(ctx, w.run.MapVersion); err != nil {
		return nil, err
	}
	conn, release, err := e.connect(ctx, w.atlas, w.run.System)
	if err != nil {
		return nil, err
	}
	defer release()
	w.conn = conn
	if err := e.openAll(ctx, w); err != nil {
		return nil, err
	}
	if len(w.members) == 0 {
		return func(*changes, []*member) error { return nil }, nil
	}
	switch w.run.Phase {
	case dsr.PhaseLocate:
		defer e.keepLease(ctx, w.run)()
		found, err := e.locate(ctx, w)
		return func(c *changes, ms []*member) error { return c.located(ms, found) }, err
	case dsr.PhaseErase, dsr.PhaseExport:
		return e.execute(ctx, w)
	case dsr.PhaseVerify:
		defer e.keepLease(ctx, w.run)()
		return e.verify(ctx, w)
	}
	return nil, connectors.Permanent(reasonFault, "no such phase", "", nil)
}

// openAll decrypts the members' identifiers. Members whose identifiers cannot be read leave the Run with their fault.
func (e *Engine) openAll(ctx context.Context, w *workload) error {
	broken := map[string]error{}
	for _, m := range w.members {
		if err := e.open(ctx, m); err != nil {
			if dsr.CodeOf(err) == dsr.CodeUnavailable {
				return err
			}
			broken[m.task.ID] = err
		}
	}
	return e.setAside(ctx, w, broken, func(c *changes, _ *dsr.Request, t *dsr.Task) {
		reason, hint := explain(broken[t.ID])
		c.fail(t, reason, hint)
	})
}

// setAside takes members out of the Run, in a fenced transaction, and moves on Requests whose phase that ends. mark
// says what becomes of each Task.
func (e *Engine) setAside(
	ctx context.Context, w *workload, out map[string]error, mark func(c *changes, r *dsr.Request, t *dsr.Task),
) error {
	if len(out) == 0 {
		return nil
	}
	cur, err := e.current(ctx)
	if err != nil {
		return err
	}
	var gone, stay []*member
	for _, m := range w.members {
		if _, is := out[m.task.ID]; is {
			gone = append(gone, m)
		} else {
			stay = append(stay, m)
		}
	}
	err = e.change(ctx, dsr.Engine, func(c *changes) error {
		if err := c.tx.SaveRun(w.run.ID, w.run.Fence, c.now.Add(e.c.Policy.Lease), w.checkpoint, nil); err != nil {
			return err
		}
		f, err := c.flow(requestIDs(gone), cur)
		if err != nil {
			return err
		}
		for _, m := range gone {
			r, t := f.requests[m.request.ID], f.task(m.request.ID, m.task.ID)
			if r == nil || t == nil || t.Run != w.run.ID || t.State != dsr.TaskClaimed {
				continue
			}
			mark(c, r, t)
			t.Run = ""
			if err := f.advance(r, w.atlas); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.members = stay
	}
	return err
}

// again leaves the Run to another slice, at a later time when at is not zero; the lease lasts until then.
func (e *Engine) again(ctx context.Context, w *workload, at time.Time, failures int) error {
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		until := e.now().Add(e.c.Policy.Lease)
		if at.After(e.now()) {
			until = at.Add(e.c.Policy.Lease)
		}
		if err := tx.SaveRun(w.run.ID, w.run.Fence, until, w.checkpoint, nil); err != nil {
			return err
		}
		return tx.Enqueue(Slice{RunID: w.run.ID, Fence: w.run.Fence, Failures: failures}, at)
	})
}

// finish ends a Run: apply says what its members' Tasks became, then every Request whose phase is over moves on. All
// of it is one transaction, fenced.
func (e *Engine) finish(ctx context.Context, w *workload, apply func(*changes, []*member) error) error {
	cur, err := e.current(ctx)
	if err != nil {
		return err
	}
	err = e.change(ctx, dsr.Engine, func(c *changes) error {
		end := func() error { return c.tx.FinishRun(w.run.ID, w.run.Fence) }
		if w.park {
			end = func() error { return c.tx.SaveRun(w.run.ID, w.run.Fence, c.now.Add(parked), w.checkpoint, nil) }
		}
		if err := end(); err != nil {
			return err
		}
		f, err := c.flow(requestIDs(w.members), cur)
		if err != nil {
			return err
		}
		var ms []*member
		for _, old := range w.members {
			r, t := f.requests[old.request.ID], f.task(old.request.ID, old.task.ID)
			if r == nil || t == nil || t.Run != w.run.ID || t.State != dsr.TaskClaimed {
				continue
			}
			ms = append(ms, &member{task: t, request: r, sealed: f.sealed[r.ID], key: old.key, wrapped: old.wrapped, ids: old.ids})
		}
		if err := apply(c, ms); err != nil {
			return err
		}
		if w.run.Phase != dsr.PhaseLocate {
			if err := c.receipts(w, ms); err != nil {
				return err
			}
		}
		for _, m := range ms {
			if !w.park || m.task.State != dsr.TaskFailed {
				m.task.Run = ""
			}
		}
		for _, id := range requestIDs(w.members) {
			if r := f.requests[id]; r != nil {
				if err := f.advance(r, w.atlasOr(cur)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && e.c.Metrics != nil {
		e.c.Metrics.RunDone(w.run.System, w.run.Phase, len(w.members), e.now().Sub(w.started))
	}
	return err
}

func (w *workload) atlasOr(cur *atlas) *atlas {
	if w.atlas != nil {
		return w.atlas
	}
	return cur
}

func requestIDs(ms []*member) []string {
	ids := make([]string, 0, len(ms))
	seen := map[string]bool{}
	for _, m := range ms {
		if !seen[m.request.ID] {
			seen[m.request.ID] = true
			ids = append(ids, m.request.ID)
		}
	}
	return ids
}
