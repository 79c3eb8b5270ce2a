package failure

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// logins are rows that are due, beside one that is not.
const logins = 6000

const loginsRule = "desk.logins.short"

// logins adds a table with a rule to the world, and returns their map.
func (w *target) logins(t *testing.T) []byte {
	t.Helper()
	w.exec(
		t,
		`CREATE TABLE logins (id bigint PRIMARY KEY, customer_id bigint NOT NULL, on_day date NOT NULL,
			FOREIGN KEY (customer_id) REFERENCES customers (id))`,
		"CREATE INDEX logins_day ON logins (on_day)", "CREATE INDEX logins_customer ON logins (customer_id)",
		"INSERT INTO logins VALUES (1000000, 1, '2095-01-01')",
		"CREATE TABLE busy (id int PRIMARY KEY, n int)", "INSERT INTO busy VALUES (1, 0)",
	)
	var rows []string
	for id := range logins {
		rows = append(rows, fmt.Sprintf("(%d, 1, '2015-01-%02d')", id, 1+id*28/logins))
	}
	w.exec(t, "INSERT INTO logins VALUES "+strings.Join(rows, ","))
	return fmt.Appendf(nil, `%s      logins:
        owned_by: {customer_id: customers}
        not_personal: [on_day]
        erase: delete
        retention: [{class: short, start: on_day, action: delete, review: never}]
`, strings.Replace(string(w.dataMap(notesDeleted)), "deletion_classes:\n", "deletion_classes:\n  short: {period: P30D, from: collection}\n", 1))
}

// waiting counts the sessions of the target that wait for a lock on rows.
func (w *target) waiting(t *testing.T) int64 {
	t.Helper()
	if w.driver == "pgx" {
		return w.count(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	}
	// What InnoDB says of its transactions is made anew only when nobody has asked for 100 ms, so whoever asks often, as
	// tests do, sees the same for ever. Nothing else here takes that long.
	return w.count(t, `SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()
AND command = 'Query' AND id <> CONNECTION_ID() AND time_ms > 100`)
}

// queue makes sessions wait for a row until it is let go.
func (w *target) queue(t *testing.T, sessions int64) (letGo func()) {
	t.Helper()
	holder, err := w.db.Begin()
	require.NoError(t, err)
	_, err = holder.Exec("UPDATE busy SET n = 1 WHERE id = 1")
	require.NoError(t, err)
	var waiters sync.WaitGroup
	for range sessions {
		waiters.Go(func() {
			if w.driver == "mysql" {
				_, _ = w.db.Exec("SET STATEMENT innodb_lock_wait_timeout = 60 FOR UPDATE busy SET n = 2 WHERE id = 1")
			} else {
				_, _ = w.db.Exec("UPDATE busy SET n = 2 WHERE id = 1")
			}
		})
	}
	letGo = sync.OnceFunc(func() {
		_ = holder.Rollback()
		waiters.Wait()
	})
	t.Cleanup(letGo)
	require.Eventually(t, func() bool { return w.waiting(t) == sessions }, patience, 20*time.Millisecond)
	return letGo
}

func (h *house) sweep(t *testing.T) string {
	t.Helper()
	s, err := h.engine.Sweep(t.Context(), bob, loginsRule, true)
	require.NoError(t, err)
	return s.ID
}

// sweepUntil waits until a Sweep is as a test wants it, and fails when it has failed.
func (h *house) sweepUntil(t *testing.T, id string, is func(s *retention.Sweep) bool) *retention.Sweep {
	t.Helper()
	var s *retention.Sweep
	require.Eventually(t, func() bool {
		var err error
		s, err = h.engine.GetSweep(t.Context(), bob, id)
		return err == nil && (is(s) || s.State == retention.SweepFailed)
	}, patience, 20*time.Millisecond)
	require.NotEqual(t, retention.SweepFailed, s.State, "%s: %s", s.Reason, s.Hint)
	return s
}

// done waits for a Sweep's end and looks whether it did its work, once.
func (h *house) done(t *testing.T, w *target, id string) *retention.Sweep {
	t.Helper()
	s := h.sweepUntil(t, id, func(s *retention.Sweep) bool { return !s.State.Open() })
	require.Equal(t, retention.SweepDone, s.State, "%s: %s", s.Reason, s.Hint)
	require.EqualValues(t, 1, w.count(t, "SELECT count(*) FROM logins"))
	var deleted int64
	for _, l := range s.Results {
		deleted += l.Count
	}
	require.EqualValues(t, logins, deleted)
	return s
}

// A sweep does nothing while the application's sessions wait or work, and goes on when they have ended.
func TestLoadPausesASweep(t *testing.T) {
	t.Parallel()
	for why, pace := range map[string]connectors.Pace{"lock-waits": {LockWaits: 1}, "sessions": {Sessions: 1}} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, b backend) {
				w := b.world(t)
				h := open(t, options{
					control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url, slice: 500 * time.Millisecond, pace: pace,
				})
				h.activate(t, w.logins(t))
				letGo := w.queue(t, 2)
				id := h.sweep(t)
				h.sweepUntil(t, id, func(s *retention.Sweep) bool { return s.Measures.Pauses[why] > 0 })
				require.EqualValues(t, logins+1, w.count(t, "SELECT count(*) FROM logins"))
				letGo()
				s := h.done(t, w, id)
				require.Len(t, s.Measures.Pauses, 1)
			})
		})
	}
}

// Everything is stopped while a chunk waits for a row of the application's: at most that chunk is still committed. The
// sweep goes on when it is told to, and every row is counted once.
func TestAStopInTheMiddleOfAChunk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b backend) {
		w := b.world(t)
		var stopped atomic.Bool
		var after atomic.Int64
		h := open(t, options{
			control: dbtest.SQLite(t), dir: t.TempDir(), target: w.url, attempts: patient,
			step: func(_, name string) {
				if name == sqldb.StepCommitted && stopped.Load() {
					after.Add(1)
				}
			},
		})
		h.activate(t, w.logins(t))
		holder, err := w.db.Begin()
		require.NoError(t, err)
		t.Cleanup(func() { _ = holder.Rollback() })
		_, err = holder.Exec("UPDATE logins SET customer_id = 2 WHERE id = 1500")
		require.NoError(t, err)
		id := h.sweep(t)
		require.Eventually(t, func() bool { return w.waiting(t) > 0 }, patience, 5*time.Millisecond, "no chunk meets the row")
		_, err = h.engine.StopSweeps(t.Context(), bob, "incident")
		require.NoError(t, err)
		stopped.Store(true)
		require.NoError(t, holder.Rollback())
		s := h.sweepUntil(t, id, func(s *retention.Sweep) bool { return s.State == retention.SweepPaused })
		require.Equal(t, "stopped", s.Reason)
		require.LessOrEqual(t, after.Load(), int64(1), "only the chunk under way")
		left := w.count(t, "SELECT count(*) FROM logins")
		require.Greater(t, left, int64(1))
		_, err = h.engine.Sweep(t.Context(), bob, loginsRule, true)
		require.Error(t, err, "nothing begins while everything is stopped")
		require.NoError(t, h.engine.Tick(t.Context(), engine.Tick{Name: engine.TickSweeps}))
		require.Equal(t, left, w.count(t, "SELECT count(*) FROM logins"))
		stopped.Store(false)
		_, err = h.engine.StartSweeps(t.Context(), bob)
		require.NoError(t, err)
		h.done(t, w, id)
	})
}
