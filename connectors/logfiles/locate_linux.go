package logfiles

import (
	"cmp"
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Locate counts and learns in one pass over the files. A file that is a subject's as a whole counts as one row. See
// [connectors.Connector].
func (f *Folder) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	r, err := f.reader(q.Batch, connectors.Holds{})
	if err != nil {
		return connectors.Located{}, err
	}
	defer r.close()
	return r.locate(ctx, q)
}

func (r *reader) locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	var entities []*entity
	for _, e := range r.entities {
		if e.Teaches || !q.Teaching {
			entities = append(entities, e)
		}
	}
	c := counter{reader: r, matched: map[connectors.Ambiguity]int64{}}
	totals, err := r.survey(ctx, entities, func(s sight) error {
		c.count(s, q.Export)
		return nil
	})
	if err != nil {
		return connectors.Located{}, err
	}
	out := connectors.Located{Counts: c.counts, Learned: c.learned, Ambiguous: c.ambiguous()}
	for name, t := range totals {
		for i := range out.Counts {
			if out.Counts[i].Entity == name {
				out.Counts[i].TableRows = t.Records
			}
		}
		for _, field := range t.Unsearched {
			out.Unsearched = append(out.Unsearched, name+"."+field)
		}
	}
	slices.Sort(out.Unsearched)
	out.Unsearched = slices.Compact(out.Unsearched)
	index := map[string]int{}
	for i, s := range r.batch {
		index[s.Ref] = i
	}
	slices.SortStableFunc(out.Counts, func(a, b connectors.Count) int {
		return cmp.Or(cmp.Compare(index[a.Subject], index[b.Subject]), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Method, b.Method))
	})
	return out, r.faults.errors(r.batch)
}

// counter sums what a survey sees.
type counter struct {
	*reader
	counts  []connectors.Count
	learned []connectors.Learned
	matched map[connectors.Ambiguity]int64 // records that are people, by the identifier that led to them
}

// ambiguous lists whom one identifier leads to several people.
func (c *counter) ambiguous() []connectors.Ambiguity {
	var out []connectors.Ambiguity
	for a, rows := range c.matched {
		if rows > 1 {
			a.Rows = rows
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b connectors.Ambiguity) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Identifier, b.Identifier))
	})
	return out
}

func (c *counter) count(s sight, export bool) {
	n := connectors.Count{Subject: s.subject, Entity: s.e.Name, Method: s.method, Rows: 1}
	switch {
	case export:
		n.Method = dsr.Export
	case s.waits != nil:
		n.Method, n.Exception = dsr.Wait, s.waits
	}
	c.learn(s)
	if s.e.Subject && s.hit != nil {
		for _, id := range s.hit.Matched(s.subject) {
			c.matched[connectors.Ambiguity{Subject: s.subject, Entity: s.e.Name, Identifier: id}]++
		}
	}
	for i := range c.counts {
		if o := &c.counts[i]; o.Subject == n.Subject && o.Entity == n.Entity && o.Method == n.Method && cause(o.Exception) == cause(n.Exception) {
			o.Rows++
			o.Exception = latest(o.Exception, n.Exception)
			return
		}
	}
	c.counts = append(c.counts, n)
}

func cause(e *dsr.Exception) dsr.Cause {
	if e == nil {
		return ""
	}
	return e.Cause
}

// latest is the one of two exceptions that ends last; one whose end nobody knows wins.
func latest(a, b *dsr.Exception) *dsr.Exception {
	if a == nil || b == nil || a.Ends == nil || b.Ends != nil && a.Ends.After(*b.Ends) {
		return a
	}
	return b
}

func (c *counter) learn(s sight) {
	if s.hit == nil || len(s.hit.Subjects) != 1 || s.method == dsr.Redact {
		return
	}
	for _, id := range s.hit.Learned() {
		kind := c.sys.Identifiers[id.Name]
		if !slices.ContainsFunc(c.learned, func(l connectors.Learned) bool {
			return l.Subject == s.subject && l.Identifier.Name == id.Name &&
				records.Normalise(kind, l.Identifier.Value.Reveal()) == records.Normalise(kind, id.Value.Reveal())
		}) {
			c.learned = append(c.learned, connectors.Learned{Subject: s.subject, Identifier: id})
		}
	}
}

// Verify searches every file again, live ones too. See [connectors.Connector].
func (f *Folder) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	r, err := f.reader(q.Batch, q.Held)
	if err != nil {
		return nil, err
	}
	defer r.close()
	type place struct {
		subject, entity, field string
		cause                  dsr.Cause
	}
	found := map[place]*dsr.Residue{}
	_, err = r.survey(ctx, f.entities, func(s sight) error {
		for _, field := range s.residue {
			at := place{s.subject, s.e.Name, field, cause(s.waits)}
			if found[at] == nil {
				found[at] = &dsr.Residue{Subject: s.subject, System: f.sys.Name, Entity: s.e.Name, Field: field, Waits: s.waits}
			}
			found[at].Count++
			found[at].Waits = latest(found[at].Waits, s.waits)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []dsr.Residue
	for _, left := range found {
		out = append(out, *left)
	}
	slices.SortFunc(out, func(a, b dsr.Residue) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field),
			cmp.Compare(cause(a.Waits), cause(b.Waits)))
	})
	return out, r.faults.errors(q.Batch)
}
