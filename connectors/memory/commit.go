package memory

import (
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// commit carries out the checkpoint's intent in one transaction. Who owns a row is looked at again, because another
// erasure or the system's own users may have changed it since it was decided.
func (db *DB) commit(j connectors.Job, cp *checkpoint) ([]connectors.Tally, error) {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	todo := cp.Todo[cp.Next : cp.Next+cp.Size]
	values := make([]map[string]any, len(todo))
	for n, todo := range todo { // nothing is changed before every mask is known to hold
		t, at, err := db.row(todo)
		if err != nil {
			return nil, err
		}
		if at >= 0 && todo.Method != dsr.Delete {
			if values[n], err = db.change(db.sys.Entity(todo.Entity), t, t.Rows[at], todo, j.Batch); err != nil {
				return nil, err
			}
		}
	}
	held, err := db.heldByAll(j)
	if err != nil {
		return nil, err
	}
	tallies := []connectors.Tally{}
	for n, todo := range todo {
		if db.stays(todo, held) {
			continue
		}
		t, at, err := db.row(todo)
		if err != nil {
			return nil, err
		}
		if at < 0 {
			continue // somebody else deleted it
		}
		e := db.sys.Entity(todo.Entity)
		for name, v := range values[n] {
			t.Rows[at][name] = v
		}
		owned := db.owned(e, t, t.Rows[at], cp.Doomed) || db.member(e, t, t.Rows[at], cp.Doomed, held)
		switch {
		case todo.Method == dsr.Delete && owned && !todo.Seed:
			continue // given to somebody who lives; the next pass releases it
		case todo.Method == dsr.Release && !owned:
			todo.Method = dsr.Delete // its other owners went meanwhile
		}
		if todo.Method == dsr.Delete {
			t.Rows = slices.Delete(t.Rows, at, at+1)
		}
		if todo.Method != "" {
			tallies = add(tallies, connectors.Tally{Subject: todo.Subject, Entity: todo.Entity, Method: todo.Method, Rows: 1})
		}
	}
	db.store.committed[cp.Tx] = tallies
	return tallies, nil
}

// row finds a task's row; at is below zero when it is gone.
func (db *DB) row(todo task) (t *Table, at int, err error) {
	if t, err = db.table(db.sys.Entity(todo.Entity)); err != nil {
		return nil, -1, err
	}
	return t, slices.IndexFunc(t.Rows, func(r Row) bool { return t.key(r) == todo.Key }), nil
}

// owned reports whether an owner of a row lives.
func (db *DB) owned(e *connectors.Entity, t *Table, r Row, doomed map[string]bool) bool {
	for _, tie := range e.OwnedBy {
		if tie.When != nil && text(r[tie.When.Column]) != tie.When.Value {
			continue
		}
		p := db.sys.Entity(tie.Entity)
		pt := db.store.tables[p.From()]
		references := tie.References
		if len(references) == 0 {
			references = pt.PrimaryKey
		}
		want, ok := values(r, tie.Columns)
		if ok && slices.ContainsFunc(pt.Rows, func(parent Row) bool {
			have, ok := values(parent, references)
			self := pt == t && pt.key(parent) == t.key(r)
			return ok && have == want && !self && !apart(e, r, p, parent) && !doomed[p.Name+string(pt.key(parent))] && !db.anchored(p, pt, parent, nil)
		}) {
			return true
		}
	}
	return false
}

// member reports whether a row is owned through a membership of somebody who lives, or one that is held.
func (db *DB) member(e *connectors.Entity, t *Table, r Row, doomed, held map[string]bool) bool {
	for i := range db.sys.Entities {
		m := &db.sys.Entities[i]
		mt := db.store.tables[m.From()]
		for _, tie := range m.Owns {
			references := tie.References
			if len(references) == 0 {
				references = t.PrimaryKey
			}
			have, ok := values(r, references)
			if tie.Entity == e.Name && ok && slices.ContainsFunc(mt.Rows, func(row Row) bool {
				want, ok := values(row, tie.Columns)
				k := m.Name + string(mt.key(row))
				return ok && want == have && !doomed[k] && !apart(m, row, e, r) && (held[k] || db.owned(m, mt, row, doomed))
			}) {
				return true
			}
		}
	}
	return false
}

func add(list []connectors.Tally, t connectors.Tally) []connectors.Tally {
	for i := range list {
		if list[i].Subject == t.Subject && list[i].Entity == t.Entity && list[i].Method == t.Method {
			list[i].Rows += t.Rows
			return list
		}
	}
	return append(list, t)
}

// change computes a row's new values: masks, emptied references, and free text without the batch's identifiers.
func (db *DB) change(e *connectors.Entity, t *Table, r Row, todo task, batch connectors.Batch) (map[string]any, error) {
	tenant := text(r[e.Tenant])
	var ids []dsr.Identifier
	for _, s := range batch {
		if e.Tenant == "" || s.Tenant == tenant {
			ids = append(ids, s.Identifiers...)
		}
	}
	matcher := mask.NewMatcher(ids, db.sys.Identifiers)
	specs := map[string]mask.Spec{}
	if todo.Method != "" {
		for _, name := range mentions(e, t, r, matcher) {
			specs[name] = mask.Spec{Kind: mask.Redact}
		}
	}
	for _, masks := range todo.Masks {
		for name, spec := range masks {
			specs[name] = spec
		}
	}
	for _, name := range todo.Nulls {
		specs[name] = mask.Spec{Kind: mask.Null}
	}
	out := map[string]any{}
	for name, spec := range specs {
		if spec.Kind == mask.HMAC && slices.ContainsFunc(ids, func(id dsr.Identifier) bool {
			return db.isPseudonym(e, t, r, name, normalise(db.sys.Identifiers[id.Name], id.Value.Reveal()))
		}) {
			continue // it is one already
		}
		v, err := db.masked(e, t, name, r[name], spec, matcher)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// masked applies one mask. Redact takes identifiers out of text that is declared as free text and out of documents;
// any other text is replaced as a whole.
func (db *DB) masked(e *connectors.Entity, t *Table, name string, v any, spec mask.Spec, m *mask.Matcher) (any, error) {
	target := db.target(e, t, name)
	in := mask.Input{Value: v, Target: target, Keys: db.keys, Domain: identifierOf(e, name)}
	if v != nil && spec.Kind == mask.HMAC && in.Domain != "" {
		in.Value = normalise(db.sys.Identifiers[in.Domain], text(v))
	}
	if slices.Contains(e.Mentions, name) || t.column(name).Class == connectors.ClassJSON {
		in.Matcher = m
	}
	out, err := spec.Apply(in)
	if err != nil {
		var de *dsr.Error
		if !errors.As(err, &de) {
			de = &dsr.Error{Msg: "a mask failed"}
		}
		return nil, connectors.Permanent(dsr.CodeInvalid, "entities."+e.Name+"."+name+": "+de.Msg, "Run `lethe check`.", nil)
	}
	return out, nil
}
