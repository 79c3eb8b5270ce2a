package failure

import (
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// enough failures in a row for what these tests do to one run.
const patient = 12

// The target's connections end at every kind of step of an erasure, as they do when it restarts: the work goes on by
// itself and counts every row once.
func TestTargetRestarted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		p := newProxy(t, w.host(t))
		end := p.cut
		if b.driver == "pgx" {
			end = func() { terminate(t, w.db) }
		}
		var mu sync.Mutex
		cuts := map[string]int{}
		h := open(t, options{
			control: dbtest.SQLite(t), dir: t.TempDir(), target: w.through(t, p), attempts: patient, auto: true,
			step: func(_, name string) {
				mu.Lock()
				cuts[name]++
				first := cuts[name] == 1
				mu.Unlock()
				if first {
					end()
				}
			},
		})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.erased(t, w, r.ID)
		mu.Lock()
		defer mu.Unlock()
		for _, step := range []string{sqldb.StepChanged, sqldb.StepIntent, sqldb.StepCommitted, sqldb.StepSaved} {
			require.Positive(t, cuts[step], step)
		}
	})
}

// The answer to COMMIT is lost: the transaction took place and Lethe does not know.
func TestAnswerToCommitLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		p := newProxy(t, w.host(t))
		h := open(t, options{
			control: dbtest.SQLite(t), dir: t.TempDir(), target: w.through(t, p), attempts: patient,
		})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.await(t, r.ID, dsr.AwaitingReview)
		const times = 3
		p.losing("COMMIT", times)
		h.approve(t, r)
		h.erased(t, w, r.ID)
		require.Equal(t, times, p.losses())
	})
}

// A statement is interrupted while the server works on it.
func TestCutMidStatement(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		p := newProxy(t, w.host(t))
		h := open(t, options{
			control: dbtest.SQLite(t), dir: t.TempDir(), target: w.through(t, p), attempts: patient,
		})
		h.activate(t, w.dataMap(notesDeleted))
		r := h.file(t, dsr.Erasure, 0)
		h.await(t, r.ID, dsr.AwaitingReview)
		const times = 2
		p.losing("DELETE", times)
		h.approve(t, r)
		h.erased(t, w, r.ID)
		require.Equal(t, times, p.losses())
	})
}

// The control database ends every connection, those of transactions included, at steps of the work and after changes of
// state.
func TestControlDatabaseRestarted(t *testing.T) {
	t.Parallel()
	w := backends[0].world(t)
	control := dbtest.Postgres(t)
	admin, err := sql.Open("pgx", control)
	require.NoError(t, err)
	admin.SetMaxOpenConns(1) // or one would end the other
	t.Cleanup(func() { _ = admin.Close() })
	var filed atomic.Bool
	var restarts, ended atomic.Int64
	restart := func() {
		if filed.Load() && restarts.Add(1) <= 15 {
			ended.Add(terminate(t, admin))
		}
	}
	h := open(t, options{
		control: control, dir: t.TempDir(), target: w.url, attempts: patient, lease: 2 * time.Second, auto: true,
		step:  func(string, string) { restart() },
		moved: func(dsr.State, dsr.State) { restart() },
	})
	h.activate(t, w.dataMap(notesDeleted))
	erasure, copied := h.file(t, dsr.Erasure, 0), h.file(t, dsr.Access, 1)
	filed.Store(true)
	h.await(t, copied.ID, dsr.Completed)
	h.erased(t, w, erasure.ID)
	require.GreaterOrEqual(t, restarts.Load(), int64(15))
	require.GreaterOrEqual(t, ended.Load(), int64(15))
	info, err := h.engine.PackageInfo(t.Context(), bob, copied.ID)
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Records)
}

// terminate ends every other connection to a PostgreSQL database and says how many there were.
func terminate(t testing.TB, db *sql.DB) int64 {
	t.Helper()
	var n int64
	require.NoError(t, db.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&n))
	return n
}
