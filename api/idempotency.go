package api

import (
	"context"
	"time"
)

// IdempotencyStore remembers the answers to creating requests, so that a client that lost an answer may send its
// request again (draft-ietf-httpapi-idempotency-key-header). Keys and fingerprints are keyed hashes and answers hold no
// identifier and no secret. Its signatures use plain types only, so that the store need not import this package. Every
// method is one transaction of its own.
type IdempotencyStore interface {
	// ClaimIdempotency takes key for the caller when it is free or its row has expired before now: claimed is true, and
	// the row holds fingerprint and expires, with no answer. Otherwise it returns what the row holds; answer is nil
	// while the first request is in flight. Of two concurrent calls one claims.
	ClaimIdempotency(ctx context.Context, key, fingerprint string, now, expires time.Time) (
		claimed bool, held string, answer []byte, err error)
	// FinishIdempotency stores the answer of a claimed key and a new expiry.
	FinishIdempotency(ctx context.Context, key string, answer []byte, expires time.Time) error
	// DropIdempotency frees a claimed key after a request that created nothing.
	DropIdempotency(ctx context.Context, key string) error
	// PurgeIdempotency deletes rows that expired before t.
	PurgeIdempotency(ctx context.Context, t time.Time) error
}
