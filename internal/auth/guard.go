package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lethe-gdpr/lethe/dsr"
)

// CodeUnauthenticated is the error of a missing, unknown, wrong, expired or revoked key; which one is not told.
const CodeUnauthenticated dsr.Code = "unauthenticated"

// Throttled is the error of calling too often, or after too many failures. Its text is the same for both.
type Throttled struct{ After time.Duration }

func (t *Throttled) Error() string { return fmt.Sprintf("too many calls: try again in %s", t.After) }

// Config is what a Guard is made of. Store and Now are required.
type Config struct {
	Store Store
	Now   func() time.Time
	// Rate is calls a second and key, Burst how many at once; 0 is 50 and 100. A negative Rate is no limit.
	Rate  float64
	Burst int
	// KeyFailures and AddressFailures within Window lock a key or an address for Lock; 0 is 10, 20, 15 and 15 minutes.
	KeyFailures     int
	AddressFailures int
	Window          time.Duration
	Lock            time.Duration
}

// Guard authenticates callers and keeps their keys. It is safe for concurrent use.
type Guard struct {
	c Config

	mu       sync.Mutex
	limiters map[string]*limiter
	seen     map[memoKey]memo
}

// New returns a Guard.
func New(c Config) *Guard {
	c.Rate = orDefault(c.Rate, 50)
	c.Burst = orDefault(c.Burst, 100)
	c.KeyFailures = orDefault(c.KeyFailures, 10)
	c.AddressFailures = orDefault(c.AddressFailures, 20)
	c.Window = orDefault(c.Window, 15*time.Minute)
	c.Lock = orDefault(c.Lock, 15*time.Minute)
	return &Guard{c: c, limiters: map[string]*limiter{}, seen: map[memoKey]memo{}}
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Caller is who a token belongs to.
type Caller struct {
	Key   string // id of the key, for the access log and the scope of idempotency
	Actor dsr.Actor

	fingerprint []byte
}

// Fingerprint is a key for keyed hashes of what this caller sent. It comes from the secret of its token, which is not
// stored, so that such a hash can be compared but nobody who reads the database can try values against it.
func (c *Caller) Fingerprint() []byte { return c.fingerprint }

func fingerprintKey(secret string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("lethe/fingerprint/1"))
	return h.Sum(nil)
}

// Authenticate returns who a token belongs to. CodeUnauthenticated, or *Throttled; errors of the Store pass. A failure
// counts against the address that it came from and, when the key exists, against the key.
func (g *Guard) Authenticate(ctx context.Context, token dsr.Secret, from netip.Addr) (*Caller, error) {
	now := g.c.Now()
	id, secret, wellFormed := parseToken(token)
	address := addressSubject(from)
	m, err := g.recall(ctx, memoKey{id, address}, now)
	if err != nil {
		return nil, err
	}
	if now.Before(m.locked) {
		return nil, &Throttled{After: m.locked.Sub(now)}
	}
	// No short cut before the comparison: a token that cannot be one takes as long as a wrong one.
	if ok := matches(m.key, secret); !ok || !wellFormed || !m.key.Live(now) {
		if err := g.failed(ctx, m.key, address, now); err != nil {
			return nil, err
		}
		return nil, &dsr.Error{
			Code: CodeUnauthenticated, Msg: "a valid API key is needed",
			Hint: "send it as `Authorization: Bearer lethe_…`; it may have expired or been revoked",
		}
	}
	if err := g.throttle(m.key.ID, now); err != nil {
		return nil, err
	}
	if m.key.LastUsed == nil || now.Sub(*m.key.LastUsed) > time.Hour {
		if err := g.c.Store.TouchKey(ctx, m.key.ID, now); err != nil {
			return nil, err
		}
		g.forget(m.key.ID)
	}
	return &Caller{Key: m.key.ID, Actor: m.key.actor(), fingerprint: fingerprintKey(secret)}, nil
}

func (k *Key) actor() dsr.Actor {
	return dsr.Actor{ID: k.Principal, Roles: k.Roles, Tenants: k.Tenants, System: k.System}
}

func (g *Guard) failed(ctx context.Context, k *Key, address string, now time.Time) error {
	if _, err := g.c.Store.AddFailure(ctx, address, now, g.c.Window, g.c.Lock, g.c.AddressFailures); err != nil {
		return err
	}
	if k != nil {
		if _, err := g.c.Store.AddFailure(ctx, keySubject(k.ID), now, g.c.Window, g.c.Lock, g.c.KeyFailures); err != nil {
			return err
		}
		g.forget(k.ID)
	}
	g.forgetAddress(address)
	return nil
}

func keySubject(id string) string { return "key:" + id }

// addressSubject counts an IPv6 network of 64 bits as one address, because one machine has that many.
func addressSubject(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return "addr:" + p.String()
		}
	}
	return "addr:" + a.String()
}

// Bootstrap creates the first key, for a person with the given id who may operate and decide, when no key was ever
// stored. ok is false when there was one. Lethe's own process calls it at its first start and shows the token once.
func (g *Guard) Bootstrap(ctx context.Context, principal string) (token dsr.Secret, ok bool, err error) {
	id, token, hash := newToken()
	ok, err = g.c.Store.InsertFirstKey(ctx, Key{
		ID: id, Hash: hash, Principal: principal, Label: "bootstrap",
		Roles: []string{dsr.RoleOperator, dsr.RoleDPO}, CreatedBy: dsr.Engine.ID, CreatedAt: g.c.Now(),
	})
	if err != nil || !ok {
		return dsr.Secret{}, false, err
	}
	return token, true, nil
}

type limiter struct {
	*rate.Limiter
	used time.Time
}

func (g *Guard) throttle(key string, now time.Time) error {
	if g.c.Rate < 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.limiters[key]
	if l == nil {
		if len(g.limiters) >= maxRemembered {
			// A limiter that was not used for a minute is full again, so that nothing is lost with it.
			for id, old := range g.limiters {
				if now.Sub(old.used) > time.Minute {
					delete(g.limiters, id)
				}
			}
		}
		l = &limiter{Limiter: rate.NewLimiter(rate.Limit(g.c.Rate), g.c.Burst)}
		g.limiters[key] = l
	}
	l.used = now
	r := l.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return &Throttled{After: wait}
	}
	return nil
}

// Admit is for calls that need no key, such as a one-time link: *Throttled when the address is locked.
func (g *Guard) Admit(ctx context.Context, from netip.Addr) error {
	now := g.c.Now()
	m, err := g.recall(ctx, memoKey{address: addressSubject(from)}, now)
	if err != nil {
		return err
	}
	if now.Before(m.locked) {
		return &Throttled{After: m.locked.Sub(now)}
	}
	return nil
}

// Failed counts a failure, such as a wrong one-time link, against an address.
func (g *Guard) Failed(ctx context.Context, from netip.Addr) error {
	return g.failed(ctx, nil, addressSubject(from), g.c.Now())
}
