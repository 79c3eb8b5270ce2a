package sqldb

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Locate counts what the database holds of each subject as if it were alone in the batch, so that a Plan does not
// depend on who else is worked at the time. See [connectors.Connector].
func (d *DB) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	var out connectors.Located
	m, err := d.modelOf(ctx)
	if err != nil {
		return out, err
	}
	if err := d.checkTenants(q.Batch); err != nil {
		return out, err
	}
	s, release, err := d.reader(ctx)
	if err != nil {
		return out, err
	}
	defer release()
	l := &locating{d: d, m: m, s: s, q: q, counts: map[countKey]int64{}}
	if !q.Export && !q.Teaching {
		if l.marks, err = m.erasureMarks(connectors.Holds{}); err != nil {
			return out, err
		}
	}
	for _, part := range byTenant(q.Batch) {
		if err := l.part(ctx, part, &out); err != nil {
			return connectors.Located{}, err
		}
	}
	for k, n := range l.counts {
		out.Counts = append(out.Counts, connectors.Count{
			Subject: k.subject, Entity: k.entity, Method: k.method, Rows: n, TableRows: m.byName[k.entity].table.Rows,
		})
	}
	waiting, err := l.waits.counts(ctx, m, s)
	if err != nil {
		return connectors.Located{}, err
	}
	out.Counts = append(out.Counts, waiting...)
	slices.SortFunc(out.Counts, func(a, b connectors.Count) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), strings.Compare(a.Entity, b.Entity), cmp.Compare(a.Method, b.Method))
	})
	if !q.Teaching {
		out.Unsearched = m.unsearched()
	}
	return out, nil
}

// byTenant splits a batch; the order within a tenant stays.
func byTenant(batch connectors.Batch) []connectors.Batch {
	var out []connectors.Batch
	at := map[string]int{}
	for _, s := range batch {
		i, ok := at[s.Tenant]
		if !ok {
			i = len(out)
			at[s.Tenant] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

type countKey struct {
	subject, entity string
	method          dsr.Method
}

type locating struct {
	d      *DB
	m      *model
	s      session
	q      connectors.Query
	marks  marks // of an erasure
	counts map[countKey]int64
	waits  waiting
}

func (l *locating) part(ctx context.Context, batch connectors.Batch, out *connectors.Located) error {
	c, err := l.closure(ctx, batch, true)
	if err != nil {
		return err
	}
	waited := map[seenRow]bool{}
	if c.young {
		if err := l.unfinished(ctx, c, waited); err != nil {
			return err
		}
	}
	_ = c.each(func(n *node) error {
		if !waited[seenRow{batch[n.credit].Ref, n.e, n.key().id()}] {
			l.add(batch[n.credit].Ref, n.e, l.method(n), 1)
		}
		l.learn(c, n, out)
		return nil
	})
	l.ambiguous(c, out)
	for _, e := range l.m.entities {
		if c.isLeaf(e) && c.covers(e) {
			l.leaf(c, e)
		}
	}
	if l.q.Teaching {
		return nil
	}
	for _, search := range l.m.searches(batch, l.marks, c.covers) {
		if err := l.mentions(ctx, c, search, waited); err != nil {
			return err
		}
	}
	return nil
}

// closure decides about a batch, with statutory minima or as if all had ended.
func (l *locating) closure(ctx context.Context, batch connectors.Batch, minima bool) (*closure, error) {
	c := &closure{
		m: l.m, s: l.s, any: l.q.Export, tenant: batch[0].Tenant, batch: batch, marks: l.marks, minima: minima,
		terms: newTerms(batch, l.d.System.Identifiers, l.d.pseudonyms), counting: leavesByParent,
	}
	if l.q.Teaching {
		c.only, c.counting = l.m.teaching(), leavesIgnored
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	var sub *connectors.SubjectError
	if err := c.actions(); err != nil && !errors.As(err, &sub) { // what would dangle is for Erase and Check to say
		return nil, err
	}
	return c, nil
}

// unfinished finds what an erasure would do more if every statutory minimum had ended.
func (l *locating) unfinished(ctx context.Context, now *closure, waited map[seenRow]bool) error {
	c, err := l.closure(ctx, now.batch, false)
	if err != nil {
		return err
	}
	l.waits.causes(c)
	_ = c.each(func(n *node) error {
		id := nodeID{n.world, n.key().id()}
		if is := now.nodes[n.e][id]; n.action != "" && (is == nil || is.action == "" || is.action == dsr.Redact && n.action != dsr.Redact) {
			s := c.batch[n.credit]
			waited[seenRow{s.Ref, n.e, id.id}] = true
			l.waits = append(l.waits, waitingRow{subject: s, e: n.e, key: n.key(), rows: 1, own: n.minimum})
		}
		return nil
	})
	for _, e := range l.m.entities {
		if !c.isLeaf(e) || !c.covers(e) {
			continue
		}
		rows := c.goneLeaves(e)
		for subject, n := range now.goneLeaves(e) {
			rows[subject] -= n
		}
		for subject, n := range rows {
			if n > 0 {
				l.waits = append(l.waits, waitingRow{subject: c.batch[subject], e: e, rows: n})
			}
		}
	}
	return nil
}

func (l *locating) add(subject string, e *entity, m dsr.Method, n int64) {
	if n > 0 && m != "" {
		l.counts[countKey{subject, e.Name, m}] += n
	}
}

// method is what is done with a row; empty when nothing is.
func (l *locating) method(n *node) dsr.Method {
	switch {
	case l.q.Teaching && !n.e.Teaches:
		return ""
	case !l.q.Export:
		return n.action
	case n.touched && n.allowed:
		return dsr.Export
	}
	return ""
}

// learn reads the identifiers of a row that is wholly the subject's.
func (l *locating) learn(c *closure, n *node, out *connectors.Located) {
	if !n.e.Teaches || !n.doomed || n.accessed || n.anchored() {
		return
	}
	subject := c.batch[n.credit].Ref
	for _, id := range n.e.ids {
		pos, ok := n.e.pos[id.col.Name]
		if !ok || !n.cells[pos].ok {
			continue
		}
		v := normalise(id.kind, stored(id.col, n.cells[pos].s))
		if v == "" || slices.Contains(c.terms.byName[id.name][v], n.credit) {
			continue
		}
		value := stored(id.col, n.cells[pos].s)
		switch id.kind {
		case dsr.KindEmail, dsr.KindIP:
			value = v
		case dsr.KindUUID:
			if u := uuids([]string{v}); len(u) == 1 {
				value = u[0]
			}
		}
		learned := connectors.Learned{Subject: subject, Identifier: dsr.Identifier{
			Name: id.name, Value: dsr.NewSecret(value), Origin: dsr.Learned, Source: l.d.System.Name + "." + n.e.Name,
		}}
		if !slices.Contains(out.Learned, learned) {
			out.Learned = append(out.Learned, learned)
		}
	}
}

// ambiguous reports identifiers that match several subject rows of one entity.
func (l *locating) ambiguous(c *closure, out *connectors.Located) {
	for _, e := range l.m.entities {
		if !e.Subject {
			continue
		}
		for _, id := range e.ids {
			rows := make([]map[string]int64, len(c.batch))
			for _, n := range c.nodes[e] {
				pos, ok := e.pos[id.col.Name]
				if !ok || !slices.Contains(n.matched, id.col) {
					continue
				}
				if rows[n.credit] == nil {
					rows[n.credit] = map[string]int64{}
				}
				rows[n.credit][normalise(id.kind, stored(id.col, n.cells[pos].s))]++
			}
			for i, byValue := range rows {
				var most int64
				for _, k := range byValue {
					most = max(most, k)
				}
				if most > 1 {
					out.Ambiguous = append(out.Ambiguous, connectors.Ambiguity{
						Subject: c.batch[i].Ref, Entity: e.Name, Identifier: id.name, Rows: most,
					})
				}
			}
		}
	}
}

func (l *locating) leaf(c *closure, e *entity) {
	method := dsr.Delete
	if l.q.Export {
		method = dsr.Export
	}
	for subject, n := range c.goneLeaves(e) {
		l.add(c.batch[subject].Ref, e, method, n)
	}
}

// goneLeaves are how many rows of a leaf go, by the index of their subject.
func (c *closure) goneLeaves(e *entity) map[int]int64 {
	t := e.owners[0]
	rows := map[int]int64{}
	seen := map[nodeID]bool{}
	for _, n := range c.nodes[t.parent] {
		if !n.doomed || n.accessed || !c.permits(n.credit, e) {
			continue
		}
		id := nodeID{n.world, refID(t.refs, n.at(t.parentPos))}
		if !seen[id] {
			seen[id] = true
			rows[n.credit] += c.leafRows[t][id.id]
		}
	}
	return rows
}

func (l *locating) mentions(ctx context.Context, c *closure, search *search, waited map[seenRow]bool) error {
	method := dsr.Redact
	if l.q.Export {
		method = dsr.Export
	}
	var after key
	for {
		found, next, err := search.page(ctx, l.s, after, false)
		if err != nil {
			return err
		}
		for _, m := range found {
			id := key(m.cells[:len(search.e.key)]).id()
			for _, i := range m.subjects {
				world := slices.IndexFunc(c.batch, func(s connectors.Subject) bool { return s.Ref == search.batch[i].Ref })
				n := c.nodes[search.e][nodeID{world, id}]
				if n != nil && (n.action != "" || l.q.Export && n.touched && n.allowed) {
					continue // counted under what happens to the whole row
				}
				switch subject := search.batch[i]; {
				case waited[seenRow{subject.Ref, search.e, id}]:
				case m.minimum:
					l.waits = append(l.waits, waitingRow{subject: subject, e: search.e, key: m.cells[:len(search.e.key)], rows: 1, own: true})
				default:
					l.add(subject.Ref, search.e, method, 1)
				}
			}
		}
		if next == nil {
			return nil
		}
		after = next
	}
}

// teaching are the entities that teach, and those through which the subject's rows in them are found.
func (m *model) teaching() map[*entity]bool {
	out := map[*entity]bool{}
	var add func(e *entity)
	add = func(e *entity) {
		if out[e] {
			return
		}
		out[e] = true
		for _, t := range e.owners {
			add(t.parent)
		}
		for _, t := range e.members {
			add(t.child)
		}
	}
	for _, e := range m.entities {
		if e.Teaches {
			add(e)
		}
	}
	return out
}

// unsearched lists text columns that the map neither declares nor mentions.
func (m *model) unsearched() []string {
	var out []string
	for _, e := range m.entities {
		for _, col := range e.table.Columns {
			if !col.HasText || slices.Contains(e.Mentions, col.Name) || slices.Contains(e.NotPersonal, col.Name) {
				continue
			}
			if slices.ContainsFunc(e.Fields, func(f connectors.Field) bool { return f.Name == col.Name }) {
				continue
			}
			if _, ok := e.Masks[col.Name]; ok {
				continue
			}
			if c := e.columns[col.Name]; e.isKey(c) || e.tenant == c || slices.ContainsFunc(m.ties, func(t *tie) bool {
				return t.child == e && (slices.Contains(t.cols, c) || t.disc == c)
			}) {
				continue
			}
			out = append(out, e.Name+"."+col.Name)
		}
	}
	return out
}
