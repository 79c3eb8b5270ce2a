package auth

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// A key and its locks are remembered this long, so that a busy caller does not cost two reads a call. A revocation
// takes effect at once in the process that was asked, and this much later in the others.
const (
	memory        = time.Second
	maxRemembered = 4096
)

type memoKey struct{ id, address string }

type memo struct {
	key    *Key      // nil when there is none
	locked time.Time // the later of the key's and the address's
	at     time.Time
}

func (g *Guard) recall(ctx context.Context, k memoKey, now time.Time) (memo, error) {
	g.mu.Lock()
	m, ok := g.seen[k]
	g.mu.Unlock()
	if age := now.Sub(m.at); ok && age >= 0 && age < memory {
		return m, nil
	}
	m = memo{at: now}
	subjects := []string{k.address}
	if k.id != "" {
		key, err := g.c.Store.Key(ctx, k.id)
		switch {
		case dsr.CodeOf(err) == dsr.CodeNotFound:
		case err != nil:
			return memo{}, err
		default:
			m.key = key
			subjects = append(subjects, keySubject(k.id))
		}
	}
	failures, err := g.c.Store.FailuresOf(ctx, subjects...)
	if err != nil {
		return memo{}, err
	}
	for _, f := range failures {
		if f.LockedUntil.After(m.locked) {
			m.locked = f.LockedUntil
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= maxRemembered {
		clear(g.seen)
	}
	if m.key != nil { // ids that somebody made up are not worth remembering
		g.seen[k] = m
	}
	return m, nil
}

func (g *Guard) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.seen {
		if k.id == id {
			delete(g.seen, k)
		}
	}
}

func (g *Guard) forgetAddress(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.seen {
		if k.address == address {
			delete(g.seen, k)
		}
	}
}
