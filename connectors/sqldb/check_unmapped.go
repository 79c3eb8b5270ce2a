package sqldb

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/retention"
)

// checkUnmapped reports tables that the map leaves out though they belong to a person's data: they refer to an entity,
// directly or through each other, or their columns look personal.
func (k *checker) checkUnmapped() {
	via := make(map[string]string) // unmapped table -> why it is reachable
	for changed := true; changed; {
		changed = false
		for i := range k.c.schema.Entities {
			t := &k.c.schema.Entities[i]
			if k.covered(t) || via[t.Name] != "" || t.View {
				continue
			}
			for _, r := range t.References {
				if to := k.byTable[r.Entity]; to != nil {
					via[t.Name] = fmt.Sprintf("%s refers to %s", strings.Join(r.Columns, ", "), to.Name)
				} else if via[r.Entity] != "" && r.Entity != t.Name {
					via[t.Name] = fmt.Sprintf("%s refers to %s, which is not mapped either", strings.Join(r.Columns, ", "), r.Entity)
				}
			}
			changed = changed || via[t.Name] != ""
		}
	}
	for i := range k.c.schema.Entities {
		t := &k.c.schema.Entities[i]
		facts := k.c.facts[t.Name]
		if facts.stored && !k.covered(t) {
			k.fail(FindMaterializedView, t.Name, "", "a materialized view keeps a copy of rows until it is refreshed",
				"Refresh it after each erasure, and list it under ignore with that reason.")
		}
		if t.View {
			continue
		}
		if k.covered(t) {
			continue
		}
		if t.Partition && k.c.entity(facts.parent) != nil {
			continue // its parent is reported
		}
		reasons := k.personalColumns(t)
		if via[t.Name] != "" {
			reasons = append([]string{via[t.Name]}, reasons...)
		}
		if len(reasons) > 0 {
			k.fail(connectors.FindUnmappedTable, t.Name, "", "the map leaves out this table: "+strings.Join(reasons, "; "),
				fmt.Sprintf("Add it to entities, or under ignore with a reason: ignore: {%s: \"...\"}.", t.Name))
		}
	}
}

// personalColumns explains which columns make an unmapped table look personal.
func (k *checker) personalColumns(t *connectors.EntitySchema) []string {
	var strong, weak []string
	var reference string
	for _, c := range t.Columns {
		g, ok := connectors.GuessPersonal(c)
		switch {
		case ok && !g.Weak && g.Category != "user.unique_id":
			strong = append(strong, c.Name)
		case k.namesEntity(c.Name):
			reference = c.Name
		case ok && !g.Weak:
			strong = append(strong, c.Name)
		case ok && (g.Category == "user.name" || strings.HasPrefix(g.Category, "user.contact")) && g.Word != "title":
			weak = append(weak, c.Name)
		}
	}
	var out []string
	if columns := slices.Concat(strong, weak); len(columns) > 0 {
		out = append(out, list(columns)+" look personal")
	}
	if reference != "" {
		out = append(out, reference+" looks like a reference to a person")
	}
	return out
}

// namesEntity reports whether a column is called like an identifier of the map or like a key of a subject entity.
func (k *checker) namesEntity(column string) bool {
	name := strings.Join(connectors.Words(column), "")
	for id := range k.d.System.Identifiers {
		if name == strings.Join(connectors.Words(id), "") {
			return true
		}
	}
	for _, e := range k.entities {
		if !e.Subject {
			continue
		}
		entity := strings.Join(connectors.Words(e.Name), "")
		for _, singular := range []string{entity, strings.TrimSuffix(entity, "s")} {
			if name == singular+"id" {
				return true
			}
		}
	}
	return false
}

// covered reports whether the map has the table, or ignores it, or a table that it is a partition of.
func (k *checker) covered(t *connectors.EntitySchema) bool {
	for name := t.Name; name != ""; name = k.c.facts[name].parent {
		if k.byTable[name] != nil {
			return true
		}
		if _, ok := k.d.System.Ignored[name]; ok {
			return true
		}
		f := k.c.facts[name]
		if _, ok := k.d.System.Ignored[f.schema+"."+f.table]; ok {
			return true
		}
		if f.parent == name || k.c.facts[f.parent] == nil {
			break
		}
	}
	return false
}

// checkIgnored reports foreign keys of ignored tables that stand in the way of a deletion, that delete or change rows
// without anybody counting them, or that no index serves.
func (k *checker) checkIgnored() {
	asked := make(map[*connectors.EntitySchema]bool)
	for _, e := range k.entities {
		if e.table != nil && k.deletes(e) {
			asked[e.table] = true
		}
	}
	k.followIgnored(slices.Collect(maps.Keys(asked)))
	k.eachRule(func(e *checked, r *connectors.Rule, _ []*connectors.Rule) {
		if r.Action == retention.Delete && !asked[e.table] {
			k.followIgnored([]*connectors.EntitySchema{e.table})
		}
	})
}

// followIgnored looks at what refers to tables whose rows are deleted, and to what goes with those.
func (k *checker) followIgnored(gone []*connectors.EntitySchema) {
	for i := 0; i < len(gone); i++ {
		for j := range k.c.schema.Entities {
			t := &k.c.schema.Entities[j]
			if t.View || t.Partition || k.byTable[t.Name] != nil || !k.covered(t) {
				continue
			}
			for _, r := range t.References {
				if r.Entity == gone[i].Name && k.checkIgnoredReference(t, &r) && !slices.Contains(gone, t) {
					gone = append(gone, t)
				}
			}
		}
	}
}

// checkIgnoredReference reports one foreign key to rows that are deleted, and says whether it deletes its own with them.
func (k *checker) checkIgnoredReference(t *connectors.EntitySchema, r *connectors.Reference) (cascades bool) {
	field, to := strings.Join(r.Columns, ", "), r.Entity
	if e := k.byTable[to]; e != nil {
		to = e.Name
	}
	switch r.OnDelete {
	case "cascade":
		k.warn(FindUndeclaredReference, t.Name, field,
			fmt.Sprintf("the map ignores this table, and the database deletes its rows with those of %s without counting them", to),
			"Map the table if its rows should be counted.")
	case "set null", "set default":
	default:
		k.fail(FindUndeclaredReference, t.Name, field,
			fmt.Sprintf("the map ignores this table, and its foreign key keeps rows of %s from being deleted", to),
			"Map the table, or let the foreign key set NULL on deletion.")
		return false
	}
	if !k.indexed(t, r.Columns) {
		k.add(FindUnindexedReference, k.costly(t), t.Name, field,
			fmt.Sprintf("no index serves this foreign key: the database reads the whole table for every row of %s that is deleted", to),
			k.createIndexOn(t, r.Columns))
	}
	return r.OnDelete == "cascade"
}
