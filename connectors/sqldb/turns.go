package sqldb

import "math"

// noRoot is the root of a row that holds no identifier.
const noRoot = math.MaxInt

// turns tells, for every row that goes, the index of the subject with whom it goes when each is worked in a
// transaction of its own, in order: the first one who reaches the row when nothing keeps it any more. Owners that go in
// any transaction of the Run keep nothing (see [closure.isGone]). A membership that stands on its own keeps its target
// until it goes itself, so that the target is reached again with the last of them. A row that is merely read, such as
// the membership of a target that stays, is not reached.
func (c *closure) turns() map[*node]int {
	type row struct {
		n     *node
		by    []*node // any of them leads to the row
		waits []*node // all of them keep it
	}
	rows := make([]row, 0, len(c.dooms))
	turn := make(map[*node]int, len(c.dooms))
	for _, n := range c.dooms {
		r := row{n: n}
		turn[n] = n.root
		lead := func(t *tie) {
			if k, ok := t.applies(n); ok {
				if p := c.byDoom[t.refset()][nodeID{n.world, refID(t.refs, k)}]; p != nil && p != n {
					r.by = append(r.by, p)
				}
			}
		}
		for _, t := range n.e.owners {
			lead(t)
		}
		if !n.e.stands() {
			for _, t := range n.e.owns {
				lead(t)
			}
		}
		for _, t := range n.e.members {
			for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
				if m == n || !m.doomed {
					continue
				}
				r.by = append(r.by, m)
				if m.e.stands() && !n.seed {
					r.waits = append(r.waits, m)
				}
			}
		}
		rows = append(rows, r)
	}
	// Turns only fall, to the least that every row's own rule allows. In the order of doom most are right at once.
	for again := true; again; {
		again = false
		for _, r := range rows {
			at := r.n.root
			for _, n := range r.by {
				at = min(at, turn[n])
			}
			for _, n := range r.waits {
				at = max(at, turn[n])
			}
			if at < turn[r.n] {
				turn[r.n], again = at, true
			}
		}
	}
	for n, at := range turn {
		if at == noRoot {
			turn[n] = n.credit
		}
	}
	return turn
}
