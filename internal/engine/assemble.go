package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// assemble starts the building of a Request's access package.
func (c *changes) assemble(r *dsr.Request) error {
	run := &dsr.Run{
		ID: c.e.newID("run_"), Phase: dsr.PhaseAssemble, MapVersion: r.MapVersion,
		LeaseUntil: c.now.Add(c.e.c.Policy.Lease), Checkpoint: []byte(r.ID),
	}
	if err := c.tx.InsertRun(run); err != nil {
		return err
	}
	c.enqueue(Assemble{Request: r.ID, RunID: run.ID}, c.now)
	return nil
}

// Assemble builds the access package of a Request whose exports are done, and completes it.
func (e *Engine) Assemble(ctx context.Context, w Assemble) error {
	cur, err := e.current(ctx)
	if err != nil {
		return err
	}
	var run *dsr.Run
	var r *dsr.Request
	var wrapped []byte
	var plan *dsr.Plan
	var tasks []*dsr.Task
	var events []dsr.Event
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		if run, err = tx.AcquireRun(w.RunID, w.Fence, e.now(), e.c.Policy.Lease); err != nil {
			return err
		}
		if r, err = tx.Request(w.Request); err != nil {
			return err
		}
		keys, err := tx.DataKeys(r.ID)
		if err != nil {
			return err
		}
		wrapped = keys[r.ID]
		plans, err := tx.PlansOf(r.ID)
		if err != nil {
			return err
		}
		plan = plans[r.ID]
		if tasks, err = tx.TasksOf(r.ID); err != nil {
			return err
		}
		events, err = tx.Events(r.ID, 0, 1)
		return err
	})
	switch dsr.CodeOf(err) {
	case dsr.CodeNotFound, dsr.CodeConflict, dsr.CodeWrongState: // gone, or another worker's
		return nil
	}
	if err != nil {
		return err
	}
	if r.State != dsr.Running || r.Kind != dsr.Access || wrapped == nil || plan == nil {
		return e.c.Store.InTx(ctx, func(tx Tx) error { return tx.FinishRun(run.ID, run.Fence) })
	}
	stop := e.keepLease(ctx, run)
	p, err := e.assemble(ctx, r, plan, tasks, wrapped, language(events))
	stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return err
	case !connectors.IsPermanent(err) && dsr.CodeOf(err) != dsr.CodeInvalid && w.Failures+1 < e.c.Policy.Attempts:
		w.Failures++
		w.Fence = run.Fence
		at := e.now().Add(min(e.c.Policy.Backoff<<min(w.Failures, 10), 5*time.Minute))
		return e.c.Store.InTx(ctx, func(tx Tx) error {
			if err := tx.SaveRun(run.ID, run.Fence, at.Add(e.c.Policy.Lease), run.Checkpoint, nil); err != nil {
				return err
			}
			return tx.Enqueue(w, at)
		})
	}
	fault, orphan := err, false
	err = e.change(ctx, dsr.Engine, func(c *changes) error {
		if err := c.tx.FinishRun(run.ID, run.Fence); err != nil {
			return err
		}
		f, err := c.flow([]string{w.Request}, cur)
		if err != nil {
			return err
		}
		r := f.requests[w.Request]
		if orphan = r == nil || r.State != dsr.Running; orphan {
			return nil
		}
		if fault != nil {
			_, hint := explain(fault)
			c.attention(r, reasonPackage, hint, nil)
			return nil //nolint:nilerr // the fault is a person's now
		}
		if err := c.tx.PutPackage(p); err != nil {
			return err
		}
		return c.end(f, r, dsr.Completed, "completed", detail{
			"records": count(p.Records), "bytes": count(p.Size), "sha256": p.SHA256, "expires": p.Expires.Format(time.DateOnly),
		})
	})
	if errors.Is(err, connectors.ErrFenced) {
		return nil
	}
	if err == nil && orphan && p != nil { // it was withdrawn meanwhile
		return staging(e.c.Packager.Remove(p))
	}
	return err
}

// keepLease renews a Run's lease until stop is called: Locate, Verify and the building of a package are one call each,
// however long, and so is the rewriting of one large object between two checkpoints. stop waits until the last renewal is
// over.
func (e *Engine) keepLease(ctx context.Context, run *dsr.Run) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		every := time.NewTicker(e.c.Policy.Lease / 3)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				_ = e.c.Store.InTx(ctx, func(tx Tx) error { // the next beat tries again; a lost lease shows at the end
					return tx.KeepRun(run.ID, run.Fence, e.now().Add(e.c.Policy.Lease))
				})
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (e *Engine) assemble(
	ctx context.Context, r *dsr.Request, plan *dsr.Plan, tasks []*dsr.Task, wrapped []byte, lang string,
) (*Package, error) {
	if e.c.Packager == nil {
		return nil, connectors.Permanent(reasonUnsupported, "this Lethe has no place for access packages", "configure one, then retry", nil)
	}
	key, err := e.c.Cipher.OpenDataKey(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	m, err := e.atlas(ctx, r.MapVersion)
	if err != nil {
		return nil, err
	}
	var systems []string
	for _, t := range tasks {
		if s := m.System(t.System); s != nil && inScope(r, s) {
			systems = append(systems, t.System)
		}
	}
	var withheld []dsr.PlanLine
	for _, l := range plan.Lines {
		if l.Exception != nil {
			withheld = append(withheld, l)
		}
	}
	slices.Sort(systems)
	now := e.now()
	p, err := e.c.Packager.Assemble(ctx, PackageSpec{
		Request: r, Key: key, Wrapped: wrapped, Systems: systems, Language: lang, Map: m.stored, Withheld: withheld,
		Now: now, Expires: now.Add(e.c.Policy.PackageTTL),
	})
	if err != nil {
		return nil, staging(err)
	}
	return p, nil
}

// language is the one that the Request was filed with.
func language(es []dsr.Event) string {
	for _, e := range es {
		if l := e.Detail["language"]; l != "" {
			return l
		}
	}
	return "en"
}
