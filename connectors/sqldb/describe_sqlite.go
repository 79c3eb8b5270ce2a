package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// SQLite's catalogue is its table-valued pragmas; CHECK constraints are only in the text of CREATE TABLE. Attached
// databases and the shadow tables of virtual tables are left out.
const (
	liteTables = `
SELECT l.name, l.type, coalesce(m.sql, ''),
       (SELECT count(*) FROM sqlite_master t WHERE t.type = 'trigger' AND t.tbl_name = l.name)
FROM pragma_table_list l
LEFT JOIN sqlite_master m ON m.name = l.name AND m.type IN ('table', 'view')
WHERE l.schema = 'main' AND l.type IN ('table', 'view', 'virtual') AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'`

	liteColumns = `
SELECT l.name, c.name, c.type, c."notnull", c.pk, c.hidden
FROM pragma_table_list l JOIN pragma_table_xinfo(l.name) c
WHERE l.schema = 'main' AND c.hidden <> 1 ORDER BY l.name, c.cid`

	liteIndexes = `
SELECT l.name, i.name, i."unique", i.origin, i.partial, coalesce(x.name, ''), coalesce(m.sql, '')
FROM pragma_table_list l JOIN pragma_index_list(l.name) i JOIN pragma_index_info(i.name) x
LEFT JOIN sqlite_master m ON m.type = 'index' AND m.name = i.name
WHERE l.schema = 'main' ORDER BY l.name, i.name, x.seqno`

	liteReferences = `
SELECT l.name, f.id, f."table", f."from", coalesce(f."to", ''), f.on_delete
FROM pragma_table_list l JOIN pragma_foreign_key_list(l.name) f
WHERE l.schema = 'main' ORDER BY l.name, f.id, f.seq`
)

// readSQLite describes the tables and views of the main database.
func readSQLite(ctx context.Context, q querier) (*catalogue, error) {
	tables := make(map[string]*myTable)
	var order []*myTable
	err := each(ctx, q, liteTables, nil, func(rows *sql.Rows) error {
		t := &myTable{facts: &tableFacts{}}
		var kind, text string
		if err := rows.Scan(&t.facts.table, &kind, &text, &t.entity.Triggers); err != nil {
			return err
		}
		t.entity.Name, t.entity.View = t.facts.table, kind == "view"
		if kind == "table" {
			t.facts.checks = checksIn(text)
		}
		tables[t.facts.table], order = t, append(order, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := readSQLiteColumns(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := readSQLiteIndexes(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := readSQLiteReferences(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := countSQLite(ctx, q, order); err != nil {
		return nil, err
	}
	c := new(catalogue)
	for _, t := range order {
		c.add(t.entity, t.facts)
	}
	c.finish()
	return c, nil
}

func readSQLiteColumns(ctx context.Context, q querier, tables map[string]*myTable) error {
	type position struct {
		pk   int
		name string
	}
	keys := make(map[string][]position)
	err := each(ctx, q, liteColumns, nil, func(rows *sql.Rows) error {
		var table string
		var notNull bool
		var pk, hidden int
		var c connectors.Column
		if err := rows.Scan(&table, &c.Name, &c.Type, &notNull, &pk, &hidden); err != nil {
			return err
		}
		t := tables[table]
		if t == nil {
			return nil
		}
		c.Generated = hidden == 2 || hidden == 3
		c.Nullable = !notNull
		c.Class = liteClass(c.Type)
		if c.Class == connectors.ClassText {
			c.Enum = listedValues(t.facts.checks, c.Name)
		}
		// SQLite does not enforce a declared length, but the application that declared it may rely on it.
		if c.Class == connectors.ClassText {
			c.MaxLen = typeArgument(c.Type)
		}
		c.HasText = mayHoldText(c.Class, c.MaxLen, false) && c.Enum == nil
		t.entity.Columns = append(t.entity.Columns, c)
		if pk > 0 {
			keys[table] = append(keys[table], position{pk, c.Name})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for table, key := range keys {
		slices.SortFunc(key, func(a, b position) int { return a.pk - b.pk })
		e := &tables[table].entity
		for _, k := range key {
			e.PrimaryKey = append(e.PrimaryKey, k.name)
		}
		e.Indexes = append(e.Indexes, e.PrimaryKey)
		tables[table].facts.ordered = append(tables[table].facts.ordered, orderedIndex{columns: e.PrimaryKey})
		// A lone INTEGER PRIMARY KEY is the rowid and never null, though the pragma does not say so.
		if c := columnOf(e, e.PrimaryKey[0]); len(key) == 1 && strings.EqualFold(c.Type, "integer") {
			c.Nullable = false
		}
	}
	return nil
}

// liteClass maps a declared type, of which SQLite accepts any, by what people write there and else by affinity.
func liteClass(declared string) connectors.ColumnClass {
	name, _, _ := strings.Cut(strings.ToLower(declared), "(")
	name = strings.TrimSpace(name)
	switch name {
	case "bool", "boolean":
		return connectors.ClassBool
	case "date":
		return connectors.ClassDate
	case "datetime", "timestamp", "timestamptz", "timestamp with time zone":
		return connectors.ClassTime
	case "uuid", "guid":
		return connectors.ClassUUID
	case "json", "jsonb":
		return connectors.ClassJSON
	case "inet":
		return connectors.ClassIP
	case "":
		return connectors.ClassText // no affinity: anything fits, and text is what identifiers are
	}
	switch {
	case strings.Contains(name, "int"):
		return connectors.ClassInteger
	case strings.Contains(name, "char"), strings.Contains(name, "clob"), strings.Contains(name, "text"):
		return connectors.ClassText
	case strings.Contains(name, "blob"), strings.Contains(name, "binary"):
		return connectors.ClassBinary
	case strings.Contains(name, "real"), strings.Contains(name, "floa"), strings.Contains(name, "doub"),
		strings.HasPrefix(name, "num"), strings.HasPrefix(name, "dec"):
		return connectors.ClassNumber
	}
	return connectors.ClassOther
}

func readSQLiteIndexes(ctx context.Context, q querier, tables map[string]*myTable) error {
	type index struct {
		table, name, origin, text string
		unique, partial           bool
		columns                   []string
	}
	var all []*index
	err := each(ctx, q, liteIndexes, nil, func(rows *sql.Rows) error {
		var i index
		var column string
		if err := rows.Scan(&i.table, &i.name, &i.unique, &i.origin, &i.partial, &column, &i.text); err != nil {
			return err
		}
		if n := len(all); n == 0 || all[n-1].name != i.name || all[n-1].table != i.table {
			all = append(all, &i)
		}
		last := all[len(all)-1]
		last.columns = append(last.columns, column)
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range all {
		t := tables[i.table]
		if t == nil || i.origin == "pk" {
			continue
		}
		expression := slices.Index(i.columns, "")
		whole := !i.partial && expression < 0
		if i.unique && whole {
			t.entity.Unique = append(t.entity.Unique, i.columns)
		}
		if i.unique && !whole {
			var cols []string
			for _, w := range identifiersIn(i.text) {
				if columnOf(&t.entity, w) != nil && !slices.Contains(cols, w) {
					cols = append(cols, w)
				}
			}
			t.facts.looseUnique = append(t.facts.looseUnique, cols)
		}
		if expression == 0 && !i.partial {
			if _, after, ok := strings.Cut(i.text, "("); ok {
				t.facts.expressions = append(t.facts.expressions, strings.TrimSuffix(strings.TrimSpace(after), ")"))
			}
		}
		leading := i.columns
		if expression >= 0 {
			leading = leading[:expression]
		}
		where := ""
		if i.partial {
			where = whereOf(i.text)
		}
		if len(leading) > 0 {
			t.facts.ordered = append(t.facts.ordered, orderedIndex{leading, where})
		}
		if len(leading) > 0 && (!i.partial || onlyNotNull(where, leading[0])) {
			t.entity.Indexes = append(t.entity.Indexes, leading)
		}
	}
	return nil
}

// whereOf returns the predicate of a partial index. One that cannot be found out is the empty text in parentheses, which
// holds for nothing.
func whereOf(create string) string {
	i := strings.LastIndex(strings.ToUpper(create), " WHERE ")
	if i < 0 {
		return "()"
	}
	return create[i+len(" WHERE "):]
}

// onlyNotNull reports whether a partial index's predicate leaves out nothing but the rows where a column is null.
func onlyNotNull(where, column string) bool {
	words := identifiersIn(where)
	return len(words) == 4 && strings.EqualFold(words[0], column) && strings.EqualFold(words[1], "is") &&
		strings.EqualFold(words[2], "not") && strings.EqualFold(words[3], "null")
}

// readSQLiteReferences reads foreign keys. Each is reported as deferrable, whatever its declaration, because
// PRAGMA defer_foreign_keys defers all of them.
func readSQLiteReferences(ctx context.Context, q querier, tables map[string]*myTable) error {
	last := -1
	err := each(ctx, q, liteReferences, nil, func(rows *sql.Rows) error {
		var table, to, from, target, rule string
		var id int
		if err := rows.Scan(&table, &id, &to, &from, &target, &rule); err != nil {
			return err
		}
		t := tables[table]
		if t == nil {
			return nil
		}
		refs := t.entity.References
		if len(refs) == 0 || last != id {
			for name := range tables {
				if strings.EqualFold(name, to) {
					to = name
				}
			}
			refs = append(refs, connectors.Reference{Entity: to, Deferrable: true, OnDelete: strings.ToLower(rule)})
		}
		last = id
		r := &refs[len(refs)-1]
		r.Columns = append(r.Columns, from)
		if target != "" {
			r.References = append(r.References, target)
		}
		t.entity.References = refs
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		for i := range t.entity.References {
			r := &t.entity.References[i]
			if to := tables[r.Entity]; len(r.References) == 0 && to != nil {
				r.References = to.entity.PrimaryKey // REFERENCES t without columns
			}
		}
	}
	return nil
}

// countSQLite counts tables up to a limit: an estimate exists only after ANALYZE, and counting a local file is quick.
func countSQLite(ctx context.Context, q querier, tables []*myTable) error {
	for _, t := range tables {
		if t.entity.View {
			continue
		}
		query := fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d)", quotePostgres(t.facts.table), countLimit)
		if err := each(ctx, q, query, nil, func(rows *sql.Rows) error { return rows.Scan(&t.entity.Rows) }); err != nil {
			return err
		}
		if t.entity.Rows < countLimit {
			continue
		}
		var estimate sql.NullInt64
		query = "SELECT max(rowid) FROM " + quotePostgres(t.facts.table)
		// A table WITHOUT ROWID has no such column; the limit is then the best estimate there is.
		err := each(ctx, q, query, nil, func(rows *sql.Rows) error { return rows.Scan(&estimate) })
		if err == nil && estimate.Int64 > t.entity.Rows {
			t.entity.Rows = estimate.Int64
		}
	}
	return nil
}

// checksIn returns the expressions of the CHECK constraints in a CREATE TABLE statement.
func checksIn(create string) []string {
	var out []string
	for i := 0; i < len(create); {
		switch c := create[i]; {
		case c == '\'' || c == '"' || c == '`':
			i = endOfQuoted(create, i, c)
		case c == '[':
			i = endOfQuoted(create, i, ']')
		case strings.HasPrefix(create[i:], "--"):
			if n := strings.IndexByte(create[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(create)
			}
		case strings.HasPrefix(create[i:], "/*"):
			if n := strings.Index(create[i+2:], "*/"); n >= 0 {
				i += n + 4
			} else {
				i = len(create)
			}
		case isWordByte(c):
			end := i
			for end < len(create) && isWordByte(create[end]) {
				end++
			}
			if strings.EqualFold(create[i:end], "check") {
				if expr, after, ok := parenthesised(create, end); ok {
					out, end = append(out, expr), after
				}
			}
			i = end
		default:
			i++
		}
	}
	return out
}

// parenthesised returns the text inside the parentheses that open at or after i, and the index after them.
func parenthesised(s string, i int) (inside string, after int, ok bool) {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	if i >= len(s) || s[i] != '(' {
		return "", 0, false
	}
	start, depth := i+1, 0
	for i < len(s) {
		switch c := s[i]; c {
		case '\'', '"', '`':
			i = endOfQuoted(s, i, c)
			continue
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 {
				return s[start:i], i + 1, true
			}
		}
		i++
	}
	return "", 0, false
}

// listedValues returns the values that a CHECK of the form "column IN ('a', 'b')" allows, or nil.
func listedValues(checks []string, column string) []string {
	for _, check := range checks {
		trimmed := strings.TrimSpace(check)
		words := identifiersIn(trimmed)
		if len(words) == 2 && strings.EqualFold(words[0], column) && strings.EqualFold(words[1], "in") {
			return quotedList(trimmed)
		}
	}
	return nil
}
