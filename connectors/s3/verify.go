package s3

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Verify searches all versions, delete markers and unfinished uploads again; see [connectors.Connector].
func (b *Bucket) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	if err := b.tenants(q.Batch); err != nil {
		return nil, err
	}
	lock, err := b.locks(ctx)
	if err != nil {
		return nil, err
	}
	v := &verifying{system: b.sys.Name, found: map[place]*dsr.Residue{}}
	for _, e := range b.entities {
		batch := members(e, q.Batch)
		if len(batch) == 0 {
			continue
		}
		p := b.newPass(e, batch, q.Held, lock)
		prefixes := e.prefixes(p.people)
		if err := p.survey(ctx, prefixes, func(s *surveyed) error { v.take(p, s); return nil }); err != nil {
			return nil, err
		}
		err := p.uploads(ctx, prefixes, func(_ upload, owners []int) error {
			for _, i := range owners {
				v.report(p, i, "", 1, nil)
			}
			return nil
		})
		if err == nil {
			err = v.uploads(ctx, p, q.Keys)
		}
		if err != nil {
			return nil, err
		}
	}
	return v.sorted(), nil
}

// place is what one Residue is of.
type place struct {
	subject, entity, field string
	cause                  dsr.Cause
}

type verifying struct {
	system string
	mu     sync.Mutex
	found  map[place]*dsr.Residue
}

func (v *verifying) report(p *pass, subject int, field string, count int64, waits *dsr.Exception) {
	ref := p.people.batch[subject].Ref
	at := place{subject: ref, entity: p.e.Name, field: field}
	if waits != nil {
		at.cause = waits.Cause
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.found[at]
	if r == nil {
		r = &dsr.Residue{Subject: ref, System: v.system, Entity: p.e.Name, Field: field}
		v.found[at] = r
	}
	r.Count += count
	r.Waits = latest(r.Waits, waits)
}

func (v *verifying) take(p *pass, s *surveyed) {
	var waits *dsr.Exception // a marker waits with the versions below it
	for _, w := range s.whole {
		waits = latest(waits, w.wait)
	}
	if p.e.Keep == nil {
		for _, w := range s.whole {
			wait := w.wait
			if w.Marker && wait == nil {
				wait = waits
			}
			for _, i := range w.owners {
				v.report(p, i, "", 1, wait)
			}
		}
	}
	for _, r := range s.read {
		for i, m := range p.people.batch {
			v.takeReading(p, r, i, m.Ref)
		}
	}
}

func (v *verifying) takeReading(p *pass, r *reading, i int, ref string) {
	if r.wait != nil && r.wait.Cause == dsr.CauseArchived { // nobody can say that the subject is not in it
		v.report(p, i, "", 1, r.wait)
		return
	}
	hold := &dsr.Exception{Cause: dsr.CauseHold}
	if n := r.held[ref]; n > 0 {
		v.report(p, i, "", n, hold)
	}
	wait := r.wait
	if wait == nil && !r.Latest && len(r.held) > 0 { // what a hold keeps is in the same version, which only goes whole
		wait = hold
	}
	for field, n := range r.residue[ref] {
		v.report(p, i, field, n, wait)
	}
	if n := r.hits[hit{ref, dsr.Delete}]; n > 0 && len(r.residue[ref]) == 0 {
		v.report(p, i, "", n, wait)
	}
}

func (v *verifying) sorted() []dsr.Residue {
	var out []dsr.Residue
	for _, r := range v.found {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(x, y dsr.Residue) int {
		return cmp.Or(cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.Entity, y.Entity), cmp.Compare(x.Field, y.Field),
			cmp.Compare(waitsFor(x), waitsFor(y)))
	})
	return out
}

func waitsFor(r dsr.Residue) dsr.Cause {
	if r.Waits == nil {
		return ""
	}
	return r.Waits.Cause
}
