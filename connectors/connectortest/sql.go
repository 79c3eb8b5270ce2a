package connectortest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

// SQL returns the Load, Dump and Put of a database, so that a connector's test only adds Open. Dialect is "postgres",
// "mariadb" or "sqlite". The connection must be allowed to switch foreign keys off.
func SQL(db *sql.DB, dialect string) Backend {
	s := &sqlStore{db: db, dialect: dialect}
	return Backend{Load: s.load, Dump: s.dump, Put: s.put, References: true, LocalTimes: dialect != "postgres", Interruptions: 30, Graphs: 25}
}

type sqlStore struct {
	db      *sql.DB
	dialect string
	schema  string // the text that made the tables
	data    Dataset
}

func (s *sqlStore) quote(name string) string {
	if s.dialect == "mariadb" {
		return "`" + name + "`"
	}
	return `"` + name + `"`
}

func (s *sqlStore) list(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = s.quote(n)
	}
	return strings.Join(out, ", ")
}

func (s *sqlStore) typ(c connectors.Column) string {
	text := fmt.Sprintf("varchar(%d)", c.MaxLen)
	switch {
	case c.Class == connectors.ClassInteger && s.dialect == "sqlite":
		return "integer"
	case c.Class == connectors.ClassInteger:
		return "bigint"
	case c.Class == connectors.ClassDate:
		return "date"
	case c.Class == connectors.ClassTime && s.dialect == "postgres":
		return "timestamptz"
	case c.Class == connectors.ClassTime:
		return "datetime"
	case c.Class == connectors.ClassJSON && s.dialect == "postgres":
		return "jsonb"
	case c.Class == connectors.ClassJSON:
		return "json"
	case c.MaxLen == 0:
		return "text"
	}
	return text
}

// create writes the tables; references are added afterwards, because tables may refer to each other in a circle.
func (s *sqlStore) create(d Dataset) (statements []string) {
	var later []string
	for _, t := range d.Tables {
		var parts []string
		for _, c := range t.Columns {
			def := s.quote(c.Name) + " " + s.typ(c)
			if !c.Nullable {
				def += " NOT NULL"
			}
			parts = append(parts, def)
		}
		parts = append(parts, "PRIMARY KEY ("+s.list(t.PrimaryKey)+")")
		for _, u := range t.Unique {
			parts = append(parts, "UNIQUE ("+s.list(u)+")")
		}
		for _, r := range t.References {
			fk := fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)", s.quote(r.Name), s.list(r.Columns), s.quote(r.Entity), s.list(r.References))
			if s.dialect == "sqlite" {
				parts = append(parts, fk)
			} else {
				later = append(later, "ALTER TABLE "+s.quote(t.Name)+" ADD "+fk)
			}
		}
		statements = append(statements, "CREATE TABLE "+s.quote(t.Name)+" ("+strings.Join(parts, ", ")+")")
		if s.dialect == "mariadb" {
			statements[len(statements)-1] += " COLLATE utf8mb4_bin"
		}
		for i, columns := range s.indexed(t) {
			later = append(later, fmt.Sprintf("CREATE INDEX %s ON %s (%s)", s.quote(fmt.Sprintf("%s_%d", t.Name, i)), s.quote(t.Name), s.list(columns)))
		}
	}
	return append(statements, later...)
}

// indexed are the columns that a search goes by: references and short text, each with an index of its own, so that no
// check warns of a missing one.
func (s *sqlStore) indexed(t Table) [][]string {
	out := append([][]string{}, t.Indexes...)
	for _, c := range t.Columns {
		if c.Class == connectors.ClassInteger && strings.HasSuffix(c.Name, "_id") && !slicesContain(out, c.Name) {
			out = append(out, []string{c.Name})
		}
	}
	return out
}

func slicesContain(lists [][]string, name string) bool {
	for _, l := range lists {
		if l[0] == name {
			return true
		}
	}
	return false
}

func (s *sqlStore) load(t *testing.T, d Dataset) {
	t.Helper()
	ctx := context.Background()
	conn, err := s.db.Conn(ctx)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	run := func(query string, args ...any) {
		t.Helper()
		_, err := conn.ExecContext(ctx, query, args...)
		require.NoError(t, err, query)
	}
	off, on := "PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"
	switch s.dialect {
	case "postgres":
		off, on = "SET session_replication_role = replica", "SET session_replication_role = DEFAULT"
	case "mariadb":
		off, on = "SET foreign_key_checks = 0", "SET foreign_key_checks = 1"
	}
	run(off)
	defer run(on)
	statements := s.create(d)
	if schema := strings.Join(statements, ";"); schema != s.schema {
		for _, old := range s.data.Tables {
			drop := "DROP TABLE " + s.quote(old.Name)
			if s.dialect == "postgres" {
				drop += " CASCADE"
			}
			run(drop)
		}
		for _, st := range statements {
			run(st)
		}
		s.schema = schema
	} else {
		for _, table := range d.Tables {
			run("DELETE FROM " + s.quote(table.Name))
		}
	}
	s.data = d
	for _, table := range d.Tables {
		for from := 0; from < len(table.Rows); from += 200 {
			query, args := s.insert(&table, table.Rows[from:min(from+200, len(table.Rows))])
			run(query, args...)
		}
	}
	if s.dialect == "postgres" { // a row estimate, as any database that lives has
		run("ANALYZE")
	}
}

// value is a time without its zone where the column keeps none.
func (s *sqlStore) value(c *connectors.Column, v any) any {
	text, ok := v.(string)
	if !ok || c.Class != connectors.ClassTime || s.dialect == "postgres" {
		return v
	}
	return strings.TrimSuffix(strings.Replace(text, "T", " ", 1), "Z")
}

func (s *sqlStore) insert(t *Table, rows []Row) (string, []any) {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	var args []any
	var lists []string
	for _, r := range rows {
		marks := make([]string, len(names))
		for i, n := range names {
			args = append(args, s.value(t.column(n), r[n]))
			marks[i] = "?"
			if s.dialect == "postgres" {
				marks[i] = fmt.Sprintf("$%d", len(args))
			}
		}
		lists = append(lists, "("+strings.Join(marks, ", ")+")")
	}
	return "INSERT INTO " + s.quote(t.Name) + " (" + s.list(names) + ") VALUES " + strings.Join(lists, ", "), args
}

func (s *sqlStore) put(t *testing.T, table string, r Row) {
	t.Helper()
	schema := s.data.Table(table)
	ctx := context.Background()
	// replaced in place: other rows may refer to it
	var sets, where []string
	var args []any
	mark := func(v any) string {
		args = append(args, v)
		if s.dialect == "postgres" {
			return fmt.Sprintf("$%d", len(args))
		}
		return "?"
	}
	for _, c := range schema.Columns {
		sets = append(sets, s.quote(c.Name)+" = "+mark(s.value(&c, r[c.Name])))
	}
	for _, k := range schema.PrimaryKey {
		where = append(where, s.quote(k)+" = "+mark(r[k]))
	}
	var n int64
	count := make([]any, 0, len(schema.PrimaryKey))
	var by []string
	for i, k := range schema.PrimaryKey {
		count = append(count, r[k])
		m := "?"
		if s.dialect == "postgres" {
			m = fmt.Sprintf("$%d", i+1)
		}
		by = append(by, s.quote(k)+" = "+m)
	}
	require.NoError(t, s.db.QueryRowContext(ctx, "SELECT count(*) FROM "+s.quote(table)+" WHERE "+strings.Join(by, " AND "), count...).Scan(&n))
	query := "UPDATE " + s.quote(table) + " SET " + strings.Join(sets, ", ") + " WHERE " + strings.Join(where, " AND ")
	if n == 0 {
		query, args = s.insert(schema, []Row{r})
	}
	_, err := s.db.ExecContext(ctx, query, args...)
	require.NoError(t, err, query)
}

func (s *sqlStore) dump(t *testing.T) map[string][]Row {
	t.Helper()
	out := map[string][]Row{}
	for _, table := range s.data.Tables {
		names := make([]string, len(table.Columns))
		for i, c := range table.Columns {
			names[i] = c.Name
		}
		out[table.Name] = s.rows(t, "SELECT "+s.list(names)+" FROM "+s.quote(table.Name), names)
	}
	return out
}

func (s *sqlStore) rows(t *testing.T, query string, names []string) []Row {
	t.Helper()
	rows, err := s.db.QueryContext(context.Background(), query)
	require.NoError(t, err, query)
	defer func() { _ = rows.Close() }()
	var out []Row
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(any)
		}
		require.NoError(t, rows.Scan(values...))
		r := Row{}
		for i, n := range names {
			v := *values[i].(*any)
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			r[n] = v
		}
		out = append(out, r)
	}
	require.NoError(t, rows.Err())
	return out
}
