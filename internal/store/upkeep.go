package store

import (
	"context"
	"time"

	"gorm.io/gorm/clause"
)

type scheduleRow struct {
	Name    string `gorm:"primaryKey"`
	LastRun time.Time
}

func (scheduleRow) TableName() string { return "schedules" }

func (t *tx) LastRun(name string) (time.Time, error) {
	rows, err := find[scheduleRow](t, t.db.Where("name = ?", name).Limit(1))
	if err != nil || len(rows) == 0 {
		return time.Time{}, err
	}
	return utc(rows[0].LastRun), nil
}

func (t *tx) SetLastRun(name string, at time.Time) error {
	c := clause.OnConflict{
		Columns:   []clause.Column{{Name: "name"}},
		DoUpdates: clause.AssignmentColumns([]string{"last_run"}),
	}
	return create(t, []scheduleRow{{Name: name, LastRun: stamp(at)}}, c)
}

func (t *tx) Clock() (time.Time, error) {
	if !t.postgres {
		return time.Time{}, nil
	}
	var rows []struct{ At time.Time }
	if err := t.scan(&rows, "SELECT clock_timestamp() AS at"); err != nil {
		return time.Time{}, err
	}
	return utc(rows[0].At), nil
}

// failuresKept is how long a failed attempt is kept after it, or the lock that it brought, is over.
const failuresKept = 24 * time.Hour

// Purge takes a Request only once its package is removed, and everything that belongs to it with it. Leaves stay.
func (t *tx) Purge(closed, now time.Time, limit int) (int64, error) {
	closed, now = stamp(closed), stamp(now)
	var total int64
	for _, p := range []struct {
		sql string
		at  time.Time
	}{
		{`DELETE FROM spool WHERE id IN (SELECT s.id FROM spool s JOIN tasks k ON k.id = s.task
			JOIN requests r ON r.id = k.request WHERE r.closed_at <= ? LIMIT ?)`, now},
		{`DELETE FROM requests WHERE id IN (SELECT id FROM requests r WHERE r.closed_at < ? AND NOT EXISTS (
			SELECT 1 FROM packages p WHERE p.request = r.id AND p.removed_at IS NULL) LIMIT ?)`, closed},
		{`DELETE FROM runs WHERE id IN (SELECT id FROM runs u WHERE u.done AND u.lease_until < ? AND NOT EXISTS (
			SELECT 1 FROM tasks k WHERE k.run = u.id AND k.run <> '') LIMIT ?)`, closed},
		{`DELETE FROM sweeps WHERE id IN (SELECT id FROM sweeps WHERE finished_at < ? LIMIT ?)`, closed},
		{`DELETE FROM holds WHERE id IN (SELECT id FROM holds WHERE lifted_at < ? LIMIT ?)`, closed},
		{`DELETE FROM suppressions WHERE (request, name, commitment) IN (
			SELECT request, name, commitment FROM suppressions WHERE expires <= ? LIMIT ?)`, now},
		{`DELETE FROM links WHERE token_hash IN (SELECT token_hash FROM links WHERE expires <= ? LIMIT ?)`, now},
		{`DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires <= ? LIMIT ?)`, now},
		// Addresses are personal data: a day is long enough for any lockout.
		{`DELETE FROM auth_failures WHERE subject IN (SELECT subject FROM auth_failures
			WHERE COALESCE(locked_until, since) < ? LIMIT ?)`, now.Add(-failuresKept)},
	} {
		n, err := t.exec(p.sql, p.at, limit)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// QueueDepth counts the jobs that wait or run, by queue and state.
func (s *Store) QueueDepth(ctx context.Context) (map[string]map[string]int64, error) {
	depth := make(map[string]map[string]int64)
	err := s.inTx(ctx, func(t *tx) error {
		var rows []struct {
			Queue, State string
			N            int64
		}
		err := t.scan(&rows, `SELECT queue, state, count(*) AS n FROM river_job
			WHERE state IN ('available', 'running', 'retryable', 'scheduled') GROUP BY queue, state`)
		for _, w := range rows {
			if depth[w.Queue] == nil {
				depth[w.Queue] = make(map[string]int64)
			}
			depth[w.Queue][w.State] = w.N
		}
		return err
	})
	return depth, err
}
