package s3

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Steps of Erase, Sweep and Export.
const (
	StepCounted   = "s3.counted"   // a part of the plan is counted against the limits; nothing is changed yet
	StepIntent    = "s3.intent"    // what the chunk does is in the journal
	StepRewritten = "s3.rewritten" // new objects are there; that the old versions have to go is not in the journal yet
	StepRemoving  = "s3.removing"  // it is
	StepRemoved   = "s3.removed"   // they are gone; that is not in the journal yet
	StepExported  = "s3.exported"  // records are written; their checkpoint is not saved yet
)

// checkpoint is what Erase and Sweep resume from. It holds keys, which may be personal data: the journal encrypts it.
type checkpoint struct {
	Entity  string
	Counted bool             // the limits were held against everything
	Rows    map[string]int64 `json:",omitempty"` // by subject, for the limits
	Here    map[string]int64 `json:",omitempty"` // of it in Entity
	Size    int64            `json:",omitempty"` // of Entity
	After   string           // keys of Entity up to it are done
	Uploads bool             // all keys are done; uploads are next
	// The open chunk. Objects of Rewrite may have changed already; once they all have, it is empty. Then what is in Remove
	// goes; removing twice is harmless.
	Open      bool                `json:",omitempty"`
	Rewrite   []rewriting         `json:",omitempty"`
	Remove    []victim            `json:",omitempty"`
	Stays     []connectors.Tally  `json:",omitempty"`
	Last      string              `json:",omitempty"` // its last key
	End       bool                `json:",omitempty"` // which is the entity's
	Again     []string            `json:",omitempty"` // keys to be looked at once more: others wrote to them meanwhile
	Conflicts int                 `json:",omitempty"` // how often in a row
	Failed    []failure           `json:",omitempty"`
	Left      connectors.Failures `json:",omitempty"` // what a Sweep cannot work
	Went      int64               `json:",omitempty"` // rows that a Sweep has deleted or masked
}

// victim is a version, a delete marker or an upload that goes.
type victim struct {
	Key     string
	ID      string             `json:",omitempty"`
	Upload  string             `json:",omitempty"`
	ETag    string             `json:",omitempty"` // only this content goes: without versions another person's may have come
	Hide    bool               `json:",omitempty"` // a version below it stays: a marker is put on top
	Size    int64              `json:",omitempty"`
	Tallies []connectors.Tally `json:",omitempty"`
	Refs    []string           `json:",omitempty"` // whose failure it is when it cannot go
}

// failure is a permanent fault of one subject; the others go on.
type failure struct {
	Subject, Entity string
	Code            dsr.Code
	Msg, Hint       string
	Stop            bool // nothing of the subject's is to be changed
}

// mostConflicts is how often in a row a chunk is looked at again because others wrote to its objects meanwhile.
const mostConflicts = 5

func (cp *checkpoint) fail(ref, entity string, err error, stop bool) {
	var de *dsr.Error
	if !errors.As(err, &de) {
		de = &dsr.Error{Code: dsr.CodeUnavailable, Msg: err.Error()}
	}
	f := failure{Subject: ref, Entity: entity, Code: de.Code, Msg: de.Msg, Hint: de.Hint, Stop: stop}
	if de.Err != nil {
		f.Msg += ": " + de.Err.Error()
	}
	if !slices.Contains(cp.Failed, f) {
		cp.Failed = append(cp.Failed, f)
	}
}

func (cp *checkpoint) failures() error {
	var errs []error
	for _, f := range cp.Failed {
		errs = append(errs, member(f.Subject, f.Entity, connectors.Permanent(f.Code, f.Msg, f.Hint, nil)))
	}
	return errors.Join(errs...)
}

// working are those of the batch whom nothing stops.
func (cp *checkpoint) working(b connectors.Batch) connectors.Batch {
	return slices.DeleteFunc(slices.Clone(b), func(s connectors.Subject) bool {
		return slices.ContainsFunc(cp.Failed, func(f failure) bool { return f.Stop && f.Subject == s.Ref })
	})
}

func load(ctx context.Context, j connectors.Journal, into any) error {
	raw, err := j.Load(ctx)
	if err != nil || raw == nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return connectors.Permanent(dsr.CodeInvalid, "the checkpoint cannot be read", "Retry the request.", nil)
	}
	return nil
}

func save(ctx context.Context, j connectors.Journal, cp any, done []connectors.Tally) error {
	raw, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	return j.Save(ctx, raw, done)
}

// Erase carries out the Plan in chunks of keys; see [connectors.Eraser]. Of each chunk the intent is saved, objects are
// rewritten, and what held the records before is removed as a step of its own.
func (b *Bucket) Erase(ctx context.Context, j connectors.Job) error {
	if err := b.tenants(j.Batch); err != nil {
		return err
	}
	lock, err := b.locks(ctx)
	if err != nil {
		return err
	}
	w := &work{b: b, journal: j.Journal, deadline: j.Deadline, lock: lock}
	if err := load(ctx, j.Journal, &w.cp); err != nil {
		return err
	}
	if !w.cp.Counted {
		if err := w.limits(ctx, j); err != nil {
			return err
		}
	}
	for _, e := range b.entities {
		if e.Name < w.cp.Entity {
			continue
		}
		if e.Name > w.cp.Entity {
			w.cp.Entity, w.cp.After, w.cp.Uploads, w.cp.Conflicts, w.cp.Again = e.Name, "", false, 0, nil
		}
		batch := members(e, w.cp.working(j.Batch))
		if len(batch) == 0 {
			continue
		}
		if err := w.entity(ctx, b.newPass(e, batch, j.Held, lock)); err != nil {
			return err
		}
	}
	w.cp.Entity, w.cp.After = "\uffff", ""
	if err := save(ctx, j.Journal, &w.cp, nil); err != nil {
		return err
	}
	return w.cp.failures()
}

// limits stops subjects above their caps before anything is changed. It reads all that the erasure would read, so it is
// done only where there are caps, and in slices too.
func (w *work) limits(ctx context.Context, j connectors.Job) error {
	cp := &w.cp
	if j.Limits.RowsPerRequest <= 0 && j.Limits.ShareOfTable <= 0 {
		cp.Counted = true
		return nil
	}
	if cp.Rows == nil {
		cp.Rows = map[string]int64{}
	}
	for _, e := range w.b.entities {
		batch := members(e, j.Batch)
		if e.Name < cp.Entity || len(batch) == 0 {
			continue
		}
		if e.Name > cp.Entity {
			cp.Entity, cp.After, cp.Here, cp.Size = e.Name, "", map[string]int64{}, 0
		}
		p := w.b.newPass(e, batch, j.Held, w.lock)
		for end := false; !end; {
			var objects []object
			var err error
			if objects, cp.After, end, err = w.collect(ctx, p, []string{e.pattern.prefix}); err != nil {
				return err
			}
			l := newLocating(p, "", false)
			seen, err := w.look(ctx, p, objects)
			if err != nil {
				return err
			}
			for _, s := range seen {
				if s != nil {
					l.total += s.rows()
					l.take(s)
				}
			}
			for _, c := range l.counts {
				cp.Rows[c.Subject] += c.Rows
				cp.Here[c.Subject] += c.Rows
			}
			cp.Size += l.total
			if end {
				for ref, n := range cp.Here {
					if j.Limits.ShareOfTable > 0 && cp.Size >= 1000 && float64(n) > j.Limits.ShareOfTable*float64(cp.Size) {
						cp.overCap(ref, e.Name)
					}
				}
			}
			if err := w.counted(ctx); err != nil {
				return err
			}
		}
	}
	for ref, n := range cp.Rows {
		if j.Limits.RowsPerRequest > 0 && n > j.Limits.RowsPerRequest {
			cp.overCap(ref, "")
		}
	}
	cp.Counted, cp.Entity, cp.After, cp.Rows, cp.Here, cp.Size = true, "", "", nil, nil, 0
	return save(ctx, j.Journal, cp, nil)
}

// counted saves how far the counting is, and yields.
func (w *work) counted(ctx context.Context) error {
	w.journal.Step(StepCounted)
	if err := save(ctx, w.journal, &w.cp, nil); err != nil {
		return err
	}
	if w.b.over(w.deadline) {
		return connectors.ErrYield
	}
	return nil
}

func (cp *checkpoint) overCap(ref, entity string) {
	cp.fail(ref, entity, &dsr.Error{
		Code: dsr.CodeOverCap, Msg: "more rows than a request may change; nothing was changed", Hint: "Look at the plan; raise the limit if it is right.",
	}, true)
}

// entity erases a batch from one entity.
func (w *work) entity(ctx context.Context, p *pass) error {
	prefixes := p.e.prefixes(p.people)
	if err := w.resume(ctx, p); err != nil {
		return err
	}
	for !w.cp.Uploads {
		objects, last, end, err := w.next(ctx, p, prefixes)
		if err != nil {
			return err
		}
		seen, err := w.look(ctx, p, objects)
		if err != nil {
			return err
		}
		var d decided
		for _, s := range seen {
			if s != nil {
				d.add(p.plan(s))
			}
		}
		if err := w.chunk(ctx, p, d, last, end); err != nil {
			return err
		}
	}
	var d decided
	err := p.uploads(ctx, prefixes, func(u upload, owners []int) error {
		ref := p.people.batch[owners[0]].Ref
		d.victims = append(d.victims, victim{Key: u.Key, Upload: u.ID, Refs: []string{ref}, Tallies: p.tally(ref, dsr.Delete, 1)})
		return nil
	})
	if err != nil {
		return err
	}
	old, err := w.noteUploads(ctx, p)
	if d.victims = append(d.victims, old...); err != nil || len(d.victims) == 0 {
		return err
	}
	return w.chunk(ctx, p, d, w.cp.After, true)
}

func (p *pass) tally(ref string, m dsr.Method, rows int64) []connectors.Tally {
	return []connectors.Tally{{Subject: ref, Entity: p.e.Name, Method: m, Rows: rows}}
}

// plan is what happens to one key: at most one rewriting, and the versions that go.
func (p *pass) plan(s *surveyed) decided {
	var d decided
	stays := map[string]bool{} // data versions
	for _, v := range s.Versions {
		if !v.Marker {
			stays[v.ID] = true
		}
	}
	for _, o := range s.whole {
		switch {
		case o.wait != nil:
		case p.e.Keep != nil:
			d.stays = append(d.stays, p.tally(p.people.batch[o.owners[0]].Ref, dsr.Keep, 1)...)
		case !o.Marker:
			delete(stays, o.ID)
			v := victim{Key: s.Key, ID: o.ID, Size: o.Size}
			if o.id() == nil && len(p.e.props) > 0 {
				v.ETag = o.ETag
			}
			for _, i := range o.owners {
				v.Refs = append(v.Refs, p.people.batch[i].Ref)
			}
			v.Tallies = p.tally(v.Refs[0], dsr.Delete, 1)
			d.victims = append(d.victims, v)
		}
	}
	for _, r := range s.read {
		switch {
		case r.wait != nil:
		case !r.totals.Changed:
			if r.Latest {
				d.stays = append(d.stays, p.counted(r.totals.Tallies)...)
			}
		case r.Latest:
			d.rewrites = append(d.rewrites, rewriting{Key: s.Key, Version: r.version, Tallies: p.counted(r.totals.Tallies)})
		default:
			delete(stays, r.ID)
			v := victim{Key: s.Key, ID: r.ID, Size: r.Size}
			for _, t := range p.counted(r.totals.Tallies) {
				t.Method = dsr.Delete
				v.Tallies = tallied(v.Tallies, t)
				v.Refs = append(v.Refs, t.Subject)
			}
			d.victims = append(d.victims, v)
		}
	}
	d.victims = p.markers(s, d.victims, len(stays) > 0)
	return d.together()
}

// counted are the tallies that Erase reports: what a hold keeps is reported by Verify.
func (p *pass) counted(all []connectors.Tally) []connectors.Tally {
	return slices.DeleteFunc(slices.Clone(all), func(t connectors.Tally) bool { return t.Method == dsr.Held })
}

// markers adds what the delete markers of a key need. They go with its last version; while one stays they do too, for
// without them it would be shown again, and where there is none on top yet one is put there.
func (p *pass) markers(s *surveyed, victims []victim, stays bool) []victim {
	if stays {
		for i := range victims {
			if latest := s.Versions[0]; latest.ID == victims[i].ID && !latest.Marker && latest.id() != nil {
				victims[i].Hide = true
			}
		}
		return victims
	}
	for _, v := range s.Versions {
		if !v.Marker {
			continue
		}
		m := victim{Key: s.Key, ID: v.ID}
		for _, o := range s.whole {
			if o.ID == v.ID && o.wait == nil && p.e.Keep == nil {
				m.Refs = []string{p.people.batch[o.owners[0]].Ref}
				m.Tallies = p.tally(m.Refs[0], dsr.Delete, 1)
			}
		}
		if len(m.Tallies) > 0 || len(victims) > 0 {
			victims = append(victims, m)
		}
	}
	return victims
}

// tallied adds a tally to those of the same subject, entity and method.
func tallied(to []connectors.Tally, t connectors.Tally) []connectors.Tally {
	for i := range to {
		if to[i].Subject == t.Subject && to[i].Entity == t.Entity && to[i].Method == t.Method && to[i].Resolved == t.Resolved {
			to[i].Rows += t.Rows
			return to
		}
	}
	return append(to, t)
}
