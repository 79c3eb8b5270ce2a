package engine_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/jobs"
)

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// BenchmarkQueue measures erasures from intake to their verified end through the real queue, control and target
// database on one PostgreSQL: how long a lone one takes, and how many a second are sustained.
func BenchmarkQueue(b *testing.B) {
	const lone, crowd = 30, 1000
	targetURL := dbtest.Postgres(b)
	db, err := sql.Open("pgx", targetURL)
	require.NoError(b, err)
	defer db.Close()
	_, err = db.Exec(strings.ReplaceAll(shopSchema, "INTEGER", "BIGINT"))
	require.NoError(b, err)
	_, err = db.Exec(fmt.Sprintf(`INSERT INTO customers SELECT i, 'c' || i || '@example.com', 'C' FROM generate_series(1, %[1]d) i;
		INSERT INTO carts SELECT i, 1 + i %% %[1]d, 'x' FROM generate_series(1, %[1]d * 10) i;
		INSERT INTO messages SELECT i, 1 + i %% %[1]d, NULL, 'x' FROM generate_series(1, %[1]d * 10) i;
		CREATE INDEX customers_lower ON customers (lower(email));
		ANALYZE`, lone+crowd))
	require.NoError(b, err)

	s, err := store.Open(b.Context(), dbtest.Postgres(b), store.Options{MaxConns: 12})
	require.NoError(b, err)
	defer s.Close()
	require.NoError(b, s.Migrate(b.Context()))
	k, err := keys.Open(b.Context(), b.TempDir(), nil)
	require.NoError(b, err)
	e, err := engine.New(engine.Config{
		Store: s, Cipher: k, Committer: k, Pseudonyms: k, Kinds: sqldb.Kinds(), Time: wallClock{},
		Getenv: func(string) (string, bool) { return targetURL, true },
		Policy: engine.Policy{AutoApprove: autoApprove},
		Logger: slog.New(slog.NewTextHandler(b.Output(), nil)),
	})
	require.NoError(b, err)
	defer e.Close()
	_, err = e.ActivateMap(b.Context(), operator, []byte(strings.Replace(shopMap, "connector: sqlite", "connector: postgres", 1)))
	require.NoError(b, err)
	r, err := jobs.New(jobs.Config{Engine: e, Store: s, Pool: s.Pool(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	require.NoError(b, r.Start(b.Context()))
	defer func() { _ = r.Stop(context.Background()) }()

	file := func(i int) string {
		q, err := e.File(b.Context(), filer, engine.NewRequest{
			Kind: dsr.Erasure, Identifiers: email(fmt.Sprintf("c%d@example.com", i)), Verified: true,
		})
		require.NoError(b, err)
		return q.ID
	}
	for b.Loop() {
		var took []time.Duration
		for i := range lone {
			start := time.Now()
			id := file(i + 1)
			for {
				q, err := e.Get(b.Context(), officer, id)
				require.NoError(b, err)
				if q.State.Final() {
					break
				}
				require.NotEqual(b, dsr.NeedsAttention, q.State, q.Hint)
				time.Sleep(5 * time.Millisecond)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "lone-p50-ms")
		b.ReportMetric(float64(took[len(took)*95/100].Milliseconds()), "lone-p95-ms")

		start, cpu := time.Now(), used()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < crowd; i += 4 {
					file(lone + i + 1)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(crowd/time.Since(start).Seconds(), "accepted/s")
		for {
			var open int64
			st, err := e.Stats(b.Context())
			require.NoError(b, err)
			for _, states := range st.Open {
				for state, n := range states {
					require.NotEqual(b, dsr.NeedsAttention, state)
					open += n
				}
			}
			if open == 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.ReportMetric(crowd/time.Since(start).Seconds(), "requests/s")
		b.ReportMetric((used()-cpu).Seconds()*1000/crowd, "cpu-ms/request")
	}
	var left int
	require.NoError(b, db.QueryRow("SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM carts) + (SELECT count(*) FROM messages)").Scan(&left))
	require.Zero(b, left)
}

// used is the CPU time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
