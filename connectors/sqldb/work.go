package sqldb

import (
	"context"
	"slices"
	"time"

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

// heavy erases one subject that has too many rows for one transaction: leaves first, page by page, then rows that
// were read, and in the last transaction the subject's own row with all that it refers to.
func (e *erasure) heavy(ctx context.Context, at int) error {
	reader, release, err := e.d.reader(ctx)
	if err != nil {
		return err
	}
	c, err := e.newClosure(ctx, reader, at, at+1, false)
	if err == nil {
		err = c.run(ctx)
	}
	if err == nil && e.cp.Heavy {
		err = e.resume(ctx, c)
	}
	release()
	if err != nil {
		return err
	}
	if err := c.actions(); err != nil {
		return err
	}
	if err := e.spool(ctx, c); err != nil {
		return err
	}
	if err := e.spoolShared(ctx, c); err != nil {
		return err
	}
	if !e.cp.Heavy {
		e.cp.Heavy, e.dirty = true, true
		if err := e.save(ctx); err != nil {
			return err
		}
	}
	last := len(c.m.ordered)
	for i, en := range c.m.ordered {
		if en.Subject && len(c.nodes[en]) > 0 {
			last = i
			break
		}
	}
	// Fields come first and are not changed twice: a row that stays would be counted again.
	done, resumed := e.m.byName[e.cp.Entity], key(nil)
	for _, v := range e.cp.After {
		resumed = append(resumed, cell{v, true})
	}
	here := checkpointPosition{Next: at, Heavy: true, Entity: e.cp.Entity, After: e.cp.After}
	fieldsLeft := func(n *node) bool {
		switch {
		case done == nil || n.e.order > done.order:
			return true
		case n.e != done:
			return false
		}
		return compareNodes(n, &node{e: n.e, world: n.world, cells: resumed}) > 0
	}
	early := func(n *node) bool { return n.e.order < last }
	c.early = map[*entity]bool{}
	for _, en := range c.m.ordered[:last] {
		c.early[en] = true
	}
	steps := []func(en *entity) error{
		func(en *entity) error { // fields
			return e.pages(ctx, c, en, &here, func(n *node) bool {
				return early(n) && fieldsLeft(n) && n.action != "" && n.action != dsr.Delete && n.action != dsr.Anchor
			}, func(ctx context.Context, w *work, nodes []*node) error {
				here.Entity, here.After = en.Name, nil
				for _, v := range nodes[len(nodes)-1].key() {
					here.After = append(here.After, v.s)
				}
				return w.update(ctx, en, nodes)
			})
		},
		func(en *entity) error { // references in a circle
			if len(en.breaks) == 0 {
				return nil
			}
			return e.pages(ctx, c, en, &here, func(n *node) bool { return early(n) && isDelete(n) },
				func(ctx context.Context, w *work, nodes []*node) error {
					var p pipeline
					if err := w.breakCycle(&p, en, nodes); err != nil {
						return err
					}
					return w.flush(ctx, &p)
				})
		},
		func(en *entity) error { // rows
			if c.isLeaf(en) {
				return e.leafPages(ctx, c, en, &here)
			}
			return e.pages(ctx, c, en, &here, func(n *node) bool { return early(n) && isDelete(n) },
				func(ctx context.Context, w *work, nodes []*node) error {
					var p pipeline
					if err := w.remove(&p, en, nodes); err != nil {
						return err
					}
					return w.flush(ctx, &p)
				})
		},
	}
	for _, step := range steps {
		for _, en := range c.m.ordered {
			if err := step(en); err != nil {
				return err
			}
		}
	}
	return e.last(ctx, at, c)
}

// spoolShared remembers targets that somebody else's membership still owns. By the last transaction that membership may
// be gone as well, and with the subject's own nothing would lead to the target.
func (e *erasure) spoolShared(ctx context.Context, c *closure) error {
	for _, en := range c.m.entities {
		if len(en.members) == 0 {
			continue
		}
		var keys []connectors.Key
		for _, n := range c.nodes[en] {
			if n.touched && !n.doomed {
				keys = append(keys, spoolKey(n.key()))
			}
		}
		slices.Sort(keys)
		for page := range slices.Chunk(keys, 1000) {
			if err := e.job.Journal.Spool(ctx, c.batch[0].Ref, en.sharedName(), page); err != nil {
				return err
			}
		}
	}
	return nil
}

// sharedName is what the journal calls rows that others own, too.
func (e *entity) sharedName() string { return e.Name + "?" }

// last closes a heavy subject: what is left, usually its own row, in one transaction with a closure of its own, so
// that rows that were added meanwhile go too.
func (e *erasure) last(ctx context.Context, at int, before *closure) error {
	tx, err := e.d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	c, err := e.newClosure(ctx, tx, at, at+1, true)
	if err != nil {
		return err
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	if err := e.resume(ctx, c); err != nil {
		return err
	}
	if err := c.actions(); err != nil {
		return err
	}
	for en, nodes := range c.nodes { // rows that stay were masked and counted in their own pages
		for id, n := range nodes {
			if old := before.nodes[en][id]; old != nil && (n.action == dsr.Keep || n.action == dsr.Mask || n.action == dsr.Redact) && !en.Subject && before.early[en] {
				n.action = ""
			}
		}
	}
	c.counting = leavesIgnored
	w := &work{d: e.d, c: c, tx: tx, tenant: c.tenant, matcher: e.matcherOf(c.tenant)}
	if err := w.all(ctx); err != nil {
		return err
	}
	return e.commit(ctx, tx, w, checkpointPosition{Next: at + 1})
}

// resume touches what the spool says was doomed before an interruption: a target whose memberships are gone, or a row
// whose reference was emptied to break a circle, can no longer be reached from the subject.
func (e *erasure) resume(ctx context.Context, c *closure) error {
	for _, en := range e.m.entities {
		if en.Subject || len(en.children)+len(en.accessed)+len(en.members)+len(en.owns) == 0 {
			continue
		}
		var keys []key
		for _, name := range []string{en.Name, en.sharedName()} {
			err := e.job.Journal.Each(ctx, name, func(subject string, page []connectors.Key) error {
				if subject != c.batch[0].Ref {
					return nil
				}
				for _, k := range page {
					if parsed, ok := parseKey(k); ok && len(parsed) == len(en.key) {
						keys = append(keys, parsed)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		var touched []*node
		var calls []*call
		for chunk := range slices.Chunk(keys, e.d.dialect.keysPerStatement) {
			calls = append(calls, c.fetch(en, en.key, chunk, nil, func(values [][]byte) error {
				n, _ := c.node(en, 0, values)
				if !n.touched {
					n.touched = true
					touched = append(touched, n)
				}
				return nil
			}))
		}
		if err := c.s.run(ctx, calls...); err != nil {
			return err
		}
		if err := c.expand(ctx, touched); err != nil {
			return err
		}
	}
	return nil
}

// pages runs fn over the entity's rows in transactions of their own. Each locks its rows again in key order and leaves
// out those that are no longer doomed or no longer there.
func (e *erasure) pages(ctx context.Context, c *closure, en *entity, here *checkpointPosition, want func(n *node) bool,
	fn func(ctx context.Context, w *work, nodes []*node) error,
) error {
	all := (&work{c: c}).nodes(en, want)
	size := min(e.d.txRows, 2000)
	for page := range slices.Chunk(all, size) {
		err := e.retry(ctx, func() error { return e.page(ctx, c, en, here, page, fn) })
		if err != nil {
			return err
		}
		if err := e.yield(); err != nil {
			return err
		}
	}
	return nil
}

func (e *erasure) page(ctx context.Context, c *closure, en *entity, here *checkpointPosition, page []*node,
	fn func(ctx context.Context, w *work, nodes []*node) error,
) error {
	tx, err := e.d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	outer := c.s
	c.s, c.lock = tx, true
	defer func() { c.s, c.lock = outer, false }()
	if len(e.job.Held.Subjects) > 0 {
		if c.held, err = e.m.heldRows(ctx, tx, e.job.Held, c.tenant, nil); err != nil {
			return err
		}
	}
	present := map[string]bool{}
	var calls []*call
	for chunk := range slices.Chunk(page, e.d.dialect.keysPerStatement) {
		calls = append(calls, c.fetch(en, en.key, nodeKeys(chunk), nil, func(values [][]byte) error {
			n, _ := c.node(en, 0, values)
			present[n.key().id()] = true
			return nil
		}))
	}
	if err := tx.run(ctx, calls...); err != nil {
		return err
	}
	// Owners and memberships may have gone since the closure was read: the decision is taken again under the lock.
	c.exists = map[*tie]map[string]bool{}
	if err := c.refreshMembers(ctx, page); err != nil {
		return err
	}
	ask := slices.Clone(page)
	for _, n := range page {
		for _, t := range n.e.members {
			ask = append(ask, c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}]...)
		}
	}
	if err := c.askExistence(ctx, ask); err != nil {
		return err
	}
	var nodes []*node
	for _, n := range page {
		if !present[n.key().id()] {
			continue
		}
		if n.action == dsr.Release && !c.leaving(n) {
			continue // it was given away
		}
		if (n.doomed || n.action == dsr.Release) && n.doomed != c.isDoomed(n) {
			// It was given to someone who lives, or nobody else owns it any more. What it owns in turn must be read again.
			return transient("another transaction changed who owns a row", number{"lethe", "40001"})
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil
	}
	w := &work{d: e.d, c: c, tx: tx, tenant: c.tenant, matcher: e.matcherOf(c.tenant)}
	if err := fn(ctx, w, nodes); err != nil {
		return err
	}
	if w.xid == "" && w.changed() {
		if err := w.flush(ctx, &pipeline{}); err != nil {
			return err
		}
	}
	return e.commit(ctx, tx, w, *here)
}

// leafPages deletes a leaf's rows through their parents, so many in a transaction.
func (e *erasure) leafPages(ctx context.Context, c *closure, en *entity, here *checkpointPosition) error {
	parents, _ := c.leafParents(en)
	size := e.d.txRows
	for chunk := range slices.Chunk(parents, e.d.dialect.keysPerStatement) {
		for {
			var n int64
			began := time.Now()
			err := e.retry(ctx, func() error {
				var err error
				n, err = e.leafPage(ctx, c, en, here, chunk, size)
				return err
			})
			if err != nil {
				return err
			}
			if err := e.yield(); err != nil {
				return err
			}
			if n < int64(size) {
				break
			}
			switch took := time.Since(began); { // rows of a leaf block nobody: pages may grow while they are quick
			case took < leafPageTime/2:
				size = min(2*size, 4*e.d.txRows)
			case took > 2*leafPageTime:
				size = max(size/2, e.d.txRows/4, 1)
			}
		}
	}
	return nil
}

func (e *erasure) leafPage(ctx context.Context, c *closure, en *entity, here *checkpointPosition, parents []key, size int) (int64, error) {
	tx, err := e.d.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.rollback()
	if len(e.job.Held.Subjects) > 0 {
		if c.held, err = e.m.heldRows(ctx, tx, e.job.Held, c.tenant, nil); err != nil {
			return 0, err
		}
		if parents = en.owners[0].notHeld(c.held, parents); len(parents) == 0 {
			return 0, nil
		}
	}
	w := &work{d: e.d, c: c, tx: tx, tenant: c.tenant}
	ch := change{e: en, tenant: c.tenant, where: childrenOf(en.owners[0], parents)}
	if !en.keyless {
		ch.limit = size
	}
	cl, err := e.d.change(ch)
	if err != nil {
		return 0, err
	}
	if e.d.dialect.name != postgres {
		if w.probe, err = e.leafProbe(ctx, tx, en, parents, c.tenant); err != nil {
			return 0, err
		}
	}
	p := &pipeline{calls: []*call{cl}}
	if err := w.flush(ctx, p); err != nil {
		return 0, err
	}
	w.count(0, en, dsr.Delete, cl.affected)
	return cl.affected, e.commit(ctx, tx, w, *here)
}

// leafProbe reads one row that the page deletes when it is the last one. MariaDB and SQLite take the first row that
// the same predicate finds.
func (e *erasure) leafProbe(ctx context.Context, tx session, en *entity, parents []key, tenant string) (*probe, error) {
	if en.keyless {
		return nil, nil
	}
	t := en.owners[0]
	s := e.d.dialect.statement("SELECT ").list("", en.key).add(" FROM ", en.from, " WHERE ").in("", t.cols, parents)
	en.whereTenant(t.whereTie(s, ""), "", tenant)
	s.add(" LIMIT 1").add(e.d.dialect.forUpdate(true))
	var p *probe
	err := tx.run(ctx, s.call(func(values [][]byte) error {
		p = &probe{Entity: en.Name, Key: spoolKey(cells(values))}
		return nil
	}))
	return p, err
}
