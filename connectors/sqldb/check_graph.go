package sqldb

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// personal reports whether the map says that rows of the entity hold personal data.
func personal(e *connectors.Entity) bool {
	return len(e.Mentions) > 0 || slices.ContainsFunc(e.Fields, func(f connectors.Field) bool {
		return f.Category != "" || f.Identifier != ""
	})
}

// rooted reports whether rows are found by an identifier of their own.
func rooted(e *connectors.Entity) bool {
	return e.Subject || slices.ContainsFunc(e.Fields, func(f connectors.Field) bool { return f.Identifier != "" })
}

// reach returns the entities from which an owner's path leads to a subject; usable says which references count.
func (k *checker) reach(usable func(e *checked, o connectors.Owner) bool) map[*checked]bool {
	reached := make(map[*checked]bool)
	for _, e := range k.entities {
		reached[e] = rooted(e.Entity)
	}
	for changed := true; changed; {
		changed = false
		mark := func(e *checked) {
			if e != nil && !reached[e] {
				reached[e], changed = true, true
			}
		}
		for _, e := range k.entities {
			for _, o := range e.OwnedBy {
				if to := k.byName[o.Entity]; to != nil && reached[to] && usable(e, o) {
					mark(e)
				}
			}
			if reached[e] {
				for _, o := range e.Owns {
					mark(k.byName[o.Entity])
				}
			}
		}
	}
	return reached
}

// checkOwnership reports personal entities that no path connects with a subject, or only paths that may be NULL.
func (k *checker) checkOwnership() {
	reached := k.owned
	solid := k.reach(func(e *checked, o connectors.Owner) bool { return e.table == nil || !k.mayBeNull(e, o) })
	for _, e := range k.entities {
		if e.table == nil {
			continue
		}
		switch {
		case !reached[e] && personal(e.Entity):
			k.fail(FindNoOwner, e.Name, "", "the entity has personal fields and no owner leads from it to a subject",
				"Declare owned_by, or an identifier among its fields.")
		case reached[e] && !solid[e] && !exactlyOne(e) && k.allMayBeNull(e):
			var columns []string
			for _, o := range e.OwnedBy {
				columns = append(columns, o.Columns...)
			}
			k.fail(FindNullableOnlyPath, e.Name, strings.Join(columns, ", "),
				"every path to a subject may be NULL: rows without it are never found",
				"Make a reference NOT NULL, add a CHECK that one of them is set, or declare an identifier among the fields.")
		}
	}
}

// allMayBeNull reports whether the entity's own references are at fault, rather than those of the entities they lead to.
func (k *checker) allMayBeNull(e *checked) bool {
	return len(e.OwnedBy) > 0 && !slices.ContainsFunc(e.OwnedBy, func(o connectors.Owner) bool {
		to := k.byName[o.Entity]
		return to != nil && k.owned[to] && !k.mayBeNull(e, o)
	})
}

// mayBeNull reports whether a reference can be missing. A column that is NULL only because Lethe released it for an
// owner who left, while another owner remains, is not lost.
func (k *checker) mayBeNull(e *checked, o connectors.Owner) bool {
	for _, name := range o.Columns {
		c := columnOf(e.table, name)
		if c == nil || !c.Nullable || slices.Contains(e.table.PrimaryKey, name) {
			continue
		}
		if spec, ok := e.OnOwnerErased[name][name]; ok && spec.Kind == mask.Null && len(e.OwnedBy) > 1 {
			continue
		}
		return true
	}
	return false
}

// exactlyOne reports whether a CHECK constraint watches over all owning columns, as in "one of them is not null".
func exactlyOne(e *checked) bool {
	return slices.ContainsFunc(e.facts.checks, func(check string) bool {
		words := identifiersIn(check)
		for _, o := range e.OwnedBy {
			for _, c := range o.Columns {
				if !slices.Contains(words, c) {
					return false
				}
			}
		}
		lower := strings.ToLower(check)
		return strings.Contains(lower, "not null") || strings.Contains(lower, "is null") ||
			strings.Contains(lower, "num_nonnulls") || strings.Contains(lower, "coalesce")
	})
}

// checkKept reports rows that stay and would refer to a row that is deleted: kept and masked rows, rows that another
// owner keeps, and rows whose foreign key only gives access.
func (k *checker) checkKept() {
	for _, e := range k.entities {
		if e.table == nil {
			continue
		}
		for _, o := range slices.Concat(e.OwnedBy, e.Owns) {
			to := k.byName[o.Entity]
			if to == nil || to == e || !k.deletes(to) || len(to.Anchor) > 0 {
				continue
			}
			field := strings.Join(o.Columns, ", ")
			switch {
			case !deleted(e.Entity) && !nulled(e, o):
				k.fail(FindKeptWithoutAnchor, e.Name, field,
					fmt.Sprintf("the row is kept and refers to %s, whose row is deleted", to.Name),
					fmt.Sprintf("Give %s an anchor, keep it too, or mask the reference with null.", to.Name))
			case deleted(e.Entity) && len(e.ownersApart()) > 1 && !e.lets(o):
				k.warn(FindKeptWithoutAnchor, e.Name, field,
					fmt.Sprintf("while another owner keeps the row, it refers to %s, whose row is deleted", to.Name),
					fmt.Sprintf("Give %s an anchor, or declare on_owner_erased for the reference.", to.Name))
			}
		}
		for _, o := range e.AccessedBy {
			to := k.byName[o.Entity]
			if to == nil || to.table == nil || !k.deletes(to) || e.declaresOwner(to.Name, o.Columns) {
				continue
			}
			for _, r := range e.table.References {
				if r.Entity != to.table.Name || !sameSet(r.Columns, o.Columns) || r.OnDelete == "set null" || r.OnDelete == "set default" {
					continue
				}
				does := "keeps rows of %s from being deleted, and accessed_by leaves it as it is"
				if r.OnDelete == "cascade" {
					does = "deletes the row with that of %s, and accessed_by says that it stays"
				}
				k.fail(FindBlockedDeletion, e.Name, strings.Join(o.Columns, ", "), "the foreign key "+fmt.Sprintf(does, to.Name),
					fmt.Sprintf("Let the foreign key set NULL on deletion, mask %s instead of deleting it, or declare the reference under owned_by.",
						to.Name))
			}
		}
	}
}

// ownersApart returns the owning references that are not alternatives of one polymorphic reference.
func (e *checked) ownersApart() []connectors.Owner {
	var out []connectors.Owner
	for _, o := range e.OwnedBy {
		if !slices.ContainsFunc(out, func(p connectors.Owner) bool { return o.When != nil && slices.Equal(o.Columns, p.Columns) }) {
			out = append(out, o)
		}
	}
	return out
}

// lets reports whether a row can let go of an owner: the reference may be NULL, or the map says what it becomes.
func (e *checked) lets(o connectors.Owner) bool {
	return slices.ContainsFunc(o.Columns, func(name string) bool {
		c := columnOf(e.table, name)
		_, declared := e.OnOwnerErased[name][name]
		return declared || c != nil && c.Nullable && !c.Generated && !slices.Contains(e.table.PrimaryKey, name)
	})
}

// declaresOwner reports whether the map has an owning reference of these columns too.
func (e *checked) declaresOwner(entity string, columns []string) bool {
	return slices.ContainsFunc(e.OwnedBy, func(o connectors.Owner) bool { return o.Entity == entity && sameSet(o.Columns, columns) })
}

// nulled reports whether the entity's masks remove the reference.
func nulled(e *checked, o connectors.Owner) bool {
	return slices.ContainsFunc(o.Columns, func(name string) bool {
		spec, ok := e.Masks[name]
		return ok && spec.Kind == mask.Null
	})
}

// checkCycles reports circles of foreign keys between deleted entities in which no reference is nullable and none is
// deferrable.
func (k *checker) checkCycles() {
	// hard are the references that must hold at the end of every statement.
	hard := make(map[*checked][]*checked)
	for _, e := range k.entities {
		if e.table == nil || !deleted(e.Entity) {
			continue
		}
		for _, r := range e.table.References {
			to := k.byTable[r.Entity]
			if to == nil || !deleted(to.Entity) || r.Deferrable || r.OnDelete == "cascade" || r.OnDelete == "set null" {
				continue
			}
			breakable := slices.ContainsFunc(r.Columns, func(name string) bool {
				c := columnOf(e.table, name)
				return c != nil && c.Nullable && !c.Generated && !slices.Contains(e.table.PrimaryKey, name)
			})
			if !breakable {
				hard[e] = append(hard[e], to)
			}
		}
	}
	var path []*checked
	state := make(map[*checked]int) // 1 on the path, 2 done
	var visit func(e *checked)
	visit = func(e *checked) {
		state[e] = 1
		path = append(path, e)
		for _, to := range hard[e] {
			switch state[to] {
			case 0:
				visit(to)
			case 1:
				var circle []string
				for _, member := range path[slices.Index(path, to):] {
					circle = append(circle, member.Name)
				}
				k.fail(FindCycle, to.Name, "", fmt.Sprintf("%s refer to each other in a circle that nothing can open", list(circle)),
					"Make one of the foreign keys nullable or DEFERRABLE.")
			}
		}
		path = path[:len(path)-1]
		state[e] = 2
	}
	for _, e := range k.entities {
		if state[e] == 0 {
			visit(e)
		}
	}
}

// stays reports whether rows of the entity may remain after an erasure with masks only, and under which masks.
func stays(e *connectors.Entity) (masks map[string]mask.Spec, where string, ok bool) {
	switch {
	case e.Keep != nil:
		return nil, "", false // an exception covers what it keeps
	case e.Erase == dsr.Mask:
		return e.Masks, "mask", true
	case len(e.Anchor) > 0:
		return e.Anchor, "anchor", true
	}
	return nil, "", false
}
