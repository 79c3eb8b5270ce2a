package sqldb

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// work is what one transaction changes.
type work struct {
	d       *DB
	c       *closure
	tx      session
	tenant  string
	matcher *mask.Matcher
	counts  map[tallyKey]int64
	probe   *probe
	xid     string
}

type tallyKey struct {
	subject int
	entity  string
	method  dsr.Method
}

func (w *work) count(subject int, e *entity, m dsr.Method, n int64) {
	if n == 0 {
		return
	}
	if w.counts == nil {
		w.counts = map[tallyKey]int64{}
	}
	w.counts[tallyKey{subject, e.Name, m}] += n
}

func (w *work) changed() bool { return len(w.counts) > 0 }

func (w *work) tallies() []connectors.Tally {
	var out []connectors.Tally
	for k, n := range w.counts {
		out = append(out, connectors.Tally{Subject: w.c.batch[k.subject].Ref, Entity: k.entity, Method: k.method, Rows: n})
	}
	slices.SortFunc(out, func(a, b connectors.Tally) int {
		return slices.Compare([]string{a.Subject, a.Entity, string(a.Method)}, []string{b.Subject, b.Entity, string(b.Method)})
	})
	return out
}

// all changes everything in the closure: fields first, then rows, children before parents.
func (w *work) all(ctx context.Context) error {
	for _, e := range w.c.m.ordered {
		if err := w.update(ctx, e, w.nodes(e, func(n *node) bool { return n.action != "" && n.action != dsr.Delete })); err != nil {
			return err
		}
	}
	var p pipeline
	for _, e := range w.c.m.ordered {
		if err := w.breakCycle(&p, e, w.nodes(e, isDelete)); err != nil {
			return err
		}
	}
	for _, e := range w.c.m.ordered {
		if err := w.remove(&p, e, w.nodes(e, isDelete)); err != nil {
			return err
		}
	}
	return w.flush(ctx, &p)
}

func isDelete(n *node) bool { return n.action == dsr.Delete }

// nodes are an entity's rows in key order.
func (w *work) nodes(e *entity, want func(n *node) bool) []*node {
	var out []*node
	for _, n := range w.c.nodes[e] {
		if want(n) {
			out = append(out, n)
		}
	}
	sortNodes(out)
	return out
}

// pipeline collects statements and what to do with their counts.
type pipeline struct {
	calls []*call
	after []func(ctx context.Context) error
}

func (w *work) flush(ctx context.Context, p *pipeline) error {
	if w.d.dialect.name == postgres && (len(p.calls) > 0 || w.changed()) {
		p.calls = append(p.calls, &call{text: "SELECT pg_current_xact_id()::text", row: func(values [][]byte) error {
			w.xid = string(values[0])
			return nil
		}})
	}
	if err := w.tx.run(ctx, p.calls...); err != nil {
		return err
	}
	for _, fn := range p.after {
		if err := fn(ctx); err != nil {
			return err
		}
	}
	p.calls, p.after = nil, nil
	return nil
}

// update masks, releases, anchors and redacts rows of one entity.
func (w *work) update(ctx context.Context, e *entity, nodes []*node) error {
	if len(nodes) == 0 {
		return nil
	}
	rows := make([]masked, 0, len(nodes))
	for _, n := range nodes {
		rows = append(rows, masked{n: n, masks: w.c.masksOf(n), nulls: n.nulls})
		w.count(n.credit, e, n.action, 1)
		w.probeUpdate(n)
	}
	calls, err := w.d.updates(ctx, w.tx, e, rows, w.tenant, w.matcher)
	if err != nil {
		return err
	}
	return w.tx.run(ctx, calls...)
}

// probeUpdate remembers a field that changes for certain, unless a deleted row is known.
func (w *work) probeUpdate(n *node) {
	if w.probe != nil {
		return
	}
	for _, masks := range w.c.masksOf(n) {
		for name, spec := range masks {
			pos, ok := n.e.pos[name]
			if !ok || !n.cells[pos].ok || n.e.isKey(n.e.columns[name]) {
				continue
			}
			if spec.Kind == mask.Null || spec.Kind == mask.Random || spec.Kind == mask.Constant && spec.Value != n.cells[pos].s {
				w.probe = &probe{Entity: n.e.Name, Key: spoolKey(n.key()), Column: name, Value: n.cells[pos].s}
				return
			}
		}
	}
	for _, c := range n.nulls {
		if pos, ok := n.e.pos[c.Name]; ok && n.cells[pos].ok {
			w.probe = &probe{Entity: n.e.Name, Key: spoolKey(n.key()), Column: c.Name, Value: n.cells[pos].s}
			return
		}
	}
}

// breakCycle empties references between rows that go, where entities refer to each other in a circle.
func (w *work) breakCycle(p *pipeline, e *entity, nodes []*node) error {
	if len(nodes) == 0 {
		return nil
	}
	if e.deferred {
		switch w.d.dialect.name {
		case postgres:
			p.calls = append(p.calls, &call{text: "SET CONSTRAINTS ALL DEFERRED"})
		case sqlite:
			p.calls = append(p.calls, &call{text: "PRAGMA defer_foreign_keys = ON"})
		}
	}
	if len(e.breaks) == 0 {
		return nil
	}
	set := make([]assignment, len(e.breaks))
	for i, c := range e.breaks {
		set[i] = assignment{col: c}
	}
	for chunk := range slices.Chunk(nodes, w.d.dialect.keysPerStatement) {
		cl, err := w.d.change(change{e: e, tenant: w.tenant, where: keysOf(e, nodeKeys(chunk)), set: set})
		if err != nil {
			return err
		}
		p.calls = append(p.calls, cl)
	}
	return nil
}

func nodeKeys(nodes []*node) []key {
	keys := make([]key, len(nodes))
	for i, n := range nodes {
		keys[i] = n.key()
	}
	return keys
}

// remove deletes rows of one entity: the nodes, or a leaf's rows through their parents.
func (w *work) remove(p *pipeline, e *entity, nodes []*node) error {
	if w.c.isLeaf(e) {
		return w.removeLeaf(p, e)
	}
	for chunk := range slices.Chunk(nodes, w.d.dialect.keysPerStatement) {
		cl, err := w.d.change(change{e: e, tenant: w.tenant, where: keysOf(e, nodeKeys(chunk))})
		if err != nil {
			return err
		}
		p.calls = append(p.calls, cl)
		p.after = append(p.after, func(ctx context.Context) error { return w.credit(ctx, e, chunk, cl.affected) })
		// the last entity that is deleted from is the subject's, and it is there from the start
		w.probe = &probe{Entity: e.Name, Key: spoolKey(chunk[0].key())}
	}
	return nil
}

// credit counts deleted rows for their subjects. When fewer went than were named, a trigger kept some: they are found
// and not counted.
func (w *work) credit(ctx context.Context, e *entity, nodes []*node, affected int64) error {
	left := map[string]bool{}
	if affected != int64(len(nodes)) {
		s := w.d.dialect.statement("SELECT ").list("", e.key).add(" FROM ", e.from, " WHERE ").in("", e.key, nodeKeys(nodes))
		err := w.tx.run(ctx, e.whereTenant(s, "", w.tenant).call(func(values [][]byte) error {
			left[key(cells(values)).id()] = true
			return nil
		}))
		if err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if !left[n.key().id()] {
			w.count(n.credit, e, dsr.Delete, 1)
		}
	}
	return nil
}

// leafParents are the doomed rows whose children of a leaf entity go, with the subject that each is credited to.
func (c *closure) leafParents(e *entity) (keys []key, credit map[string]int) {
	t := e.owners[0]
	credit = map[string]int{}
	var parents []*node
	for _, n := range c.nodes[t.parent] {
		if n.doomed && c.permits(n.credit, e) {
			parents = append(parents, n)
		}
	}
	sortNodes(parents)
	for _, n := range parents {
		k := n.at(t.parentPos)
		if !k.complete() {
			continue
		}
		id := refID(t.refs, k)
		if rows, counted := c.leafRows[t][id]; c.counting == leavesByParent && (!counted || rows == 0) {
			continue
		}
		if _, ok := credit[id]; !ok {
			keys = append(keys, k)
		}
		credit[id] = n.credit
	}
	if c.counting == leavesTotal && c.leafRows[t][""] == 0 {
		return nil, credit
	}
	return keys, credit
}

func (w *work) removeLeaf(p *pipeline, e *entity) error {
	t := e.owners[0]
	keys, credit := w.c.leafParents(e)
	lone := len(w.c.batch) == 1
	for chunk := range slices.Chunk(keys, w.d.dialect.keysPerStatement) {
		c := change{e: e, tenant: w.tenant, where: childrenOf(t, chunk)}
		if !lone && w.d.dialect.name == postgres {
			c.count = t
			c.row = func(values [][]byte) error {
				w.count(credit[refID(t.refs, cells(values[:len(t.cols)]))], e, dsr.Delete, parseInt(values[len(t.cols)]))
				return nil
			}
		}
		cl, err := w.d.change(c)
		if err != nil {
			return err
		}
		p.calls = append(p.calls, cl)
		if c.count != nil {
			continue
		}
		p.after = append(p.after, func(context.Context) error {
			if lone {
				w.count(0, e, dsr.Delete, cl.affected)
				return nil
			}
			left := cl.affected // counted before, in the same transaction; a race's difference goes to the last
			for i, k := range chunk {
				id := refID(t.refs, k)
				n := min(w.c.leafRows[t][id], left)
				if i == len(chunk)-1 {
					n = left
				}
				w.count(credit[id], e, dsr.Delete, n)
				left -= n
			}
			return nil
		})
	}
	return nil
}
