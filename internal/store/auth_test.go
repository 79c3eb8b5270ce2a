package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/auth/authtest"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/internal/store/storetest"
)

func onBoth(t *testing.T, test func(t *testing.T, fresh func(testing.TB) string)) {
	for name, fresh := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "sqlite": dbtest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh)
		})
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, fresh func(testing.TB) string) {
		authtest.Run(t, func(t *testing.T) auth.Store { return storetest.Open(t, fresh(t)) })
	})
}

func TestEveryKeyHasItsLeaves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, fresh func(testing.TB) string) {
		s, now := storetest.Open(t, fresh(t)), time.Now()
		k := auth.Key{
			ID: "aaaaaaaaaaaaaaaa", Hash: []byte("h"), Principal: "prn_1", Roles: []string{"dpo", "auditor"}, CreatedBy: "lethe",
			CreatedAt: now,
		}
		ok, err := s.InsertFirstKey(t.Context(), k)
		require.NoError(t, err)
		require.True(t, ok)
		require.Error(t, s.InsertKey(t.Context(), k), "no second leaf for what was refused")
		for range 2 {
			_, err = s.RevokeKey(t.Context(), k.ID, "prn_2", now)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"key.created", "key.revoked"}, leaves(t, s))
	})
}

func leaves(t *testing.T, s *store.Store) (types []string) {
	t.Helper()
	if p := s.Pool(); p != nil {
		rows, err := p.Query(t.Context(), "SELECT CAST(leaf AS jsonb)->>'type' FROM leaves ORDER BY id")
		require.NoError(t, err)
		types, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return types
	}
	rows, err := s.SQLite().Query("SELECT leaf->>'type' FROM leaves ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var one string
		require.NoError(t, rows.Scan(&one))
		types = append(types, one)
	}
	return types
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, fresh func(testing.TB) string) {
		s, ctx := storetest.Open(t, fresh(t)), t.Context()
		now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
		soon, later := now.Add(time.Minute), now.Add(24*time.Hour)

		const callers = 5
		won := make(chan bool, callers)
		for range callers {
			go func() {
				claimed, _, _, err := s.ClaimIdempotency(context.WithoutCancel(ctx), "k1", "f1", now, soon)
				won <- claimed && err == nil
			}()
		}
		n := 0
		for range callers {
			if <-won {
				n++
			}
		}
		require.Equal(t, 1, n, "one of the callers that come together claims")

		claim := func(fingerprint string, at time.Time) (bool, string, []byte) {
			claimed, held, answer, err := s.ClaimIdempotency(ctx, "k1", fingerprint, at, at.Add(time.Minute))
			require.NoError(t, err)
			return claimed, held, answer
		}
		claimed, held, answer := claim("f2", now)
		require.False(t, claimed)
		require.Equal(t, "f1", held)
		require.Nil(t, answer, "in flight")

		require.NoError(t, s.FinishIdempotency(ctx, "k1", []byte("201"), later))
		claimed, held, answer = claim("f1", soon.Add(time.Hour))
		require.False(t, claimed)
		require.Equal(t, "f1", held)
		require.Equal(t, "201", string(answer))

		claimed, held, answer = claim("f3", later.Add(time.Second))
		require.True(t, claimed, "it had expired")
		require.Equal(t, "f3", held)
		require.Nil(t, answer)

		require.NoError(t, s.DropIdempotency(ctx, "k1"))
		claimed, _, _ = claim("f4", now)
		require.True(t, claimed)
		require.NoError(t, s.PurgeIdempotency(ctx, now.Add(time.Hour)))
		require.Error(t, s.FinishIdempotency(ctx, "k1", nil, later), "gone")
	})
}
