package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
)

func TestPartitionsThatAreDueAreDropped(t *testing.T) {
	t.Parallel()
	for kind, schema := range map[string]string{
		"postgres": `
CREATE TABLE visits (id BIGINT, at_day DATE NOT NULL, who VARCHAR(10), PRIMARY KEY (id, at_day)) PARTITION BY RANGE (at_day);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');
CREATE TABLE visits_3 PARTITION OF visits FOR VALUES FROM ('2020-03-01') TO ('2020-04-01');
CREATE TABLE visits_4 PARTITION OF visits FOR VALUES FROM ('2020-04-01') TO (MAXVALUE)`,
		"mariadb": `
CREATE TABLE visits (id BIGINT, at_day DATE NOT NULL, who VARCHAR(10), PRIMARY KEY (id, at_day))
PARTITION BY RANGE COLUMNS (at_day) (PARTITION visits_1 VALUES LESS THAN ('2020-02-01'), PARTITION visits_2 VALUES LESS THAN ('2020-03-01'),
PARTITION visits_3 VALUES LESS THAN ('2020-04-01'), PARTITION visits_4 VALUES LESS THAN (MAXVALUE))`,
		"mariadb days": `
CREATE TABLE visits (id BIGINT, at_day DATE NOT NULL, who VARCHAR(10), PRIMARY KEY (id, at_day))
PARTITION BY RANGE (TO_DAYS(at_day)) (PARTITION visits_1 VALUES LESS THAN (TO_DAYS('2020-02-01')), PARTITION visits_2 VALUES LESS THAN (TO_DAYS('2020-03-01')),
PARTITION visits_3 VALUES LESS THAN (TO_DAYS('2020-04-01')), PARTITION visits_4 VALUES LESS THAN (MAXVALUE))`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for stop := range 11 {
				t.Run(fmt.Sprint(stop), func(t *testing.T) {
					t.Parallel()
					f := newFixture(t, strings.Fields(kind)[0])
					f.exec(schema)
					f.exec(`INSERT INTO visits VALUES (1, '2020-01-05', 'a'), (2, '2020-01-31', 'b'), (3, '2020-02-10', 'held'), (4, '2020-02-11', 'b'), (5, '2020-03-10', 'b'), (6, '2020-03-20', 'b'), (7, '2020-05-01', 'b')`)
					db := f.open(connectors.Entity{Name: "visits", Erase: dsr.Delete})
					j := &journal{stopAt: stop}
					job := connectors.SweepJob{
						Entity: "visits", Rule: ruleOn("at_day"), Cut: cutAt("2020-03-15"), Journal: j,
						Held: connectors.Holds{Entities: []connectors.Frozen{{Entity: "visits", When: []dsr.Condition{{Field: "who", Values: []string{"held"}}}}}},
					}
					func() {
						defer func() { _ = recover() }()
						_, err := db.Sweep(context.Background(), job)
						require.NoError(t, err)
					}()
					j.stopAt = 0
					f.finish(db, job)
					require.Equal(t, []string{"3", "6", "7"}, f.rows("SELECT id FROM visits ORDER BY id"))
					require.Equal(t, map[string]int64{"visits delete": 4, "visits held": 1}, j.sum(), "stopped at %d", stop)
					names := f.rows(map[bool]string{
						true:  "SELECT relname FROM pg_class WHERE relname LIKE 'visits\\__' AND relkind = 'r' ORDER BY relname",
						false: "SELECT partition_name FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = 'visits' ORDER BY partition_name",
					}[kind == "postgres"])
					require.Equal(t, []string{"visits_2", "visits_3", "visits_4"}, names, "the second has a held row, the third one that is not due")
				})
			}
		})
	}
}

// visits is a partitioned table with n due rows in its first partition, one that stays in its second, and its map.
func (f *fixture) visits(n int) *sqldb.DB {
	f.t.Helper()
	if f.kind == "postgres" {
		f.exec(`CREATE TABLE visits (id BIGINT, at_day DATE NOT NULL, who VARCHAR(40), PRIMARY KEY (id, at_day)) PARTITION BY RANGE (at_day);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM ('2020-02-01') TO ('2020-03-01')`)
	} else {
		f.exec(`CREATE TABLE visits (id BIGINT, at_day DATE NOT NULL, who VARCHAR(40), PRIMARY KEY (id, at_day))
PARTITION BY RANGE COLUMNS (at_day) (PARTITION visits_1 VALUES LESS THAN ('2020-02-01'), PARTITION visits_2 VALUES LESS THAN ('2020-03-01'))`)
	}
	for at := 1; at <= n; at += 1000 {
		var rows []string
		for id := at; id < min(at+1000, n+1); id++ {
			rows = append(rows, fmt.Sprintf("(%d, '2020-01-05', 'somebody whose name takes some space')", id))
		}
		f.exec("INSERT INTO visits VALUES " + strings.Join(rows, ","))
	}
	f.exec("INSERT INTO visits VALUES (1000000, '2020-02-20', 'later')")
	return f.open(connectors.Entity{Name: "visits", Erase: dsr.Delete})
}

// partitions are the names of those that are there.
func (f *fixture) partitions() []string {
	f.t.Helper()
	if f.kind == "postgres" {
		return f.rows("SELECT relname FROM pg_class WHERE relname LIKE 'visits\\__' AND relkind = 'r' ORDER BY relname")
	}
	return f.rows(`SELECT partition_name FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = 'visits'
ORDER BY partition_name`)
}

// visitJob sweeps the first partition. The hold on an entity covers nobody yet.
func visitJob(j connectors.Journal) connectors.SweepJob {
	return connectors.SweepJob{
		Entity: "visits", Rule: ruleOn("at_day"), Cut: cutAt("2020-02-10"), Journal: j,
		Held: connectors.Holds{Entities: []connectors.Frozen{{Entity: "visits", When: []dsr.Condition{{Field: "who", Values: []string{"held"}}}}}},
	}
}

func TestWhileAPartitionIsCountedOthersWork(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "mariadb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, kind)
			db := f.visits(3000)
			j := &journal{}
			intents := 0
			f.finish(db, visitJob(atStep{j, func(name string) {
				if name != sqldb.StepIntent { // counted, and the journal is being written: however long that takes
					return
				}
				if intents++; intents == 1 {
					if kind == "postgres" {
						f.exec("SET lock_timeout = '2s'")
					} else {
						f.exec("SET lock_wait_timeout = 2")
					}
					require.Equal(t, []string{"3001"}, f.rows("SELECT count(*) FROM visits"))
					f.exec("INSERT INTO visits VALUES (1000001, '2020-02-21', 'later')")
				}
			}}))
			require.Equal(t, []string{"visits_2"}, f.partitions())
			require.Equal(t, map[string]int64{"visits delete": 3000}, j.sum())
			require.Equal(t, []string{"1000000", "1000001"}, f.rows("SELECT id FROM visits ORDER BY id"))
		})
	}
}

func TestACountGivesWayToAWriter(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "postgres")
	db := f.visits(3000)
	db.CountPages(1)
	writer, err := sql.Open("pgx", f.url)
	require.NoError(t, err)
	defer writer.Close()
	wrote := make(chan error, 1)
	j := &journal{}
	job := visitJob(j)
	asked := 0
	job.Pace.Stop = func() bool { // asked before each page
		if asked++; asked == 5 {
			go func() {
				_, err := writer.Exec("INSERT INTO visits VALUES (5000, '2020-01-06', 'late')")
				wrote <- err
			}()
			f.await("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'visits_1'::regclass", "1")
		}
		if asked == 6 { // it was let go after the one page
			require.NoError(t, <-wrote)
		}
		return false
	}
	f.finish(db, job)
	require.Equal(t, []string{"visits_1", "visits_2"}, f.partitions(), "its rows went one by one")
	require.Equal(t, map[string]int64{"visits delete": 3001}, j.sum())
	require.Equal(t, []string{"1000000"}, f.rows("SELECT id FROM visits"))
}

func TestALongReaderKeepsAPartitionAndNobodyQueues(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "mariadb"} {
		for _, ends := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " ends ", ends), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, kind)
				db := f.visits(2000)
				tx, err := f.raw.Begin()
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				var n int
				require.NoError(t, tx.QueryRow("SELECT count(*) FROM visits").Scan(&n))
				j := &journal{}
				job := visitJob(j)
				intended, asked := false, 0
				job.Journal = atStep{j, func(name string) { intended = intended || name == sqldb.StepIntent }}
				job.Pace.Stop = func() bool { // asked between attempts
					if asked++; intended && ends {
						_ = tx.Rollback()
					}
					return false
				}
				f.finish(db, job)
				require.Greater(t, asked, 2)
				want := []string{"visits_1", "visits_2"}
				if ends {
					want = want[1:]
				}
				require.Equal(t, want, f.partitions())
				require.Equal(t, map[string]int64{"visits delete": 2000}, j.sum())
				require.Equal(t, []string{"1000000"}, f.rows("SELECT id FROM visits"))
			})
		}
	}
}

func TestWhatIsWrittenAfterTheCountIsCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		late  string
		open  bool // the writer commits only at the next attempt
		want  map[string]int64
		parts int
		left  []string
	}{
		"a late row":          {"INSERT INTO visits VALUES (5000, '2020-01-06', 'late')", false, map[string]int64{"visits delete": 101}, 1, []string{"1000000"}},
		"one not yet written": {"INSERT INTO visits VALUES (5000, '2020-01-06', 'late')", true, map[string]int64{"visits delete": 101}, 1, []string{"1000000"}},
		"a row gone":          {"DELETE FROM visits WHERE id = 7", false, map[string]int64{"visits delete": 99}, 1, []string{"1000000"}},
		"a row moved away":    {"UPDATE visits SET at_day = '2020-02-25' WHERE id = 7", false, map[string]int64{"visits delete": 99}, 1, []string{"7", "1000000"}},
		"a row held":          {"UPDATE visits SET who = 'held' WHERE id = 7", false, map[string]int64{"visits delete": 99}, 2, []string{"7", "1000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "mariadb")
			db := f.visits(100)
			var tx *sql.Tx
			j := &journal{}
			intents := 0
			f.finish(db, visitJob(atStep{j, func(at string) {
				if at != sqldb.StepIntent {
					return
				}
				switch intents++; {
				case intents == 1 && c.open:
					var err error
					tx, err = f.raw.Begin()
					require.NoError(t, err)
					_, err = tx.Exec(c.late)
					require.NoError(t, err)
				case intents == 1:
					f.exec(c.late)
				case tx != nil:
					require.NoError(t, tx.Commit())
					tx = nil
				}
			}}))
			require.Equal(t, c.want, j.sum())
			require.Len(t, f.partitions(), c.parts)
			require.Equal(t, c.left, f.rows("SELECT id FROM visits ORDER BY id"))
		})
	}
}

func TestPartitionsThatOthersDependOnAreNotDropped(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"a foreign key": `CREATE TABLE notes (id BIGINT PRIMARY KEY, visit BIGINT, at_day DATE, FOREIGN KEY (visit, at_day) REFERENCES visits)`,
		"a publication": `CREATE PUBLICATION feed FOR TABLE visits`,
		"a trigger": `CREATE TABLE noted (id BIGINT);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (OLD.id) ; RETURN OLD ; END';
CREATE TRIGGER noted AFTER DELETE ON visits FOR EACH ROW EXECUTE FUNCTION note()`,
		"a view": `CREATE VIEW seen AS SELECT id FROM visits_1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "postgres")
			db := f.visits(100)
			f.exec(script)
			j := &journal{}
			f.finish(db, visitJob(j))
			require.Equal(t, []string{"visits_1", "visits_2"}, f.partitions())
			require.Equal(t, map[string]int64{"visits delete": 100}, j.sum())
			require.Equal(t, []string{"1000000"}, f.rows("SELECT id FROM visits"))
			if name == "a trigger" {
				require.Equal(t, []string{"100"}, f.rows("SELECT count(*) FROM noted"))
			}
		})
	}
}

func TestAUserWhoMayNotDropDeletesRows(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "mariadb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, kind)
			f.visits(100)
			user := "visitor_" + fmt.Sprint(time.Now().UnixNano())
			if kind == "postgres" {
				f.exec("CREATE ROLE " + user + " LOGIN;\nGRANT SELECT, UPDATE, DELETE ON visits TO " + user)
				t.Cleanup(func() { f.exec("DROP OWNED BY " + user + ";\nDROP ROLE " + user) })
			} else {
				f.exec("CREATE USER " + user + "@127.0.0.1 IDENTIFIED BY 'secret';\nGRANT SELECT, UPDATE, DELETE ON visits TO " + user + "@127.0.0.1")
				t.Cleanup(func() { f.exec("DROP USER " + user + "@127.0.0.1") })
			}
			s := f.system(&connectors.System{Entities: []connectors.Entity{{Name: "visits", Erase: dsr.Delete}}})
			s.Settings["dsn"] = as(t, f.url, user)
			db, err := sqldb.Open(context.Background(), s, connectors.Options{})
			require.NoError(t, err)
			defer db.Close()
			j := &journal{}
			f.finish(db, visitJob(j))
			require.Equal(t, []string{"visits_1", "visits_2"}, f.partitions())
			require.Equal(t, map[string]int64{"visits delete": 100}, j.sum())
		})
	}
}
