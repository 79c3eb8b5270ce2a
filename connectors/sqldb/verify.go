package sqldb

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Verify searches again in three ways: by identifiers, in free text, and by the keys that were spooled before the
// first delete, through which children are found that lost their parent. What an erasure would still change is
// Residue; what the Plan keeps is not, unless a mask of it did not hold.
func (d *DB) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	m, err := d.modelOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.checkTenants(q.Batch); err != nil {
		return nil, err
	}
	s, release, err := d.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	v := &verification{d: d, m: m, s: s, batch: q.Batch, holds: q.Held, minima: true, found: map[residueKey]int64{}, seen: map[seenRow]bool{}}
	if v.marks, err = m.erasureMarks(q.Held); err != nil {
		return nil, err
	}
	if err := v.search(ctx, q.Keys); err != nil {
		return nil, err
	}
	if v.minima = false; v.young { // what is found more when every minimum has ended waits for that
		if err := v.search(ctx, q.Keys); err != nil {
			return nil, err
		}
	}
	if !q.Held.Empty() { // what is found more when nothing is held either waits for the holds' end
		v.lifted = true
		if err := v.search(ctx, q.Keys); err != nil {
			return nil, err
		}
	}
	return v.residue(ctx)
}

func (v *verification) search(ctx context.Context, keys connectors.Keys) error {
	for _, part := range byTenant(v.batch) {
		var err error
		if v.held, err = v.m.heldRows(ctx, v.s, v.holds, part[0].Tenant, nil); err != nil {
			return err
		}
		if err := v.findGone(ctx, part); err != nil {
			return err
		}
		c := v.closure(part)
		if err := c.run(ctx); err != nil {
			return err
		}
		v.young = v.young || c.young
		if err := v.report(ctx, c, nil); err != nil {
			return err
		}
		if err := v.mentions(ctx, part); err != nil {
			return err
		}
	}
	if keys == nil {
		return nil
	}
	return v.spooled(ctx, keys)
}

// findGone finds what goes with any of the subjects: each is searched for alone, and what the others own owns nothing.
func (v *verification) findGone(ctx context.Context, part connectors.Batch) error {
	v.gone = nil
	if !v.m.shared || len(part) < 2 {
		return nil
	}
	c := v.closure(part)
	c.merged, c.counting = true, leavesIgnored
	if err := c.run(ctx); err != nil {
		return err
	}
	v.gone = map[refset]map[string]int{}
	for set, nodes := range c.byDoom {
		v.gone[set] = map[string]int{}
		for id, n := range nodes {
			v.gone[set][id.id] = n.credit
		}
	}
	return nil
}

type residueKey struct {
	subject, entity, field string
	held                   bool // and waits for the end of the hold
}

type seenRow struct {
	subject string
	e       *entity
	id      string
}

type verification struct {
	d     *DB
	m     *model
	s     session
	batch connectors.Batch
	holds connectors.Holds
	marks marks
	held  map[*entity]map[string]bool // of the tenant that is searched
	gone  map[refset]map[string]int   // see findGone
	// minima: rows whose statutory minimum has not ended stay; young: there are some. Without it they go, unless held.
	minima, young bool
	// lifted: the search is made again as if nothing were held.
	lifted bool
	found  map[residueKey]int64
	waits  waiting // for the end of statutory minima
	seen   map[seenRow]bool
}

func (v *verification) closure(part connectors.Batch) *closure {
	return &closure{
		m: v.m, s: v.s, tenant: part[0].Tenant, batch: part, counting: leavesByParent, held: v.held, marks: v.marks, minima: v.minima, lifted: v.lifted, gone: v.gone,
		terms: newTerms(part, v.d.System.Identifiers, nil), // a pseudonym is what the Plan keeps
	}
}

// add notes what an erasure would still do, in one of three searches: it is residue, or waits for the end of a statutory
// minimum, or of a hold. What one search has found is not looked at in the next.
func (v *verification) add(r waitingRow, id string) {
	if r.rows == 0 {
		return
	}
	if id != "" {
		row := seenRow{r.subject.Ref, r.e, id}
		if v.seen[row] {
			return
		}
		v.seen[row] = true
	}
	if v.minima || v.lifted {
		v.found[residueKey{r.subject.Ref, r.e.Name, r.field, v.lifted}] += r.rows
		return
	}
	v.waits = append(v.waits, r)
}

// row is add for one row of the closure.
func (v *verification) row(c *closure, n *node, field string) {
	v.add(waitingRow{subject: c.batch[n.credit], e: n.e, field: field, rows: 1, key: n.key(), own: n.minimum}, n.key().id())
}

func (v *verification) residue(ctx context.Context) ([]dsr.Residue, error) {
	out, err := v.waits.residue(ctx, v.m, v.s)
	if err != nil {
		return nil, err
	}
	for k, n := range v.found {
		r := dsr.Residue{Subject: k.subject, System: v.d.System.Name, Entity: k.entity, Field: k.field, Count: n}
		if k.held {
			r.Waits = &dsr.Exception{Cause: dsr.CauseHold}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b dsr.Residue) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), strings.Compare(a.Entity, b.Entity), strings.Compare(a.Field, b.Field),
			compareWaits(a.Waits, b.Waits))
	})
	return out, nil
}

// report turns what an erasure would still do into residue. ghosts are parents that are gone or anchored already.
func (v *verification) report(ctx context.Context, c *closure, ghosts map[*node]bool) error {
	var dangling *connectors.SubjectError
	if err := c.actions(); err != nil && !errors.As(err, &dangling) {
		return err
	}
	if !v.minima && !v.lifted {
		v.waits.causes(c)
	}
	stays := map[*entity][]*node{}
	anchored := map[seenRow]bool{} // in the world of whichever subject they were spooled for
	for n := range ghosts {
		if n.touched {
			anchored[seenRow{e: n.e, id: n.key().id()}] = true
		}
	}
	_ = c.each(func(n *node) error {
		if ghosts[n] || anchored[seenRow{e: n.e, id: n.key().id()}] {
			return nil
		}
		field := ""
		if len(n.matched) > 0 {
			field = n.matched[0].Name
		}
		switch n.action {
		case "":
		case dsr.Keep, dsr.Mask:
			for _, col := range n.matched {
				if _, masked := n.e.Masks[col.Name]; masked {
					v.row(c, n, col.Name)
				}
			}
			if (n.covered && !n.held || n.minimum) && len(n.e.Masks) > 0 { // whether some masks were applied cannot be told
				v.row(c, n, field)
			}
			stays[n.e] = append(stays[n.e], n)
		case dsr.Release:
			if c.unreleased(n, ghosts) {
				i := slices.IndexFunc(n.e.owners, func(t *tie) bool { return c.leaves(n, t) })
				v.row(c, n, n.e.owners[i].cols[0].Name)
			}
		default:
			v.row(c, n, field)
		}
		return nil
	})
	for _, e := range v.m.entities {
		if err := v.unmasked(ctx, c, e, stays[e]); err != nil {
			return err
		}
	}
	for _, e := range v.m.entities {
		if !c.isLeaf(e) {
			continue
		}
		t := e.owners[0]
		seen := map[nodeID]bool{}
		for _, n := range c.nodes[t.parent] {
			id := nodeID{n.world, refID(t.refs, n.at(t.parentPos))}
			if n.doomed && c.permits(n.credit, e) && !seen[id] {
				seen[id] = true
				v.add(waitingRow{subject: c.batch[n.credit], e: e, rows: c.leafRows[t][id.id]}, "leaf:"+id.id)
			}
		}
	}
	return nil
}

// unreleased reports whether a shared row should have lost a reference: its parent is gone or goes, or the map says that
// the reference itself changes. One to a row that is anchored may be what that was anchored for.
func (c *closure) unreleased(n *node, ghosts map[*node]bool) bool {
	if ghosts == nil && len(n.matched) > 0 {
		return true
	}
	for _, t := range n.e.owners {
		k, ok := t.applies(n)
		if !ok {
			continue
		}
		p := c.byDoom[t.refset()][nodeID{n.world, refID(t.refs, k)}]
		switch {
		case p == nil || ghosts != nil && !ghosts[p]:
			continue
		case ghosts == nil && !p.anchored(), !p.touched: // gone altogether
			return true
		case n.e.method() != dsr.Delete:
			continue // its other owners may have gone at the same time
		}
		for _, col := range t.cols {
			if _, changes := t.release[col.Name]; changes {
				return true
			}
		}
	}
	return false
}

// unmasked finds kept rows whose masks did not hold. Random and keyed values cannot be told from others; when they
// replace an identifier, the search by identifiers finds what was left.
func (v *verification) unmasked(ctx context.Context, c *closure, e *entity, nodes []*node) error {
	byID := map[string]*node{}
	for _, n := range nodes {
		byID[n.key().id()] = n
	}
	var calls []*call
	for chunk := range slices.Chunk(nodes, v.d.dialect.keysPerStatement) {
		for name, spec := range e.Masks {
			col := e.columns[name]
			s := v.d.dialect.statement("SELECT ").list("", e.key).add(" FROM ", e.from, " WHERE ").in("", e.key, nodeKeys(chunk))
			e.whereTenant(s, "", c.tenant)
			s.add(" AND ", col.quoted, " IS NOT NULL")
			switch {
			case spec.Kind == mask.Null:
			case spec.Kind == mask.Constant:
				s.add(" AND ", col.quoted, " <> ").value(col, cell{spec.Value, true})
			case spec.Kind == mask.Redact && col.class == connectors.ClassText && !slices.Contains(e.mentions, col):
				s.add(" AND ", col.quoted, " <> ").value(col, cell{clipped(col), true})
			default:
				continue
			}
			calls = append(calls, s.call(func(values [][]byte) error {
				id := key(cells(values)).id()
				if n := byID[id]; n != nil {
					v.row(c, n, name)
				}
				return nil
			}))
		}
	}
	return v.s.run(ctx, calls...)
}

func clipped(c *column) string {
	if c.MaxLen > 0 && c.MaxLen < len(mask.Redacted) {
		return mask.Redacted[:c.MaxLen]
	}
	return mask.Redacted
}

func (v *verification) mentions(ctx context.Context, part connectors.Batch) error {
	for _, search := range v.m.searches(part, v.marks, func(*entity) bool { return true }) {
		var after key
		for {
			found, next, err := search.page(ctx, v.s, after, false)
			if err != nil {
				return err
			}
			for _, m := range found {
				id := key(m.cells[:len(search.e.key)]).id()
				v.young = v.young || m.minimum
				if !v.lifted && (m.held || v.held[search.e][id]) || v.minima && m.minimum {
					continue
				}
				for _, i := range m.subjects {
					v.add(waitingRow{
						subject: search.batch[i], e: search.e, field: m.fields[0].Name, rows: 1, key: m.cells[:len(search.e.key)], own: m.minimum,
					}, id)
				}
			}
			if next == nil {
				break
			}
			after = next
		}
	}
	return nil
}

// spooledKeys are keys of one subject's rows of one entity.
type spooledKey struct {
	e       *entity
	subject string
	key     key
}

// spooled follows the journal's keys, a bounded number at a time.
func (v *verification) spooled(ctx context.Context, keys connectors.Keys) error {
	tenant := map[string]string{}
	for _, s := range v.batch {
		tenant[s.Ref] = s.Tenant
	}
	var page []spooledKey
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		for _, part := range byTenant(v.batch) {
			var err error
			if v.held, err = v.m.heldRows(ctx, v.s, v.holds, part[0].Tenant, nil); err != nil {
				return err
			}
			if err := v.findGone(ctx, part); err != nil {
				return err
			}
			if err := v.follow(ctx, part, page); err != nil {
				return err
			}
		}
		page = page[:0]
		return nil
	}
	for _, e := range v.m.entities {
		err := keys.Each(ctx, e.Name, func(subject string, ks []connectors.Key) error {
			if _, ours := tenant[subject]; !ours {
				return nil
			}
			for _, k := range ks {
				if parsed, ok := parseKey(k); ok && len(parsed) == len(e.key) {
					page = append(page, spooledKey{e, subject, parsed})
				}
			}
			if len(page) >= 5000 {
				return flush()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return flush()
}

// follow looks at spooled rows and at their children. A row that is still there is judged like any other: a key may
// have been used again. A row that is gone, or was meant to stay, is a ghost: its children must be gone or released.
func (v *verification) follow(ctx context.Context, part connectors.Batch, page []spooledKey) error {
	c := v.closure(part)
	c.reset()
	index := map[string]int{}
	for i, s := range part {
		index[s.Ref] = i
	}
	byEntity := map[*entity]map[string][]spooledKey{}
	keys := map[*entity][]key{}
	for _, k := range page {
		if _, ok := index[k.subject]; !ok {
			continue
		}
		if byEntity[k.e] == nil {
			byEntity[k.e] = map[string][]spooledKey{}
		}
		id := k.key.id()
		if byEntity[k.e][id] == nil {
			keys[k.e] = append(keys[k.e], k.key)
		}
		byEntity[k.e][id] = append(byEntity[k.e][id], k)
	}
	present := map[*entity]map[string]bool{}
	var calls []*call
	var touched []*node
	ghosts := map[*node]bool{}
	for _, e := range v.m.entities {
		present[e] = map[string]bool{}
		for chunk := range slices.Chunk(keys[e], v.d.dialect.keysPerStatement) {
			calls = append(calls, c.fetch(e, e.key, chunk, nil, func(values [][]byte) error {
				id := key(cells(values[:len(e.key)])).id()
				present[e][id] = true
				for _, k := range byEntity[e][id] {
					n, _ := c.node(e, index[k.subject], values)
					if n.touched {
						continue
					}
					n.touched = true
					switch {
					case len(e.Anchor) > 0 || e.method() != dsr.Delete:
						c.doom(n)
						ghosts[n] = true
					case !e.Subject:
						touched = append(touched, n)
					default:
						n.touched = false // found by its identifiers, or somebody new under an old key
					}
				}
				return nil
			}))
		}
	}
	if err := v.s.run(ctx, calls...); err != nil {
		return err
	}
	for _, e := range v.m.entities {
		for id, ks := range byEntity[e] {
			if present[e][id] {
				continue
			}
			for _, k := range ks {
				n := &node{e: e, world: index[k.subject], credit: index[k.subject], allowed: true, cells: make([]cell, len(e.load))}
				copy(n.cells, k.key)
				c.doom(n)
				ghosts[n] = true
			}
		}
	}
	var ghostList []*node
	for n := range ghosts {
		ghostList = append(ghostList, n)
	}
	sortNodes(ghostList)
	more, err := c.follow(ctx, ghostList)
	if err != nil {
		return err
	}
	if !v.minima {
		if more, err = c.withoutOthers(ctx, more); err != nil {
			return err
		}
	}
	if err := c.expand(ctx, append(touched, more...)); err != nil {
		return err
	}
	v.young = v.young || c.young
	// ghosts that are gone count as parents of leaves, too
	for n := range ghosts {
		if !n.touched {
			if c.nodes[n.e] == nil {
				c.nodes[n.e] = map[nodeID]*node{}
			}
			c.nodes[n.e][nodeID{n.world, n.key().id()}] = n
		}
	}
	return v.report(ctx, c, ghosts)
}
