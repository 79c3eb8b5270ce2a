package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// closeErasure ends an erasure that left no Residue: completed, completed with what must stay, or deferred while
// something that expires by itself has to be looked at again.
func (f *flow) closeErasure(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	plans, err := c.tx.PlansOf(r.ID)
	if err != nil {
		return err
	}
	p := plans[r.ID]
	if p == nil {
		return &dsr.Error{Code: dsr.CodeNotFound, Msg: "the plan of a verified request is missing"}
	}
	var exceptions int64
	var until time.Time
	for _, l := range p.Lines {
		if l.Exception == nil || l.Count == 0 {
			continue
		}
		if ends := l.Exception.Ends; l.Method == dsr.Expire && ends != nil {
			if !ends.After(c.now) {
				continue // it has expired, and Verify has found nothing of it
			}
			if ends.After(until) {
				until = *ends
			}
		}
		exceptions++
	}
	d := certificate(r, p, tasks)
	if !until.IsZero() {
		r.DeferTo, r.Reason = &until, "expires"
		r.Hint = "what cannot be deleted singly is searched again when it has expired"
		c.to(r, dsr.Deferred, "deferred", detail{"until": until.Format(time.DateOnly)})
		return nil
	}
	r.DeferTo = nil
	state := dsr.Completed
	if exceptions > 0 {
		state = dsr.CompletedWithExceptions
	}
	backups := c.suppress(r, m, f.sealed[r.ID])
	d["backups_expire"] = backups.Format(time.DateOnly)
	return c.end(f, r, m, state, "completed", d)
}

// certificate is what the ledger says of a finished erasure: the numbers of its Receipts and what stays.
func certificate(r *dsr.Request, p *dsr.Plan, tasks []*dsr.Task) detail {
	d := detail{
		"plan": r.ApprovedHash, "map": p.MapHash, "approved_by": r.ApprovedBy, "residue": "0",
	}
	if r.Ground != "" {
		d["ground"] = r.Ground
	}
	var total int64
	var started, finished time.Time
	for _, t := range tasks {
		if t.Receipt == nil || t.State == dsr.TaskCancelled {
			continue
		}
		if started.IsZero() || t.Receipt.Started.Before(started) {
			started = t.Receipt.Started
		}
		if t.Receipt.Finished.After(finished) {
			finished = t.Receipt.Finished
		}
		for _, l := range t.Receipt.Lines {
			d[t.System+"."+l.Entity+"."+string(l.Method)] = count(l.Count)
			total += l.Count
		}
	}
	d["rows"] = count(total)
	if !started.IsZero() {
		d["started"], d["finished"] = started.UTC().Format(time.RFC3339), finished.UTC().Format(time.RFC3339)
	}
	n := 0
	for _, l := range p.Lines {
		if x := l.Exception; x != nil {
			text := l.System + "." + l.Entity + " " + x.Article
			if x.Class != "" {
				text += " " + x.Class
			}
			if x.Ends != nil {
				text += " until " + x.Ends.Format(time.DateOnly)
			}
			d["exception."+strconv.Itoa(n)] = text
			n++
		}
	}
	return d
}

// backupsKept is how long a suppression lives where the map names no copies: the erasure can be repeated after a
// restore of a backup that nobody declared.
var backupsKept = retention.Period{Days: 90}

// suppress writes a suppression for every identifier, so that the erasure can be repeated after a restore. It returns
// the day on which the last declared copy has expired.
func (c *changes) suppress(r *dsr.Request, m *atlas, sealed []SealedIdentifier) time.Time {
	var systems []string
	expires := c.now
	for _, s := range m.Systems {
		if !inScope(r, s) {
			continue
		}
		systems = append(systems, s.Name)
		for _, copied := range s.Copies {
			if p, err := retention.ParsePeriod(copied.Ends); err == nil {
				if end := p.After(c.now); end.After(expires) {
					expires = end
				}
			}
		}
	}
	if expires.Equal(c.now) {
		expires = backupsKept.After(c.now)
	}
	if len(r.Scope.Systems)+len(r.Scope.Purposes) == 0 {
		systems = nil
	}
	for _, s := range sealed {
		c.suppressions = append(c.suppressions, Suppression{
			Request: r.ID, Tenant: r.Tenant, Name: s.Name, KeyID: s.KeyID, Commitment: s.Commitment, Systems: systems,
			ErasedAt: c.now, Expires: expires,
		})
	}
	return expires
}

// end closes a Request for good: the identifiers' data key is destroyed and with it everything sealed under it. The
// open erasures of an answered access request are nudged.
func (c *changes) end(f *flow, r *dsr.Request, m *atlas, state dsr.State, event string, d detail) error {
	c.to(r, state, event, d)
	c.forget = append(c.forget, r.ID)
	for _, t := range f.tasks[r.ID] {
		if t.Phase != dsr.PhaseLocate {
			c.drop = append(c.drop, t.ID)
		}
	}
	if r.Kind != dsr.Access {
		return nil
	}
	if p := c.e.c.Packager; p != nil {
		c.after = append(c.after, func() { _ = p.Discard(r.ID) })
	}
	return c.release(f, r)
}

// release lets erasures go on that waited for this access request.
func (c *changes) release(f *flow, r *dsr.Request) error {
	var commitments []string
	for _, s := range f.sealed[r.ID] {
		commitments = append(commitments, s.Commitment)
	}
	waiting, err := c.tx.OpenRequests(dsr.Erasure, r.Tenant, commitments)
	if err != nil || len(waiting) == 0 {
		return err
	}
	locked, err := c.tx.LockRequests(waiting...)
	if err != nil {
		return err
	}
	tasks, err := c.tx.TasksOf(waiting...)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.State == dsr.TaskPending && t.Reason == reasonExport {
			c.pend(t, t.Phase, c.now)
		}
	}
	for _, w := range locked {
		if w.Reason == reasonExport {
			w.Reason, w.Hint = "", ""
			c.note(w, "released", nil)
		}
	}
	return nil
}

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
			return nil
		}
		if err := c.tx.PutPackage(p); err != nil {
			return err
		}
		return c.end(f, r, cur, dsr.Completed, "completed", detail{
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

// keepLease renews a Run's lease until stop is called; stop waits until the last renewal is over.
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
					return tx.SaveRun(run.ID, run.Fence, e.now().Add(e.c.Policy.Lease), run.Checkpoint, nil)
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
