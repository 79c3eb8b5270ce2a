package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// querier is what reading a catalogue needs: a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// catalogue is what a database says about itself: the Schema that every connector describes, and facts that only
// Check needs.
type catalogue struct {
	schema connectors.Schema
	facts  map[string]*tableFacts // by entity name; every entity of schema has one
}

// tableFacts are the parts of a table's description that [connectors.EntitySchema] has no place for.
type tableFacts struct {
	schema, table string   // unquoted
	oid           uint32   // PostgreSQL
	checks        []string // expressions of CHECK constraints
	// looseUnique are unique indexes that hold only for some rows or on expressions: columns named in them.
	looseUnique [][]string
	expressions []string // indexed expressions, as the database prints them: "lower(email)"
	ordered     []orderedIndex
	partitioned bool   // PostgreSQL: all rows are in partitions
	engine      string // MariaDB's storage engine
	parent      string // entity that this is a partition of
	stored      bool   // a materialized view: it keeps a copy of other tables' rows
	rowSecurity bool   // row security hides rows from this user
}

// orderedIndex is an index that is kept in the order of its columns, so that it serves comparisons.
type orderedIndex struct {
	columns []string // up to the first expression
	where   string   // of a partial index
}

// smallTable is the size below which a table that was never analysed is counted instead of estimated.
const (
	smallTableBytes = 32 << 20
	countLimit      = 100_000
)

// freeTextLength is the length from which a limited text column may hold prose or an identifier; shorter ones hold
// codes.
const freeTextLength = 20

// entityName qualifies a table's name outside the default schema. A name that itself contains a dot stays
// unambiguous because the map's loader splits at the first dot only when the schema exists.
func entityName(schema, table, defaultSchema string) string {
	if schema == "" || schema == defaultSchema {
		return table
	}
	return schema + "." + table
}

// Describe reads the database's catalogue: every table and view that is neither the system's own nor an extension's,
// in the databases or schemas that the user can see or, on MariaDB, in the dsn's and those that the map names.
func (d *DB) Describe(ctx context.Context) (connectors.Schema, error) {
	c, err := d.readCatalogue(ctx)
	if err != nil {
		return connectors.Schema{}, classify(d.dialect, err)
	}
	return c.schema, nil
}

// add appends an entity and its facts; the caller must call finish when all are added.
func (c *catalogue) add(e connectors.EntitySchema, f *tableFacts) {
	c.schema.Entities = append(c.schema.Entities, e)
	if c.facts == nil {
		c.facts = make(map[string]*tableFacts)
	}
	c.facts[e.Name] = f
}

// finish sorts what must be sorted.
func (c *catalogue) finish() {
	slices.SortFunc(c.schema.Entities, func(a, b connectors.EntitySchema) int { return strings.Compare(a.Name, b.Name) })
	for i := range c.schema.Entities {
		e := &c.schema.Entities[i]
		slices.SortFunc(e.Unique, slices.Compare)
		slices.SortFunc(e.Indexes, slices.Compare)
		slices.SortFunc(e.References, func(a, b connectors.Reference) int {
			if d := slices.Compare(a.Columns, b.Columns); d != 0 {
				return d
			}
			return strings.Compare(a.Name, b.Name)
		})
	}
}

// entity returns the named entity, or nil.
func (c *catalogue) entity(name string) *connectors.EntitySchema {
	i, ok := slices.BinarySearchFunc(c.schema.Entities, name, func(e connectors.EntitySchema, n string) int {
		return strings.Compare(e.Name, n)
	})
	if !ok {
		return nil
	}
	return &c.schema.Entities[i]
}

// columnOf returns the named column, or nil.
func columnOf(e *connectors.EntitySchema, name string) *connectors.Column {
	for i := range e.Columns {
		if e.Columns[i].Name == name {
			return &e.Columns[i]
		}
	}
	return nil
}

// each runs a query and calls scan for every row.
func each(ctx context.Context, q querier, query string, args []any, scan func(rows *sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read the catalogue: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the catalogue: %w", err)
	}
	return nil
}

// names scans a JSON array of strings; NULL is nil.
type names []string

// Scan implements sql.Scanner.
func (n *names) Scan(src any) error {
	var raw []byte
	switch v := src.(type) {
	case nil:
		*n = nil
		return nil
	case string:
		raw = []byte(v)
	case []byte:
		raw = v
	default:
		return fmt.Errorf("cannot read names from %T", src)
	}
	return json.Unmarshal(raw, (*[]string)(n))
}

// mayHoldText reports whether free text, and so an identifier, may be inside a column.
func mayHoldText(class connectors.ColumnClass, maxLen int, elementIsText bool) bool {
	switch class {
	case connectors.ClassText:
		return maxLen == 0 || maxLen >= freeTextLength
	case connectors.ClassJSON:
		return true
	case connectors.ClassArray:
		return elementIsText
	}
	return false
}

// typeArgument returns the first number in a type's parentheses: 40 for "varchar(40)"; 0 when there is none.
func typeArgument(typ string) int {
	_, rest, ok := strings.Cut(typ, "(")
	if !ok {
		return 0
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0
	}
	return n
}
