package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lethe-gdpr/lethe/connectors"
)

// The catalogue is read from pg_catalog rather than information_schema, which hides what the user may not use and
// knows nothing of partitions, partial indexes or domains' base types. Tables of extensions are left out. Tables that
// inherit count as partitions: statements on their parent reach them too. Functions know nothing (NULL) of a table that
// is dropped while its row of the catalogue is read.
const (
	pgTables = `
SELECT c.oid, n.nspname, c.relname, c.relkind::text, EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid), c.reltuples::bigint,
       coalesce(pg_total_relation_size(c.oid), 0),
       coalesce(has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), false),
       (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
       coalesce(current_schema(), 'public'), coalesce((SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid LIMIT 1), 0),
       row_security_active(c.oid)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

	pgColumns = `
WITH RECURSIVE base(oid, root, typmod, required) AS (
  SELECT oid, oid, -1, false FROM pg_type WHERE typtype <> 'd'
  UNION ALL
  SELECT d.oid, b.root, CASE WHEN d.typtypmod >= 0 THEN d.typtypmod ELSE b.typmod END, d.typnotnull OR b.required
  FROM pg_type d JOIN base b ON b.oid = d.typbasetype WHERE d.typtype = 'd'
)
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), t.typname, t.typcategory::text, t.typtype::text,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE b.typmod END,
       a.attnotnull OR b.required, a.attgenerated <> '' OR a.attidentity = 'a',
       (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e WHERE e.enumtypid = t.oid),
       coalesce(el.typcategory::text, ''), coalesce(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute a
JOIN base b ON b.oid = a.atttypid
JOIN pg_type t ON t.oid = b.root
LEFT JOIN pg_type el ON el.oid = t.typelem AND t.typcategory = 'A'
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
ORDER BY a.attrelid, a.attnum`

	pgIndexes = `
SELECT i.indrelid, i.indisprimary, i.indisunique AND i.indimmediate, coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
       (SELECT json_agg(pg_get_indexdef(i.indexrelid, k.n::int, true) ORDER BY k.n)::text
        FROM generate_series(1, i.indnkeyatts) AS k(n)),
       (SELECT json_agg(coalesce(a.attname, '') ORDER BY k.n)::text
        FROM generate_series(1, i.indnkeyatts) AS k(n)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n - 1] AND a.attnum > 0),
       m.amname = 'btree'
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisvalid AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
ORDER BY i.indexrelid`

	pgConstraints = `
SELECT k.conrelid, k.contype::text, k.conname, k.confrelid, k.condeferrable, k.confdeltype::text,
       coalesce(pg_get_expr(k.conbin, k.conrelid), ''),
       (SELECT json_agg(a.attname ORDER BY u.n)::text FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
       (SELECT json_agg(a.attname ORDER BY u.n)::text FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum)
FROM pg_constraint k
JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.contype IN ('f', 'c') AND k.conrelid <> 0 AND k.conparentid = 0
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
ORDER BY k.oid`
)

// pgTable is one table while its description is put together.
type pgTable struct {
	parent     uint32
	selectable bool
	entity     connectors.EntitySchema
	facts      *tableFacts
}

// readPostgres describes every table and view outside the system's own schemas.
func readPostgres(ctx context.Context, q querier) (*catalogue, error) {
	tables := make(map[uint32]*pgTable)
	var order []*pgTable
	err := each(ctx, q, pgTables, nil, func(rows *sql.Rows) error {
		t := &pgTable{facts: &tableFacts{}}
		var kind string
		var defaultSchema sql.NullString
		e := &t.entity
		if err := rows.Scan(&t.facts.oid, &t.facts.schema, &t.facts.table, &kind, &e.Partition, &e.Rows, &e.Bytes,
			&t.selectable, &e.Triggers, &defaultSchema, &t.parent, &t.facts.rowSecurity); err != nil {
			return err
		}
		e.Name = entityName(t.facts.schema, t.facts.table, defaultSchema.String)
		e.View = kind == "v" || kind == "m"
		t.facts.partitioned = kind == "p"
		t.facts.stored = kind == "m"
		tables[t.facts.oid], order = t, append(order, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := readPostgresColumns(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := readPostgresIndexes(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := readPostgresConstraints(ctx, q, tables); err != nil {
		return nil, err
	}
	if err := countPostgres(ctx, q, order); err != nil {
		return nil, err
	}
	c := new(catalogue)
	for _, t := range order {
		if p := tables[t.parent]; p != nil {
			t.facts.parent = p.entity.Name
		}
		c.add(t.entity, t.facts)
	}
	c.finish()
	return c, nil
}

func readPostgresColumns(ctx context.Context, q querier, tables map[uint32]*pgTable) error {
	return each(ctx, q, pgColumns, nil, func(rows *sql.Rows) error {
		var oid uint32
		var base, category, kind, element string
		var typmod int
		var notNull bool
		var c connectors.Column
		if err := rows.Scan(&oid, &c.Name, &c.Type, &base, &category, &kind, &typmod, &notNull, &c.Generated,
			(*names)(&c.Enum), &element, &c.Comment); err != nil {
			return err
		}
		t := tables[oid]
		if t == nil {
			return nil
		}
		c.Nullable = !notNull
		c.Class = pgClass(base, category, kind)
		if (base == "varchar" || base == "bpchar") && typmod >= 4 {
			c.MaxLen = typmod - 4
		}
		c.HasText = mayHoldText(c.Class, c.MaxLen, element == "S") || base == "xml" || base == "hstore"
		t.entity.Columns = append(t.entity.Columns, c)
		return nil
	})
}

// pgClass maps a base type (domains resolved) to its class.
func pgClass(base, category, kind string) connectors.ColumnClass {
	switch base {
	case "int2", "int4", "int8", "oid":
		return connectors.ClassInteger
	case "numeric", "float4", "float8", "money":
		return connectors.ClassNumber
	case "bool":
		return connectors.ClassBool
	case "date":
		return connectors.ClassDate
	case "timestamp", "timestamptz":
		return connectors.ClassTime
	case "uuid":
		return connectors.ClassUUID
	case "json", "jsonb":
		return connectors.ClassJSON
	case "inet", "cidr":
		return connectors.ClassIP
	case "bytea":
		return connectors.ClassBinary
	case "char": // the one-byte internal type
		return connectors.ClassOther
	}
	switch {
	case kind == "e":
		return connectors.ClassEnum
	case category == "A":
		return connectors.ClassArray
	case category == "S" || base == "citext":
		return connectors.ClassText
	}
	return connectors.ClassOther
}

func readPostgresIndexes(ctx context.Context, q querier, tables map[uint32]*pgTable) error {
	return each(ctx, q, pgIndexes, nil, func(rows *sql.Rows) error {
		var oid uint32
		var primary, unique, ordered bool
		var predicate string
		var definitions, columns names // an expression has the empty string among columns
		if err := rows.Scan(&oid, &primary, &unique, &predicate, &definitions, &columns, &ordered); err != nil {
			return err
		}
		t := tables[oid]
		if t == nil || len(columns) == 0 {
			return nil
		}
		leading := []string(columns)
		if i := slices.Index(leading, ""); i >= 0 {
			leading = leading[:i]
			if i == 0 && predicate == "" {
				t.facts.expressions = append(t.facts.expressions, definitions[0])
			}
		}
		if ordered && len(leading) > 0 {
			t.facts.ordered = append(t.facts.ordered, orderedIndex{leading, predicate})
		}
		whole := len(leading) == len(columns) && predicate == ""
		switch {
		case primary:
			t.entity.PrimaryKey = columns
		case unique && whole:
			t.entity.Unique = append(t.entity.Unique, columns)
		case unique:
			t.facts.looseUnique = append(t.facts.looseUnique, columnsIn(definitions, columns, t.entity.Columns))
		}
		// An index on the rows where its own column is not null serves every comparison with that column.
		if len(leading) > 0 && (predicate == "" || predicate == "("+definitions[0]+" IS NOT NULL)") {
			t.entity.Indexes = append(t.entity.Indexes, leading)
		}
		return nil
	})
}

// columnsIn names the columns that an index with expressions depends on.
func columnsIn(definitions, columns []string, of []connectors.Column) []string {
	var out []string
	for i, c := range columns {
		if c != "" {
			out = append(out, c)
			continue
		}
		for _, word := range identifiersIn(definitions[i]) {
			if slices.ContainsFunc(of, func(c connectors.Column) bool { return c.Name == word }) {
				out = append(out, word)
			}
		}
	}
	return out
}

// identifiersIn returns the words of an SQL expression that may be names of columns, without their quotes. Strings
// are skipped.
func identifiersIn(expression string) []string {
	var out []string
	for i := 0; i < len(expression); {
		switch c := expression[i]; {
		case c == '\'':
			i = endOfQuoted(expression, i, '\'')
		case c == '"' || c == '`' || c == '[':
			closing := c
			if c == '[' {
				closing = ']'
			}
			end := endOfQuoted(expression, i, closing)
			if end-1 > i+1 {
				word := expression[i+1 : end-1]
				out = append(out, strings.ReplaceAll(word, string([]byte{closing, closing}), string(closing)))
			}
			i = end
		case isWordByte(c):
			end := i
			for end < len(expression) && (isWordByte(expression[end]) || expression[end] == '$') {
				end++
			}
			out = append(out, expression[i:end])
			i = end
		default:
			i++
		}
	}
	return out
}

// endOfQuoted returns the index after the quoted text that starts at i; a doubled quote stands for itself.
func endOfQuoted(s string, i int, closing byte) int {
	for i++; i < len(s); i++ {
		if s[i] != closing {
			continue
		}
		if i+1 < len(s) && s[i+1] == closing {
			i++
			continue
		}
		return i + 1
	}
	return len(s)
}

// unquoted returns what is between the quotes of s[i:end]; a text that never ends is taken to its end.
func unquoted(s string, i, end int) string {
	if end-1 <= i || s[end-1] != s[i] {
		return s[min(i+1, end):end]
	}
	quote := s[i : i+1]
	return strings.ReplaceAll(s[i+1:end-1], quote+quote, quote)
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func readPostgresConstraints(ctx context.Context, q querier, tables map[uint32]*pgTable) error {
	onDelete := map[string]string{"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
	return each(ctx, q, pgConstraints, nil, func(rows *sql.Rows) error {
		var oid, target uint32
		var kind, rule, check string
		var r connectors.Reference
		if err := rows.Scan(&oid, &kind, &r.Name, &target, &r.Deferrable, &rule, &check,
			(*names)(&r.Columns), (*names)(&r.References)); err != nil {
			return err
		}
		t := tables[oid]
		if t == nil {
			return nil
		}
		if kind == "c" {
			t.facts.checks = append(t.facts.checks, check)
			return nil
		}
		if to := tables[target]; to != nil {
			r.Entity, r.OnDelete = to.entity.Name, onDelete[rule]
			t.entity.References = append(t.entity.References, r)
		}
		return nil
	})
}

// countPostgres replaces missing estimates: small tables that were never analysed are counted, and a partitioned
// table has the sum of its partitions.
func countPostgres(ctx context.Context, q querier, tables []*pgTable) error {
	var parts []string
	var counted []*pgTable
	for _, t := range tables {
		if t.entity.Rows > 0 {
			continue
		}
		t.entity.Rows = 0 // -1 is never analysed
		if t.facts.partitioned || t.entity.View {
			continue
		}
		if t.selectable && t.entity.Bytes <= smallTableBytes {
			parts = append(parts, fmt.Sprintf("SELECT %d, count(*) FROM (SELECT 1 FROM %s.%s LIMIT %d) AS t", len(counted),
				quotePostgres(t.facts.schema), quotePostgres(t.facts.table), countLimit))
			counted = append(counted, t)
		}
	}
	for chunk := range slices.Chunk(parts, 100) {
		err := each(ctx, q, strings.Join(chunk, " UNION ALL "), nil, func(rows *sql.Rows) error {
			var i int
			var n int64
			if err := rows.Scan(&i, &n); err != nil {
				return err
			}
			counted[i].entity.Rows = n
			return nil
		})
		var gone *pgconn.PgError
		if errors.As(err, &gone) && gone.Code == "42P01" { // a partition whose time had come, perhaps
			return transient("a table was dropped while the catalogue was read", number{"SQLSTATE", gone.Code})
		}
		if err != nil {
			return err
		}
	}
	byOID := make(map[uint32]*pgTable, len(tables))
	for _, t := range tables {
		byOID[t.facts.oid] = t
	}
	for _, t := range tables {
		if t.facts.partitioned {
			t.entity.Rows = 0
		}
	}
	for _, t := range tables {
		if t.facts.partitioned {
			continue
		}
		for p := byOID[t.parent]; p != nil && t.entity.Partition; p = byOID[p.parent] {
			p.entity.Rows += t.entity.Rows
			p.entity.Bytes += t.entity.Bytes
		}
	}
	return nil
}

func quotePostgres(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
