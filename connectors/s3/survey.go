package s3

import (
	"context"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// pass is one look at one entity for a batch.
type pass struct {
	b       *Bucket
	e       *entity
	people  *people
	held    *people
	holds   connectors.Holds
	finder  *records.Finder // nil: no content is read
	keeper  *records.Finder // of those whom a hold covers; nil when there are none
	aged    bool            // the finder asks when the object was stored
	sweeps  bool            // for a rule, and no batch: what cannot be read keeps nothing else
	lock    locks
	workers int // objects that are worked at once
}

func (b *Bucket) newPass(e *entity, batch connectors.Batch, holds connectors.Holds, lock locks) *pass {
	p := &pass{b: b, e: e, people: newPeople(batch, e.kinds), held: newPeople(members(e, holds.Subjects), e.kinds), holds: holds, lock: lock, workers: b.connections()}
	if e.searched() {
		p.finder = e.layout.Find(batch, holds)
		if held := members(e, holds.Subjects); len(held) > 0 {
			p.keeper = e.layout.Find(held, connectors.Holds{})
		}
	}
	return p
}

// finderOf is the finder for one version.
func (p *pass) finderOf(v version) *records.Finder {
	if p.aged {
		return p.finder.Stored(v.Modified)
	}
	return p.finder
}

// surveyed is one key, and what its versions are to the batch.
type surveyed struct {
	object
	key   []string // values of the placeholders
	whole []whole  // versions that belong to somebody as a whole, newest first
	read  []*reading
}

// whole is a version, or a delete marker, that its key, tags or metadata give to somebody.
type whole struct {
	version
	owners []int // indices into the batch
	props  map[string]string
	wait   *dsr.Exception // a lock or a hold keeps it
}

// rows is what the key adds to the size of its entity.
func (o *surveyed) rows() int64 {
	if len(o.read) == 0 {
		return int64(len(o.Versions))
	}
	var n int64
	for _, r := range o.read {
		if r.Latest {
			n += r.totals.Records
		}
	}
	return n
}

// surveyAhead is how many keys are looked at together.
const surveyAhead = 256

// survey looks at every key below the prefixes and calls fn for each that fits the pattern, from several goroutines.
func (p *pass) survey(ctx context.Context, prefixes []string, fn func(*surveyed) error) error {
	return p.every(ctx, prefixes, func(ctx context.Context, o object) error {
		s, err := p.look(ctx, o)
		if err != nil || s == nil {
			return err
		}
		return fn(s)
	})
}

// every calls fn for every key below the prefixes that fits the pattern, from several goroutines.
func (p *pass) every(ctx context.Context, prefixes []string, fn func(context.Context, object) error) error {
	var ahead []object
	flush := func() error {
		err := each(ctx, p.workers, ahead, func(ctx context.Context, _ int, o object) error { return fn(ctx, o) })
		ahead = ahead[:0]
		return err
	}
	err := p.b.walk(ctx, prefixes, "", func(o object) error {
		if _, ok := p.e.pattern.Match(o.Key); !ok {
			return nil
		}
		if ahead = append(ahead, o); len(ahead) < surveyAhead {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// look finds out what one key is to the batch; nil for a key that does not fit the pattern.
func (p *pass) look(ctx context.Context, o object) (*surveyed, error) {
	key, ok := p.e.pattern.Match(o.Key)
	if !ok {
		return nil, nil
	}
	s := &surveyed{object: o, key: key}
	for _, v := range o.Versions {
		w, err := p.lookWhole(ctx, s, v)
		if err != nil {
			return nil, err
		}
		if w != nil && len(w.owners) > 0 {
			s.whole = append(s.whole, *w)
		}
	}
	if len(s.whole) > 0 || p.finder == nil {
		return s, nil
	}
	var err error
	s.read, err = p.readings(ctx, o)
	return s, err
}

func (p *pass) lookWhole(ctx context.Context, s *surveyed, v version) (*whole, error) {
	props, gone, err := p.b.properties(ctx, p.e, s.Key, v)
	if err != nil || gone {
		return nil, err
	}
	w := &whole{version: v, props: props, owners: p.e.owners(p.people, s.key, props)}
	if len(w.owners) == 0 || p.e.Keep != nil {
		return w, nil
	}
	if p.e.frozen(p.holds, s.key, props) || len(p.e.owners(p.held, s.key, props)) > 0 {
		w.wait = &dsr.Exception{Cause: dsr.CauseHold}
		return w, nil
	}
	w.wait, err = p.b.locked(ctx, p.lock, s.Key, v)
	return w, err
}

// uploads calls fn for every unfinished upload whose key names one of the batch and that no hold keeps.
func (p *pass) uploads(ctx context.Context, prefixes []string, fn func(u upload, owners []int) error) error {
	if p.e.Keep != nil {
		return nil
	}
	return p.b.uploads(ctx, prefixes, func(u upload) error {
		key, ok := p.e.pattern.Match(u.Key)
		if !ok {
			return nil
		}
		owners := p.e.owners(p.people, key, nil)
		if len(owners) == 0 || p.e.frozen(p.holds, key, nil) || len(p.e.owners(p.held, key, nil)) > 0 {
			return nil
		}
		return fn(u, owners)
	})
}
