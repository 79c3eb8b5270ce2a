package store

import (
	"context"
	"time"
)

type idempotencyRow struct {
	Key         string `gorm:"primaryKey"`
	Fingerprint string
	Answer      []byte
	Expires     time.Time
}

func (idempotencyRow) TableName() string { return "idempotency" }

// ClaimIdempotency implements the API's IdempotencyStore.
func (s *Store) ClaimIdempotency(ctx context.Context, key, fingerprint string, now, expires time.Time) (
	claimed bool, held string, answer []byte, err error,
) {
	err = s.inTx(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO idempotency AS i (key, fingerprint, expires) VALUES (?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = NULL, expires = excluded.expires
			WHERE i.expires < ?`, key, fingerprint, stamp(expires), stamp(now))
		if err != nil {
			return err
		}
		if claimed = n == 1; claimed {
			held, answer = fingerprint, nil
			return nil
		}
		row, err := take[idempotencyRow](t, t.db.Where("key = ?", key), "idempotency key")
		if err != nil {
			return err
		}
		held, answer = row.Fingerprint, row.Answer
		return nil
	})
	return claimed && err == nil, held, answer, err
}

// FinishIdempotency implements the API's IdempotencyStore.
func (s *Store) FinishIdempotency(ctx context.Context, key string, answer []byte, expires time.Time) error {
	return s.inTx(ctx, func(t *tx) error {
		return t.write(all(1, notFound("idempotency key")),
			"UPDATE idempotency SET answer = ?, expires = ? WHERE key = ?", answer, stamp(expires), key)
	})
}

// DropIdempotency implements the API's IdempotencyStore.
func (s *Store) DropIdempotency(ctx context.Context, key string) error {
	return s.inTx(ctx, func(t *tx) error {
		return t.write(nil, "DELETE FROM idempotency WHERE key = ?", key)
	})
}

// PurgeIdempotency implements the API's IdempotencyStore.
func (s *Store) PurgeIdempotency(ctx context.Context, before time.Time) error {
	return s.inTx(ctx, func(t *tx) error {
		return t.write(nil, "DELETE FROM idempotency WHERE expires < ?", stamp(before))
	})
}
