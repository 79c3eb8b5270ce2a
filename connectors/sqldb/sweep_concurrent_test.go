package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// events is a table of n rows a minute apart from 2020 on with a child each, and its map.
func (f *fixture) events(n int) *sqldb.DB {
	f.t.Helper()
	f.exec(`
CREATE TABLE events (id BIGINT PRIMARY KEY, at_time TIMESTAMP NULL, what VARCHAR(20));
CREATE INDEX events_at ON events (at_time);
CREATE TABLE details (id BIGINT PRIMARY KEY, event_id BIGINT NOT NULL REFERENCES events (id));
CREATE INDEX details_event ON details (event_id)`)
	for start := 1; start <= n; start += 1000 {
		var events, details []string
		for id := start; id < min(start+1000, n+1); id++ {
			at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(id) * time.Minute)
			events = append(events, fmt.Sprintf("(%d, '%s', 'x')", id, at.Format(time.DateTime)))
			details = append(details, fmt.Sprintf("(%d, %d)", id, id))
		}
		f.exec("INSERT INTO events VALUES " + strings.Join(events, ","))
		f.exec("INSERT INTO details VALUES " + strings.Join(details, ","))
	}
	return f.open(
		connectors.Entity{Name: "events", Erase: dsr.Delete},
		connectors.Entity{Name: "details", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("event_id", "events")}},
	)
}

func eventJob(j connectors.Journal) connectors.SweepJob {
	return connectors.SweepJob{
		Entity: "events", Rule: ruleOn("at_time"), Journal: j,
		Cut: connectors.Cut{Before: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), Zone: time.UTC}, // 1,439 rows
	}
}

func TestConnectionsShareASweep(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(3000)
		db.Split(20, 20)
		j := &journal{}
		job := eventJob(j)
		job.Pace.Connections = 3
		f.finish(db, job)
		require.Equal(t, map[string]int64{"events delete": 1439, "details delete": 1439}, j.sum())
		require.Equal(t, []string{"1561|1440|3000"}, f.rows("SELECT count(*), min(id), max(id) FROM events"))
		require.Equal(t, []string{"1561"}, f.rows("SELECT count(*) FROM details"))
	})
}

func TestTwoSweepsAtOnceCountEveryRowOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(2000)
		db.Split(30, 30)
		journals := []*journal{{}, {}}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, j := range journals {
			wg.Go(func() {
				for errs[i] = connectors.ErrYield; errs[i] != nil; {
					if _, errs[i] = db.Sweep(context.Background(), eventJob(j)); errs[i] != nil && dsr.CodeOf(errs[i]) != dsr.CodeUnavailable {
						return
					}
				}
			})
		}
		wg.Wait()
		total := map[string]int64{}
		for i, j := range journals {
			require.NoError(t, errs[i])
			for k, n := range j.sum() {
				total[k] += n
			}
		}
		require.Equal(t, map[string]int64{"events delete": 1439, "details delete": 1439}, total)
	})
}

// atStep calls fn at every step.
type atStep struct {
	*journal
	fn func(name string)
}

func (a atStep) Step(name string) { a.fn(name); a.journal.Step(name) }

func TestARowWhoseTimeIsMovedStays(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(200)
		db.Split(50, 50)
		moved := false
		j := &journal{}
		job := eventJob(atStep{j, func(name string) {
			if name == sqldb.StepCommitted && !moved { // the keys of later chunks were read already
				moved = true
				f.exec("UPDATE events SET at_time = '2030-01-01 00:00:00' WHERE id IN (77, 150)")
				f.exec("UPDATE events SET at_time = '2019-01-01 00:00:00' WHERE id = 199")
			}
		}})
		f.finish(db, job)
		require.Equal(t, []string{"77", "150"}, f.rows("SELECT id FROM events ORDER BY id"))
		require.Equal(t, []string{"77", "150"}, f.rows("SELECT event_id FROM details ORDER BY id"), "its children stay with it")
		require.Equal(t, map[string]int64{"events delete": 198, "details delete": 198}, j.sum())
	})
}

func TestAChunkThatRestsIsOneTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(1200)
		db.Split(240, 240)
		moved := false
		j := &journal{}
		job := eventJob(atStep{j, func(name string) {
			if name == sqldb.StepCommitted && !moved { // the last chunk's last burst is no longer as its keys were read
				moved = true
				f.exec("UPDATE events SET at_time = '2030-01-01 00:00:00' WHERE id = 1190")
			}
		}})
		job.Pace.Duty, job.Pace.Transaction = 0.9, time.Hour
		m, err := db.Sweep(context.Background(), job)
		require.NoError(t, err)
		require.EqualValues(t, 5, m.Transactions)
		require.Positive(t, m.Pauses[connectors.PauseDuty])
		require.Equal(t, []string{"1190"}, f.rows("SELECT id FROM events"))
		require.Equal(t, []string{"1190"}, f.rows("SELECT event_id FROM details"))
		require.Equal(t, map[string]int64{"events delete": 1199, "details delete": 1199}, j.sum())
	})
}

func TestARangeOfKeysLeavesOutItsGaps(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(200)
		db.Split(50, 50)
		f.exec("DELETE FROM details WHERE event_id IN (77, 150, 151)")
		f.exec("DELETE FROM events WHERE id IN (77, 150, 151)")
		filled := false
		j := &journal{}
		job := eventJob(atStep{j, func(name string) {
			if name == sqldb.StepCommitted && !filled { // the keys of later chunks were read already
				filled = true
				f.exec("INSERT INTO events VALUES (77, '2019-01-01 00:00:00', 'x'), (150, '2030-01-01 00:00:00', 'x')")
				f.exec("INSERT INTO details VALUES (77, 77), (150, 150)")
			}
		}})
		f.finish(db, job)
		require.Equal(t, []string{"77", "150"}, f.rows("SELECT id FROM events ORDER BY id"), "77 is the next sweep's")
		require.Equal(t, []string{"77", "150"}, f.rows("SELECT event_id FROM details ORDER BY id"))
		require.Equal(t, map[string]int64{"events delete": 197, "details delete": 197}, j.sum())
	})
}

func TestAHoldPlacedDuringASweepWinsAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk + "ALTER TABLE orders ADD at_day DATE;\nUPDATE orders SET at_day = '2020-01-01'")
		es := helpdeskMap()
		db := f.open(es...)
		db.Split(1, 1)
		j := &journal{}
		owned := false
		job := connectors.SweepJob{
			Entity: "orders", Rule: ruleOn("at_day"), Cut: cutAt("2024-01-01"),
			Held: connectors.Holds{Subjects: connectors.Batch{subject("h", "email", "cy@example.com")}},
			Journal: atStep{j, func(name string) {
				if name == sqldb.StepCommitted && !owned {
					owned = true
					f.exec("UPDATE orders SET customer_id = 42 WHERE id = 12")
				}
			}},
		}
		f.finish(db, job)
		require.Equal(t, []string{"12|42"}, f.rows("SELECT id, customer_id FROM orders"), "the held person's by the time of its chunk")
		require.Equal(t, []string{"102"}, f.rows("SELECT id FROM order_lines"))
		require.Equal(t, map[string]int64{"orders delete": 2, "order_lines delete": 2}, j.sum())
	})
}

func TestALostConnectionInAChunkIsResumed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		if f.kind == "sqlite" { // it has no connections that could be lost
			return
		}
		db := f.events(500)
		db.Split(100, 100)
		for _, step := range []string{sqldb.StepChanged, sqldb.StepIntent} {
			j := &journal{}
			killed := false
			job := eventJob(atStep{j, func(name string) {
				if name == step && !killed {
					killed = true
					f.killOthers()
				}
			}})
			_, err := db.Sweep(context.Background(), job)
			require.Error(t, err)
			require.False(t, connectors.IsPermanent(err), "%v", err)
			f.finish(db, job)
			require.Empty(t, f.rows("SELECT id FROM events"))
			require.Equal(t, map[string]int64{"events delete": 500, "details delete": 500}, j.sum())
			f.exec("DROP TABLE details;\nDROP TABLE events")
			db = f.events(500)
			db.Split(100, 100)
		}
	})
}

// killOthers ends every other session of the database, and waits until they have ended.
func (f *fixture) killOthers() {
	f.t.Helper()
	conn, err := f.raw.Conn(context.Background())
	require.NoError(f.t, err)
	defer conn.Close()
	if f.kind == "postgres" {
		_, err := conn.ExecContext(context.Background(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'lethe'`)
		require.NoError(f.t, err)
		return
	}
	rows, err := conn.QueryContext(context.Background(), "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
	require.NoError(f.t, err)
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		require.NoError(f.t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(f.t, rows.Err())
	for _, id := range ids {
		_, _ = conn.ExecContext(context.Background(), fmt.Sprintf("KILL %d", id))
	}
}

func TestAStopEndsASweepBeforeItsNextChunk(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(1000)
		db.Split(10, 10)
		var stop atomic.Bool
		j := &journal{}
		chunks := 0
		job := eventJob(atStep{j, func(name string) {
			if name == sqldb.StepCommitted {
				if chunks++; chunks == 3 {
					stop.Store(true)
				}
			}
		}})
		job.Pace.Stop = stop.Load
		m, err := db.Sweep(context.Background(), job)
		require.ErrorIs(t, err, connectors.ErrYield)
		require.EqualValues(t, 3, m.Transactions)
		require.Equal(t, []string{"970"}, f.rows("SELECT count(*) FROM events"))
		_, err = db.Sweep(context.Background(), job)
		require.ErrorIs(t, err, connectors.ErrYield, "while it is stopped nothing happens")
		stop.Store(false)
		f.finish(db, job)
		require.Equal(t, map[string]int64{"events delete": 1000, "details delete": 1000}, j.sum())
	})
}

func TestAPauseEndsWithAStopAndIsMeasured(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.events(100)
		db.Split(10, 10)
		asked := 0
		job := eventJob(&journal{})
		job.Pace.Duty = 0.0001 // the first pause would last for minutes
		job.Pace.Stop = func() bool { asked++; return asked > 4 }
		m, err := db.Sweep(context.Background(), job)
		require.ErrorIs(t, err, connectors.ErrYield)
		require.Len(t, m.Pauses, 1)
		require.Positive(t, m.Pauses[connectors.PauseDuty])
	})
}

func TestActiveSessionsPauseASweep(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		if f.kind != "postgres" {
			return
		}
		db := f.events(100)
		f.exec("CREATE TABLE busy (id BIGINT PRIMARY KEY);\nINSERT INTO busy VALUES (1)")
		tx, err := f.raw.Begin()
		require.NoError(t, err)
		_, err = tx.Exec("UPDATE busy SET id = 1")
		require.NoError(t, err)
		waiting := make(chan error, 1)
		other, err := sql.Open("pgx", f.url)
		require.NoError(t, err)
		defer other.Close()
		go func() { _, err := other.Exec("UPDATE busy SET id = 1"); waiting <- err }()
		require.Eventually(t, func() bool {
			return f.rows("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")[0] == "1"
		}, 20*time.Second, 10*time.Millisecond)
		job := eventJob(&journal{})
		job.Pace.Sessions = 1 // one session waits for a lock and one sleeps: both are active
		asked := 0
		job.Pace.Stop = func() bool { asked++; return asked > 3 }
		sleeper, err := sql.Open("pgx", f.url)
		require.NoError(t, err)
		defer sleeper.Close()
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _, _ = sleeper.ExecContext(ctx, "SELECT pg_sleep(60)") }()
		require.Eventually(t, func() bool {
			return f.rows("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND datname = current_database()")[0] == "1"
		}, 20*time.Second, 10*time.Millisecond)
		m, err := db.Sweep(context.Background(), job)
		require.ErrorIs(t, err, connectors.ErrYield)
		require.Len(t, m.Pauses, 1)
		require.Positive(t, m.Pauses[connectors.PauseSessions])
		require.Equal(t, []string{"100"}, f.rows("SELECT count(*) FROM events"))
		cancel()
		require.NoError(t, tx.Rollback())
		require.NoError(t, <-waiting)
	})
}

func TestAChunkThatMeetsALockIsTriedInParts(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		if f.kind == "sqlite" { // one writer: the whole file is locked
			return
		}
		f.events(64)
		db := f.openSystem(&connectors.System{Limits: connectors.Limits{Lock: time.Second}, Entities: []connectors.Entity{
			{Name: "details", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("event_id", "events")}}, {Name: "events", Erase: dsr.Delete},
		}})
		tx, err := f.raw.Begin()
		require.NoError(t, err)
		_, err = tx.Exec("UPDATE events SET what = 'y' WHERE id = 1")
		require.NoError(t, err)
		j := &journal{}
		saw := false
		job := eventJob(atStep{j, func(name string) {
			if name == sqldb.StepCommitted && !saw { // a part without the locked row went first or later; let the rest go
				saw = true
				_ = tx.Rollback()
			}
		}})
		f.finish(db, job)
		require.True(t, saw)
		require.Equal(t, map[string]int64{"events delete": 64, "details delete": 64}, j.sum())
	})
}

func TestRelatedRowsDecide(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk + "ALTER TABLE orders ADD at_day DATE;\nALTER TABLE order_lines ADD at_day DATE;\n" +
			"UPDATE orders SET at_day = '2020-01-01';\nUPDATE order_lines SET at_day = '2020-01-01';\nUPDATE order_lines SET at_day = '2024-05-01' WHERE id = 102;\nDELETE FROM messages")
		db := f.open(helpdeskMap()...)
		r := connectors.Rule{Rule: retention.Rule{Action: retention.Delete, Start: retention.StartingPoint{
			Kind: retention.StartField, Latest: []retention.Related{{Entity: "orders", Field: "at_day"}, {Entity: "order_lines", Field: "at_day"}},
			Null: retention.NullKeep,
		}}}
		require.Equal(t, map[string]int64{"customers delete": 1, "orders delete": 2, "order_lines delete": 2},
			f.sweep(db, "customers", r, cutAt("2024-01-01"), connectors.Holds{}), "lines are related through their orders")
		require.Equal(t, []string{"2", "42"}, f.rows("SELECT id FROM customers ORDER BY id"))
		r.Start.Null = retention.NullDue
		require.Equal(t, map[string]int64{"customers delete": 1}, f.sweep(db, "customers", r, cutAt("2024-01-01"), connectors.Holds{}))
		require.Equal(t, []string{"2"}, f.rows("SELECT id FROM customers"))
	})
}

func TestTenantsOfSweptRowsAreNotMixed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, account VARCHAR(10), email VARCHAR(200), name VARCHAR(20), left_on DATE);
CREATE TABLE notes (id BIGINT PRIMARY KEY, account VARCHAR(10), customer_id BIGINT);
INSERT INTO customers VALUES (1, 'x', 'anna@example.com', 'A', '2020-01-01'), (2, 'y', 'bo@example.com', 'B', '2020-01-01'), (3, 'y', 'cy@example.com', 'B', '2025-01-01');
INSERT INTO notes VALUES (1, 'x', 1), (2, 'y', 1), (3, 'y', 2), (4, 'x', 2), (5, 'y', 3);
`)
		c := customers()
		c.Tenant = "account"
		db := f.openSystem(&connectors.System{TenantName: "account", Entities: []connectors.Entity{
			c, {Name: "notes", Tenant: "account", OwnedBy: []connectors.Owner{owner("customer_id", "customers")}},
		}})
		require.Equal(t, map[string]int64{"customers delete": 2, "notes delete": 2},
			f.sweep(db, "customers", ruleOn("left_on"), cutAt("2024-01-01"), connectors.Holds{}))
		require.Equal(t, []string{"2", "4", "5"}, f.rows("SELECT id FROM notes ORDER BY id"), "they are another tenant's")
	})
}

// pairs are accounts 1 to n, due but for the last, of which each but the last sends the next one a parcel.
func (f *fixture) pairs(n int) *sqldb.DB {
	f.t.Helper()
	f.exec("CREATE TABLE accounts (id BIGINT PRIMARY KEY, at_day DATE);\n" +
		"CREATE TABLE parcels (id BIGINT PRIMARY KEY, sender_id BIGINT NOT NULL REFERENCES accounts (id), receiver_id BIGINT NOT NULL REFERENCES accounts (id))")
	for id := 1; id <= n; id++ {
		f.exec(fmt.Sprintf("INSERT INTO accounts VALUES (%d, '%s')", id, map[bool]string{true: "2020-01-01", false: "2030-01-01"}[id < n]))
		if id > 1 {
			f.exec(fmt.Sprintf("INSERT INTO parcels VALUES (%d, %d, %d)", id, id-1, id))
		}
	}
	return f.open(
		connectors.Entity{Name: "accounts", Erase: dsr.Delete},
		connectors.Entity{Name: "parcels", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("sender_id", "accounts"), owner("receiver_id", "accounts")}},
	)
}

// Chunks of several connections that own rows together end as one chunk does: either goes with all of it.
func TestConnectionsThatOwnRowsTogether(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.pairs(40)
		db.Split(3, 3)
		f.exec("DELETE FROM parcels WHERE id IN (11, 21, 31, 40)")
		j := &journal{}
		job := connectors.SweepJob{Entity: "accounts", Rule: ruleOn("at_day"), Cut: cutAt("2024-01-01"), Journal: j}
		job.Pace.Connections = 4
		for range 50 { // who loses too many races gives up for now
			if _, err := db.Sweep(context.Background(), job); err == nil {
				break
			}
		}
		require.Equal(t, map[string]int64{"accounts delete": 39, "parcels delete": 35}, j.sum())
		require.Equal(t, []string{"40"}, f.rows("SELECT id FROM accounts"))
	})
}

// What a chain of rows that hold on to each other leads to decides about all of them, from whichever end it is read.
func TestAChainThatEndsAtARowWhichStays(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.pairs(12)
		db.Split(2, 2)
		f.exec("DELETE FROM parcels WHERE id = 7")
		due := f.due(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{})
		require.Equal(t, connectors.Due{Rows: 11, Blocked: 5, BlockedBy: []string{"parcels"}, Total: 12}, due)
		require.Equal(t, map[string]int64{"accounts delete": 6, "accounts blocked": 5, "parcels delete": 5},
			f.sweep(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{}), "12 is not due, and 11 sends it a parcel")
		require.Equal(t, []string{"7", "8", "9", "10", "11", "12"}, f.rows("SELECT id FROM accounts ORDER BY id"))
	})
}

// A family that is too large for one transaction is decided row by row: what cannot let go blocks, and is named.
func TestAFamilyThatIsTooLarge(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		db := f.pairs(30)
		f.exec("DELETE FROM parcels WHERE id IN (5, 30)")
		db.SplitFamilies(20)
		require.Equal(t, map[string]int64{"accounts delete": 4, "accounts blocked": 25, "parcels delete": 3},
			f.sweep(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{}))
		due := f.due(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{})
		require.Equal(t, connectors.Due{Rows: 25, Blocked: 25, BlockedBy: []string{"parcels"}, Total: 26}, due)
	})
}

// A foreign key of a row that does not belong to the row it refers to keeps that row, whoever took it along.
func TestWhoHoldsOnToARowKeepsIt(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE accounts (id BIGINT PRIMARY KEY, at_day DATE);
CREATE TABLE papers (id BIGINT PRIMARY KEY, owner_id BIGINT NOT NULL REFERENCES accounts (id), reader_id BIGINT NOT NULL REFERENCES accounts (id));
CREATE TABLE quotes (id BIGINT PRIMARY KEY, paper_id BIGINT NOT NULL REFERENCES papers (id));
INSERT INTO accounts VALUES (1, '2020-01-01'), (2, '2020-01-01'), (3, '2030-01-01'), (4, '2020-01-01'), (5, '2020-01-01'), (6, '2020-01-01');
INSERT INTO papers VALUES (1, 1, 2), (2, 3, 4), (3, 5, 5), (4, 6, 6);
INSERT INTO quotes VALUES (1, 3);
`)
		for _, chunk := range []int{1, 100} {
			db := f.open(
				connectors.Entity{Name: "accounts", Erase: dsr.Delete},
				connectors.Entity{
					Name: "papers", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("owner_id", "accounts")},
					AccessedBy: []connectors.Owner{owner("reader_id", "accounts")},
				},
				connectors.Entity{Name: "quotes", Erase: dsr.Delete, AccessedBy: []connectors.Owner{owner("paper_id", "papers")}},
			)
			db.Split(chunk, chunk)
			due := f.due(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{})
			require.EqualValues(t, 2, due.Blocked)
			require.Equal(t, []string{"papers", "quotes"}, due.BlockedBy)
			counts := f.sweep(db, "accounts", ruleOn("at_day"), cutAt("2024-01-01"), connectors.Holds{})
			require.EqualValues(t, 2, counts["accounts blocked"])
			require.Equal(t, []string{"3", "4", "5"}, f.rows("SELECT id FROM accounts ORDER BY id"),
				"4 reads what stays, and 5 owns what is quoted; 2 reads what goes")
			require.Equal(t, []string{"2", "3"}, f.rows("SELECT id FROM papers ORDER BY id"))
			require.NoError(t, db.Close())
		}
	})
}
