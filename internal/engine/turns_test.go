package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// twoRules is the shop with a second rule, of visits.
func twoRules(t *testing.T, control string, n int, configure func(*engine.Config)) (*house, *target) {
	t.Helper()
	h, x := sweepHouse(t, control, n, ", review: never", configure)
	x.exec("CREATE TABLE visits (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), at TIMESTAMP NOT NULL)")
	x.exec("CREATE INDEX visits_at ON visits (at)")
	x.exec("CREATE INDEX visits_customer ON visits (customer_id)")
	x.exec("INSERT INTO visits SELECT id, customer_id, at FROM logins")
	yaml := loginsMap(", review: never")
	_, logins, found := strings.Cut(yaml, "      logins:")
	require.True(t, found)
	h.activate(yaml + "      visits:" + logins)
	return h, x
}

// Sweeps of one System never work at once, and each has its turn: one that needs many slices keeps the other from none.
func TestSweepsOfOneSystemTakeTurns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		h, x := twoRules(t, control, 30, nil)
		h.tick()
		var order []string
		h.hooks.sweep = func(_ context.Context, j *connectors.SweepJob) error {
			order = append(order, j.Entity)
			works := 0
			for _, s := range h.sweeps() {
				if s.Works {
					works++
				}
			}
			require.Equal(t, 1, works)
			h.time.forward(time.Second)
			if len(order) < 10 {
				return connectors.ErrYield
			}
			return nil
		}
		h.night()
		for _, s := range h.sweeps() {
			s = h.swept(s.ID, retention.SweepDone)
			require.False(t, s.Works)
			require.Empty(t, s.Reason)
		}
		require.Zero(t, x.count("SELECT count(*) FROM logins WHERE at < '2026-02-01'")+x.count("SELECT count(*) FROM visits WHERE at < '2026-02-01'"))
		require.Len(t, order, 11)
		for i := range order[1:] {
			require.NotEqual(t, order[i], order[i+1], "%v", order)
		}
	})
}

// Two workers that take slices of two Sweeps of one System at the same time: one waits until the other has left.
func TestTwoWorkersTakeTurns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		for _, together := range []int{0, 2} {
			h, _ := twoRules(t, control, 30, func(c *engine.Config) { c.Policy.Retention.Together = together })
			first := h.sweepNow(rule)
			h.time.forward(time.Second)
			second := h.sweepNow("shop.visits.short")
			inside := 0
			h.hooks.sweep = func(ctx context.Context, j *connectors.SweepJob) error {
				if inside++; inside > 1 {
					return nil
				}
				var other sync.WaitGroup // another worker, meanwhile
				other.Go(func() {
					require.NoError(t, h.SweepSlice(ctx, engine.SweepSlice{SweepID: second.ID, Fence: second.Fence}))
				})
				other.Wait()
				s, err := h.GetSweep(ctx, officer, second.ID)
				require.NoError(t, err)
				if together == 2 {
					require.Equal(t, retention.SweepDone, s.State)
					return nil
				}
				require.Equal(t, retention.SweepRunning, s.State)
				require.False(t, s.Works)
				require.Equal(t, "turn", s.Reason)
				require.Equal(t, "waits for another sweep of shop", s.Hint)
				return nil
			}
			require.NoError(t, h.SweepSlice(t.Context(), engine.SweepSlice{SweepID: first.ID, Fence: first.Fence}))
			h.swept(first.ID, retention.SweepDone)
			h.drain()
			require.Empty(t, h.swept(second.ID, retention.SweepDone).Reason)
			require.Equal(t, 2, inside)
		}
	})
}

// A worker that was killed keeps the turn until its lease ends, and a Sweep that is paused, or waits for its window or after a
// fault, keeps nobody.
func TestNobodyWaitsForWhatDoesNotWork(t *testing.T) {
	t.Parallel()
	h, _ := twoRules(t, dbtest.SQLite(t), 30, func(c *engine.Config) {
		c.Policy.Retention.Window = engine.Window{From: 2 * time.Hour, To: 4 * time.Hour}
	})
	first, err := h.Sweep(t.Context(), operator, rule, false) // by day: it waits for the night
	require.NoError(t, err)
	h.sliceOf(first)
	second := h.sweepNow("shop.visits.short")
	h.sliceOf(second)
	h.swept(second.ID, retention.SweepDone)

	first = h.sweepNow(rule)
	h.time.forward(time.Second)
	second = h.sweepNow("shop.visits.short")
	require.NoError(t, h.store.InTx(t.Context(), func(tx engine.Tx) error { // as by a worker that is never heard of again
		s, err := tx.Sweep(first.ID)
		require.NoError(t, err)
		_, err = tx.AcquireSweep(first.ID, s.Fence, h.time.Now(), 90*time.Second)
		return err
	}))
	hint := func(s *retention.Sweep) string { return h.swept(s.ID, retention.SweepRunning).Hint }
	require.Empty(t, hint(first))
	h.hooks.sweep = nil
	h.sliceOf(second)
	require.Equal(t, "turn", h.swept(second.ID, retention.SweepRunning).Reason)
	h.time.forward(30 * time.Second)
	require.Equal(t, "its worker was last heard of at 2026-03-02T11:00:01+01:00; another takes over at 2026-03-02T11:01:31+01:00", hint(first))
	require.Equal(t, "waits for another sweep of shop", hint(second))
	h.time.forward(61 * time.Second)
	require.Equal(t, "its worker was last heard of at 2026-03-02T11:00:01+01:00, and no other has taken over yet", hint(first))
	h.store.work = nil // the jobs are lost, too
	require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickLeases}))
	h.drain()
	h.swept(first.ID, retention.SweepDone)
	h.swept(second.ID, retention.SweepDone)
}

// sliceOf works one slice of a Sweep as it is now.
func (h *house) sliceOf(s *retention.Sweep) {
	h.t.Helper()
	now, err := h.GetSweep(h.t.Context(), officer, s.ID)
	require.NoError(h.t, err)
	require.NoError(h.t, h.SweepSlice(h.t.Context(), engine.SweepSlice{SweepID: s.ID, Fence: now.Fence}))
}
