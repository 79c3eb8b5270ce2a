package engine

import (
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// plan builds the Plan of a Request that everything has been located for, then halts it at a cap, approves it by
// policy, or leaves it to a person.
func (f *flow) plan(r *dsr.Request, m *atlas, tasks []*dsr.Task) error {
	c := f.c
	p := c.buildPlan(r, m, tasks)
	for _, s := range f.sealed[r.ID] {
		p.Commitments = append(p.Commitments, s.Commitment)
	}
	for _, s := range c.learned {
		if s.Request == r.ID {
			p.Commitments = append(p.Commitments, s.Commitment)
		}
	}
	p.Sort()
	hash := p.Hash()
	c.plans = append(c.plans, p)
	r.PlanHash = hash
	rows := rowsOf(p)
	d := detail{"hash": hash, "lines": count(int64(len(p.Lines))), "rows": count(rows)}
	reason, hint, err := c.overCap(r, m, p)
	if err != nil {
		return err
	}
	if reason != "" {
		c.note(r, "planned", d)
		c.attention(r, reason, hint, nil)
		return nil
	}
	holds, err := f.holdsOn(r)
	if err != nil {
		return err
	}
	c.to(r, dsr.AwaitingReview, "planned", d)
	if len(holds) > 0 { // whoever approves it must know
		if r.Reason == "" {
			r.Reason = reasonHeld
		}
		r.Hint = "the subject's data is held by " + holds[0].ID + "; once approved, the request waits until that is lifted"
	}
	name := c.policy(r, rows)
	if name == "" {
		return nil
	}
	return f.approve(r, m, tasks, p, "policy:"+name)
}

func rowsOf(p *dsr.Plan) int64 {
	var rows int64
	for _, l := range p.Lines {
		rows += l.Count
	}
	return rows
}

// buildPlan turns what was located into lines, with the exceptions that the map declares.
func (c *changes) buildPlan(r *dsr.Request, m *atlas, tasks []*dsr.Task) *dsr.Plan {
	p := &dsr.Plan{Request: r.ID, Kind: r.Kind, MapVersion: m.version, MapHash: m.hash, CreatedAt: c.now}
	for _, t := range tasks {
		s := m.System(t.System)
		if s == nil || !inScope(r, s) || t.Receipt == nil {
			continue
		}
		p.Lines = append(p.Lines, planLines(r.Kind, m, s, t.Receipt, c.now)...)
		p.Unsearched = append(p.Unsearched, t.Receipt.Unsearched...)
		p.Copies = append(p.Copies, copiesOf(s, t.Receipt)...)
	}
	p.Sort()
	return p
}

// copiesOf are the places that Lethe cannot reach: what the map says, then what the System says of itself.
func copiesOf(s *connectors.System, found *dsr.Receipt) []dsr.Copy {
	out := slices.Concat(s.Copies, found.Copies)
	for i := range out {
		out[i].System = s.Name
	}
	return out
}

// planLines are one System's part of a Plan.
func planLines(kind dsr.Kind, m *atlas, s *connectors.System, found *dsr.Receipt, now time.Time) []dsr.PlanLine {
	var lines []dsr.PlanLine
	for _, l := range found.Lines {
		line := dsr.PlanLine{System: s.Name, Entity: l.Entity, Method: l.Method, Count: l.Count, Others: l.Others}
		if kind != dsr.Access {
			line.Exception = exceptionOf(m, s, l, now)
		}
		lines = append(lines, line)
	}
	return lines
}

// exceptionOf says why rows stay: of a kept entity its own reason, of an anchor the reason of the kept rows that
// refer to it, of what only expires or has to wait the System's.
func exceptionOf(m *atlas, s *connectors.System, l dsr.ReceiptLine, now time.Time) *dsr.Exception {
	entity := s.Entity(l.Entity)
	if entity == nil {
		return nil
	}
	switch l.Method {
	case dsr.Keep:
		return keepException(m, entity.Keep, now)
	case dsr.Expire, dsr.Wait:
		x := &dsr.Exception{Article: "17(1)"} // it will be erased: no exception of the law, only not yet
		if entity.Keep != nil {
			x = keepException(m, entity.Keep, now)
		}
		if own := l.Exception; own != nil {
			x.Cause, x.Ends = own.Cause, own.Ends
			if own.Cause == dsr.CauseMinimum { // a legal obligation, and the class that says how long
				x.Article, x.Class = "17(3)(b)", minimumOf(entity)
			}
		}
		return x
	case dsr.Anchor:
		var latest *dsr.Exception
		for i := range s.Entities {
			kept := &s.Entities[i]
			if kept.Keep == nil || !slices.ContainsFunc(kept.OwnedBy, func(o connectors.Owner) bool { return o.Entity == l.Entity }) {
				continue
			}
			x := keepException(m, kept.Keep, now)
			if latest == nil || later(x, latest) {
				latest = x
			}
		}
		return latest // nil when only other people's rows refer to it: what stays then identifies nobody
	}
	return nil
}

// minimumOf names the class by whose statutory minimum rows of an Entity wait: where there are several, and where the rows
// wait for others, it is empty.
func minimumOf(e *connectors.Entity) string {
	class := ""
	for _, r := range e.Rules {
		if _, ok := r.Class.Statutory(); ok && r.Class.Name != class {
			if class != "" {
				return ""
			}
			class = r.Class.Name
		}
	}
	return class
}

func later(a, b *dsr.Exception) bool {
	return a.Ends != nil && (b.Ends == nil || a.Ends.After(*b.Ends))
}

// keepException carries the latest end: that of a row whose period starts today. A row's own date is the sweep's
// concern.
func keepException(m *atlas, k *connectors.Keep, now time.Time) *dsr.Exception {
	if k == nil {
		return &dsr.Exception{Article: "17(3)"}
	}
	x := &dsr.Exception{Article: k.Article, Statute: k.Statute, Class: k.Class}
	if class, ok := m.Classes[k.Class]; ok {
		y, mo, d := now.In(m.Controller.Zone).Date()
		ends := class.DeletableOn(time.Date(y, mo, d, 0, 0, 0, 0, m.Controller.Zone))
		x.Ends = &ends
	}
	return x
}

// overCap reports the first cap that a Plan is above. Only what changes rows has a blast radius.
func (c *changes) overCap(r *dsr.Request, m *atlas, p *dsr.Plan) (reason, hint string, err error) {
	if r.Kind != dsr.Erasure {
		return "", "", nil
	}
	rows := map[string]int64{}
	for _, l := range p.Lines {
		if destructive(l.Method) || l.Method == dsr.Keep && kepts(m, l) {
			rows[l.System] += l.Count
		}
	}
	for _, s := range m.Systems {
		if limit := s.Limits.RowsPerRequest; limit > 0 && rows[s.Name] > limit {
			return reasonRows, s.Name + " would change " + count(rows[s.Name]) + " rows, above rows_per_request " + count(limit) +
				"; raise the limit or look closer, then retry", nil
		}
	}
	limit := c.e.c.Policy.RequestsPerHour[r.Kind]
	if limit <= 0 {
		return "", "", nil
	}
	n, ok := c.hourly[r.Kind]
	if !ok {
		if n, err = c.tx.CountRequestsSince(r.Kind, c.now.Add(-time.Hour)); err != nil {
			return "", "", err
		}
		if c.hourly == nil {
			c.hourly = map[dsr.Kind]int64{}
		}
		c.hourly[r.Kind] = n
	}
	if n > limit {
		return reasonRate, count(n) + " erasures were filed within an hour, above the cap of " + count(limit) +
			"; when that is meant, retry later", nil
	}
	return "", "", nil
}

// kepts reports whether kept rows are changed by masks of theirs.
func kepts(m *atlas, l dsr.PlanLine) bool {
	s := m.System(l.System)
	if s == nil {
		return false
	}
	e := s.Entity(l.Entity)
	return e != nil && len(e.Masks) > 0
}

// policy returns the name of the rule that approves a Plan by itself; empty when a person must. What has drifted once
// is always a person's decision. AutoApproval.Verified needs no look here: nothing is discovered before the subject's
// identity is settled.
func (c *changes) policy(r *dsr.Request, rows int64) string {
	if r.Reason == reasonDrift {
		return ""
	}
	for _, p := range c.e.c.Policy.AutoApprove {
		if slices.Contains(p.Kinds, r.Kind) && (len(p.FiledBy) == 0 || slices.Contains(p.FiledBy, r.FiledBy)) &&
			(p.MaxRows <= 0 || rows <= p.MaxRows) {
			return p.Name
		}
	}
	return ""
}

// verified reports whether somebody vouched for the subject's identity. The timeline says so: a Request that never
// waited for it, or whose wait was ended.
func (c *changes) verified(r *dsr.Request) (bool, error) {
	es, err := c.tx.Events(r.ID, 0, 20)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(es, func(e dsr.Event) bool { return e.Type == "identity.verified" }), nil
}
