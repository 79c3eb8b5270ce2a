package sqldb_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// hold keeps rows locked until the test ends.
func (f *fixture) hold(queries ...string) {
	f.t.Helper()
	tx, err := f.raw.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = tx.Rollback() })
	for _, q := range queries {
		_, err := tx.Exec(q + " FOR UPDATE")
		require.NoError(f.t, err)
	}
}

func TestAChunkLocksNoRowThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		if f.kind == "sqlite" {
			return // one writer locks everything
		}
		db := f.events(3000)
		db.Split(200, 200)
		// The last due rows, and the last before each gap, have no children: what comes behind them is somebody else's.
		f.exec(`
UPDATE events SET at_time = '2030-01-01 00:00:00' WHERE id IN (300, 301, 700);
DELETE FROM details WHERE event_id BETWEEN 1431 AND 1439 OR event_id IN (298, 299, 699)`)
		f.hold("SELECT id FROM events WHERE id IN (300, 301, 700, 1440)", "SELECT id FROM details WHERE event_id IN (300, 301, 700, 1440)")
		j := &journal{}
		job := eventJob(j)
		job.Pace.Transaction, job.Pace.Connections = time.Hour, 2
		m, err := db.Sweep(context.Background(), job)
		require.NoError(t, err)
		require.EqualValues(t, 8, m.Transactions, "a chunk that met a lock was tried again in parts")
		require.Equal(t, map[string]int64{"events delete": 1436, "details delete": 1424}, j.sum())
	})
}

func TestChildrenOfTheLastRowsGoWhereverTheyAre(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]string{
		"every row has some": "event_id < 0",
		"the first only":     "event_id BETWEEN 2 AND 1439",
		"the last only":      "event_id < 1439",
		"none":               "event_id < 1440",
		"beside gaps":        "event_id BETWEEN 90 AND 110 OR event_id BETWEEN 1300 AND 1400",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				db := f.events(1500)
				f.exec("DELETE FROM details WHERE " + remove + ";\nDELETE FROM details WHERE event_id IN (100, 1301);\nDELETE FROM events WHERE id IN (100, 1301)")
				var want int64
				require.NoError(t, f.raw.QueryRow("SELECT count(*) FROM details WHERE event_id < 1440").Scan(&want))
				var late bool
				j := &journal{}
				job := eventJob(atStep{j, func(name string) {
					if name == sqldb.StepSaved && !late { // between the keys' reading and the first chunk
						late = true
						f.exec("INSERT INTO details VALUES (9000, 1439), (9001, 99)")
					}
				}})
				f.finish(db, job)
				require.Equal(t, want+2, j.sum()["details delete"])
				require.Equal(t, []string{"61"}, f.rows("SELECT count(*) FROM details"))
				require.Equal(t, []string{"61"}, f.rows("SELECT count(*) FROM events"))
			})
		})
	}
}

// patience bounds waits for what must happen.
const patience = 30 * time.Second

func TestAChildThatComesBeforeItsParentIsLockedGoesToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "mariadb")
	db := f.events(200)
	f.exec("DELETE FROM details")
	tx, err := f.raw.Begin()
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.Exec("INSERT INTO details VALUES (1, 200)") // holds the parent
	require.NoError(t, err)
	j, ended := &journal{}, make(chan error, 1)
	go func() {
		_, err := db.Sweep(context.Background(), eventJob(j))
		ended <- err
	}()
	require.Eventually(t, func() bool {
		return f.rows(`SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id
WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'`)[0] == "1"
	}, patience, 200*time.Millisecond)
	require.NoError(t, tx.Commit())
	require.NoError(t, <-ended)
	require.Equal(t, map[string]int64{"events delete": 200, "details delete": 1}, j.sum())
	require.Equal(t, []string{"0"}, f.rows("SELECT count(*) FROM details"))
}

func TestLockWaitsAreSeenHoweverOftenTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "mariadb")
	db := f.events(100)
	f.exec("CREATE TABLE busy (id BIGINT PRIMARY KEY, n INT);\nINSERT INTO busy VALUES (1, 0)")
	others, err := sql.Open("mysql", dbtest.MySQLDSN(f.url))
	require.NoError(t, err)
	defer others.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(stop)
	all.Go(func() { // another sweep that looks: InnoDB's list of transactions stays as it is
		for {
			select {
			case <-stop:
				return
			default:
				var n int
				_ = others.QueryRow("SELECT count(*) FROM information_schema.innodb_trx").Scan(&n)
			}
		}
	})
	tx, err := f.raw.Begin()
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.Exec("UPDATE busy SET n = 1")
	require.NoError(t, err)
	for range 3 {
		all.Go(func() { _, _ = others.Exec("UPDATE busy SET n = 2") })
	}
	require.Eventually(t, func() bool {
		return f.rows("SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND info = 'UPDATE busy SET n = 2' AND time_ms > 100")[0] == "3"
	}, patience, 20*time.Millisecond)
	job := eventJob(&journal{})
	job.Pace.LockWaits = 2
	asked := 0
	job.Pace.Stop = func() bool { asked++; return asked > 3 }
	m, err := db.Sweep(context.Background(), job)
	require.ErrorIs(t, err, connectors.ErrYield)
	require.Len(t, m.Pauses, 1)
	require.Positive(t, m.Pauses[connectors.PauseLockWaits])
	require.Equal(t, []string{"100"}, f.rows("SELECT count(*) FROM events"), "nothing goes while others wait")
}

func TestATransactionThatIsLeftIdleEnds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "mariadb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, kind)
			f.exec("CREATE TABLE busy (id BIGINT PRIMARY KEY, n INT);\nINSERT INTO busy VALUES (1, 0)")
			db := f.openSystem(&connectors.System{Limits: connectors.Limits{Statement: time.Second}})
			tx, err := db.SQL.Begin()
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			_, err = tx.Exec("UPDATE busy SET n = 1")
			require.NoError(t, err)
			f.exec("UPDATE busy SET n = 2") // waits until the server has ended the other
			require.Error(t, tx.Commit())
			require.Equal(t, []string{"2"}, f.rows("SELECT n FROM busy"))
		})
	}
}
