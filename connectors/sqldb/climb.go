package sqldb

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/dsr"
)

// A sweep decides in chunks, and what it decides must not depend on them: a row that several due rows own goes if they all
// do, whichever of them is read first. So from a row that stays for now the closure climbs to its other owners, and to
// theirs, and those of them that are due go into the same transaction, with all that they own.

// familyRows bounds the rows that are decided together. Of a larger family each due row is decided on its own, as if the
// others stayed: what is shared then lets go of one owner after the other, and what cannot do so blocks them.
const familyRows = 20_000

// familyTooLargeError says that the families of a chunk's rows do not fit into one transaction.
type familyTooLargeError struct{}

func (*familyTooLargeError) Error() string { return "too many rows are owned together" }

// above are the entities of a family whose rows may be owned, through whatever rows, by rows of e.
func above(e *entity, family []*entity) map[*entity]bool {
	out := map[*entity]bool{e: true}
	for again := true; again; {
		again = false
		for _, x := range family {
			owned := slices.ContainsFunc(x.owners, func(t *tie) bool { return out[t.parent] }) ||
				slices.ContainsFunc(x.members, func(t *tie) bool { return out[t.child] })
			if owned && !out[x] {
				out[x], again = true, true
			}
		}
	}
	return out
}

// shares reports whether a row of some entity may have several owners that one rule makes due, or one that holds on to
// another of them.
func shares(above map[*entity]bool) bool {
	for x := range above {
		ways := len(x.members)
		for _, t := range x.owners {
			if above[t.parent] {
				ways++
			}
		}
		if ways > 1 || len(x.members) > 0 || slices.ContainsFunc(x.blocking(), func(t *tie) bool { return above[t.child] }) {
			return true
		}
	}
	return false
}

// plainly reports whether a target's rows go with their last membership whatever happens: then which one is the last does
// not matter, and nothing must be known of the others.
func (u *sweepRule) plainly(target *entity) bool {
	return !slices.ContainsFunc(u.m.family(target), func(x *entity) bool {
		k := u.marks[x]
		return x.method() != dsr.Delete || k != nil && len(k.frozen)+len(k.minimum) > 0 || len(x.blocking()) > 0 ||
			x != target && len(x.owners)+len(x.members) > 1
	})
}

// grip reads the rows that a foreign key ties to a doomed row which they do not belong to, where they may go as well.
func (c *closure) grip(ctx context.Context) error {
	fresh := c.dooms[c.gripped:]
	c.gripped = len(c.dooms)
	byTie := map[*tie][]key{}
	for _, n := range fresh {
		for _, t := range n.e.blocking() {
			if k := n.at(t.parentPos); c.above[t.child] && k.complete() {
				byTie[t] = append(byTie[t], k)
			}
		}
	}
	defer c.locking(false)()
	var calls []*call
	for _, t := range c.m.ties {
		for part := range slices.Chunk(byTie[t], c.m.d.dialect.keysPerStatement) {
			calls = append(calls, c.fetch(t.child, t.cols, part, t, func(values [][]byte) error {
				n, _ := c.node(t.child, 0, values)
				n.grips = true
				return nil
			}))
		}
	}
	return c.s.run(ctx, calls...)
}

// locking sets whether rows are locked as they are read, and returns what sets it back.
func (c *closure) locking(lock bool) func() {
	was := c.lock
	c.lock = lock
	return func() { c.lock = was }
}

// climb touches the due rows that own, through whatever rows, a row which stays for now. Owners are looked at without a
// lock, for most are other people's; those that are due are read again under it.
func (c *closure) climb(ctx context.Context) ([]*node, error) {
	var open []*node
	_ = c.each(func(n *node) error {
		if (n.touched || n.grips) && !n.doomed && !n.held && !c.climbed[n] {
			open = append(open, n)
		}
		return nil
	})
	due := map[string]key{}
	for len(open) > 0 {
		var err error
		if open, err = c.owners(ctx, open, due); err != nil {
			return nil, err
		}
	}
	keys := make([]key, 0, len(due))
	for _, k := range due {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return compareKeys(&node{e: c.seeds, cells: a}, &node{e: c.seeds, cells: b}) })
	var touched []*node
	var calls []*call
	for part := range slices.Chunk(keys, c.m.d.dialect.keysPerStatement) {
		calls = append(calls, c.fetch(c.seeds, c.seeds.key, part, nil, func(values [][]byte) error {
			if n, _ := c.node(c.seeds, 0, values); n.due && !n.held && !n.touched {
				n.touched = true
				touched = append(touched, n)
			}
			return nil
		}))
	}
	if err := c.s.run(ctx, calls...); err != nil {
		return nil, err
	}
	return touched, c.fits()
}

// fits refuses to go on where more rows were read than one transaction takes.
func (c *closure) fits() error {
	rows := 0
	for _, nodes := range c.nodes {
		rows += len(nodes)
	}
	if rows > c.m.d.familyRows {
		return &familyTooLargeError{}
	}
	return nil
}

// owners reads what owns the open rows. It collects those that are due, and returns those whose own owners come next.
func (c *closure) owners(ctx context.Context, open []*node, due map[string]key) ([]*node, error) {
	defer c.locking(false)()
	var next, unread []*node
	reach := func(p *node) {
		switch {
		case p.doomed || p.held || c.climbed[p]:
		case p.e == c.seeds && p.due:
			due[p.key().id()] = p.key()
		default:
			c.climbed[p] = true
			next = append(next, p)
		}
	}
	parents := map[*tie]map[string]bool{}
	keys := map[*tie][]key{}
	for _, n := range open {
		c.climbed[n] = true
		if !n.touched {
			unread = append(unread, n)
		}
		for _, t := range n.e.owners {
			k, ok := t.applies(n)
			id := refID(t.refs, k)
			if !ok || !c.above[t.parent] || parents[t][id] {
				continue
			}
			if parents[t] == nil {
				parents[t] = map[string]bool{}
			}
			parents[t][id] = true
			keys[t] = append(keys[t], k)
		}
	}
	if err := c.loadMembers(ctx, unread); err != nil {
		return nil, err
	}
	for _, n := range open {
		if c.plain[n.e] {
			continue
		}
		for _, t := range n.e.members {
			for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
				reach(m)
			}
		}
	}
	var calls []*call
	for _, t := range c.m.ties {
		for part := range slices.Chunk(keys[t], c.m.d.dialect.keysPerStatement) {
			calls = append(calls, c.fetch(t.parent, t.refs, part, nil, func(values [][]byte) error {
				p, _ := c.node(t.parent, 0, values)
				reach(p)
				return nil
			}))
		}
	}
	if err := c.s.run(ctx, calls...); err != nil {
		return nil, err
	}
	return next, c.fits()
}
