package sqldb

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// actions decides what happens to every row of the closure: a row has exactly one action, or none.
//
//   - a doomed row is deleted, masked or kept, as its entity says;
//   - a touched row with a living owner is released: only what on_owner_erased declares changes;
//   - a row of other people that holds an identifier of the subject loses it: redact;
//   - a row to which a row that stays still refers is anchored instead of deleted; once is enough;
//   - a row without an anchor to which a row under a hold refers waits for the hold's end, as it is, and so does a
//     membership that owns one: nothing else may lead to it by then;
//   - a row whose statutory minimum has not ended is as if it were held, but for a person's: what they own goes.
func (c *closure) actions() error {
	var staying []*node
	_ = c.each(func(n *node) error {
		n.action, n.nulls, n.waits = "", nil, false
		switch {
		case !n.allowed || n.held || !n.touched || c.remains(n):
		case n.doomed:
			n.action = n.e.method()
		case c.leaving(n):
			n.action = dsr.Release
		case len(n.matched) > 0:
			n.action = dsr.Redact
		}
		if n.action != dsr.Delete && n.action != "" && c.handled(n) {
			n.action = ""
		}
		if n.action == dsr.Release {
			c.emptyGone(n)
		}
		if n.action != dsr.Delete {
			staying = append(staying, n)
		}
		return nil
	})
	for _, n := range staying { // others' rows let go of what goes, though it may have to wait for something else
		for _, t := range n.e.owners {
			if p := c.deletedParent(n, t); p != nil && n.action == dsr.Release && len(p.e.Anchor) == 0 && emptied(n.e, t) != nil {
				n.nulls = append(n.nulls, emptied(n.e, t))
			}
		}
	}
	for len(staying) > 0 {
		n := staying[len(staying)-1]
		staying = staying[:len(staying)-1]
		waits := n.held || n.waits || c.remains(n)
		if waits {
			for _, t := range n.e.members {
				for _, m := range c.members[t][nodeID{n.world, refID(t.refs, n.at(t.parentPos))}] {
					if m.action == dsr.Delete {
						m.action, m.waits = "", true
						staying = append(staying, m)
					}
				}
			}
		}
		for _, ts := range [][]*tie{n.e.owners, n.e.owns} {
			for _, t := range ts {
				parent := c.deletedParent(n, t)
				if parent == nil {
					continue
				}
				switch {
				case len(parent.e.Anchor) > 0:
					parent.action = dsr.Anchor
					if parent.anchored() {
						parent.action = ""
					}
					staying = append(staying, parent)
				case waits:
					parent.action, parent.waits = "", true
					staying = append(staying, parent)
				case n.action == dsr.Release && emptied(n.e, t) != nil: // what it owns, as a membership
					n.nulls = append(n.nulls, emptied(n.e, t))
				default:
					return &connectors.SubjectError{Subject: c.batch[n.credit].Ref, Entity: n.e.Name, Err: dangling(n, parent)}
				}
			}
		}
	}
	return nil
}

func dangling(n, parent *node) error {
	hint := fmt.Sprintf("Give %s an anchor, or let %s mask the reference.", parent.e.Name, n.e.Name)
	if n.action == dsr.Release {
		hint = fmt.Sprintf("Declare on_owner_erased for %s, or give %s an anchor.", n.e.Name, parent.e.Name)
	}
	return connectors.Permanent(CodeConstraint,
		fmt.Sprintf("a row that stays would refer to a row of %s that goes", parent.e.Name), hint, nil)
}

// deletedParent returns the row that goes and to which n will still refer through t; nil when there is none.
func (c *closure) deletedParent(n *node, t *tie) *node {
	k, ok := t.applies(n)
	if !ok {
		return nil
	}
	p := c.byDoom[t.refset()][nodeID{n.world, refID(t.refs, k)}]
	if p == nil || p == n || p.action != dsr.Delete {
		return nil
	}
	for _, masks := range c.masksOf(n) {
		for _, col := range t.cols {
			if _, changed := masks[col.Name]; changed {
				return nil
			}
		}
	}
	for _, col := range n.nulls {
		for _, tc := range t.cols {
			if col == tc {
				return nil
			}
		}
	}
	return p
}

// emptied is the column of a tie that can be set to NULL so that the row refers to nothing.
func emptied(e *entity, t *tie) *column {
	for _, col := range t.cols {
		if col.Nullable && !col.Generated && !e.isKey(col) {
			return col
		}
	}
	return nil
}

func (e *entity) isKey(c *column) bool {
	for _, k := range e.key {
		if k.Name == c.Name {
			return true
		}
	}
	return false
}

// masksOf are the masks that a row's action applies.
func (c *closure) masksOf(n *node) []map[string]mask.Spec {
	switch n.action {
	case dsr.Mask, dsr.Keep:
		if len(n.keyed) == 0 {
			return []map[string]mask.Spec{n.e.Masks}
		}
		masks := maps.Clone(n.e.Masks) // a pseudonym of a pseudonym would not be found again
		for _, col := range n.keyed {
			delete(masks, col.Name)
		}
		return []map[string]mask.Spec{masks}
	case dsr.Anchor:
		return []map[string]mask.Spec{n.e.Anchor}
	case dsr.Release, dsr.Redact:
		var out []map[string]mask.Spec
		for _, t := range n.e.owners {
			if t.release != nil && n.action == dsr.Release && c.leaves(n, t) {
				out = append(out, t.release)
			}
		}
		removals := map[string]mask.Spec{}
		for _, col := range n.matched {
			removals[col.Name] = n.e.removal(col)
		}
		return append(out, removals)
	}
	return nil
}

// leaves reports whether the row's owner by t goes.
func (c *closure) leaves(n *node, t *tie) bool {
	k, ok := t.applies(n)
	if !ok {
		return false
	}
	id := refID(t.refs, k)
	return c.byDoom[t.refset()][nodeID{n.world, id}] != nil || c.isGone(t, id)
}

// emptyGone empties references to owners that go in other transactions of the Run, where nothing else changes them.
func (c *closure) emptyGone(n *node) {
	masks := c.masksOf(n)
	for _, t := range n.e.owners {
		k, ok := t.applies(n)
		if !ok || !c.isGone(t, refID(t.refs, k)) || len(t.parent.Anchor) > 0 {
			continue
		}
		changed := slices.ContainsFunc(t.cols, func(col *column) bool {
			return slices.ContainsFunc(masks, func(m map[string]mask.Spec) bool { _, ok := m[col.Name]; return ok })
		})
		if col := emptied(n.e, t); !changed && col != nil && !slices.Contains(n.nulls, col) {
			n.nulls = append(n.nulls, col)
		}
	}
}

// leaving reports whether any owner of the row goes.
func (c *closure) leaving(n *node) bool {
	return slices.ContainsFunc(n.e.owners, func(t *tie) bool { return c.leaves(n, t) })
}

// removal is the mask that takes an identifier out of a field of a row that belongs to others.
func (e *entity) removal(col *column) mask.Spec {
	switch {
	case col.class == connectors.ClassJSON:
		return mask.Spec{Kind: mask.Redact}
	case col.Nullable:
		return mask.Spec{Kind: mask.Null}
	}
	return mask.Spec{Kind: mask.Random}
}

// target describes a column to the mask package.
func (e *entity) target(c *column) mask.Target {
	t := mask.Target{
		Class: mask.Class(c.class), MaxLen: c.MaxLen, Nullable: c.Nullable, Generated: c.Generated, Enum: c.Enum,
		Unique: e.unique(c.Name),
	}
	for _, id := range e.ids {
		if id.col != c {
			continue
		}
		switch id.kind {
		case dsr.KindEmail:
			t.Format = mask.Email
		case dsr.KindPhone:
			t.Format = mask.Phone
		}
	}
	switch c.cast {
	case "smallint":
		t.Bits = 16
	case "integer":
		t.Bits = 32
	default:
		t.Bits = integerBits(c.Type)
	}
	return t
}

func (e *entity) unique(name string) bool {
	for _, u := range append([][]string{e.table.PrimaryKey}, e.table.Unique...) {
		if len(u) == 1 && u[0] == name {
			return true
		}
	}
	return false
}
