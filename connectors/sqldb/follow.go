package sqldb

import (
	"context"
	"slices"
)

// askExistence finds out which owners that no foreign key vouches for are still there, and are more than the anchor that
// an earlier erasure left.
func (c *closure) askExistence(ctx context.Context, nodes []*node) error {
	want := map[*tie][]key{}
	for _, n := range nodes {
		if n.seed || c.any {
			continue
		}
		for _, t := range n.e.owners {
			if t.vouched() {
				continue
			}
			k, ok := t.applies(n)
			if !ok {
				continue
			}
			id := refID(t.refs, k)
			if c.byDoom[t.refset()][nodeID{n.world, id}] != nil || c.isGone(t, id) {
				continue
			}
			if c.exists[t] == nil {
				c.exists[t] = map[string]bool{}
			}
			if _, known := c.exists[t][id]; !known {
				c.exists[t][id] = false
				want[t] = append(want[t], k)
			}
		}
	}
	var calls []*call
	for _, t := range c.m.ties {
		for chunk := range slices.Chunk(want[t], c.m.d.dialect.keysPerStatement) {
			read := t.refs
			if len(t.parent.Anchor) > 0 {
				read = t.parent.load
			}
			s := c.m.d.dialect.statement("SELECT ").list("", read).add(" FROM ", t.parent.from, " WHERE ")
			s.in("", t.refs, chunk)
			calls = append(calls, t.parent.whereTenant(s, "", c.tenant).call(func(values [][]byte) error {
				k := key(cells(values))
				if len(t.parent.Anchor) > 0 {
					p := &node{e: t.parent, cells: k}
					if k = p.at(t.parentPos); p.anchored() {
						return nil
					}
				}
				c.exists[t][refID(t.refs, k)] = true
				return nil
			}))
		}
	}
	return c.s.run(ctx, calls...)
}

// loadMembers reads every membership of the touched targets.
func (c *closure) loadMembers(ctx context.Context, touched []*node) error {
	if c.any {
		return nil
	}
	want := map[*tie]map[string][]*node{}
	keys := map[*tie][]key{}
	for _, n := range touched {
		if n.doomed {
			continue
		}
		for _, t := range n.e.members {
			k := n.at(t.parentPos)
			if !k.complete() {
				continue
			}
			id := refID(t.refs, k)
			if want[t] == nil {
				want[t] = map[string][]*node{}
			}
			if want[t][id] == nil {
				keys[t] = append(keys[t], k)
			}
			want[t][id] = append(want[t][id], n)
			if c.members[t] == nil {
				c.members[t] = map[nodeID][]*node{}
			}
			c.members[t][nodeID{n.world, id}] = nil
		}
	}
	var calls []*call
	for _, t := range c.m.ties {
		for chunk := range slices.Chunk(keys[t], c.m.d.dialect.keysPerStatement) {
			calls = append(calls, c.fetch(t.child, t.cols, chunk, t, func(values [][]byte) error {
				row := cells(values)
				k := make(key, len(t.childPos))
				for i, p := range t.childPos {
					k[i] = row[p]
				}
				id := refID(t.refs, k)
				for _, target := range want[t][id] {
					m, known := c.nodeIn(t.child, target, values)
					if !known {
						m.allowed = false // until an owner touches it
					}
					at := nodeID{target.world, id}
					if !slices.Contains(c.members[t][at], m) {
						c.members[t][at] = append(c.members[t][at], m)
					}
				}
				return nil
			}))
		}
	}
	return c.s.run(ctx, calls...)
}

// refreshMembers reads the memberships of targets again, of doomed ones, too.
func (c *closure) refreshMembers(ctx context.Context, nodes []*node) error {
	var doomed []*node
	for _, n := range nodes {
		if len(n.e.members) > 0 && n.doomed {
			doomed = append(doomed, n)
			n.doomed = false
		}
	}
	err := c.loadMembers(ctx, nodes)
	for _, n := range doomed {
		n.doomed = true
	}
	return err
}

// nodeIn returns a row's node in the world of another one.
func (c *closure) nodeIn(e *entity, of *node, values [][]byte) (*node, bool) {
	return c.node(e, of.credit, values)
}

// fetch reads rows of e by cols in key order.
func (c *closure) fetch(e *entity, cols []*column, keys []key, t *tie, row func(values [][]byte) error) *call {
	s := c.columns(c.m.d.dialect.statement("SELECT "), e).add(" FROM ", e.from, " WHERE ")
	if c.lock && !slices.Equal(cols, e.key) {
		s.each("", cols, keys)
	} else {
		s.in("", cols, keys)
	}
	if t != nil {
		t.whereTie(s, "")
	}
	e.whereTenant(s, "", c.tenant)
	s.add(" ORDER BY ").names("", e.key).add(c.m.d.dialect.forUpdate(c.lock))
	return s.call(row)
}

// follow reads the rows that newly doomed rows own.
func (c *closure) follow(ctx context.Context, fresh []*node) ([]*node, error) {
	var touched []*node
	seen := map[*node]bool{}
	touch := func(n *node, by *node, accessor bool) {
		if accessor && n.touched && !n.accessed || n == by {
			return
		}
		if !n.touched {
			n.credit = by.credit
		}
		n.accessed = accessor
		n.touched = true
		if accessor {
			return
		}
		if !seen[n] && !n.doomed {
			seen[n] = true
			touched = append(touched, n)
		}
	}
	byEntity := map[*entity][]*node{}
	for _, n := range fresh {
		byEntity[n.e] = append(byEntity[n.e], n)
	}
	var calls []*call
	for _, e := range c.m.entities {
		nodes := byEntity[e]
		if len(nodes) == 0 {
			continue
		}
		for _, t := range e.children {
			if !c.covers(t.child) {
				continue
			}
			if c.isLeaf(t.child) {
				calls = append(calls, c.countLeaf(t, nodes)...)
				continue
			}
			calls = append(calls, c.down(t, t.child, t.cols, t.parentPos, t.childPos, t, nodes, func(n, by *node) { touch(n, by, false) })...)
		}
		for _, t := range e.owns {
			if c.covers(t.parent) {
				calls = append(calls, c.down(t, t.parent, t.refs, t.childPos, t.parentPos, nil, nodes, func(n, by *node) { touch(n, by, false) })...)
			}
		}
		if c.any {
			for _, t := range e.accessed {
				calls = append(calls, c.down(t, t.child, t.cols, t.parentPos, t.childPos, t, nodes, func(n, by *node) { touch(n, by, true) })...)
			}
		}
	}
	return touched, c.s.run(ctx, calls...)
}

// down reads rows of e whose cols equal the nodes' cells at from; to is where the rows have them.
func (c *closure) down(t *tie, e *entity, cols []*column, from, to []int, where *tie, nodes []*node, touch func(n, by *node)) []*call {
	by := map[string][]*node{}
	var keys []key
	for _, n := range nodes {
		k := n.at(from)
		if where == nil { // a membership's own tie may be polymorphic
			var ok bool
			if k, ok = t.applies(n); !ok {
				continue
			}
		}
		if !k.complete() {
			continue
		}
		id := refID(t.refs, k)
		if by[id] == nil {
			keys = append(keys, k)
		}
		by[id] = append(by[id], n)
	}
	var calls []*call
	for chunk := range slices.Chunk(keys, c.m.d.dialect.keysPerStatement) {
		calls = append(calls, c.fetch(e, cols, chunk, where, func(values [][]byte) error {
			k := make(key, len(to))
			for i, p := range to {
				if values[p] != nil {
					k[i] = cell{string(values[p]), true}
				}
			}
			for _, owner := range by[refID(t.refs, k)] {
				n, _ := c.node(e, owner.credit, values)
				touch(n, owner)
			}
			return nil
		}))
	}
	return calls
}

// countLeaf counts rows that no one else owns and nothing depends on; they are never read.
func (c *closure) countLeaf(t *tie, nodes []*node) []*call {
	if c.counting == leavesIgnored {
		return nil
	}
	var keys []key
	seen := map[string]bool{}
	for _, n := range nodes {
		k := n.at(t.parentPos)
		if id := refID(t.refs, k); k.complete() && !seen[id] {
			seen[id] = true
			keys = append(keys, k)
		}
	}
	if c.leafRows[t] == nil {
		c.leafRows[t] = map[string]int64{}
	}
	e := t.child
	var calls []*call
	for chunk := range slices.Chunk(keys, c.m.d.dialect.keysPerStatement) {
		if c.counting == leavesTotal {
			s := c.m.d.dialect.statement("SELECT count(*) FROM (SELECT 1 FROM ", e.from, " WHERE ").in("", t.cols, chunk)
			e.whereTenant(t.whereTie(s, ""), "", c.tenant)
			s.add(" LIMIT ").arg(c.limit + 1).add(") AS t")
			calls = append(calls, s.call(func(values [][]byte) error {
				c.leafRows[t][""] += parseInt(values[0])
				return nil
			}))
			continue
		}
		s := c.m.d.dialect.statement("SELECT ").list("", t.cols).add(", count(*) FROM ", e.from, " WHERE ").in("", t.cols, chunk)
		e.whereTenant(t.whereTie(s, ""), "", c.tenant)
		s.add(" GROUP BY ").names("", t.cols)
		calls = append(calls, s.call(func(values [][]byte) error {
			c.leafRows[t][refID(t.refs, cells(values[:len(t.cols)]))] += parseInt(values[len(t.cols)])
			return nil
		}))
	}
	return calls
}

// withoutOthers leaves out rows to which only memberships led that are gone, and that have others: what those keep waits
// for their persons' sake.
func (c *closure) withoutOthers(ctx context.Context, nodes []*node) ([]*node, error) {
	if err := c.loadMembers(ctx, nodes); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(nodes, func(n *node) bool {
		others := slices.ContainsFunc(n.e.members, func(t *tie) bool {
			return len(c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}]) > 0
		})
		if others && !c.leaving(n) {
			n.touched = false
			return true
		}
		return false
	}), nil
}

func parseInt(b []byte) int64 {
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
