package sqldb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Holds come in two forms. A subject's rows are found by identifiers and ownership and are known by their keys; rows of
// an entity are known by a condition, which every statement that reads rows asks along with them: see [mark].

// mark is what rows of one entity are asked besides their columns: whether a hold on the entity covers them, whether a
// statutory minimum of their own has not ended and, in a sweep, whether they are due.
type mark struct {
	frozen  []connectors.Frozen
	minimum []minimum
	due     *sweepRule // a row of the swept entity may own others of it, which may be due themselves
}

// Answers of a mark.
const (
	markHeld    = "1"
	markMinimum = "2"
	markDue     = "3"
)

// marks are the marks of the entities that have one.
type marks map[*entity]*mark

func (m marks) of(e *entity) *mark {
	if m[e] == nil {
		m[e] = &mark{}
	}
	return m[e]
}

// frozenMarks reads the holds on entities. Entities that the map does not have hold nothing that Lethe could change.
func (m *model) frozenMarks(held connectors.Holds) (marks, error) {
	out := marks{}
	for _, f := range held.Entities {
		e := m.byName[f.Entity]
		if e == nil {
			continue
		}
		if e.keyless {
			return nil, wrongMap(e.Name, "", "a hold covers rows that cannot be told apart", "Give the table a primary key.")
		}
		if err := e.checkConditions("hold", f.When); err != nil {
			return nil, err
		}
		out.of(e).frozen = append(out.of(e).frozen, f)
	}
	return out, nil
}

// checkConditions refuses conditions on columns that the table does not have.
func (e *entity) checkConditions(what string, when []dsr.Condition) error {
	for _, c := range when {
		if e.columns[c.Field] == nil {
			return wrongMap(e.Name, c.Field, fmt.Sprintf("a %s names a column that the table does not have", what), "")
		}
	}
	return nil
}

// meets appends that a row meets all conditions.
func (s *statement) meets(alias string, e *entity, when []dsr.Condition) *statement {
	if len(when) == 0 {
		return s.add("1 = 1")
	}
	for i, w := range when {
		if i > 0 {
			s.add(" AND ")
		}
		c := e.columns[w.Field]
		switch {
		case w.Null:
			s.isNull(alias, c)
		case w.NotNull:
			s.add(alias, c.quoted, " IS NOT NULL")
		case len(w.Values) == 1 && (c.class != connectors.ClassEnum || !s.d.arrays): // an index may lead with it, or be for it only
			s.add(alias, c.quoted, " = ").value(c, cell{w.Values[0], true})
		case !s.anyOf(alias, c, w.Values):
			s.add("1 = 0")
		}
	}
	return s
}

// isNull appends that a column is NULL. Of a date that is declared NOT NULL, MariaDB answers as if 0000-00-00 were NULL, but
// only where a condition decides alone or beside others: not below a CASE, so that what is counted would be another row
// than what goes, and not below a NOT, so that a hold would cover it in a search and not in a sweep. It is NULL in all.
func (s *statement) isNull(alias string, c *column) *statement {
	if zeroIsNull(s.d, c) {
		return s.add(alias, c.quoted, " = '0000-00-00'")
	}
	return s.add(alias, c.quoted, " IS NULL")
}

// zeroIsNull reports whether a condition that a column is NULL is met by its zero date, and by nothing else.
func zeroIsNull(d *dialect, c *column) bool {
	return d.name == mariadb && !c.Nullable && (c.Type == "date" || strings.HasPrefix(c.Type, "datetime"))
}

// isFrozen appends that a hold on the entity covers a row. There is at least one.
func (s *statement) isFrozen(alias string, e *entity, frozen []connectors.Frozen) *statement {
	s.add("(")
	for i, f := range frozen {
		if i > 0 {
			s.add(" OR ")
		}
		s.add("(").meets(alias, e, f.When).add(")")
	}
	return s.add(")")
}

// notFrozen appends " AND" that no hold on the entity covers a row.
func (s *statement) notFrozen(alias string, e *entity, frozen []connectors.Frozen) *statement {
	if len(frozen) == 0 {
		return s
	}
	return s.add(" AND CASE WHEN ").isFrozen(alias, e, frozen).add(" THEN 1 ELSE 0 END = 0")
}

// marked appends an entity's mark as one more column.
func (s *statement) marked(e *entity, m *mark) *statement {
	if m == nil {
		return s
	}
	s.add(", CASE")
	if len(m.frozen) > 0 {
		s.add(" WHEN ").isFrozen("", e, m.frozen).add(" THEN ", markHeld)
	}
	if m.due != nil {
		s.add(" WHEN ")
		m.due.where(s).add(" THEN ", markDue)
	}
	for _, u := range m.minimum {
		s.add(" WHEN ")
		u.unfinished(s)
		s.add(" THEN ", markMinimum)
	}
	return s.add(" ELSE 0 END")
}

// columns appends what a closure reads of an entity's rows.
func (c *closure) columns(s *statement, e *entity) *statement {
	return s.list("", e.load).marked(e, c.marks[e])
}

// width is how many columns that are.
func (c *closure) width(e *entity) int {
	if c.marks[e] != nil {
		return len(e.load) + 1
	}
	return len(e.load)
}

// isLeaf reports whether rows of the entity are never read: what a hold may cover must be, and what a sweep starts from.
func (c *closure) isLeaf(e *entity) bool { return e.leaf && c.marks[e] == nil && e != c.seeds }

// heldRows finds the rows of subjects under a hold or a restriction, by entity and key. Rows of leaves are held with
// their parents and are not read, but for those of the swept entity.
func (m *model) heldRows(ctx context.Context, s session, held connectors.Holds, tenant string, swept *entity) (map[*entity]map[string]bool, error) {
	var batch connectors.Batch
	for _, h := range held.Subjects {
		if h.Tenant == tenant || tenant == everyTenant {
			h.Entities = nil
			batch = append(batch, h)
		}
	}
	out := map[*entity]map[string]bool{}
	for _, part := range byTenant(batch) {
		c := &closure{
			m: m, s: s, any: true, merged: true, tenant: part[0].Tenant, batch: part, seeds: swept,
			terms: newTerms(part, m.d.System.Identifiers, m.d.pseudonyms),
		}
		if err := c.run(ctx); err != nil {
			return nil, err
		}
		for en, nodes := range c.nodes {
			if out[en] == nil {
				out[en] = map[string]bool{}
			}
			for id, n := range nodes {
				if !n.accessed {
					out[en][id.id] = true
				}
			}
		}
	}
	return out, nil
}

// notHeld leaves out the parents of a tie that are held. References to other columns than the key do not tell the row.
func (t *tie) notHeld(held map[*entity]map[string]bool, parents []key) []key {
	if !slices.Equal(t.refs, t.parent.key) {
		return parents
	}
	return slices.DeleteFunc(slices.Clone(parents), func(k key) bool { return held[t.parent][k.id()] })
}

// heldKeys are the keys of an entity's held rows, in a stable order.
func heldKeys(e *entity, held map[*entity]map[string]bool) []key {
	var out []key
	for _, id := range slices.Sorted(maps.Keys(held[e])) {
		out = append(out, keyOfID(id, len(e.key)))
	}
	return out
}
