package s3

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// sweeping is one look at one entity for a rule. A rule that starts with an object's age and deletes takes versions as
// they are, unread; any other takes the records in them, and so does one beside which another must be met that starts
// with a field of them.
type sweeping struct {
	*pass
	rule  connectors.Rule
	cut   connectors.Cut
	whole bool
}

func (b *Bucket) newSweeping(e *entity, rule connectors.Rule, cut connectors.Cut, holds connectors.Holds, lock locks) (*sweeping, error) {
	p := b.newPass(e, nil, holds, lock)
	p.sweeps = true
	s := &sweeping{pass: p, rule: rule, cut: cut}
	bounds := append(slices.Clone(cut.After), connectors.Bound{Rule: rule})
	byField := slices.ContainsFunc(bounds, func(b connectors.Bound) bool { return b.Rule.Start.Kind != retention.StartObject })
	s.whole = e.layout == nil || rule.Action == retention.Delete && !byField
	if s.whole {
		p.finder = nil
		return s, nil
	}
	for _, b := range bounds {
		if b.Rule.Start.Kind == retention.StartObject && len(b.Rule.When) > 0 {
			return nil, connectors.Permanent(dsr.CodeInvalid, b.Rule.Name+" has a condition on objects, and "+rule.Name+" is about the records in them",
				"Remove when, or let every rule that this one waits for start at object_age.", nil)
		}
	}
	var err error
	p.finder, err = e.layout.Due(rule, cut, holds)
	p.aged = true
	return s, err
}

// storedAt is the metadata in which a rewritten object keeps when it was first stored: its age is not that of the
// rewriting. It is written, and asked for, where a rule of the entity starts with that age.
const storedAt = "lethe-stored"

// byAge reports whether a rule of the entity starts with an object's age.
func (e *entity) byAge() bool {
	return slices.ContainsFunc(e.Rules, func(r connectors.Rule) bool { return r.Start.Kind == retention.StartObject })
}

// stored is when a version was stored, before it was rewritten.
func (p *pass) stored(ctx context.Context, key string, v version) (time.Time, error) {
	if v.Marker || p.e.layout == nil {
		return v.Modified, nil
	}
	h, err := p.b.head(ctx, key, v)
	if isMissing(err) {
		return v.Modified, nil
	} else if err != nil {
		return time.Time{}, fault(err)
	}
	if t, err := time.Parse(time.RFC3339, h.Metadata[storedAt]); err == nil && t.Before(v.Modified) {
		return t, nil
	}
	return v.Modified, nil
}

// dueVersion is a version whose time has come at some cut-off.
type dueVersion struct {
	version
	stored time.Time
	key    []string
	props  map[string]string
	why    dsr.Method // Delete, or why it stays: Held, Blocked, Failed
	fault  error      // with Failed
	blind  bool       // neither its properties nor what it says of its age could be read
}

// dueAt reports whether a version is due at a cut-off, by the rule and by those before it; or may be, when it is blind.
func (s *sweeping) dueAt(v dueVersion, cut connectors.Cut) bool {
	if v.blind {
		return v.stored.Before(cut.Before)
	}
	if !v.stored.Before(cut.Before) || !s.e.meets(s.rule.When, v.key, v.props) {
		return false
	}
	for _, a := range cut.After {
		if s.e.meets(a.Rule.When, v.key, v.props) && !v.stored.Before(a.Before) {
			return false
		}
	}
	return true
}

// versions are those of one key that are due at any of the cut-offs. Of one about which something cannot be read that
// decides whether it is due, or whether it stays, that is said.
func (s *sweeping) versions(ctx context.Context, o object, cuts []connectors.Cut) ([]dueVersion, error) {
	key, _ := s.e.pattern.Match(o.Key)
	var out []dueVersion
	for _, v := range o.Versions {
		if v.Marker {
			continue
		}
		d := dueVersion{version: v, stored: v.Modified, key: key, why: dsr.Delete}
		any := func() bool { return slices.ContainsFunc(cuts, func(c connectors.Cut) bool { return s.dueAt(d, c) }) }
		gone, err := s.describe(ctx, o.Key, &d, any)
		if connectors.IsPermanent(err) {
			d.why, d.fault, d.blind = dsr.Failed, s.e.damaged(o.Key, v, nil, err), true
			if s.e.layout != nil { // it may have been stored long before it was rewritten
				d.stored = time.Time{}
			}
		} else if err != nil {
			return nil, err
		}
		if gone || !any() {
			continue
		}
		if !d.blind {
			d.why, err = s.stays(ctx, o.Key, d)
			if connectors.IsPermanent(err) {
				d.why, d.fault = dsr.Failed, s.e.damaged(o.Key, v, s.holds.Subjects, err)
			} else if err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// describe reads what decides whether a version is due: its properties, and when it was stored first unless it is due
// without that.
func (s *sweeping) describe(ctx context.Context, key string, d *dueVersion, isDue func() bool) (gone bool, err error) {
	if d.props, gone, err = s.b.properties(ctx, s.e, key, d.version); err != nil || gone || isDue() {
		return gone, err
	}
	d.stored, err = s.stored(ctx, key, d.version)
	return false, err
}

// stays finds out what keeps a version that is due. Where somebody is held, what is in it is read.
func (s *sweeping) stays(ctx context.Context, key string, d dueVersion) (dsr.Method, error) {
	if s.e.frozen(s.holds, d.key, d.props) || len(s.e.owners(s.held, d.key, d.props)) > 0 {
		return dsr.Held, nil
	}
	if s.keeper != nil {
		deep, err := s.b.archived(ctx, key, d.version)
		if err != nil {
			return "", err
		}
		r := &reading{}
		if !deep {
			if r, err = s.b.scan(ctx, s.e, s.keeper, key, d.version); err != nil {
				return "", err
			}
		}
		if deep || r != nil && (r.wait != nil || len(r.hits) > 0) {
			return dsr.Held, nil
		}
	}
	why, err := s.b.locked(ctx, s.lock, key, d.version)
	if err != nil {
		return "", err
	}
	if why != nil {
		return dsr.Blocked, nil
	}
	return dsr.Delete, nil
}

// uploads calls fn for every unfinished upload that is due at a cut-off, unless its key is held.
func (s *sweeping) uploads(ctx context.Context, cut connectors.Cut, fn func(upload) error) error {
	if !s.whole || len(s.rule.When) > 0 || len(s.e.props) > 0 {
		return nil
	}
	before := cut.Before
	for _, a := range cut.After { // of an upload nobody knows what it will meet
		if a.Before.Before(before) {
			before = a.Before
		}
	}
	return s.b.uploads(ctx, []string{s.e.pattern.prefix}, func(u upload) error {
		key, ok := s.e.pattern.Match(u.Key)
		if !ok || !u.Begun.Before(before) || s.e.frozen(s.holds, key, nil) || len(s.e.owners(s.held, key, nil)) > 0 {
			return nil
		}
		return fn(u)
	})
}

// Due counts what a rule makes due; see [connectors.Sweeper]. Of whole objects every version and unfinished upload
// counts as one, of records every record.
func (b *Bucket) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	e := b.entity(q.Entity)
	if e == nil {
		return nil, unmapped()
	}
	lock, err := b.locks(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]connectors.Due, len(q.Cuts))
	sweeps := make([]*sweeping, len(q.Cuts))
	for i, cut := range q.Cuts {
		if sweeps[i], err = b.newSweeping(e, ruleOf(q.Rule), cut, q.Held, lock); err != nil {
			return nil, err
		}
	}
	if len(sweeps) == 0 {
		return out, nil
	}
	s := sweeps[0]
	var mu sync.Mutex
	var total int64
	err = s.every(ctx, []string{e.pattern.prefix}, func(ctx context.Context, o object) error {
		counts, n, err := s.count(ctx, o, q.Cuts, sweeps)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		total += n
		for i := range counts {
			out[i].Rows += counts[i].Rows
			out[i].Bytes += counts[i].Bytes
			out[i].Held += counts[i].Held
			out[i].Blocked += counts[i].Blocked
			for code, n := range counts[i].Unreadable {
				unreadable(&out[i], code, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Total = total
		if err := s.uploads(ctx, q.Cuts[i], func(upload) error { out[i].Rows++; return nil }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unreadable counts versions that could not be read.
func unreadable(d *connectors.Due, code dsr.Code, n int64) {
	if d.Unreadable == nil {
		d.Unreadable = map[dsr.Code]int64{}
	}
	d.Unreadable[code] += n
}

func unmapped() error {
	return connectors.Permanent(dsr.CodeInvalid, "the entity is not in the map", "Sweep the rules of the map that is in use.", nil)
}

// ruleOf is a rule as far as what is due goes: what the bucket's own lifecycle rules delete is due like anything else.
func ruleOf(r connectors.Rule) connectors.Rule {
	if r.Action == retention.Expire {
		r.Action = retention.Delete
	}
	return r
}

// count counts one key at every cut-off. n is what the key adds to the entity's size.
func (s *sweeping) count(ctx context.Context, o object, cuts []connectors.Cut, sweeps []*sweeping) (out []connectors.Due, n int64, err error) {
	out = make([]connectors.Due, len(cuts))
	if s.whole {
		due, err := s.versions(ctx, o, cuts)
		if err != nil {
			return nil, 0, err
		}
		for _, v := range o.Versions {
			if !v.Marker {
				n++
			}
		}
		for i, cut := range cuts {
			for _, d := range due {
				if s.dueAt(d, cut) && d.why == dsr.Failed {
					unreadable(&out[i], dsr.CodeOf(d.fault), 1)
				} else if s.dueAt(d, cut) {
					out[i].Rows++
					out[i].Bytes += d.Size
					switch d.why {
					case dsr.Held:
						out[i].Held++
					case dsr.Blocked:
						out[i].Blocked++
					}
				}
			}
		}
		return out, n, nil
	}
	latest := 0 // the last cut-off finds most: where it finds nothing the others do not either
	for i, c := range cuts {
		if c.Before.After(cuts[latest].Before) {
			latest = i
		}
	}
	most, n, err := sweeps[latest].countRecords(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	for i := range cuts {
		switch {
		case i == latest:
			out[i] = most
		case most.Rows > 0:
			if out[i], _, err = sweeps[i].countRecords(ctx, o); err != nil {
				return nil, 0, err
			}
		default:
			out[i].Unreadable = most.Unreadable
		}
	}
	return out, n, nil
}

func (s *sweeping) countRecords(ctx context.Context, o object) (due connectors.Due, n int64, err error) {
	read, err := s.readings(ctx, o)
	if err != nil {
		return due, 0, err
	}
	for _, r := range read {
		if r.fault != nil {
			unreadable(&due, dsr.CodeOf(r.fault), 1)
			continue
		}
		if r.Latest {
			n += r.totals.Records
		}
		rows, held := s.rows(r)
		due.Rows += rows
		due.Held += held
		if r.wait != nil && r.wait.Cause != dsr.CauseHold {
			due.Blocked += rows - held
		} else if r.wait != nil {
			due.Held += rows - held
		}
		if r.totals.Records > 0 {
			due.Bytes += r.Size * rows / r.totals.Records
		}
	}
	return due, n, nil
}

// rows are the records of one version that are due, and those of them that a hold covers. Nobody knows of an archived
// version: it counts as one.
func (s *sweeping) rows(r *reading) (rows, held int64) {
	if r.wait != nil && r.wait.Cause == dsr.CauseArchived {
		return 1, 0
	}
	for _, t := range r.totals.Tallies {
		rows += t.Rows
		if t.Method == dsr.Held {
			held += t.Rows
		}
	}
	return rows, held
}

// Sweep deletes or masks what is due; see [connectors.Sweeper].
func (b *Bucket) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	e := b.entity(j.Entity)
	if e == nil {
		return connectors.SweepMeasures{}, unmapped()
	}
	if j.Rule.Action == retention.Expire {
		return b.setLifecycle(ctx, e, j)
	}
	lock, err := b.locks(ctx)
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	s, err := b.newSweeping(e, j.Rule, j.Cut, j.Held, lock)
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	s.workers = max(1, j.Pace.Connections)
	w := &work{b: b, journal: j.Journal, deadline: j.Deadline, stop: j.Pace.Stop, lock: lock, most: j.Most}
	if err := load(ctx, j.Journal, &w.cp); err != nil {
		return w.measures, err
	}
	w.cp.Entity = e.Name
	err = w.sweep(ctx, s, j.Pace)
	return w.measures, err
}

func (w *work) sweep(ctx context.Context, s *sweeping, pace connectors.Pace) error {
	if err := w.resume(ctx, s.pass); err != nil {
		return err
	}
	prefixes := []string{s.e.pattern.prefix}
	for !w.cp.Uploads {
		if w.stop != nil && w.stop() {
			return connectors.ErrYield
		}
		began := w.b.now()
		objects, last, end, err := w.next(ctx, s.pass, prefixes)
		if err != nil {
			return err
		}
		plans := make([]decided, len(objects))
		err = each(ctx, s.workers, objects, func(ctx context.Context, i int, o object) (err error) {
			plans[i], err = s.plan(ctx, o)
			return err
		})
		if err != nil {
			return err
		}
		var d decided
		for _, p := range plans {
			d.add(p)
		}
		if err := w.chunk(ctx, s.pass, d, last, end); err != nil {
			return err
		}
		if err := w.measures.Pauses.Rest(ctx, pace, w.b.now().Sub(began)); err != nil {
			return err
		}
	}
	var d decided
	err := s.uploads(ctx, s.cut, func(u upload) error {
		d.victims = append(d.victims, victim{Key: u.Key, Upload: u.ID, Tallies: s.tally("", dsr.Delete, 1)})
		return nil
	})
	if err == nil && len(d.victims) > 0 {
		err = w.chunk(ctx, s.pass, d, w.cp.After, true)
	}
	if err != nil {
		return err
	}
	return w.cp.Left.Err(s.e.Name)
}

// plan is what the rule does to one key.
func (s *sweeping) plan(ctx context.Context, o object) (decided, error) {
	if s.whole {
		return s.planWhole(ctx, o)
	}
	read, err := s.readings(ctx, o)
	if err != nil {
		return decided{}, err
	}
	var d decided
	stays := false
	for _, r := range read {
		if r.fault != nil {
			stays = true
			d.stays = tallied(d.stays, s.tally("", dsr.Failed, 1)[0])
			_ = d.left.Note(r.fault) // it is permanent
			continue
		}
		if n := r.totals.Unread; n > 0 {
			d.left.Add(records.UnreadStart(fmt.Sprintf("%s at offset %d", s.e.where(o.Key, r.version, nil), r.totals.UnreadAt), n))
		}
		rows, held := s.rows(r)
		switch {
		case r.wait != nil && rows > 0:
			stays = true
			why := dsr.Blocked
			if r.wait.Cause == dsr.CauseHold {
				why = dsr.Held
			}
			d.stays = tallied(d.stays, s.tally("", why, rows)[0])
			continue
		case held > 0:
			d.stays = tallied(d.stays, s.tally("", dsr.Held, held)[0])
		}
		v := victim{Key: o.Key, ID: r.ID, Size: r.Size, Tallies: s.counted(r.totals.Tallies)}
		switch {
		case !r.totals.Changed:
			stays = true
		case !r.Latest, r.totals.Left == 0 && s.rule.Action == retention.Delete:
			if r.id() == nil {
				v.ETag = r.ETag
			}
			if !r.Latest {
				for i := range v.Tallies {
					v.Tallies[i].Method = dsr.Delete
				}
			}
			d.victims = append(d.victims, v)
		default:
			stays = true
			d.rewrites = append(d.rewrites, rewriting{Key: o.Key, Version: r.version, Tallies: v.Tallies})
		}
	}
	d.victims = s.markers(&surveyed{object: o}, d.victims, stays)
	return d.together(), nil
}

func (s *sweeping) planWhole(ctx context.Context, o object) (decided, error) {
	due, err := s.versions(ctx, o, []connectors.Cut{s.cut})
	if err != nil {
		return decided{}, err
	}
	var d decided
	stays := 0
	for _, v := range o.Versions {
		if !v.Marker {
			stays++
		}
	}
	data := stays
	for _, v := range due {
		if v.why != dsr.Delete {
			d.stays = tallied(d.stays, s.tally("", v.why, 1)[0])
			_ = d.left.Note(v.fault) // it is permanent, or there is none
			continue
		}
		stays--
		x := victim{Key: o.Key, ID: v.ID, Size: v.Size, Tallies: s.tally("", dsr.Delete, 1)}
		if v.id() == nil {
			x.ETag = v.ETag
		}
		d.victims = append(d.victims, x)
	}
	d.victims = s.markers(&surveyed{object: o}, d.victims, stays > 0)
	if data == 0 && !s.lock.mfa && o.Versions[0].Modified.Before(s.cut.Before) { // markers over nothing
		for _, v := range o.Versions {
			d.victims = append(d.victims, victim{Key: o.Key, ID: v.ID})
		}
	}
	return d, nil
}
