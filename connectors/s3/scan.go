package s3

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// reading is what one version of an object holds of a batch, or of what a rule makes due.
type reading struct {
	version
	totals  records.Totals
	hits    map[hit]int64               // by subject and method; a shared record counts for each
	residue map[string]map[string]int64 // by subject and field: what the Plan removes and is still there
	held    map[string]int64            // by subject: what a hold keeps; "" in a Sweep
	matched map[matched]int64           // records by the identifier that makes them a subject's
	learned []connectors.Learned
	wait    *dsr.Exception // it cannot be read, or not be removed, yet
	fault   error          // it cannot be read at all; in a Sweep alone, where the others go on
}

type matched struct{ subject, identifier string }

type hit struct {
	subject string
	method  dsr.Method
}

// of is how many records of the version are the subject's.
func (r *reading) of(ref string) int64 {
	var n int64
	for h, rows := range r.hits {
		if h.subject == ref {
			n += rows
		}
	}
	return n
}

// scan reads one version. A version that is gone is nil; one that is archived has only its wait.
func (b *Bucket) scan(ctx context.Context, e *entity, f *records.Finder, key string, v version) (*reading, error) {
	var out *reading
	err := b.read(ctx, key, v, func(name string, src io.Reader) error {
		out = &reading{version: v, hits: map[hit]int64{}, residue: map[string]map[string]int64{}, held: map[string]int64{}, matched: map[matched]int64{}}
		var err error
		out.totals, err = f.Scan(ctx, name, src, func(h *records.Hit) error { return out.take(e, h) })
		return err
	})
	switch {
	case errors.Is(err, errGone), errors.Is(err, errChanged): // what it became is listed again by Verify
		return nil, nil
	case errors.Is(err, errArchived):
		return &reading{version: v, wait: &dsr.Exception{Cause: dsr.CauseArchived}}, nil
	case err != nil:
		return nil, err
	}
	return out, nil
}

func (r *reading) take(e *entity, h *records.Hit) error {
	if h.Method == dsr.Held {
		for _, ref := range h.Subjects {
			r.held[ref]++
		}
		if len(h.Subjects) == 0 {
			r.held[""]++
		}
		return nil
	}
	for _, ref := range h.Subjects {
		r.hits[hit{ref, h.Method}]++
		for _, field := range h.Residue {
			if r.residue[ref] == nil {
				r.residue[ref] = map[string]int64{}
			}
			r.residue[ref][field]++
		}
		if e.Subject {
			for _, id := range h.Matched(ref) {
				r.matched[matched{ref, id}]++
			}
		}
		if e.Teaches && len(h.Subjects) == 1 {
			for _, id := range h.Learned() {
				r.learned = append(r.learned, connectors.Learned{Subject: ref, Identifier: id})
			}
		}
	}
	return nil
}

// readings reads every version of one key. Versions that hold nothing of the batch come back with empty hits; those that
// a lock or a hold keeps, though they should go or change, with a wait. In a Sweep one that cannot be read for good comes
// back with its fault.
func (p *pass) readings(ctx context.Context, o object) ([]*reading, error) {
	var out []*reading
	for _, v := range o.Versions {
		if v.Marker {
			continue
		}
		r, err := p.reading(ctx, o.Key, v)
		if err = p.e.damaged(o.Key, v, p.people.batch, err); p.sweeps && connectors.IsPermanent(err) {
			r, err = &reading{version: v, fault: err}, nil
		}
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// reading reads one version; nil when it is gone.
func (p *pass) reading(ctx context.Context, key string, v version) (*reading, error) {
	deep, err := p.b.archived(ctx, key, v)
	switch {
	case err != nil:
		return nil, err
	case deep:
		return &reading{version: v, wait: &dsr.Exception{Cause: dsr.CauseArchived}}, nil
	case p.aged && p.e.byAge():
		if v.Modified, err = p.stored(ctx, key, v); err != nil {
			return nil, err
		}
	}
	r, err := p.b.scan(ctx, p.e, p.finderOf(v), key, v)
	if err == nil && r != nil && r.totals.Changed {
		r.wait, err = p.keeps(ctx, key, v, r)
	}
	return r, err
}

// keeps says why a version that should go or change must stay as it is. A noncurrent one only goes whole: a record in it
// that a hold covers keeps it, whoever looks for that record.
func (p *pass) keeps(ctx context.Context, key string, v version, r *reading) (*dsr.Exception, error) {
	hold := &dsr.Exception{Cause: dsr.CauseHold}
	if !v.Latest {
		if len(r.held) > 0 || slices.ContainsFunc(p.holds.Entities, func(f connectors.Frozen) bool { return f.Entity == p.e.Name }) {
			return hold, nil
		}
		if p.keeper != nil {
			k, err := p.b.scan(ctx, p.e, p.keeper, key, v)
			if err != nil {
				return nil, err
			}
			if k != nil && len(k.hits) > 0 {
				return hold, nil
			}
		}
	}
	return p.b.locked(ctx, p.lock, key, v)
}
