package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// loginsSchema has rows with a starting point beside the shop's.
const loginsSchema = shopSchema + `
CREATE TABLE logins (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), at TIMESTAMP NOT NULL);
CREATE INDEX logins_at ON logins (at);
CREATE INDEX logins_customer ON logins (customer_id);
`

const rule = "shop.logins.short"

// loginsMap is the shop's with a class and a rule; more goes into the rule.
func loginsMap(more string) string {
	return strings.Replace(shopMap, "systems:\n", "deletion_classes:\n  short: {period: P30D, from: collection}\nsystems:\n", 1) + `
      logins:
        owned_by: {customer_id: customers}
        not_personal: [at]
        erase: delete
        retention: [{class: short, start: at, action: delete` + more + `}]
`
}

// sweepHouse is a house with n logins that are due and two that are not. Bob's is every third of those due.
func sweepHouse(t *testing.T, control string, n int, more string, configure func(*engine.Config)) (*house, *target) {
	t.Helper()
	x := sqliteTarget(t, loginsSchema+shopRows)
	fillLogins(x, n)
	h := open(t, control, map[string]string{"SHOP": x.url}, func(c *engine.Config) {
		auto(c)
		if configure != nil {
			configure(c)
		}
	})
	h.activate(loginsMap(more))
	return h, x
}

func fillLogins(x *target, n int) {
	x.t.Helper()
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("(%d, %d, '2026-01-%02d 08:00:00')", i, i%3+1, i%28+1))
	}
	for some := range slices.Chunk(rows, 500) {
		x.exec("INSERT INTO logins VALUES " + strings.Join(some, ", "))
	}
	x.exec("INSERT INTO logins VALUES (9001, 1, '2026-02-20 08:00:00'), (9002, 2, '2026-03-01 08:00:00')")
}

func (h *house) tick() {
	h.t.Helper()
	require.NoError(h.t, h.Tick(h.t.Context(), engine.Tick{Name: engine.TickSweeps}))
}

// night moves the clock to the next time of the schedule and works what begins.
func (h *house) night() {
	h.t.Helper()
	h.tick()
	at := h.time.Now()
	h.time.forward(time.Date(at.Year(), at.Month(), at.Day()+1, 1, 30, 0, 0, time.UTC).Sub(at)) // 02:30 or 03:30 in Stockholm
	h.tick()
	h.drain()
}

func (h *house) approveRule(name string) {
	h.t.Helper()
	s, err := h.Rule(h.t.Context(), officer, name)
	require.NoError(h.t, err)
	_, err = h.ApproveRule(h.t.Context(), officer, name, s.Hash)
	require.NoError(h.t, err)
}

func (h *house) sweeps() []*retention.Sweep {
	h.t.Helper()
	page, _, err := h.Sweeps(h.t.Context(), officer, engine.SweepFilter{})
	require.NoError(h.t, err)
	return page
}

func (h *house) sweepNow(name string) *retention.Sweep {
	h.t.Helper()
	s, err := h.Sweep(h.t.Context(), operator, name, true)
	require.NoError(h.t, err)
	return s
}

func (h *house) swept(id string, state retention.SweepState) *retention.Sweep {
	h.t.Helper()
	s, err := h.GetSweep(h.t.Context(), officer, id)
	require.NoError(h.t, err)
	require.Equal(h.t, state, s.State, "reason %q hint %q log %s", s.Reason, s.Hint, h.log.String())
	return s
}

const countLogins = "SELECT count(*) FROM logins"

func TestARuleFromItsReviewToItsCertificate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		h, x := sweepHouse(t, control, 30, "", nil)
		ctx := t.Context()

		f, err := h.Forecast(ctx, officer)
		require.NoError(t, err)
		require.Len(t, f.Rules, 1)
		require.Equal(t, "needs-approval", f.Rules[0].Would)
		var due []int64
		for _, z := range f.Rules[0].Horizons {
			due = append(due, z.Free())
		}
		require.Equal(t, []int64{30, 30, 32, 32}, due, "now, and in 7, 30 and 90 days; %v", f.Rules[0].Problem)

		h.night()
		require.Empty(t, h.sweeps(), "nobody has approved it")
		require.EqualValues(t, 32, x.count(countLogins))
		s, err := h.Rule(ctx, officer, rule)
		require.NoError(t, err)
		require.True(t, s.NeedsApproval)
		require.Nil(t, s.NextRun)
		require.EqualValues(t, 30, s.State.Backlog, "what piles up is seen")
		_, err = h.Sweep(ctx, operator, rule, true)
		require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err))

		_, err = h.ApproveRule(ctx, officer, rule, "another")
		require.Equal(t, dsr.CodeRuleMismatch, dsr.CodeOf(err))
		h.approveRule(rule)
		s, err = h.Rule(ctx, officer, rule)
		require.NoError(t, err)
		require.False(t, s.NeedsApproval)
		require.Equal(t, "2026-03-04T02:30:00+01:00", s.NextRun.Format(time.RFC3339))

		h.night()
		done := h.sweeps()
		require.Len(t, done, 1)
		got := h.swept(done[0].ID, retention.SweepDone)
		require.EqualValues(t, 30, *got.Due)
		require.Zero(t, *got.Left)
		require.EqualValues(t, 30, got.Count(dsr.Delete))
		require.Equal(t, "lethe", got.StartedBy)
		require.Equal(t, "2026-02-02T23:00:00Z", got.Before.UTC().Format(time.RFC3339), "what began 30 days ago or longer")
		require.Positive(t, got.Measures.Transactions)
		require.EqualValues(t, 2, x.count(countLogins))
		require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))

		stats, err := h.Stats(ctx)
		require.NoError(t, err)
		require.Len(t, stats.Rules, 1)
		require.True(t, stats.Active[rule])
		require.Zero(t, stats.Rules[0].Backlog)
		require.NotNil(t, stats.Rules[0].LastSuccess)

		h.tick()
		h.drain()
		require.Len(t, h.sweeps(), 1, "once a night")
	})
}

func TestOverACapNothingIsDeletedUntilThatCountIsApproved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ more, hint string }{
		"rows": {", review: never, cap: {rows: 12}", "Stopped: 30 due, cap 12. Nothing deleted."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, x := sweepHouse(t, dbtest.SQLite(t), 30, c.more, nil)
			f, err := h.Forecast(t.Context(), officer, rule)
			require.NoError(t, err)
			require.Equal(t, "over-cap", f.Rules[0].Would)
			h.night()
			s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
			require.Equal(t, c.hint, s.Hint)
			require.EqualValues(t, 32, x.count(countLogins))

			_, err = h.ApproveSweep(t.Context(), officer, s.ID, s.Version, 29)
			require.Equal(t, dsr.CodeDueMismatch, dsr.CodeOf(err))
			_, err = h.ApproveSweep(t.Context(), officer, s.ID, s.Version-1, 30)
			require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))

			h.night()
			all := h.sweeps()
			require.Len(t, all, 2, "the next night counts again")
			require.Equal(t, "superseded", h.swept(s.ID, retention.SweepEnded).Reason)
			s = h.swept(all[0].ID, retention.SweepStopped)

			x.exec("INSERT INTO logins VALUES (8000, 1, '2026-01-01 08:00:00')")
			_, err = h.ApproveSweep(t.Context(), officer, s.ID, s.Version, 30)
			require.NoError(t, err)
			h.drain()
			s = h.swept(s.ID, retention.SweepStopped)
			require.EqualValues(t, 31, *s.Due, "more is due than was approved")
			require.EqualValues(t, 33, x.count(countLogins))
			_, err = h.ApproveSweep(t.Context(), officer, s.ID, s.Version, 31)
			require.NoError(t, err)
			h.drain()
			s = h.swept(s.ID, retention.SweepDone)
			require.Equal(t, officer.ID, s.ApprovedBy)
			require.EqualValues(t, 31, s.Count(dsr.Delete))
			require.EqualValues(t, 2, x.count(countLogins))
		})
	}
}

// A cap on growth compares with the mean of the last sweeps; few rows say nothing.
func TestACapOnGrowth(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 30, ", review: never, cap: {growth: 3}", func(c *engine.Config) { c.Policy.CountSlack = 50 })
	h.night()
	require.EqualValues(t, 2, x.count(countLogins), "there is nothing to compare the first with")
	fill := func(n int) {
		for i := range n {
			x.exec(fmt.Sprintf("INSERT INTO logins VALUES (%d, 1, '2026-01-01 08:00:00')", i))
		}
	}
	fill(50)
	h.night()
	require.EqualValues(t, 2, x.count(countLogins))
	fill(121) // the mean is 40
	h.night()
	s := h.swept(h.sweeps()[0].ID, retention.SweepStopped)
	require.Equal(t, "Stopped: 121 due, 3 times the mean of the last 2 sweeps, cap 3 times. Nothing deleted.", s.Hint)
	require.EqualValues(t, 123, x.count(countLogins))
}

// many is more rows than a chunk has that is meant to take no time at all.
const many = 2500

// chunky makes every chunk small, so that a sweep has many steps.
func chunky(c *engine.Config) { c.Policy.Retention.Pace.Transaction = time.Nanosecond }

// stepsOf are the names of the first steps of a sweep of many rows.
func stepsOf(t *testing.T) []string {
	h, _ := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
	var names []string
	h.hooks.step = func(_, name string) { names = append(names, name) }
	s := h.sweepNow(rule)
	h.drain()
	h.swept(s.ID, retention.SweepDone)
	return names[:min(len(names), 12)]
}

func TestASweepKilledAtEveryStepGoesOn(t *testing.T) {
	t.Parallel()
	names := stepsOf(t)
	require.NotEmpty(t, names)
	for i, name := range names {
		t.Run(fmt.Sprintf("%d-%s", i, name), func(t *testing.T) {
			t.Parallel()
			h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
			n := 0
			h.hooks.step = func(string, string) {
				if n++; n == i+1 {
					die()
				}
			}
			s := h.sweepNow(rule)
			require.Equal(t, 1, h.drainDying())
			got := h.swept(s.ID, retention.SweepDone)
			require.EqualValues(t, many, got.Count(dsr.Delete), "%v", got.Results)
			require.EqualValues(t, 2, x.count(countLogins))
		})
	}
}

// A worker that was taken for dead and comes back changes nothing more.
func TestATakenOverSweepIsFenced(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
	asleep, wake, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var calls atomic.Int64
	h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
		if calls.Add(1) == 1 {
			close(asleep)
			<-wake
		}
		return nil
	}
	s := h.sweepNow(rule)
	w, ok := h.store.next()
	require.True(t, ok)
	go func() { over <- h.SweepSlice(context.WithoutCancel(t.Context()), w.work.(engine.SweepSlice)) }()
	<-asleep
	taken, err := h.GetSweep(t.Context(), officer, s.ID)
	require.NoError(t, err)
	require.NoError(t, h.SweepSlice(t.Context(), engine.SweepSlice{SweepID: s.ID, Fence: taken.Fence}))
	h.swept(s.ID, retention.SweepDone)
	x.exec("INSERT INTO logins VALUES (8000, 1, '2026-01-01 08:00:00')")
	close(wake)
	require.NoError(t, <-over)
	require.EqualValues(t, 3, x.count(countLogins), "the lost worker deleted nothing")
	require.EqualValues(t, many, h.swept(s.ID, retention.SweepDone).Count(dsr.Delete))
}

// Two schedulers begin one sweep, and a second delivery of a job has no further effect.
func TestTwoSchedulersAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		h, x := sweepHouse(t, control, 30, ", review: never", nil)
		h.tick()
		h.time.forward(24 * time.Hour)
		var both sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			both.Go(func() { errs[i] = h.Tick(context.WithoutCancel(t.Context()), engine.Tick{Name: engine.TickSweeps}) })
		}
		both.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Len(t, h.sweeps(), 1)
		w, ok := h.store.next()
		require.True(t, ok)
		require.NoError(t, h.do(w.work))
		require.NoError(t, h.do(w.work))
		h.drain()
		require.EqualValues(t, 30, h.swept(h.sweeps()[0].ID, retention.SweepDone).Count(dsr.Delete))
		require.EqualValues(t, 2, x.count(countLogins))
	})
}

func TestMissedNightsAreMadeUpForOnce(t *testing.T) {
	t.Parallel()
	h, _ := sweepHouse(t, dbtest.SQLite(t), 3, ", review: never", nil)
	h.night()
	h.time.forward(5 * 24 * time.Hour)
	for range 3 {
		h.tick()
		h.drain()
	}
	require.Len(t, h.sweeps(), 2)
}

func TestClocks(t *testing.T) {
	t.Parallel()
	t.Run("set back", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 3, ", review: never", nil)
		h.night()
		h.time.forward(-3 * time.Hour)
		for range 8 { // over the same half past two again
			h.tick()
			h.drain()
			h.time.forward(30 * time.Minute)
		}
		require.Len(t, h.sweeps(), 1, "no night has two sweeps")
	})
	t.Run("was years ahead and is right again", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 3, ", review: never", nil)
		require.NoError(t, h.store.InTx(t.Context(), func(tx engine.Tx) error {
			return tx.SetLastRun("sweep:"+rule, h.time.Now().AddDate(3, 0, 0))
		}))
		h.night()
		require.Len(t, h.sweeps(), 1)
	})
	t.Run("jumps ahead", func(t *testing.T) {
		t.Parallel()
		h, x := sweepHouse(t, dbtest.SQLite(t), 3, ", review: never", nil)
		h.night()
		x.exec("INSERT INTO logins VALUES (8000, 1, '2026-03-02 08:00:00')")
		h.time.forward(365 * 24 * time.Hour)
		h.tick()
		h.tick()
		h.drain()
		require.Len(t, h.sweeps(), 1)
		s, err := h.Rules(t.Context(), officer)
		require.NoError(t, err)
		require.Equal(t, "clock-jumped", s.Stopped.Reason)
		require.Equal(t, "lethe", s.Stopped.By)
		_, err = h.StartSweeps(t.Context(), operator)
		require.NoError(t, err)
		h.night()
		require.Len(t, h.sweeps(), 2, "a person said that it is right")
	})
	t.Run("disagrees with the database", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 3, ", review: never", nil)
		skew := -6 * time.Minute
		h.store.clock = func() time.Time { return h.time.Now().Add(skew) }
		h.night()
		require.Empty(t, h.sweeps())
		_, err := h.Sweep(t.Context(), operator, rule, true)
		require.ErrorContains(t, err, "clock", "nor by hand")
		skew = time.Minute
		h.night()
		h.night()
		require.NotEmpty(t, h.sweeps())
	})
}

func TestARuleThatChangesEndsItsSweep(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), many, "", chunky)
	h.approveRule(rule)
	s := h.sweepNow(rule)
	n := 0
	h.hooks.step = func(string, string) {
		if n++; n == 2 {
			_, err := h.ActivateMap(context.WithoutCancel(t.Context()), operator, []byte(strings.Replace(loginsMap(""), "P30D", "P10D", 1)))
			require.NoError(t, err)
			_, err = h.Engine.PauseRule(context.WithoutCancel(t.Context()), operator, rule) // looked at before the next chunk
			require.NoError(t, err)
			_, err = h.Engine.ResumeRule(context.WithoutCancel(t.Context()), operator, rule)
			require.NoError(t, err)
		}
	}
	h.drain()
	got := h.swept(s.ID, retention.SweepEnded)
	require.Equal(t, "rule-changed", got.Reason)
	left := x.count(countLogins)
	require.Greater(t, left, int64(2))
	require.EqualValues(t, many+2-left, got.Count(dsr.Delete), "what was done is known")
	r, err := h.Rule(t.Context(), officer, rule)
	require.NoError(t, err)
	require.True(t, r.NeedsApproval, "the changed rule needs a review of its own")
}

// A global stop takes effect while a slice works: a sweeper that never ends by itself ends by it, and so does one that is
// too busy to ask.
func TestAGlobalStopStopsWhatRuns(t *testing.T) {
	t.Parallel()
	for name, sweep := range map[string]func(context.Context, *connectors.SweepJob) error{
		"asks": func(ctx context.Context, j *connectors.SweepJob) error {
			for !j.Pace.Stop() {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				time.Sleep(time.Millisecond) // the sweeper's own work
			}
			return connectors.ErrYield
		},
		"busy": func(ctx context.Context, _ *connectors.SweepJob) error {
			<-ctx.Done()
			return errors.New("the statement was cancelled")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopsWhatRuns(t, sweep)
		})
	}
}

func stopsWhatRuns(t *testing.T, sweep func(context.Context, *connectors.SweepJob) error) {
	h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", nil)
	s := h.sweepNow(rule)
	polled := make(chan struct{})
	h.hooks.sweep = func(ctx context.Context, j *connectors.SweepJob) error {
		close(polled)
		return sweep(ctx, j)
	}
	w, _ := h.store.next()
	over := make(chan error, 1)
	go func() { over <- h.SweepSlice(context.WithoutCancel(t.Context()), w.work.(engine.SweepSlice)) }()
	<-polled
	st, err := h.StopSweeps(t.Context(), operator, "incident")
	require.NoError(t, err)
	require.Equal(t, "incident", st.Stopped.Reason)
	require.NoError(t, <-over)
	h.drain()
	paused := h.swept(s.ID, retention.SweepPaused)
	require.Equal(t, "stopped", paused.Reason)
	require.Zero(t, paused.Failures)
	require.EqualValues(t, many+2, x.count(countLogins))
	f, err := h.Forecast(t.Context(), officer)
	require.NoError(t, err)
	require.Equal(t, "stopped", f.Rules[0].Would)
	_, err = h.Sweep(t.Context(), operator, rule, true)
	require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err))
	h.night()
	require.Len(t, h.sweeps(), 1)

	h.hooks.sweep = nil
	_, err = h.StartSweeps(t.Context(), operator)
	require.NoError(t, err)
	h.drain()
	require.EqualValues(t, many, h.swept(s.ID, retention.SweepDone).Count(dsr.Delete))
}

// A pause in the middle keeps the counts exact: the chunk that ended is tallied, and no other begins.
func TestAPausedRuleGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), many, ", review: never", chunky)
	s := h.sweepNow(rule)
	n := 0
	h.hooks.step = func(string, string) {
		if n++; n == 2 {
			_, err := h.PauseRule(context.WithoutCancel(t.Context()), operator, rule)
			require.NoError(t, err)
		}
	}
	h.drain()
	got := h.swept(s.ID, retention.SweepPaused)
	require.EqualValues(t, many+2-x.count(countLogins), got.Count(dsr.Delete))
	require.Greater(t, x.count(countLogins), int64(2), "no further chunk begins")
	_, err := h.PauseRule(t.Context(), operator, rule)
	require.NoError(t, err, "twice is once")
	h.night()
	require.Len(t, h.sweeps(), 1)
	_, err = h.ResumeRule(t.Context(), operator, rule)
	require.NoError(t, err)
	h.drain()
	got = h.swept(s.ID, retention.SweepDone)
	require.EqualValues(t, many, got.Count(dsr.Delete))
	require.EqualValues(t, 2, x.count(countLogins))
}

func TestFaultsOfASweep(t *testing.T) {
	t.Parallel()
	t.Run("transient", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		n := 0
		h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
			if n++; n < 4 {
				return errors.New("connection refused")
			}
			return nil
		}
		s := h.sweepNow(rule)
		_, ok := h.stepOnce()
		require.True(t, ok)
		require.Regexp(t, "^the system failed; it is tried again at 2026-03-02T", h.swept(s.ID, retention.SweepRunning).Hint)
		h.drain()
		require.Empty(t, h.swept(s.ID, retention.SweepDone).Hint)
	})
	t.Run("without end", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		h.hooks.sweep = func(context.Context, *connectors.SweepJob) error { return errors.New("canary@example.com refused") }
		s := h.sweepNow(rule)
		h.drain()
		require.Equal(t, "unavailable", h.swept(s.ID, retention.SweepFailed).Reason)
		require.NotContains(t, h.log.String(), "canary")
		h.hooks.sweep = nil
		h.night()
		h.swept(h.sweeps()[0].ID, retention.SweepDone)
	})
	t.Run("a panic", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		h.hooks.sweep = func(context.Context, *connectors.SweepJob) error { panic("canary@example.com") }
		s := h.sweepNow(rule)
		h.drain()
		h.swept(s.ID, retention.SweepFailed)
		require.NotContains(t, h.log.String(), "canary")
	})
	t.Run("permanent", func(t *testing.T) {
		t.Parallel()
		h, _ := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", nil)
		h.hooks.sweep = func(context.Context, *connectors.SweepJob) error {
			return connectors.Permanent("no-index", "the starting point has no index", "create one", nil)
		}
		s := h.sweepNow(rule)
		h.drain()
		got := h.swept(s.ID, retention.SweepFailed)
		require.Equal(t, "no-index", got.Reason)
		require.Equal(t, "the starting point has no index; create one", got.Hint)
	})
}

// A scheduled sweep works in its window only, one that is asked for at once.
func TestTheNightlyWindow(t *testing.T) {
	t.Parallel()
	window := func(c *engine.Config) {
		c.Policy.Retention.Window = engine.Window{From: 4 * time.Hour, To: 5 * time.Hour}
	}
	h, x := sweepHouse(t, dbtest.SQLite(t), 10, ", review: never", window)
	s, err := h.Sweep(t.Context(), operator, rule, false)
	require.NoError(t, err)
	const waits = "waits for its window until 2026-03-03T04:00:00+01:00"
	require.Equal(t, waits, s.Hint)
	w, ok := h.stepOnce()
	require.True(t, ok)
	require.Equal(t, engine.SweepSlice{SweepID: s.ID, Fence: 1}, w)
	require.EqualValues(t, 12, x.count(countLogins), "it is eleven in the morning")
	require.Equal(t, waits, h.swept(s.ID, retention.SweepRunning).Hint)
	h.drain()
	h.swept(s.ID, retention.SweepDone)
	require.Equal(t, "2026-03-03T03:00:00Z", h.time.Now().Format(time.RFC3339), "it has waited for four o'clock")

	x.exec("INSERT INTO logins VALUES (8000, 1, '2026-01-01 08:00:00')")
	h.time.forward(6 * time.Hour)
	s, err = h.Sweep(t.Context(), operator, rule, false)
	require.NoError(t, err)
	_, ok = h.stepOnce()
	require.True(t, ok)
	before := h.time.Now()
	again := h.sweepNow(rule)
	require.Equal(t, s.ID, again.ID, "one sweep of a rule at a time")
	_, ok = h.stepOnce()
	require.True(t, ok)
	h.swept(s.ID, retention.SweepDone)
	require.Equal(t, before, h.time.Now())
	h.drain() // the job that waited for the window finds nothing to do
}

func TestSimulateComparesOnRealCounts(t *testing.T) {
	t.Parallel()
	h, x := sweepHouse(t, dbtest.SQLite(t), 30, "", nil)
	changed := strings.Replace(loginsMap(""), "P30D", "P5D", 1) + "        keep_me: x\n"
	_, err := h.Simulate(t.Context(), officer, []byte(changed))
	require.Equal(t, dsr.CodeInvalid, dsr.CodeOf(err))
	changed = strings.Replace(loginsMap(""), "P30D", "P5D", 1)
	s, err := h.Simulate(t.Context(), officer, []byte(changed))
	require.NoError(t, err)
	require.Len(t, s.Rules, 1)
	d := s.Rules[0]
	require.Equal(t, "changed", d.Change)
	require.EqualValues(t, 30, d.Before.Horizons[0].Free())
	require.EqualValues(t, 31, d.After.Horizons[0].Free())
	require.EqualValues(t, 32, x.count(countLogins))

	s, err = h.Simulate(t.Context(), officer, []byte(shopMap+"      logins: {owned_by: {customer_id: customers}, not_personal: [at], erase: delete}\n"))
	require.NoError(t, err)
	require.Equal(t, "removed", s.Rules[0].Change)
	require.Nil(t, s.Rules[0].After)

	// A map that leads elsewhere is not followed: it could send the server's secrets there.
	for from, to := range map[string]string{"dsn: ${SHOP}": "dsn: sqlite:///elsewhere.db", "  shop:\n": "  shop2:\n"} {
		elsewhere := strings.Replace(loginsMap(""), from, to, 1)
		require.NotEqual(t, loginsMap(""), elsewhere)
		s, err = h.Simulate(t.Context(), officer, []byte(elsewhere))
		require.NoError(t, err)
		last := s.Rules[len(s.Rules)-1].After
		require.Contains(t, last.Problem, "other-access")
		require.Empty(t, last.Horizons)
	}
	m, err := h.CurrentMap(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, m.Version, "nothing is stored")
}

// The same on a server: PostgreSQL's own transactions, and counts that add up to what is gone.
func TestASweepOnPostgres(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, control string) {
		u := dbtest.Postgres(t)
		x := serverTarget(t, "pgx", u, u, loginsSchema+loweredEmail+shopRows)
		fillLogins(x, 30)
		h := open(t, control, map[string]string{"SHOP": x.url}, func(c *engine.Config) { auto(c); chunky(c) })
		h.activate(strings.Replace(loginsMap(", review: never"), "connector: sqlite", "connector: postgres", 1))
		held, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
			System: "shop", Entity: "logins", When: []dsr.Condition{{Field: "customer_id", Values: []string{"2"}}},
			Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
		})
		require.NoError(t, err)
		h.night()
		s := h.swept(h.sweeps()[0].ID, retention.SweepDone)
		require.EqualValues(t, 20, *s.Due)
		require.EqualValues(t, 10, s.Held)
		require.EqualValues(t, 20, s.Count(dsr.Delete))
		require.EqualValues(t, 10, s.Count(dsr.Held))
		require.EqualValues(t, 11, x.count("SELECT count(*) FROM logins WHERE customer_id = 2"))
		_, err = h.LiftHold(t.Context(), officer, held.ID, held.Version)
		require.NoError(t, err)
		h.night()
		s = h.swept(h.sweeps()[0].ID, retention.SweepDone)
		require.EqualValues(t, 10, s.Count(dsr.Delete))
		require.EqualValues(t, 2, x.count(countLogins))
	})
}

func TestConnectorsLearnThePace(t *testing.T) {
	t.Parallel()
	var lag atomic.Int64
	h, _ := sweepHouse(t, dbtest.SQLite(t), 1, "", func(c *engine.Config) {
		c.Policy.Retention.Pace.Lag = time.Minute
		c.Kinds = slices.Clone(c.Kinds)
		for i := range c.Kinds {
			open := c.Kinds[i].Open
			c.Kinds[i].Open = func(ctx context.Context, s *connectors.System, o connectors.Options) (connectors.Connector, error) {
				lag.Store(int64(o.Pace.Lag))
				return open(ctx, s, o)
			}
		}
	})
	_, err := h.Forecast(t.Context(), officer)
	require.NoError(t, err)
	require.EqualValues(t, time.Minute, lag.Load())
}
