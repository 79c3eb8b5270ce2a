package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/ledger"
	"github.com/lethe-gdpr/lethe/internal/store"
)

// change does one of everything that must commit together.
func change(tx engine.Tx) error {
	r := request(1)
	return errors.Join(
		tx.InsertRequest(r),
		tx.AddEvents(dsr.Event{Request: r.ID, At: noon, Actor: "lethe", Type: "filed"}),
		tx.AppendLeaves(ledger.Leaf{At: noon, Type: "filed", Request: r.ID, Actor: "lethe"}),
		tx.Enqueue(nudge{"shop"}, time.Time{}),
		tx.Enqueue(nudge{"shop"}, noon.AddDate(10, 0, 0)),
	)
}

func changed(t *testing.T, s *store.Store) (rows, jobs int) {
	ctx := context.WithoutCancel(t.Context())
	return count(ctx, t, s, `SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM events) +
		(SELECT count(*) FROM leaves)`), count(ctx, t, s, "SELECT count(*) FROM river_job")
}

func testCommitTogether(t *testing.T, s *store.Store) {
	require.NoError(t, s.InTx(t.Context(), change))
	rows, jobs := changed(t, s)
	require.Equal(t, 3, rows)
	require.Equal(t, 2, jobs)
	depth, err := s.QueueDepth(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]map[string]int64{"default": {"available": 1, "scheduled": 1}}, depth)
}

func testRollBackTogether(t *testing.T, s *store.Store) {
	refused := errors.New("refused")
	err := s.InTx(t.Context(), func(tx engine.Tx) error {
		require.NoError(t, change(tx))
		return refused
	})
	require.ErrorIs(t, err, refused)
	rows, jobs := changed(t, s)
	require.Zero(t, rows)
	require.Zero(t, jobs)

	// A statement that fails spoils the whole, even when its error is ignored.
	err = s.InTx(t.Context(), func(tx engine.Tx) error {
		require.NoError(t, change(tx))
		return tx.InsertRequest(request(1))
	})
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	rows, jobs = changed(t, s)
	require.Zero(t, rows)
	require.Zero(t, jobs)
}

func testPanic(t *testing.T, s *store.Store) {
	require.PanicsWithValue(t, "boom", func() {
		_ = s.InTx(t.Context(), func(tx engine.Tx) error {
			require.NoError(t, change(tx))
			panic("boom")
		})
	})
	rows, jobs := changed(t, s)
	require.Zero(t, rows)
	require.Zero(t, jobs)
	require.NoError(t, s.InTx(t.Context(), change), "the connection was given back")
}

func testNestedCall(t *testing.T, s *store.Store) {
	err := s.InTx(t.Context(), func(engine.Tx) error {
		return s.InTx(t.Context(), func(engine.Tx) error { return nil })
	})
	require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err))
	in(t, s, func(engine.Tx) {})
}

func testEqualJobs(t *testing.T, s *store.Store) {
	in(t, s, func(tx engine.Tx) {
		for range 3 {
			require.NoError(t, tx.Enqueue(nudge{"shop"}, time.Time{}))
			require.NoError(t, tx.Enqueue(nudge{"crm"}, time.Time{}))
		}
	})
	require.Equal(t, 2, count(t.Context(), t, s, "SELECT count(*) FROM river_job"))
}

func testRetry(t *testing.T, s *store.Store) {
	if s.Pool() == nil {
		t.Skip("SQLite has one writer: nothing to conflict with")
	}
	rs, _ := seed(t, s, 2)
	// Two transactions lock the same two rows in opposite order and meet in the middle: one must run again.
	var met sync.WaitGroup
	met.Add(2)
	runs := make(chan int, 2)
	cross := func(first, second string) error {
		n := 0
		defer func() { runs <- n }()
		return s.InTx(context.WithoutCancel(t.Context()), func(tx engine.Tx) error {
			n++
			if _, err := tx.LockRequests(first); err != nil {
				return err
			}
			if n == 1 {
				met.Done()
				met.Wait()
			}
			_, err := tx.LockRequests(second)
			return err
		})
	}
	errs := make(chan error, 2)
	go func() { errs <- cross(rs[0].ID, rs[1].ID) }()
	go func() { errs <- cross(rs[1].ID, rs[0].ID) }()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.GreaterOrEqual(t, <-runs+<-runs, 3, "one of them ran twice")
}

func testLostConnection(t *testing.T, s *store.Store) {
	if s.Pool() == nil {
		t.Skip("SQLite has no connection to lose")
	}
	admin, err := s.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer admin.Release()
	for range 5 { // fill the pool with idle connections, then end them all as a restart would
		in(t, s, func(tx engine.Tx) { _, _ = tx.LatestMap() })
	}
	_, err = admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	require.NoError(t, err)
	require.NoError(t, s.InTx(t.Context(), change))
}

func testManyRows(t *testing.T, s *store.Store) {
	const many = 2500 // more than one statement takes
	rs, ts := seed(t, s, 1)
	var es []dsr.Event
	for range many {
		es = append(es, dsr.Event{Request: rs[0].ID, At: noon, Actor: "lethe", Type: "located"})
	}
	in(t, s, func(tx engine.Tx) {
		require.NoError(t, tx.AddEvents(es[0]))
		require.NoError(t, tx.AddEvents(es...))
		require.NoError(t, tx.AddEvents(es[0]))
	})
	require.Equal(t, many+2, count(t.Context(), t, s, "SELECT count(*) FROM events"))

	var more []*dsr.Request
	in(t, s, func(tx engine.Tx) {
		for i := range many {
			more = append(more, request(i+1))
			require.NoError(t, tx.InsertRequest(more[i]))
		}
		for _, r := range more {
			r.Round = 2
		}
		require.NoError(t, tx.UpdateRequests(more...))
		require.NoError(t, tx.UpdateTasks(ts...))
	})
	require.Equal(t, many, count(t.Context(), t, s, "SELECT count(*) FROM requests WHERE round = 2 AND version = 2"))
	more[many-1].Version-- // a stale one in the last statement spoils all
	err := s.InTx(t.Context(), func(tx engine.Tx) error {
		for _, r := range more {
			r.Round = 3
		}
		return tx.UpdateRequests(more...)
	})
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
	require.Zero(t, count(t.Context(), t, s, "SELECT count(*) FROM requests WHERE round = 3"))
}

func testMigrateTogether(t *testing.T, s *store.Store) {
	// Open has migrated once already; drop what says so and let several processes find an empty schema.
	if s.Pool() == nil {
		t.Skip("SQLite has one process")
	}
	_, err := s.Pool().Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			other, err := store.Open(context.WithoutCancel(t.Context()), s.Pool().Config().ConnString(), store.Options{})
			if err == nil {
				err = errors.Join(other.Migrate(context.WithoutCancel(t.Context())), other.Close())
			}
			errs <- err
		}()
	}
	for range 3 {
		require.NoError(t, <-errs)
	}
}

func testCancelled(t *testing.T, s *store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.InTx(ctx, func(tx engine.Tx) error {
		require.NoError(t, change(tx))
		cancel()
		_, err := tx.Request("req_0001")
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	rows, jobs := changed(t, s)
	require.Zero(t, rows)
	require.Zero(t, jobs)
}

func testErrorsNameNoValue(t *testing.T, s *store.Store) {
	const canary = "canary@example.com"
	r := request(1)
	r.ID = canary
	in(t, s, func(tx engine.Tx) { require.NoError(t, tx.InsertRequest(r)) })
	for name, fn := range map[string]func(engine.Tx) error{
		"duplicate key": func(tx engine.Tx) error { return tx.InsertRequest(r) },
		"foreign key": func(tx engine.Tx) error {
			k := task(r, canary)
			k.Request = canary + "?"
			return tx.InsertTasks(k)
		},
		"not valid text": func(tx engine.Tx) error {
			if s.Pool() == nil {
				return errors.New("SQLite takes it")
			}
			return tx.AddEvents(dsr.Event{Request: r.ID, Type: canary + "\x00"})
		},
		"unserialisable number": func(tx engine.Tx) error {
			if s.Pool() == nil {
				return errors.New("SQLite takes it")
			}
			other := request(2)
			other.MapVersion = 1 << 40
			other.Reason = canary
			return tx.InsertRequest(other)
		},
	} {
		err := s.InTx(t.Context(), fn)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "canary", name)
		for e := err; e != nil; e = errors.Unwrap(e) {
			require.NotContains(t, e.Error(), "canary", name)
		}
	}
}

func testLeaves(t *testing.T, s *store.Store) {
	l := ledger.Leaf{
		At: noon.Add(789), Type: "approved", Request: "req_1", Actor: "prn_dpo",
		Detail: map[string]string{"z": "<1>", "a": "2"},
	}
	in(t, s, func(tx engine.Tx) { require.NoError(t, tx.AppendLeaves(l, l)) })
	const want = `{"at":"2026-03-02T12:00:00.123456Z","type":"approved","request":"req_1","actor":"prn_dpo",` +
		`"detail":{"a":"2","z":"<1>"}}`
	placeholder := map[bool]string{true: "$1", false: "?"}[s.Pool() != nil]
	require.Equal(t, 2, count(t.Context(), t, s, "SELECT count(*) FROM leaves WHERE leaf = "+placeholder, want))
	require.Equal(t, 2, count(t.Context(), t, s, "SELECT count(DISTINCT salt) FROM leaves WHERE length(salt) = 16"))
	require.True(t, json.Valid([]byte(want)) && !strings.Contains(want, `\u003c`))
}

func testMigrateTwice(t *testing.T, s *store.Store) {
	require.NoError(t, s.InTx(t.Context(), change))
	require.NoError(t, s.Migrate(t.Context()))
	rows, _ := changed(t, s)
	require.Equal(t, 3, rows)
}
