package sqldb

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// partitionedLogs is a table without an index on the column by which it is partitioned, and a rule starts.
var partitionedLogs = map[string]string{
	postgres: `CREATE TABLE logs (id INTEGER NOT NULL, c INTEGER NOT NULL, at DATE NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX logs_c ON logs (c);
CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ('2000-01-01') TO ('2021-01-01');
CREATE TABLE logs_new PARTITION OF logs FOR VALUES FROM ('2021-01-01') TO (MAXVALUE)`,
	mariadb: `CREATE TABLE logs (id INTEGER NOT NULL, c INTEGER NOT NULL, at DATE NOT NULL, PRIMARY KEY (id, at), KEY (c))
PARTITION BY RANGE (TO_DAYS(at)) (PARTITION old VALUES LESS THAN (TO_DAYS('2021-01-01')), PARTITION new VALUES LESS THAN MAXVALUE)`,
}

const logRows = `INSERT INTO logs (id, c, at) VALUES (1, 2, '2020-01-01'), (2, 2, '2030-01-01')`

// sweepingSystem has a rule that deletes what requests keep, one that pseudonymises, and one on a partitioned table.
func sweepingSystem() *connectors.System {
	s := ruleSystem()
	logs := *s.Entity("invoices")
	logs.Name, logs.Keep, logs.Erase, logs.Rules = "logs", nil, dsr.Delete, slices.Clone(logs.Rules)
	logs.Rules[0].Name = "shop.logs.short"
	s.Entities = append(s.Entities, logs)
	e := s.Entity("logins")
	e.Rules[0].Action, e.Rules[0].Masks = retention.Pseudonymise, map[string]mask.Spec{"note": {Kind: mask.Null}}
	return s
}

// sweepAll carries out every rule as some user; it fails the test when one cannot be.
func sweepAll(t *testing.T, db *DB) {
	t.Helper()
	cut := connectors.Cut{Before: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC}
	for _, e := range db.System.Entities {
		for _, r := range e.Rules {
			for range 10 {
				_, err := db.Sweep(t.Context(), connectors.SweepJob{Entity: e.Name, Rule: r, Cut: cut, Journal: &unkept{}})
				require.NoError(t, err, r.Name)
			}
		}
	}
}

// unkept is a journal that forgets.
type unkept struct{ connectors.Journal }

func (*unkept) Load(context.Context) ([]byte, error)                   { return nil, nil }
func (*unkept) Save(context.Context, []byte, []connectors.Tally) error { return nil }
func (*unkept) Step(string)                                            {}

// A user with what Grants prints for a map with rules finds nothing to complain of but the index that a user needs who may
// not drop partitions, and carries out every rule. Each grant is needed, and Check tells whose it is: a rule's that requests
// could do without.
func TestGrantsAreEnoughAndNeededForRules(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{postgres, mariadb} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			url := backends[backend](t)
			raw := openRaw(t, url)
			for _, st := range []string{cleanSchema, ruleSchema, partitionedLogs[backend], cleanRows, ruleRows, logRows} {
				execAll(t, raw, st)
			}
			open := func(url string) *DB {
				s := sweepingSystem()
				s.Connector, s.Settings = backend, map[string]any{"dsn": url}
				db, err := Open(t.Context(), s, connectors.Options{})
				require.NoError(t, err)
				t.Cleanup(func() { _ = db.Close() })
				return db
			}
			admin := open(url)
			found, err := admin.Check(t.Context())
			require.NoError(t, err)
			require.Empty(t, found, "who owns the table may drop partitions")

			name := url[strings.LastIndex(url, "_")+1:]
			name, _, _ = strings.Cut(name, "?")
			user := "r_" + name
			if backend == postgres {
				execAll(t, raw, "CREATE ROLE "+user+" LOGIN PASSWORD 'secret'")
				t.Cleanup(func() {
					execAll(t, raw, "REASSIGN OWNED BY "+user+" TO CURRENT_USER;\nDROP OWNED BY "+user+";\nDROP ROLE "+user)
				})
			} else {
				execAll(t, raw, "CREATE USER '"+user+"'@'%' IDENTIFIED BY 'secret'")
				t.Cleanup(func() { execAll(t, raw, "DROP USER '"+user+"'@'%'") })
			}
			script, err := admin.Grants(t.Context(), user)
			require.NoError(t, err)
			run(t, raw, script)
			limited := as(t, url, user)
			index := func(found []connectors.Finding) {
				t.Helper()
				require.Len(t, found, 1, "%+v", found)
				require.Equal(t, FindUnindexedStart, found[0].Code)
				require.Equal(t, "logs", found[0].Entity)
				require.Contains(t, found[0].Hint, "dropped whole")
			}
			found, err = open(limited).Check(t.Context())
			require.NoError(t, err)
			index(found)

			// Without its grant the rule cannot run, and only the rule.
			for entity, privilege := range map[string]string{"invoices": "DELETE", "logins": "UPDATE (note)"} {
				if backend == postgres {
					privilege = strings.ReplaceAll(privilege, "note", `"note"`)
				}
				target := " ON " + entity
				to := " '" + user + "'@'%'"
				if backend == postgres {
					to = " " + user
				}
				execAll(t, raw, "REVOKE "+privilege+target+" FROM"+to)
				found, err := open(limited).Check(t.Context())
				require.NoError(t, err)
				found = slices.DeleteFunc(found, func(f connectors.Finding) bool { return f.Code == FindUnindexedStart })
				require.Len(t, found, 1, "%+v", found)
				require.Equal(t, []string{connectors.FindPrivilege, entity, "shop." + entity + ".short"}, []string{found[0].Code, found[0].Entity, found[0].Rule})
				execAll(t, raw, "GRANT "+privilege+target+" TO"+to)
			}

			sweepAll(t, open(limited))
			require.Equal(t, [4]int{0, 1, 0, 1}, left(t, raw), "row by row")
			require.True(t, hasOldPartition(t, backend, raw))

			// With what the comment says, whole partitions go, and no index is needed.
			execAll(t, raw, "INSERT INTO logs (id, c, at) VALUES (3, 2, '2020-01-01')")
			drop := 0
			for line := range strings.Lines(script) {
				if strings.HasPrefix(line, "-- Whole partitions of logs are dropped") {
					_, statement, _ := strings.Cut(line, ": ")
					execAll(t, raw, strings.ReplaceAll(strings.TrimSuffix(strings.TrimSpace(statement), ";"), "; ", ";\n"))
					drop++
				}
			}
			require.Equal(t, 1, drop, script)
			if backend == postgres {
				execAll(t, raw, "ALTER TABLE logs_old OWNER TO "+user+";\nALTER TABLE logs_new OWNER TO "+user)
			}
			found, err = open(limited).Check(t.Context())
			require.NoError(t, err)
			require.Empty(t, found)
			sweepAll(t, open(limited))
			require.Equal(t, [4]int{0, 1, 0, 1}, left(t, raw))
			require.False(t, hasOldPartition(t, backend, raw))
		})
	}
}

// left counts invoices, logins, logins with a note, and logs.
func left(t *testing.T, db *sql.DB) [4]int {
	t.Helper()
	var n [4]int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM logins), "+
		"(SELECT count(*) FROM logins WHERE note IS NOT NULL), (SELECT count(*) FROM logs)").Scan(&n[0], &n[1], &n[2], &n[3]))
	return n
}

func hasOldPartition(t *testing.T, backend string, db *sql.DB) bool {
	t.Helper()
	query := "SELECT to_regclass('logs_old') IS NOT NULL"
	if backend == mariadb {
		query = "SELECT count(*) > 0 FROM information_schema.partitions WHERE table_schema = DATABASE() AND partition_name = 'old'"
	}
	var has bool
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&has))
	return has
}

// What lets sweeps see the server's load is a grant where they look at it, else a comment, and nothing in a map without rules.
func TestGrantsForPace(t *testing.T) {
	t.Parallel()
	for backend, grant := range map[string]string{postgres: "GRANT pg_read_all_stats TO", mariadb: "GRANT PROCESS ON *.* TO"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			url := backends[backend](t)
			execAll(t, openRaw(t, url), cleanSchema+";\n"+ruleSchema)
			lines := func(s *connectors.System, p connectors.Pace) (out []string) {
				t.Helper()
				s.Connector, s.Settings = backend, map[string]any{"dsn": url}
				db, err := Open(t.Context(), s, connectors.Options{Pace: p})
				require.NoError(t, err)
				defer func() { require.NoError(t, db.Close()) }()
				script, err := db.Grants(t.Context(), "lethe")
				require.NoError(t, err)
				for line := range strings.Lines(script) {
					if strings.Contains(line, grant) {
						out = append(out, line[:len("GRANT")])
					}
				}
				return out
			}
			require.Empty(t, lines(cleanSystem(), connectors.Pace{Sessions: 5}))
			require.Equal(t, []string{"-- Wh"}, lines(ruleSystem(), connectors.Pace{}))
			require.Equal(t, []string{"GRANT"}, lines(ruleSystem(), connectors.Pace{Sessions: 5}))
		})
	}
}
