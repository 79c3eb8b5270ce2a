package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/jobs"
)

// script is an engine whose work is written by each test.
type script struct {
	gather   func(context.Context, engine.Gather) error
	slice    func(context.Context, engine.Slice) error
	assemble func(context.Context, engine.Assemble) error
	tick     func(context.Context, engine.Tick) error
	sweep    func(context.Context, engine.SweepSlice) error
	count    func(context.Context, engine.CountDue) error
	heed     func(context.Context, engine.Heed) error
	ticks    map[string]time.Duration
}

func (s *script) Gather(ctx context.Context, w engine.Gather) error { return s.gather(ctx, w) }

func (s *script) Slice(ctx context.Context, w engine.Slice) error { return s.slice(ctx, w) }

func (s *script) Assemble(ctx context.Context, w engine.Assemble) error { return s.assemble(ctx, w) }

func (s *script) Tick(ctx context.Context, w engine.Tick) error { return s.tick(ctx, w) }

func (s *script) SweepSlice(ctx context.Context, w engine.SweepSlice) error { return s.sweep(ctx, w) }

func (s *script) CountDue(ctx context.Context, w engine.CountDue) error { return s.count(ctx, w) }

func (s *script) Heed(ctx context.Context, w engine.Heed) error { return s.heed(ctx, w) }

func (s *script) Ticks() map[string]time.Duration { return s.ticks }

// bench is a store and what the tests need around it.
type bench struct {
	store *store.Store
	url   string
	log   *lockedBuffer
}

func onBoth(t *testing.T, test func(t *testing.T, b *bench)) {
	for name, fresh := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "sqlite": dbtest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bench{url: fresh(t), log: &lockedBuffer{}}
			s, err := store.Open(t.Context(), b.url, store.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, s.Migrate(t.Context()))
			b.store = s
			test(t, b)
		})
	}
}

func (b *bench) runner(t *testing.T, e *script, grace time.Duration) *jobs.Runner {
	t.Helper()
	r, err := jobs.New(jobs.Config{
		Engine: e, Store: b.store, Pool: b.store.Pool(), SQLite: b.store.SQLite(), Grace: grace,
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	require.NoError(t, err)
	return r
}

func (b *bench) start(t *testing.T, e *script) {
	t.Helper()
	r := b.runner(t, e, 5*time.Second)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, r.Stop(context.Background())) })
}

func (b *bench) enqueue(t *testing.T, ws ...engine.Work) {
	t.Helper()
	require.NoError(t, b.store.InTx(t.Context(), func(tx engine.Tx) error {
		var errs []error
		for _, w := range ws {
			errs = append(errs, tx.Enqueue(w, time.Time{}))
		}
		return errors.Join(errs...)
	}))
}

// text reads one value of the job table.
func (b *bench) text(t *testing.T, sql string) string {
	t.Helper()
	var s string
	if p := b.store.Pool(); p != nil {
		require.NoError(t, p.QueryRow(context.Background(), sql).Scan(&s))
		return s
	}
	require.NoError(t, b.store.SQLite().QueryRow(sql).Scan(&s))
	return s
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestEveryKindOfWorkReachesTheEngine(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		got := make(chan engine.Work, 7)
		b.start(t, &script{
			gather:   func(_ context.Context, w engine.Gather) error { got <- w; return nil },
			slice:    func(_ context.Context, w engine.Slice) error { got <- w; return nil },
			assemble: func(_ context.Context, w engine.Assemble) error { got <- w; return nil },
			tick:     func(_ context.Context, w engine.Tick) error { got <- w; return nil },
			sweep:    func(_ context.Context, w engine.SweepSlice) error { got <- w; return nil },
			count:    func(_ context.Context, w engine.CountDue) error { got <- w; return nil },
			heed:     func(_ context.Context, w engine.Heed) error { got <- w; return nil },
		})
		want := []engine.Work{
			engine.Gather{System: "shop", Phase: dsr.PhaseErase},
			engine.Slice{RunID: "run_1", Fence: 3, Failures: 1},
			engine.Assemble{Request: "req_1"},
			engine.Tick{Name: "purge"},
			engine.SweepSlice{SweepID: "swp_1", Fence: 2},
			engine.CountDue{Rule: "shop.logins.short"},
			engine.Heed{},
		}
		b.enqueue(t, want...)
		var all []engine.Work
		for range want {
			all = append(all, receive(t, got))
		}
		require.ElementsMatch(t, want, all)
	})
}

func TestAJobThatFailsIsTriedAgainAndItsErrorNamesNoValue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		const canary = "canary@example.com"
		done := make(chan struct{}, 3)
		var mu sync.Mutex
		failed := map[string]bool{}
		b.start(t, &script{gather: func(_ context.Context, w engine.Gather) error {
			mu.Lock()
			again := failed[w.System]
			failed[w.System] = true
			mu.Unlock()
			switch {
			case again:
				done <- struct{}{}
				return nil
			case w.System == "panics":
				panic("no row for " + canary)
			case w.System == "typed":
				return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the control database failed", Err: errors.New(canary)}
			}
			return errors.New("duplicate key value: " + canary)
		}})
		b.enqueue(t, engine.Gather{System: "panics"}, engine.Gather{System: "typed"}, engine.Gather{System: "plain"})
		for range 3 {
			receive(t, done)
		}
		require.NotContains(t, b.log.String(), "canary")
		require.Contains(t, b.log.String(), "worker panicked")
		aggregate := "SELECT string_agg(errors::text, ' ') FROM river_job"
		if b.store.Pool() == nil {
			aggregate = "SELECT group_concat(json(errors), ' ') FROM river_job"
		}
		stored := b.text(t, aggregate)
		require.NotContains(t, stored, "canary")
		for _, code := range []string{"panic", "unavailable: the control database failed", "*errors.errorString"} {
			require.Contains(t, stored, code)
		}
	})
}

func TestStopWaitsForACheckpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		started, stopping := make(chan struct{}), make(chan struct{})
		reached := false
		r := b.runner(t, &script{slice: func(ctx context.Context, _ engine.Slice) error {
			close(started)
			<-stopping
			reached = true
			return ctx.Err()
		}}, time.Minute)
		require.NoError(t, r.Start(t.Context()))
		b.enqueue(t, engine.Slice{RunID: "run_1"})
		receive(t, started)
		go close(stopping)
		require.NoError(t, r.Stop(context.Background()))
		require.True(t, reached)
		require.Equal(t, "completed", b.text(t, "SELECT state FROM river_job"))
	})
}

func TestAfterTheGraceAJobIsCancelledAndFreeForOthers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		started := make(chan struct{}, 1)
		hang := func(ctx context.Context, _ engine.Slice) error {
			started <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		r := b.runner(t, &script{slice: hang}, 100*time.Millisecond)
		require.NoError(t, r.Start(t.Context()))
		b.enqueue(t, engine.Slice{RunID: "run_1", Fence: 1})
		receive(t, started)
		require.NoError(t, r.Stop(context.Background()))
		require.Equal(t, "available", b.text(t, "SELECT state FROM river_job"))

		got := make(chan engine.Slice, 1)
		b.start(t, &script{slice: func(_ context.Context, w engine.Slice) error { got <- w; return nil }})
		require.Equal(t, engine.Slice{RunID: "run_1", Fence: 1}, receive(t, got))
	})
}

func TestTicksRememberWhenTheyRan(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		recent := time.Now().Add(-time.Hour)
		require.NoError(t, b.store.InTx(t.Context(), func(tx engine.Tx) error {
			return errors.Join(tx.SetLastRun("not due", recent), tx.SetLastRun("due", recent.AddDate(0, 0, -2)))
		}))
		ran := make(chan string, 10)
		e := &script{
			tick:  func(_ context.Context, w engine.Tick) error { ran <- w.Name; return nil },
			ticks: map[string]time.Duration{"not due": 24 * time.Hour, "due": 24 * time.Hour, "never ran": 24 * time.Hour},
		}
		for start := range 2 { // the second finds that all have run
			r := b.runner(t, e, time.Minute)
			require.NoError(t, r.Start(t.Context()))
			require.Eventually(t, func() bool {
				asked := b.text(t, "SELECT CAST(count(*) AS text) FROM river_job WHERE state = 'completed'")
				return asked == strconv.Itoa(len(e.ticks)*(start+1))
			}, 20*time.Second, 10*time.Millisecond)
			require.NoError(t, r.Stop(context.Background()))
		}
		close(ran)
		var all []string
		for name := range ran {
			all = append(all, name)
		}
		require.ElementsMatch(t, []string{"due", "never ran"}, all)
	})
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Clone(l.b.String())
}
