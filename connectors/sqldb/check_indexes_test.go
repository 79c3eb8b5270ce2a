package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// indexRows are 10,000 logins of which one in a hundred is due.
func indexRows() string {
	digits := "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4" +
		" UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9) AS "
	var out []string
	for at, where := range map[string]string{"2020-01-01": "a.d + b.d = 0", "2030-01-01": "a.d + b.d > 0"} {
		out = append(out, fmt.Sprintf("INSERT INTO logins (id, c, at, seen, weight, kind, note) SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d, 2, '%s',"+
			" '2020-01-01', 1, CASE WHEN c.d < 5 THEN 'web' ELSE 'app' END, CASE WHEN d.d < 5 THEN 'x' END FROM %sa, %sb, %sc, %sd WHERE %s",
			at, digits, digits, digits, digits, where))
	}
	return strings.Join(out, ";\n")
}

func only(field string, values ...string) []dsr.Condition {
	return []dsr.Condition{{Field: field, Values: values}}
}

// partitionedLogins is the table of ruleSchema on PostgreSQL, in two partitions of which each may have an index.
const partitionedLogins = `DROP TABLE logins;
CREATE TABLE logins (
  id INTEGER NOT NULL, c INTEGER NOT NULL, at DATE NOT NULL, seen DATE NOT NULL, ended DATE, weight NUMERIC(5,2) NOT NULL, kind VARCHAR(20) NOT NULL,
  note VARCHAR(200), PRIMARY KEY (id)
) PARTITION BY HASH (id);
CREATE TABLE logins_0 PARTITION OF logins FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE logins_1 PARTITION OF logins FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX logins_c ON logins (c);
CREATE INDEX i0 ON logins_0 (at)`

var startIndexes = []struct {
	name   string
	on     string // backends; empty is all
	sql    string
	when   []dsr.Condition
	served bool
	whole  bool // the database would read the whole index instead of the table, which its plan does not tell from less
}{
	{name: "none", sql: "SELECT 1"},
	{name: "the column", sql: "CREATE INDEX i ON logins (at)", served: true},
	{name: "descending", sql: "CREATE INDEX i ON logins (at DESC)", served: true},
	{name: "first of several", sql: "CREATE INDEX i ON logins (at, kind)", served: true},
	{name: "second of several", sql: "CREATE INDEX i ON logins (kind, at)"},
	{name: "behind a condition", sql: "CREATE INDEX i ON logins (kind, at)", when: only("kind", "web"), served: true},
	{name: "behind a condition of several values", sql: "CREATE INDEX i ON logins (kind, at)", when: only("kind", "web", "tv"), served: true},
	{name: "behind two conditions", sql: "CREATE INDEX i ON logins (note, kind, at)", when: append(only("kind", "web"), only("note", "x")...), served: true},
	{name: "behind a NULL", sql: "CREATE INDEX i ON logins (note, at)", when: []dsr.Condition{{Field: "note", Null: true}}, served: true},
	{name: "behind a condition that ties nothing", sql: "CREATE INDEX i ON logins (note, at)", when: []dsr.Condition{{Field: "note", NotNull: true}}, whole: true},
	{name: "the condition alone", sql: "CREATE INDEX i ON logins (kind)", when: only("kind", "web")},
	{name: "an expression", on: "postgres sqlite", sql: "CREATE INDEX i ON logins ((coalesce(at, seen)))"},
	{name: "hash", on: postgres, sql: "CREATE INDEX i ON logins USING hash (at)"},
	{name: "brin", on: postgres, sql: "CREATE INDEX i ON logins USING brin (at)"},
	{name: "of present starts", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE at IS NOT NULL", served: true},
	{name: "of what is meant", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE kind = 'web'", when: only("kind", "web"), served: true},
	{name: "of more than is meant", on: postgres, sql: "CREATE INDEX i ON logins (at) WHERE kind IN ('web', 'tv')", when: only("kind", "web"), served: true},
	{name: "of more than is proven", on: sqlite, sql: "CREATE INDEX i ON logins (at) WHERE kind IN ('web', 'tv')", when: only("kind", "web")},
	{name: "of less than is meant", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE kind = 'web'"},
	{name: "of other rows", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE kind = 'web'", when: only("kind", "tv")},
	{
		name: "of rows with NULL", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE note IS NULL",
		when: []dsr.Condition{{Field: "note", Null: true}}, served: true,
	},
	{
		name: "of rows without NULL", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE note IS NOT NULL",
		when: []dsr.Condition{{Field: "note", NotNull: true}}, served: true,
	},
	{name: "of rows with a value", on: "postgres sqlite", sql: "CREATE INDEX i ON logins (at) WHERE note IS NOT NULL", when: only("note", "x"), served: true},
	{
		name: "behind an enum", on: postgres, when: only("kind", "web"), whole: true,
		sql: "CREATE TYPE kind AS ENUM ('web', 'app');\nALTER TABLE logins ALTER kind TYPE kind USING kind::kind;\nCREATE INDEX i ON logins (kind, at)",
	},
	{name: "of one partition", on: postgres, sql: partitionedLogins},
	{name: "of every partition", on: postgres, sql: partitionedLogins + ";\nCREATE INDEX i1 ON logins_1 (at)", served: true},
}

// TestStartIndexes sees that Check finds an index good enough where the database would use it for a sweep, and only there.
func TestStartIndexes(t *testing.T) {
	t.Parallel()
	for _, c := range startIndexes {
		for backend := range backends {
			if c.on != "" && !slices.Contains(strings.Fields(c.on), backend) {
				continue
			}
			t.Run(c.name+"/"+backend, func(t *testing.T) {
				t.Parallel()
				s := ruleSystem()
				e := s.Entity("logins")
				e.Rules[0].When = c.when
				url := backends[backend](t)
				raw := openRaw(t, url)
				execAll(t, raw, cleanSchema)
				execAll(t, raw, strings.Replace(ruleSchema, "CREATE INDEX logins_at ON logins (at);\n", "", 1))
				rows := indexRows()
				if strings.Contains(c.sql, "ENUM") {
					rows = strings.ReplaceAll(rows, "END, CASE", "END::kind, CASE")
				}
				execAll(t, raw, c.sql)
				execAll(t, raw, rows)
				execAll(t, raw, map[string]string{postgres: "ANALYZE", mariadb: "ANALYZE TABLE logins", sqlite: "ANALYZE"}[backend])

				found := checkURL(t, backend, url, s)
				missed := slices.ContainsFunc(found, func(f connectors.Finding) bool {
					return f.Code == FindUnindexedStart && f.Entity == "logins" && f.Rule == loginsRule
				})
				require.Equal(t, c.served, !missed, "%+v", found)
				for what, plan := range sweepPlans(t, s, backend, raw) {
					if c.whole {
						continue
					}
					require.Equal(t, c.served, strings.Contains(plan, "bounded by at"), "%s: %s", what, plan)
				}
				if !missed {
					return
				}
				i := slices.IndexFunc(found, func(f connectors.Finding) bool { return f.Code == FindUnindexedStart })
				execAll(t, raw, found[i].Hint) // the statement in the hint settles it
				execAll(t, raw, map[string]string{postgres: "ANALYZE", mariadb: "ANALYZE TABLE logins", sqlite: "ANALYZE"}[backend])
				require.NotContains(t, codesOf(checkURL(t, backend, url, s)), FindUnindexedStart)
				for what, plan := range sweepPlans(t, s, backend, raw) {
					require.Contains(t, plan, "bounded by at", what)
				}
			})
		}
	}
}

// recorder is a session that keeps statements instead of running them.
type recorder struct{ calls []*call }

func (r *recorder) run(_ context.Context, calls ...*call) error {
	r.calls = append(r.calls, calls...)
	return nil
}

// sweepPlans are the database's plans for the statements that count and read what is due. A plan that reads no more than
// what lies before the cut-off has "bounded by at" in it.
func sweepPlans(t *testing.T, s *connectors.System, backend string, raw *sql.DB) map[string]string {
	t.Helper()
	db, err := Open(t.Context(), s, connectors.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	m, err := db.modelOf(t.Context())
	require.NoError(t, err)
	cut := connectors.Cut{Before: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC}
	u, err := m.newSweepRule("logins", s.Entity("logins").Rules[0], cut, connectors.Holds{})
	require.NoError(t, err)
	out := map[string]string{}
	for what, ask := range map[string]func(session) error{
		"read": func(r session) error {
			_, err := u.feed(t.Context(), r, phase{Order: byStart}, nil, nil, 10)
			return err
		},
		"count": func(r session) error { _, err := countDue(t.Context(), r, []*sweepRule{u}); return err },
	} {
		r := &recorder{}
		require.NoError(t, ask(r))
		require.Len(t, r.calls, 1)
		explain := map[string]string{postgres: "EXPLAIN ", mariadb: "EXPLAIN FORMAT=JSON ", sqlite: "EXPLAIN QUERY PLAN "}[backend]
		out[what] = planOf(t, raw, explain+r.calls[0].text, r.calls[0].args)
		if boundedBy(backend, out[what]) {
			out[what] += "bounded by at"
		}
	}
	return out
}

// planOf is what the server explains: the last column of each row.
func planOf(t *testing.T, raw *sql.DB, explain string, args []any) string {
	rows, err := raw.QueryContext(t.Context(), explain, args...)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	names, err := rows.Columns()
	require.NoError(t, err)
	var plan strings.Builder
	for rows.Next() {
		values, at := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range values {
			at[i] = &values[i]
		}
		require.NoError(t, rows.Scan(at...))
		plan.WriteString(values[len(values)-1].String + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// boundedBy reports whether a plan reads no more than what lies before the cut-off: one row in a hundred.
func boundedBy(backend, plan string) bool {
	switch backend {
	case postgres:
		for line := range strings.Lines(plan) {
			if strings.Contains(line, "Index Cond:") && strings.Contains(line, "(at <") {
				return !strings.Contains(plan, "Seq Scan")
			}
		}
		return false
	case sqlite: // ANY is a search for every value of the column before
		return strings.Contains(plan, "at<?") && !strings.Contains(plan, "ANY(")
	}
	rows := 10_000
	if _, rest, ok := strings.Cut(plan, `"rows": `); ok {
		_, _ = fmt.Sscan(rest, &rows)
	}
	return rows < 1000 && strings.Contains(plan, `"key": "`)
}
