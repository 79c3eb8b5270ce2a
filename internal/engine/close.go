package engine

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// closeErasure ends an erasure that left no Residue: completed, completed with what must stay, or deferred while
// something cannot go yet. Suppressions are written with the first of these, for most of the data is gone by then.
func (f *flow) closeErasure(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	p, err := f.planOf(r.ID)
	if err != nil {
		return err
	}
	exceptions := 0
	for _, l := range p.Lines {
		if l.Exception != nil && l.Count > 0 && l.Method != dsr.Expire && l.Method != dsr.Wait {
			exceptions++
		}
	}
	backups := c.suppress(r, m, f.sealed[r.ID])
	if waits := waiting(tasks...); len(waits) > 0 {
		return f.deferErasure(r, m, tasks, waits)
	}
	r.DeferTo = nil
	d := certificate(r, p, tasks)
	d["backups_expire"] = backups.Format(time.DateOnly)
	state := dsr.Completed
	if exceptions > 0 {
		state = dsr.CompletedWithExceptions
	}
	return c.end(f, r, state, "completed", d)
}

// lookAgain is how long a Request waits whose end nobody knows: an archive to be restored, a lock without a date.
const lookAgain = 7 * 24 * time.Hour

// deferErasure leaves a Request whose subject is answered until the first of what waits can go. Of its identifiers only
// those stay that the Systems need in which something waits.
func (f *flow) deferErasure(r *dsr.Request, m *atlas, tasks []*dsr.Task, waits []dsr.Residue) error {
	c := f.c
	var first, last time.Time
	d := detail{}
	for _, w := range waits {
		at := c.now.Add(lookAgain)
		if ends := w.Waits.Ends; ends != nil && ends.After(c.now) {
			at = *ends
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
		// Ends and counts by place and cause; a System may say several of one place.
		place := w.System + "." + w.Entity + "." + string(w.Waits.Cause)
		if until := at.UTC().Format(time.DateOnly); until > d[place] {
			d[place] = until
		}
	}
	if r.DeferTo == nil {
		c.forgetBut[r.ID] = needed(m, tasks)
	}
	r.DeferTo, r.Reason = &first, "waits"
	r.Hint = "what cannot go yet is looked at again when it can; the last of it by " + last.UTC().Format(time.DateOnly)
	d["until"] = first.UTC().Format(time.DateOnly)
	c.to(r, dsr.Deferred, "deferred", d)
	return nil
}

// needed names the identifiers that the Systems search by in which something waits.
func needed(m *atlas, tasks []*dsr.Task) []string {
	var names []string
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || len(waiting(t)) == 0 {
			continue
		}
		for i := range s.Entities {
			if len(s.Entities[i].Mentions) > 0 { // free text is searched for every one
				return slices.Sorted(maps.Keys(m.Identifiers))
			}
			names = append(names, s.Entities[i].Identifies()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
	for i, told := range recipients(p) {
		d["recipient."+strconv.Itoa(i)] = told
	}
	return d
}

// recipients are who must be told of an erasure (Art. 19).
func recipients(p *dsr.Plan) []string {
	var out []string
	for _, c := range p.Copies {
		if c.Recipient != "" {
			out = append(out, c.Recipient)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
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
func (c *changes) end(f *flow, r *dsr.Request, state dsr.State, event string, d detail) error {
	if r.Kind == dsr.Restriction && state != dsr.Completed {
		if err := c.unrestrict(r); err != nil {
			return err
		}
	}
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
