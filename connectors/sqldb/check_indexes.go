package sqldb

import (
	"context"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// maxCombinations bounds the combinations of a rule's values that an index is thought to serve.
const maxCombinations = 100

// tied are the columns that a rule's conditions tie to at most so many values, in the order of the conditions. An index
// may lead with them.
func (k *checker) tied(e *checked, r *connectors.Rule, values int) []string {
	var out []string
	for _, w := range r.When {
		c := columnOf(e.table, w.Field)
		casts := c != nil && c.Class == connectors.ClassEnum && k.d.dialect.name == postgres // compared as text
		if c != nil && !casts && !w.NotNull && len(w.Values) <= values && w.Field != r.Start.Field && !slices.Contains(out, w.Field) {
			out = append(out, w.Field)
		}
	}
	return out
}

// startIndexed reports whether an index leads to the rows that a rule makes due: its first columns are tied to a few values
// by the rule's conditions, and the next is the starting point. Of a partitioned table every partition may have its own.
func (k *checker) startIndexed(ctx context.Context, e *checked, r *connectors.Rule, t *connectors.EntitySchema) bool {
	tied := k.tied(e, r, maxCombinations)
	facts := k.c.facts[t.Name]
	if slices.ContainsFunc(facts.ordered, func(x orderedIndex) bool {
		for _, name := range x.columns {
			if name == r.Start.Field {
				return x.where == "" || k.implied(ctx, e, r, x.where)
			}
			if !slices.Contains(tied, name) {
				return false
			}
		}
		return false
	}) {
		return true
	}
	parts := k.partitionsOf(t)
	return len(parts) > 0 && !slices.ContainsFunc(parts, func(p *connectors.EntitySchema) bool { return !k.startIndexed(ctx, e, r, p) })
}

// partitionsOf returns the partitions in which all rows of a table are, none where the table is not partitioned.
func (k *checker) partitionsOf(t *connectors.EntitySchema) []*connectors.EntitySchema {
	if !k.c.facts[t.Name].partitioned {
		return nil
	}
	var out []*connectors.EntitySchema
	for i := range k.c.schema.Entities {
		if p := &k.c.schema.Entities[i]; p.Partition && k.c.facts[p.Name].parent == t.Name {
			out = append(out, p)
		}
	}
	return out
}

// implied reports whether the predicate of a partial index holds for every row that the rule means and that has a start.
func (k *checker) implied(ctx context.Context, e *checked, r *connectors.Rule, where string) bool {
	var columns []string
	for _, w := range identifiersIn(where) {
		if columnOf(e.table, w) != nil && !slices.Contains(columns, w) {
			columns = append(columns, w)
		}
	}
	if len(columns) == 1 && onlyNotNull(where, columns[0]) {
		return columns[0] == r.Start.Field || present(r.When, columns[0])
	}
	if k.d.dialect.name == sqlite && strings.ContainsAny(where, "(<>!|") { // it proves only what is written in the same way
		return false
	}
	// Otherwise the database is asked about every combination of the values that the rule means.
	combinations := []map[string]mask.Spec{{}}
	for _, name := range columns {
		i := slices.IndexFunc(r.When, func(w dsr.Condition) bool { return w.Field == name && !w.NotNull })
		if i < 0 {
			return false
		}
		specs := []mask.Spec{{Kind: mask.Null}}
		if w := r.When[i]; !w.Null {
			specs = specs[:0]
			for _, v := range w.Values {
				specs = append(specs, mask.Spec{Kind: mask.Constant, Value: v})
			}
		}
		var longer []map[string]mask.Spec
		for _, c := range combinations {
			for _, s := range specs {
				with := map[string]mask.Spec{name: s}
				for other, o := range c {
					with[other] = o
				}
				longer = append(longer, with)
			}
		}
		if combinations = longer; len(combinations) > maxCombinations {
			return false
		}
	}
	for _, c := range combinations {
		s, ok := k.checkStatement(e, "("+where+") IS TRUE", columns, c)
		if !ok {
			return false
		}
		if yes, refused := k.ask(ctx, s); !yes || refused {
			return false
		}
	}
	return len(columns) > 0
}

// indexed reports whether an index starts with one of the columns. Of a partitioned table every partition may have its own.
func (k *checker) indexed(t *connectors.EntitySchema, columns []string) bool {
	if slices.ContainsFunc(t.Indexes, func(i []string) bool { return slices.Contains(columns, i[0]) }) {
		return true
	}
	parts := k.partitionsOf(t)
	return len(parts) > 0 && !slices.ContainsFunc(parts, func(p *connectors.EntitySchema) bool { return !k.indexed(p, columns) })
}

// indexedReference reports whether an index serves a reference. Its type alone, where it is polymorphic, leads to far too
// many rows: the index must go on with the reference.
func (k *checker) indexedReference(t *connectors.EntitySchema, o *connectors.Owner) bool {
	if k.indexed(t, o.Columns) {
		return true
	}
	if o.When == nil {
		return false
	}
	if slices.ContainsFunc(t.Indexes, func(i []string) bool {
		return len(i) > 1 && i[0] == o.When.Column && slices.Contains(o.Columns, i[1])
	}) {
		return true
	}
	parts := k.partitionsOf(t)
	return len(parts) > 0 && !slices.ContainsFunc(parts, func(p *connectors.EntitySchema) bool { return !k.indexedReference(p, o) })
}

// createIndex is the statement that would create an index.
func (k *checker) createIndex(e *checked, columns []string) string {
	return k.createIndexOn(e.table, columns)
}

func (k *checker) createIndexOn(t *connectors.EntitySchema, columns []string) string {
	facts := k.c.facts[t.Name]
	quoted := make([]string, len(columns))
	for i, name := range columns {
		quoted[i] = k.d.dialect.quote(name)
		if c := columnOf(t, name); k.d.dialect.name == mariadb && c != nil && strings.HasSuffix(c.Type, "text") {
			quoted[i] += "(32)" // MariaDB indexes no whole text
		}
	}
	name := k.d.dialect.quote(strings.Join(append([]string{"lethe", facts.table}, columns...), "_"))
	create := "CREATE INDEX "
	if k.d.dialect.name == postgres && !facts.partitioned { // PostgreSQL does not build partitioned ones beside other work
		create = "CREATE INDEX CONCURRENTLY "
	}
	return create + name + " ON " + k.quoted(facts) + " (" + strings.Join(quoted, ", ") + ")"
}
