package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// untouched fails when a sweeper is called: what stops before it deletes must not get that far.
func (h *house) untouched() {
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
		h.t.Error("the connector was asked to sweep")
		return nil
	}
}

// A cap on the share of a table stops before anything is deleted; of a small table it says nothing.
func TestACapOnTheShareOfATable(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 1200, ", review: never, cap: {share: 50%}", nil)
	h.untouched()
	f, err := h.Forecast(t.Context(), officer, rule)
	require.NoError(t, err)
	require.Equal(t, "over-cap", f.Rules[0].Would)
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "Stopped: 1,200 due, 99.8% of 1,202, cap 50%. Nothing deleted.", s.Hint)
	require.EqualValues(t, 1202, x.count(countLogins))
	require.Empty(t, s.Results)
	h.hooks.sweep = nil
	_, err = h.ApproveSweep(t.Context(), officer, s.ID, s.Version, 1200)
	require.NoError(t, err)
	h.drain()
	require.EqualValues(t, 1200, h.swept(s.ID, retention.SweepDone).Count(dsr.Delete))

	small, x := sweepHouse(t, dbtest.SQLite(t), 30, ", review: never, cap: {share: 50%}", nil)
	small.night()
	require.EqualValues(t, 30, small.swept(small.sweeps()[0].ID, retention.SweepDone).Count(dsr.Delete))
	require.EqualValues(t, 2, x.count(countLogins))
}

// Growth stops before anything is deleted, too.
func TestACapOnGrowthDeletesNothing(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 30, ", review: never, cap: {growth: 3}", func(c *engine.Config) { c.Policy.CountSlack = 10 })
	h.night()
	h.untouched()
	for i := range 91 {
		x.exec("INSERT INTO logins VALUES (?, 1, '2026-01-01 08:00:00')", i)
	}
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "over-cap", s.Reason)
	require.EqualValues(t, 93, x.count(countLogins))
	h.hooks.sweep = nil
	x.exec("DELETE FROM logins WHERE id = 1")
	h.night()
	require.EqualValues(t, 90, h.swept(h.sweeps()[0].ID, retention.SweepDone).Count(dsr.Delete), "three times as much is not more")
}

// After nights in which nothing was due any number is growth.
func TestACapOnGrowthFromNothing(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 0, ", review: never, cap: {growth: 3}", func(c *engine.Config) { c.Policy.CountSlack = 10 })
	h.night()
	h.night()
	for _, s := range h.sweeps() {
		require.Zero(t, *h.swept(s.ID, retention.SweepDone).Due)
	}
	for i := range 11 {
		x.exec("INSERT INTO logins VALUES (?, 1, '2026-01-01 08:00:00')", i)
	}
	h.untouched()
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "Stopped: 11 due, and nothing in the last 2 sweeps, cap 3 times. Nothing deleted.", s.Hint)
	h.hooks.sweep = nil
	x.exec("DELETE FROM logins WHERE id = 1")
	h.night()
	require.EqualValues(t, 10, h.swept(h.sweeps()[0].ID, retention.SweepDone).Count(dsr.Delete), "so few say nothing")
}

// What cannot be counted is not swept, and says so.
func TestFaultsOfCounting(t *testing.T) {
	t.Parallel()
	refused := func(context.Context, connectors.DueQuery) error { return errors.New("canary@example.com refused") }
	broken := func(context.Context, connectors.DueQuery) error {
		return connectors.Permanent("no-index", "the starting point has no index", "create one", nil)
	}
	t.Run("before a sweep", func(t *testing.T) {
		t.Parallel()
		h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		h.untouched()
		h.hooks.due = broken
		s := h.sweepNow(rule)
		h.drain()
		got := h.swept(s.ID, retention.SweepFailed)
		require.Equal(t, "no-index", got.Reason)
		require.Nil(t, got.Due, "nobody knows how much is due")
		require.EqualValues(t, 12, x.count(countLogins))
		h.hooks.due = refused
		s = h.sweepNow(rule)
		h.drain()
		require.Equal(t, "unavailable", h.swept(s.ID, retention.SweepFailed).Reason)
		require.EqualValues(t, 12, x.count(countLogins))
		require.NotContains(t, h.log.String(), "canary")
		f, err := h.Forecast(t.Context(), officer, rule)
		require.NoError(t, err)
		require.Contains(t, f.Rules[0].Problem, "unavailable")
		require.Empty(t, f.Rules[0].Horizons)
		h.hooks.due, h.hooks.sweep = nil, nil
		h.night()
		h.swept(h.sweeps()[0].ID, retention.SweepDone)
	})
	t.Run("after a sweep", func(t *testing.T) {
		t.Parallel()
		h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		n := 0
		h.hooks.due = func(ctx context.Context, q connectors.DueQuery) error {
			if n++; n == 2 || n == 3 {
				return refused(ctx, q)
			}
			return nil
		}
		s := h.sweepNow(rule)
		h.drain()
		got := h.swept(s.ID, retention.SweepDone)
		require.Zero(t, *got.Left)
		require.EqualValues(t, 10, got.Count(dsr.Delete), "what was deleted is counted once")
		require.EqualValues(t, 2, x.count(countLogins))
	})
	t.Run("of a rule that waits for its review", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 10, "", nil)
		h.hooks.due = refused
		h.night()
		r, err := h.Rule(t.Context(), officer, rule)
		require.NoError(t, err)
		require.Nil(t, r.State.Counted, "what was never counted is not taken for nothing")
		require.Contains(t, h.log.String(), "what is due was not counted")
		require.NotContains(t, h.log.String(), "canary")
		h.hooks.due = nil
		h.night()
		r, err = h.Rule(t.Context(), officer, rule)
		require.NoError(t, err)
		require.EqualValues(t, 10, r.State.Backlog)
		counted := *r.State.Counted
		h.hooks.due = refused
		h.night()
		r, err = h.Rule(t.Context(), officer, rule)
		require.NoError(t, err)
		require.Equal(t, counted, *r.State.Counted, "when it was counted last is seen")
	})
}

// A clock that was ahead when a sweep began and is set right deletes nothing that it forbids.
func TestAClockThatIsSetBackEndsASweep(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
	x.exec("INSERT INTO logins VALUES (8000, 1, '2026-02-10 08:00:00')")
	h.time.forward(20 * 24 * time.Hour)
	s := h.sweepNow(rule)
	slices := 0
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
		if slices++; slices == 1 {
			return connectors.ErrYield
		}
		return nil
	}
	_, ok := h.stepOnce()
	require.True(t, ok)
	h.time.forward(-20 * 24 * time.Hour)
	h.drain()
	got := h.swept(s.ID, retention.SweepEnded)
	require.Equal(t, "clock-set-back", got.Reason)
	require.Equal(t, 1, slices)
	require.EqualValues(t, many+3, x.count(countLogins))
	s = h.sweepNow(rule)
	h.drain()
	require.EqualValues(t, many, h.swept(s.ID, retention.SweepDone).Count(dsr.Delete))
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM logins WHERE id = 8000"), "its time has not come")
}

// Its own cut-off may be the same all year, and that of a rule that it waits for another every day.
func TestAClockThatIsSetBackEndsASweepThatWaitsForAnotherRule(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, loginsSchema+shopRows)
	fillLogins(x, 10)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(strings.NewReplacer(
		"  short: {period: P30D, from: collection}\n", "  short: {period: P30D, from: collection}\n  year: {period: P0D, from: end_of_calendar_year}\n",
		"retention: [{class: short, start: at, action: delete, review: never}]",
		"retention: [{class: short, name: first, start: at, action: next}, {class: year, name: short, start: at, action: delete, review: never}]",
	).Replace(loginsMap(", review: never")))
	x.exec("UPDATE logins SET at = '2025-' || substr(at, 6)")
	x.exec("INSERT INTO logins VALUES (8000, 1, '2025-12-31 08:00:00')")
	h.time.forward(20 * 24 * time.Hour)
	s := h.sweepNow(rule)
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error { return connectors.ErrYield }
	_, ok := h.stepOnce()
	require.True(t, ok)
	h.time.forward(-20 * 24 * time.Hour)
	h.untouched()
	h.drain()
	require.Equal(t, "clock-set-back", h.swept(s.ID, retention.SweepEnded).Reason)
}

// A clock that goes back by hours within a day, as at the end of summer time, ends nothing.
func TestAClockThatGoesBackWithinADay(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
	s := h.sweepNow(rule)
	h.time.forward(-time.Hour)
	h.drain()
	h.swept(s.ID, retention.SweepDone)
	require.EqualValues(t, 2, x.count(countLogins))
}

// A hold covers rows, not names: under a map that calls their entity otherwise nothing is deleted until somebody has said
// what the hold covers now.
func TestAHoldOnWhatTheMapNoLongerHas(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
	place := func(entity string) *dsr.Hold {
		held, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
			System: "shop", Entity: entity, When: []dsr.Condition{{Field: "customer_id", Values: []string{"2"}}},
			Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
		})
		require.NoError(t, err)
		return held
	}
	held := place("logins")
	h.activate(strings.Replace(loginsMap(", review: never"), "      logins:\n", "      visits:\n        table: logins\n", 1))
	h.untouched()
	s := h.sweepNow("shop.visits.short")
	h.drain()
	got := h.swept(s.ID, retention.SweepFailed)
	require.Equal(t, "hold-unresolved", got.Reason)
	require.Contains(t, got.Hint, held.ID)
	require.EqualValues(t, 12, x.count(countLogins))
	place("visits")
	h.lift(held)
	h.hooks.sweep = nil
	s = h.sweepNow("shop.visits.short")
	h.drain()
	got = h.swept(s.ID, retention.SweepDone)
	require.EqualValues(t, 3, got.Held)
	require.EqualValues(t, 7, got.Count(dsr.Delete))
}
