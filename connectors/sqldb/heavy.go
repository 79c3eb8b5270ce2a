package sqldb

import (
	"context"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

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
			if old := before.nodes[en][id]; old != nil && (n.action == dsr.Keep || n.action == dsr.Mask || n.action == dsr.Redact || n.action == dsr.Release && old.action == dsr.Release) && !en.Subject && before.early[en] {
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
		if c.remains(n) { // by now; what leads to it must stay as well
			return transient("another transaction changed how long a row must be kept", number{"lethe", "40001"})
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
