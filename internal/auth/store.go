package auth

import (
	"context"
	"time"
)

// Key is one API key. It belongs to a person or a system, which may have several; they are one principal for four
// eyes. The secret half of the token is not kept, only its SHA-256 (see [HashSecret]).
type Key struct {
	ID        string // public half of the token, 16 characters of lower-case base32
	Hash      []byte // SHA-256 of the secret half
	Principal string // id of the person or system
	System    bool   // a machine, not a person
	Label     string // what the key is for, in its owner's words; shown to operators
	Roles     []string
	Tenants   []string // nil is every tenant
	CreatedBy string   // principal id; "lethe" for the bootstrap key
	CreatedAt time.Time
	ExpiresAt *time.Time // nil is never
	RevokedAt *time.Time
	LastUsed  *time.Time // exact to about an hour
}

// Live reports whether the key may still be used.
func (k *Key) Live(now time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || now.Before(*k.ExpiresAt))
}

// Failures counts failed attempts of one subject: "key:ID" or "addr:ADDRESS".
type Failures struct {
	Count       int
	Since       time.Time // of the first that is counted
	LockedUntil time.Time // zero when not locked
}

// Store keeps keys and failed attempts. Every method is one transaction of its own; times are to the microsecond, UTC.
type Store interface {
	// InsertKey stores a key, with its ledger leaf ("key.created": actor CreatedBy; detail key, principal, roles) in
	// the same transaction. CodeConflict when the id is taken, or when the principal has keys as the other kind
	// (person or system).
	InsertKey(ctx context.Context, k Key) error
	// InsertFirstKey is InsertKey when no key was ever stored; ok is false, and nothing is written, when there was one.
	// Two processes that start together get one key between them.
	InsertFirstKey(ctx context.Context, k Key) (ok bool, err error)
	// Key returns a key, live or not; CodeNotFound when there is none.
	Key(ctx context.Context, id string) (*Key, error)
	// Keys returns keys in id order after the id; live and dead ones.
	Keys(ctx context.Context, after string, limit int) ([]Key, error)
	// RevokeKey sets RevokedAt when it is not set yet, with a ledger leaf ("key.revoked", actor by) in the same
	// transaction, and returns the key. CodeNotFound when there is none.
	RevokeKey(ctx context.Context, id, by string, at time.Time) (*Key, error)
	// TouchKey sets LastUsed.
	TouchKey(ctx context.Context, id string, at time.Time) error

	// FailuresOf returns the rows of the subjects that have one, however old.
	FailuresOf(ctx context.Context, subjects ...string) (map[string]Failures, error)
	// AddFailure counts one more failure, atomically: a row whose Since is before now-window starts again at 1; at
	// limit LockedUntil becomes now+lock. It returns the row as it is now.
	AddFailure(ctx context.Context, subject string, now time.Time, window, lock time.Duration, limit int) (Failures, error)
	// ClearFailures forgets the subjects' failures.
	ClearFailures(ctx context.Context, subjects ...string) error
	// PurgeFailures deletes rows whose Since and LockedUntil are before t; addresses are personal data and must not pile
	// up.
	PurgeFailures(ctx context.Context, t time.Time) error
}
