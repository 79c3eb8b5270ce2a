package memory

import (
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// held are the rows under a hold that one tenant's statements reach, by entity and key: they neither go nor change.
func (db *DB) held(h connectors.Holds, tenant string) (map[string]bool, error) {
	out := map[string]bool{}
	subjects := slices.DeleteFunc(slices.Clone(h.Subjects), func(s connectors.Subject) bool { return s.Tenant != tenant })
	if len(subjects) > 0 {
		c, err := db.close(subjects, nil, nil, true)
		if err != nil {
			return nil, err
		}
		for _, i := range c.items {
			if i.touched && !i.accessed {
				out[i.e.Name+string(i.key)] = true
			}
		}
	}
	for _, f := range h.Entities {
		e := db.sys.Entity(f.Entity)
		if e == nil {
			return nil, connectors.Permanent(dsr.CodeInvalid, "a hold is on an entity that the map does not have: "+f.Entity,
				"Lift the hold, or map the entity.", nil)
		}
		t, err := db.table(e)
		if err != nil {
			return nil, err
		}
		for _, r := range t.Rows {
			if meets(r, f.When) {
				out[e.Name+string(t.key(r))] = true
			}
		}
	}
	return out, nil
}

// heldByAll are the rows of every tenant in a job that neither go nor change: under a hold, or a statutory minimum.
func (db *DB) heldByAll(j connectors.Job) (map[string]bool, error) {
	out := map[string]bool{}
	for _, b := range byTenant(j.Batch) {
		held, err := db.held(j.Held, b[0].Tenant)
		if err != nil {
			return nil, err
		}
		young, err := db.underMinimum(b[0].Tenant)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, held)
		maps.Copy(out, young)
	}
	return out, nil
}

// meets reports whether a row fulfils every condition.
func meets(r Row, when []dsr.Condition) bool {
	return !slices.ContainsFunc(when, func(c dsr.Condition) bool {
		switch v := r[c.Field]; {
		case c.Null:
			return v != nil
		case c.NotNull:
			return v == nil
		default:
			return v == nil || !slices.Contains(c.Values, text(v))
		}
	})
}

// stays reports whether a task's row is held by now, or is one that would go and that a held row refers to. What else that
// means for other rows the next pass decides.
func (db *DB) stays(todo task, held map[string]bool) bool {
	if held[todo.Entity+string(todo.Key)] {
		return true
	}
	if todo.Method != dsr.Delete {
		return false
	}
	target := db.store.tables[db.sys.Entity(todo.Entity).From()]
	at := slices.IndexFunc(target.Rows, func(r Row) bool { return target.key(r) == todo.Key })
	for i := range db.sys.Entities {
		e := &db.sys.Entities[i]
		t := db.store.tables[e.From()]
		for _, tie := range slices.Concat(e.OwnedBy, e.Owns) {
			if tie.Entity != todo.Entity || at < 0 {
				continue
			}
			references := tie.References
			if len(references) == 0 {
				references = target.PrimaryKey
			}
			want, ok := values(target.Rows[at], references)
			if ok && slices.ContainsFunc(t.Rows, func(r Row) bool {
				have, ok := values(r, tie.Columns)
				return ok && have == want && !apart(e, r, db.sys.Entity(todo.Entity), target.Rows[at]) && held[e.Name+string(t.key(r))] && (tie.When == nil || text(r[tie.When.Column]) == tie.When.Value)
			}) {
				return true
			}
		}
	}
	return false
}
