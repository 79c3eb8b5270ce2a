// Package authtest holds a Store in memory for tests, and the suite that every Store must pass.
package authtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

// Memory is an auth.Store without a database.
type Memory struct {
	mu       sync.Mutex
	keys     map[string]auth.Key
	failures map[string]auth.Failures
}

var _ auth.Store = (*Memory)(nil)

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{keys: map[string]auth.Key{}, failures: map[string]auth.Failures{}}
}

// InsertKey implements auth.Store.
func (m *Memory) InsertKey(_ context.Context, k auth.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.insert(k)
}

func (m *Memory) insert(k auth.Key) error {
	for _, other := range m.keys {
		if other.ID == k.ID || other.Principal == k.Principal && other.System != k.System {
			return &dsr.Error{Code: dsr.CodeConflict, Msg: "exists already"}
		}
	}
	m.keys[k.ID] = k
	return nil
}

// InsertFirstKey implements auth.Store.
func (m *Memory) InsertFirstKey(_ context.Context, k auth.Key) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) > 0 {
		return false, nil
	}
	return true, m.insert(k)
}

// Key implements auth.Store.
func (m *Memory) Key(_ context.Context, id string) (*auth.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[id]
	if !ok {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such row"}
	}
	return &k, nil
}

// Keys implements auth.Store.
func (m *Memory) Keys(_ context.Context, after string, limit int) ([]auth.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var page []auth.Key
	for _, k := range m.keys {
		if k.ID > after {
			page = append(page, k)
		}
	}
	slices.SortFunc(page, func(a, b auth.Key) int { return strings.Compare(a.ID, b.ID) })
	return page[:min(limit, len(page))], nil
}

// RevokeKey implements auth.Store.
func (m *Memory) RevokeKey(_ context.Context, id, _ string, at time.Time) (*auth.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[id]
	if !ok {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such row"}
	}
	if k.RevokedAt == nil {
		k.RevokedAt = &at
	}
	m.keys[id] = k
	return &k, nil
}

// TouchKey implements auth.Store.
func (m *Memory) TouchKey(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[id]
	k.LastUsed = &at
	m.keys[id] = k
	return nil
}

// FailuresOf implements auth.Store.
func (m *Memory) FailuresOf(_ context.Context, subjects ...string) (map[string]auth.Failures, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]auth.Failures{}
	for _, s := range subjects {
		if f, ok := m.failures[s]; ok {
			out[s] = f
		}
	}
	return out, nil
}

// AddFailure implements auth.Store.
func (m *Memory) AddFailure(
	_ context.Context, subject string, now time.Time, window, lock time.Duration, limit int,
) (auth.Failures, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.failures[subject]
	if !ok || f.Since.Before(now.Add(-window)) {
		f = auth.Failures{Since: now}
	}
	f.Count++
	if f.Count >= limit {
		f.LockedUntil = now.Add(lock)
	}
	m.failures[subject] = f
	return f, nil
}

// ClearFailures implements auth.Store.
func (m *Memory) ClearFailures(_ context.Context, subjects ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range subjects {
		delete(m.failures, s)
	}
	return nil
}

// PurgeFailures implements auth.Store.
func (m *Memory) PurgeFailures(_ context.Context, t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, f := range m.failures {
		if f.Since.Before(t) && f.LockedUntil.Before(t) {
			delete(m.failures, s)
		}
	}
	return nil
}

// Run asserts everything that auth.Store promises, on a fresh store each time.
func Run(t *testing.T, fresh func(t *testing.T) auth.Store) {
	t.Helper()
	now := time.Date(2026, 3, 2, 9, 30, 0, 123000, time.UTC)
	key := func(id, principal string, system bool) auth.Key {
		return auth.Key{
			ID: id, Hash: auth.HashSecret(id), Principal: principal, System: system, Label: "a laptop",
			Roles: []string{dsr.RoleDPO}, CreatedBy: "lethe", CreatedAt: now,
		}
	}

	t.Run("a key comes back as it was stored", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		end := now.Add(time.Hour)
		want := key("aaaaaaaaaaaaaaaa", "ada", false)
		want.Tenants, want.ExpiresAt = []string{"north", "south"}, &end
		require.NoError(t, s.InsertKey(ctx, want))
		got, err := s.Key(ctx, want.ID)
		require.NoError(t, err)
		require.Equal(t, want.Tenants, got.Tenants)
		require.Equal(t, want.Roles, got.Roles)
		require.Equal(t, want.Hash, got.Hash)
		require.True(t, want.CreatedAt.Equal(got.CreatedAt))
		require.True(t, end.Equal(*got.ExpiresAt))
		require.Nil(t, got.RevokedAt)
		require.Nil(t, got.LastUsed)

		require.NoError(t, s.TouchKey(ctx, want.ID, now))
		got, err = s.Key(ctx, want.ID)
		require.NoError(t, err)
		require.True(t, now.Equal(*got.LastUsed))
	})
	t.Run("no tenants is every tenant, which is not the same as none", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		require.NoError(t, s.InsertKey(ctx, key("aaaaaaaaaaaaaaaa", "ada", false)))
		got, err := s.Key(ctx, "aaaaaaaaaaaaaaaa")
		require.NoError(t, err)
		require.Nil(t, got.Tenants)
	})
	t.Run("what is not there is not found", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		_, err := s.Key(ctx, "zzzzzzzzzzzzzzzz")
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))
		_, err = s.RevokeKey(ctx, "zzzzzzzzzzzzzzzz", "ada", now)
		require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))
	})
	t.Run("a principal is a person or a system", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		require.NoError(t, s.InsertKey(ctx, key("aaaaaaaaaaaaaaaa", "ada", false)))
		require.NoError(t, s.InsertKey(ctx, key("bbbbbbbbbbbbbbbb", "ada", false)))
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(s.InsertKey(ctx, key("cccccccccccccccc", "ada", true))))
		require.Equal(t, dsr.CodeConflict, dsr.CodeOf(s.InsertKey(ctx, key("aaaaaaaaaaaaaaaa", "bob", false))))
	})
	t.Run("there is one first key", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		ids := []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"}
		won := make([]bool, len(ids))
		errs := make([]error, len(ids))
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() { won[i], errs[i] = s.InsertFirstKey(ctx, key(id, "admin", false)) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		all, err := s.Keys(ctx, "", 10)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Len(t, slices.DeleteFunc(won, func(w bool) bool { return !w }), 1)
	})
	t.Run("keys are paged by id", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		for _, id := range []string{"cccccccccccccccc", "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"} {
			require.NoError(t, s.InsertKey(ctx, key(id, "ada", false)))
		}
		page, err := s.Keys(ctx, "", 2)
		require.NoError(t, err)
		require.Len(t, page, 2)
		require.Equal(t, "aaaaaaaaaaaaaaaa", page[0].ID)
		page, err = s.Keys(ctx, page[1].ID, 2)
		require.NoError(t, err)
		require.Len(t, page, 1)
		require.Equal(t, "cccccccccccccccc", page[0].ID)
	})
	t.Run("a key is revoked once", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		require.NoError(t, s.InsertKey(ctx, key("aaaaaaaaaaaaaaaa", "ada", false)))
		_, err := s.RevokeKey(ctx, "aaaaaaaaaaaaaaaa", "bob", now)
		require.NoError(t, err)
		k, err := s.RevokeKey(ctx, "aaaaaaaaaaaaaaaa", "bob", now.Add(time.Hour))
		require.NoError(t, err)
		require.True(t, now.Equal(*k.RevokedAt))
	})
	t.Run("failures lock, expire and are forgotten", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		const window, lock, limit = 15 * time.Minute, time.Hour, 3
		fail := func(at time.Time) auth.Failures {
			f, err := s.AddFailure(ctx, "addr:192.0.2.7", at, window, lock, limit)
			require.NoError(t, err)
			return f
		}
		require.Equal(t, 1, fail(now).Count)
		require.True(t, fail(now).LockedUntil.IsZero())
		require.True(t, now.Add(lock).Equal(fail(now).LockedUntil))
		rows, err := s.FailuresOf(ctx, "addr:192.0.2.7", "key:aaaaaaaaaaaaaaaa")
		require.NoError(t, err)
		require.Len(t, rows, 1)
		require.Equal(t, 3, rows["addr:192.0.2.7"].Count)

		require.Equal(t, 1, fail(now.Add(2*lock)).Count, "a window that is over starts again")
		require.NoError(t, s.PurgeFailures(ctx, now.Add(time.Minute)))
		rows, err = s.FailuresOf(ctx, "addr:192.0.2.7")
		require.NoError(t, err)
		require.Len(t, rows, 1, "younger rows stay")
		require.NoError(t, s.ClearFailures(ctx, "addr:192.0.2.7"))
		rows, err = s.FailuresOf(ctx, "addr:192.0.2.7")
		require.NoError(t, err)
		require.Empty(t, rows)
	})
	t.Run("concurrent failures are all counted", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.AddFailure(ctx, "addr:192.0.2.7", now, time.Hour, time.Hour, 100) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		rows, err := s.FailuresOf(ctx, "addr:192.0.2.7")
		require.NoError(t, err)
		require.Equal(t, len(errs), rows["addr:192.0.2.7"].Count)
	})
}
