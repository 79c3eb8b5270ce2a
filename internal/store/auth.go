package store

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/ledger"
)

var _ auth.Store = (*Store)(nil)

type principalRow struct {
	ID        string `gorm:"primaryKey"`
	System    bool
	CreatedAt time.Time `gorm:"autoCreateTime:false"`
}

func (principalRow) TableName() string { return "principals" }

type keyRow struct {
	ID        string `gorm:"primaryKey"`
	Hash      []byte
	Principal string
	Label     string
	Roles     []string `gorm:"serializer:json"`
	Tenants   []string `gorm:"serializer:json"`
	CreatedBy string
	CreatedAt time.Time `gorm:"autoCreateTime:false"`
	ExpiresAt *time.Time
	RevokedAt *time.Time
	LastUsed  *time.Time
}

func (keyRow) TableName() string { return "api_keys" }

type failureRow struct {
	Subject     string `gorm:"primaryKey"`
	Count       int
	Since       time.Time
	LockedUntil *time.Time
}

func (failureRow) TableName() string { return "auth_failures" }

func (w *failureRow) failures() auth.Failures {
	f := auth.Failures{Count: w.Count, Since: utc(w.Since)}
	if w.LockedUntil != nil {
		f.LockedUntil = utc(*w.LockedUntil)
	}
	return f
}

// InsertKey implements [auth.Store].
func (s *Store) InsertKey(ctx context.Context, k auth.Key) error {
	return s.inTx(ctx, func(t *tx) error { return t.insertKey(&k) })
}

// InsertFirstKey implements [auth.Store].
func (s *Store) InsertFirstKey(ctx context.Context, k auth.Key) (ok bool, err error) {
	err = s.inTx(ctx, func(t *tx) error {
		if t.postgres {
			if _, err := t.exec("LOCK TABLE api_keys IN EXCLUSIVE MODE"); err != nil {
				return err
			}
		}
		var n int64
		if err := t.scan(&n, "SELECT count(*) FROM api_keys"); err != nil {
			return err
		}
		if ok = n == 0; !ok {
			return nil
		}
		return t.insertKey(&k)
	})
	return ok && err == nil, err
}

func (t *tx) insertKey(k *auth.Key) error {
	new := principalRow{ID: k.Principal, System: k.System, CreatedAt: stamp(k.CreatedAt)}
	if err := create(t, []principalRow{new}, clause.OnConflict{DoNothing: true}); err != nil {
		return err
	}
	principal, err := take[principalRow](t, t.db.Where("id = ?", k.Principal), "principal")
	if err != nil {
		return err
	}
	if principal.System != k.System {
		return &dsr.Error{
			Code: dsr.CodeConflict, Field: "principal", Msg: "is known as the other kind, person or system",
			Hint: "use another principal id",
		}
	}
	row := keyRow{
		ID: k.ID, Hash: k.Hash, Principal: k.Principal, Label: k.Label, Roles: k.Roles, Tenants: k.Tenants,
		CreatedBy: k.CreatedBy, CreatedAt: stamp(k.CreatedAt), ExpiresAt: stampPtr(k.ExpiresAt),
		RevokedAt: stampPtr(k.RevokedAt), LastUsed: stampPtr(k.LastUsed),
	}
	if err := create(t, []keyRow{row}); err != nil {
		return err
	}
	return t.AppendLeaves(ledger.Leaf{
		At: k.CreatedAt, Type: "key.created", Actor: k.CreatedBy,
		Detail: map[string]string{"key": k.ID, "principal": k.Principal, "roles": strings.Join(k.Roles, ",")},
	})
}

// Key implements [auth.Store].
func (s *Store) Key(ctx context.Context, id string) (k *auth.Key, err error) {
	err = s.inTx(ctx, func(t *tx) error {
		k, err = t.key(id)
		return err
	})
	return k, err
}

func (t *tx) key(id string) (*auth.Key, error) {
	row, err := take[keyRow](t, t.db.Where("id = ?", id), "key")
	if err != nil {
		return nil, err
	}
	ks, err := t.keysOf([]keyRow{*row})
	if err != nil {
		return nil, err
	}
	return &ks[0], nil
}

// keysOf joins keys with their principals.
func (t *tx) keysOf(rows []keyRow) ([]auth.Key, error) {
	ids := make([]string, len(rows))
	for i, w := range rows {
		ids[i] = w.Principal
	}
	principals, err := find[principalRow](t, t.db.Where(t.in("id", ids)))
	if err != nil {
		return nil, err
	}
	system := make(map[string]bool, len(principals))
	for _, p := range principals {
		system[p.ID] = p.System
	}
	ks := make([]auth.Key, len(rows))
	for i, w := range rows {
		ks[i] = auth.Key{
			ID: w.ID, Hash: w.Hash, Principal: w.Principal, System: system[w.Principal], Label: w.Label, Roles: w.Roles,
			Tenants: w.Tenants, CreatedBy: w.CreatedBy, CreatedAt: utc(w.CreatedAt), ExpiresAt: utcPtr(w.ExpiresAt),
			RevokedAt: utcPtr(w.RevokedAt), LastUsed: utcPtr(w.LastUsed),
		}
	}
	return ks, nil
}

// Keys implements [auth.Store].
func (s *Store) Keys(ctx context.Context, after string, limit int) (ks []auth.Key, err error) {
	err = s.inTx(ctx, func(t *tx) error {
		rows, err := find[keyRow](t, t.db.Where("id > ?", after).Order("id").Limit(limit))
		if err != nil || len(rows) == 0 {
			return err
		}
		ks, err = t.keysOf(rows)
		return err
	})
	return ks, err
}

// RevokeKey implements [auth.Store].
func (s *Store) RevokeKey(ctx context.Context, id, by string, at time.Time) (k *auth.Key, err error) {
	err = s.inTx(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", stamp(at), id)
		if err != nil {
			return err
		}
		if k, err = t.key(id); err != nil || n == 0 {
			return err
		}
		return t.AppendLeaves(ledger.Leaf{
			At: at, Type: "key.revoked", Actor: by, Detail: map[string]string{"key": id, "principal": k.Principal},
		})
	})
	return k, err
}

// TouchKey implements [auth.Store].
func (s *Store) TouchKey(ctx context.Context, id string, at time.Time) error {
	return s.inTx(ctx, func(t *tx) error {
		return t.write(nil, "UPDATE api_keys SET last_used = ? WHERE id = ?", stamp(at), id)
	})
}

// FailuresOf implements [auth.Store].
func (s *Store) FailuresOf(ctx context.Context, subjects ...string) (map[string]auth.Failures, error) {
	of := make(map[string]auth.Failures)
	err := s.inTx(ctx, func(t *tx) error {
		rows, err := find[failureRow](t, t.db.Where(t.in("subject", subjects)))
		for _, w := range rows {
			of[w.Subject] = w.failures()
		}
		return err
	})
	return of, err
}

// AddFailure implements [auth.Store].
func (s *Store) AddFailure(
	ctx context.Context, subject string, now time.Time, window, lock time.Duration, limit int,
) (f auth.Failures, err error) {
	at, from, until := stamp(now), stamp(now.Add(-window)), stamp(now.Add(lock))
	var first *time.Time
	if limit <= 1 {
		first = &until
	}
	err = s.inTx(ctx, func(t *tx) error {
		var rows []failureRow
		err := t.scan(&rows, `INSERT INTO auth_failures AS f (subject, count, since, locked_until) VALUES (?, 1, ?, ?)
			ON CONFLICT (subject) DO UPDATE SET
				count = CASE WHEN f.since < ? THEN 1 ELSE f.count + 1 END,
				since = CASE WHEN f.since < ? THEN excluded.since ELSE f.since END,
				locked_until = CASE
					WHEN f.since < ? THEN excluded.locked_until
					WHEN f.count + 1 >= ? THEN ?
					ELSE f.locked_until END
			RETURNING *`, subject, at, first, from, from, from, limit, until)
		if err != nil {
			return err
		}
		f = rows[0].failures()
		return nil
	})
	return f, err
}

// ClearFailures implements [auth.Store].
func (s *Store) ClearFailures(ctx context.Context, subjects ...string) error {
	return s.inTx(ctx, func(t *tx) error {
		return t.write(nil, "DELETE FROM auth_failures WHERE ?", t.in("subject", subjects))
	})
}

// PurgeFailures implements [auth.Store].
func (s *Store) PurgeFailures(ctx context.Context, before time.Time) error {
	before = stamp(before)
	return s.inTx(ctx, func(t *tx) error {
		return t.write(nil, "DELETE FROM auth_failures WHERE since < ? AND (locked_until IS NULL OR locked_until < ?)",
			before, before)
	})
}
