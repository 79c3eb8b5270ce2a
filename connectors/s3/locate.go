package s3

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Locate counts and learns; see [connectors.Connector]. Of whole objects every version, delete marker and unfinished
// upload counts as one. Of records those of the current version count as what happens to them; a noncurrent version
// that holds a record of the subject's is removed whole: its records of the subject's count as deleted, and the
// others as Others.
func (b *Bucket) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	if err := b.tenants(q.Batch); err != nil {
		return connectors.Located{}, err
	}
	lock, err := b.locks(ctx)
	if err != nil {
		return connectors.Located{}, err
	}
	var out connectors.Located
	for _, e := range b.entities {
		batch := members(e, q.Batch)
		if q.Teaching && !e.Teaches || len(batch) == 0 {
			continue
		}
		p := b.newPass(e, batch, connectors.Holds{}, lock)
		l := newLocating(p, b.sys.Name+"."+e.Name, q.Export)
		if err := l.run(ctx); err != nil {
			return connectors.Located{}, err
		}
		out.Counts = append(out.Counts, l.sorted()...)
		out.Learned = append(out.Learned, l.learned...)
		out.Ambiguous = append(out.Ambiguous, l.ambiguous()...)
		for _, field := range slices.Sorted(maps.Keys(l.unsearched)) {
			out.Unsearched = append(out.Unsearched, e.Name+"."+field)
		}
	}
	if !q.Teaching && !q.Export && len(out.Counts) > 0 {
		out.Copies, err = b.copies(ctx)
	}
	return out, err
}

// line is what one Count is of.
type line struct {
	hit
	cause dsr.Cause
}

// locating collects the counts of one entity.
type locating struct {
	*pass
	source string // of what it teaches
	export bool

	mu         sync.Mutex
	counts     map[line]*connectors.Count
	learned    []connectors.Learned
	known      known
	matched    map[matched]int64
	unsearched map[string]bool
	total      int64 // objects or records of the entity; 0 where not all were looked at
}

func newLocating(p *pass, source string, export bool) *locating {
	return &locating{
		pass: p, source: source, export: export, counts: map[line]*connectors.Count{}, known: known{},
		matched: map[matched]int64{}, unsearched: map[string]bool{},
	}
}

// add counts rows of one subject.
func (l *locating) add(ref string, method dsr.Method, rows, others int64, why *dsr.Exception) {
	at := line{hit: hit{ref, method}}
	if why != nil {
		at.cause = why.Cause
	}
	c := l.counts[at]
	if c == nil {
		c = &connectors.Count{Subject: ref, Entity: l.e.Name, Method: method}
		l.counts[at] = c
	}
	c.Rows += rows
	c.Others += others
	c.Exception = latest(c.Exception, why)
}

// latest joins exceptions of one cause; an end that nobody knows is later than any.
func latest(x, y *dsr.Exception) *dsr.Exception {
	switch {
	case x == nil:
		return y
	case y == nil, x.Ends == nil:
		return x
	case y.Ends == nil, y.Ends.After(*x.Ends):
		return y
	}
	return x
}

// ambiguous lists whom one identifier leads to several records of people.
func (l *locating) ambiguous() []connectors.Ambiguity {
	var out []connectors.Ambiguity
	for m, rows := range l.matched {
		if rows > 1 {
			out = append(out, connectors.Ambiguity{Subject: m.subject, Entity: l.e.Name, Identifier: m.identifier, Rows: rows})
		}
	}
	slices.SortFunc(out, func(x, y connectors.Ambiguity) int {
		return cmp.Or(cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.Identifier, y.Identifier))
	})
	return out
}

func (l *locating) sorted() []connectors.Count {
	var out []connectors.Count
	for _, c := range l.counts {
		c.TableRows = l.total
		out = append(out, *c)
	}
	slices.SortFunc(out, func(x, y connectors.Count) int {
		return cmp.Or(cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.Entity, y.Entity), cmp.Compare(x.Method, y.Method), cmp.Compare(causeOf(x), causeOf(y)))
	})
	return out
}

func causeOf(c connectors.Count) dsr.Cause {
	if c.Exception == nil {
		return ""
	}
	return c.Exception.Cause
}

// known are identifiers that need not be learned again.
type known map[string]bool

func (k known) fresh(l *locating, ref string, id dsr.Identifier) bool {
	at := ref + "\x00" + id.Name + "\x00" + records.Normalise(l.e.kinds[id.Name], id.Value.Reveal())
	if k[at] {
		return false
	}
	k[at] = true
	for _, i := range l.people.by[id.Name][records.Normalise(l.e.kinds[id.Name], id.Value.Reveal())] {
		if l.people.batch[i].Ref == ref {
			return false
		}
	}
	return true
}

func (l *locating) learn(ids []connectors.Learned) {
	for _, id := range ids {
		if l.known.fresh(l, id.Subject, id.Identifier) {
			l.learned = append(l.learned, id)
		}
	}
}

func (l *locating) run(ctx context.Context) error {
	prefixes := l.e.prefixes(l.people)
	all := len(prefixes) == 1 && prefixes[0] == l.e.pattern.prefix
	err := l.survey(ctx, prefixes, func(o *surveyed) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if all {
			l.total += o.rows()
		}
		l.take(o)
		return nil
	})
	if err != nil || l.export {
		return err
	}
	return l.uploads(ctx, prefixes, func(_ upload, owners []int) error {
		for _, i := range owners {
			l.add(l.people.batch[i].Ref, dsr.Delete, 1, 0, nil)
		}
		return nil
	})
}

// take counts one key.
func (l *locating) take(o *surveyed) {
	for _, w := range o.whole {
		for _, i := range w.owners {
			ref := l.people.batch[i].Ref
			switch {
			case l.export && w.Marker:
			case l.export:
				l.add(ref, dsr.Export, 1, 0, nil)
			case l.e.Keep != nil:
				l.add(ref, dsr.Keep, 1, 0, nil)
			case w.wait != nil:
				l.add(ref, dsr.Wait, 1, 0, w.wait)
			default:
				l.add(ref, dsr.Delete, 1, 0, nil)
			}
			if l.e.Teaches && len(w.owners) == 1 {
				for _, id := range l.e.identifiers(l.source, o.key, w.props) {
					l.learn([]connectors.Learned{{Subject: ref, Identifier: id}})
				}
			}
		}
	}
	for _, r := range o.read {
		l.learn(r.learned)
		if r.Latest {
			for m, n := range r.matched {
				l.matched[m] += n
			}
		}
		for _, field := range r.totals.Unsearched {
			l.unsearched[field] = true
		}
		for _, s := range l.people.batch {
			l.takeReading(s.Ref, r)
		}
	}
}

func (l *locating) takeReading(ref string, r *reading) {
	mine := r.of(ref)
	switch {
	case r.wait != nil && r.wait.Cause == dsr.CauseArchived: // nobody knows whose records are in it
		if l.export {
			l.add(ref, dsr.Export, 1, 0, nil)
		} else {
			l.add(ref, dsr.Wait, 1, 0, r.wait)
		}
	case mine == 0:
	case l.export:
		l.add(ref, dsr.Export, mine, 0, nil)
	case r.wait != nil:
		l.add(ref, dsr.Wait, mine, 0, r.wait)
	case !r.Latest:
		if r.totals.Changed {
			l.add(ref, dsr.Delete, mine, r.totals.Records-mine, nil)
		}
	default:
		for h, n := range r.hits {
			if h.subject == ref {
				l.add(ref, h.method, n, 0, nil)
			}
		}
	}
}
