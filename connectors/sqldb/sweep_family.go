package sqldb

import (
	"context"
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// familyOf decides about due rows together with what they own, by the closure of ownership from them. A row goes with
// everything that it alone owns. It is blocked when something would be left that refers to it: a row that the map keeps,
// that a hold covers or whose statutory minimum has not ended, one that others own too and that cannot let go, or one
// that is only accessed and whose foreign key holds on.
type familyOf struct {
	u      *sweepRule
	s      session
	lock   bool
	held   map[*entity]map[string]bool
	tenant string

	c         *closure // of the rows that go, with the action of each
	stays     map[*entity]map[string]bool
	going     []sweptRow // rows of the chunk that go
	blocked   int64
	blockedBy map[string]bool // names of the entities
	alone     bool            // the family is too large: each of its due rows is decided on its own
}

// decide takes rows that are due and free. Several whose families are too large are refused with a familyTooLargeError.
func (f *familyOf) decide(ctx context.Context, rows []sweptRow) error {
	f.blockedBy, f.stays = map[string]bool{}, map[*entity]map[string]bool{}
	f.going = slices.Clone(rows)
	for len(f.going) > 0 { // fewer that go may leave a shared row with an owner, so that is decided again
		err := f.close(ctx)
		var large *familyTooLargeError
		switch {
		case errors.As(err, &large) && len(rows) == 1 && !f.alone:
			f.alone = true
			continue
		case err != nil:
			return err
		}
		gripped, err := f.gripped(ctx)
		if err != nil {
			return err
		}
		keep, more := f.act(gripped)
		if !more {
			return nil
		}
		f.drop(keep)
	}
	return nil
}

// drop takes blocked rows out, by the id of their key.
func (f *familyOf) drop(blocked map[string]bool) {
	before := len(f.going)
	f.going = slices.DeleteFunc(f.going, func(r sweptRow) bool { return blocked[key(r.cells[:len(f.u.e.key)]).id()] })
	f.blocked += int64(before - len(f.going))
	for id := range blocked {
		f.stay(f.u.e, id)
	}
}

func (f *familyOf) stay(e *entity, id string) {
	if f.stays[e] == nil {
		f.stays[e] = map[string]bool{}
	}
	f.stays[e][id] = true
}

// gripped finds the rows of the closure to which a foreign key holds on, of rows that do not belong to them and that no
// sweep of this rule takes: the entity of those by the row.
func (f *familyOf) gripped(ctx context.Context) (map[*node]string, error) {
	out := map[*node]string{}
	var calls []*call
	for _, e := range f.u.m.entities {
		for _, t := range e.blocking() {
			by := map[string]*node{}
			var parents []key
			for _, n := range f.c.nodes[e] {
				k := n.at(t.parentPos)
				if n.doomed && k.complete() && !f.c.above[t.child] {
					by[refID(t.refs, k)] = n
					parents = append(parents, k)
				}
			}
			for part := range slices.Chunk(parents, f.u.m.d.dialect.keysPerStatement) {
				q := f.u.m.d.dialect.statement("SELECT DISTINCT ").list("", t.cols).add(" FROM ", t.child.from, " WHERE ").in("", t.cols, part)
				calls = append(calls, q.call(func(values [][]byte) error {
					if n := by[refID(t.refs, cells(values))]; n != nil {
						out[n] = t.child.Name
					}
					return nil
				}))
			}
		}
	}
	return out, f.s.run(ctx, calls...)
}

// close computes the closure of the rows that go.
func (f *familyOf) close(ctx context.Context) error {
	c := &closure{
		m: f.u.m, s: f.s, lock: f.lock, merged: true, tenant: f.tenant, batch: connectors.Batch{{}},
		held: f.held, stays: f.stays, marks: f.u.marks, counting: leavesIgnored, seeds: f.u.e,
	}
	if !f.alone {
		c.above, c.plain = f.u.above, f.u.plain
	}
	c.reset()
	seeds := make([]*node, len(f.going))
	for i, r := range f.going {
		values := make([][]byte, len(r.cells))
		for j, v := range r.cells {
			if v.ok {
				values[j] = []byte(v.s)
			}
		}
		n, _ := c.node(f.u.e, 0, values)
		n.seed, n.touched, n.minimum = true, true, false
		seeds[i] = n
	}
	f.c = c
	return c.expand(ctx, seeds)
}

// act decides what happens to every row of the closure. It returns the due rows that are blocked, by the id of their key,
// and whether the decision must be taken again because some row turned out to stay.
func (f *familyOf) act(gripped map[*node]string) (blocked map[string]bool, again bool) {
	c := f.c
	type stay struct {
		n  *node
		by string // the entity that is to blame
	}
	var staying []stay
	_ = c.each(func(n *node) error {
		n.action, n.nulls = "", nil
		switch {
		case n.held || !n.touched:
		case n.doomed && (n.seed || n.due):
			n.action = dsr.Delete
		case n.doomed && (n.e.Keep != nil || n.minimum):
		case n.doomed:
			n.action = n.e.method()
		case c.leaving(n):
			n.action = dsr.Release
		}
		if n.action != dsr.Delete {
			staying = append(staying, stay{n, n.e.Name})
		}
		return nil
	})
	blocked = map[string]bool{}
	block := func(p *node, by string) {
		if p.action != dsr.Delete {
			return
		}
		p.action = ""
		if p.seed {
			blocked[p.key().id()], f.blockedBy[by] = true, true
		}
		staying = append(staying, stay{p, by})
	}
	_ = c.each(func(n *node) error {
		if by := gripped[n]; by != "" {
			block(n, by)
		}
		return nil
	})
	for len(staying) > 0 {
		at := staying[len(staying)-1]
		staying = staying[:len(staying)-1]
		n := at.n
		for i, ts := range [][]*tie{n.e.owners, n.e.owns, n.e.accessors} {
			for _, t := range ts {
				parent := c.deletedParent(n, t)
				switch {
				case parent == nil || i == 2 && !t.grips():
				case i < 2 && n.action == dsr.Release && emptied(n.e, t) != nil:
					n.nulls = append(n.nulls, emptied(n.e, t))
				default:
					block(parent, at.by)
				}
			}
		}
		if !n.doomed || n.action != "" {
			continue
		}
		for _, t := range n.e.members { // a row that stays must not lose the memberships that own it
			for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
				block(m, at.by)
			}
		}
	}
	_ = c.each(func(n *node) error {
		if n.doomed && n.action == "" { // what it owns stays with it
			again = true
			if !n.seed {
				f.stay(n.e, n.key().id())
			}
		}
		return nil
	})
	return blocked, again
}
