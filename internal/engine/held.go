package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// lockOfHolds is held by whoever places a Hold or begins a Sweep, so that each sees the other.
const lockOfHolds = "lethe/holds"

// refreshed remembers when the identifiers of Holds were learned last, and of which Holds.
type refreshed struct {
	mu    sync.Mutex
	at    time.Time
	known map[string]bool
}

// openHold is a Hold on a subject with its identifiers in the clear.
type openHold struct {
	*dsr.Hold
	key DataKey
	ids []dsr.Identifier
}

// holdsFor returns the Holds that reach a System under one version of the data map. What they cover is learned anew
// when that was done a while ago; it is a fault when a System that teaches does not answer, for a Hold that does not
// know its subject's identifiers holds nothing.
func (e *Engine) holdsFor(ctx context.Context, m *atlas, system string) (connectors.Holds, error) {
	return e.heldIn(ctx, m, system, e.c.Policy.FindingsTTL)
}

// heldIn is holdsFor with how long what was learned is believed.
func (e *Engine) heldIn(ctx context.Context, m *atlas, system string, ttl time.Duration) (connectors.Holds, error) {
	subjects, entities, err := e.learnedHolds(ctx, ttl)
	if err != nil {
		return connectors.Holds{}, err
	}
	cur, err := e.current(ctx)
	if err != nil {
		return connectors.Holds{}, err
	}
	if err := lost(cur, system, subjects, entities); err != nil {
		return connectors.Holds{}, err
	}
	entities = slices.DeleteFunc(entities, func(h *dsr.Hold) bool { return h.System != system })
	if m.version != cur.version { // which a newer Hold may be lost to as well
		if err := lost(m, system, subjects, entities); err != nil {
			return connectors.Holds{}, err
		}
	}
	return holdsOf(system, subjects, entities), nil
}

// holdsOf are the Holds that reach a System.
func holdsOf(system string, subjects []openHold, entities []*dsr.Hold) (held connectors.Holds) {
	for _, h := range subjects {
		held.Subjects = append(held.Subjects, connectors.Subject{Ref: h.ID, Tenant: h.Tenant, Identifiers: h.ids})
	}
	for _, h := range entities {
		if h.System == system {
			held.Entities = append(held.Entities, connectors.Frozen{Entity: h.Entity, When: h.When})
		}
	}
	return held
}

// openHolds reads every Hold that lasts and decrypts the identifiers of those on subjects.
func (e *Engine) openHolds(ctx context.Context) (subjects []openHold, entities []*dsr.Hold, err error) {
	var sealed []SealedHold
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		sealed, err = tx.OpenHolds()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range sealed {
		if len(s.DataKey) == 0 {
			entities = append(entities, s.Hold)
			continue
		}
		h := openHold{Hold: s.Hold}
		if h.key, err = e.c.Cipher.OpenDataKey(ctx, s.DataKey); err != nil {
			return nil, nil, unreadableHold(err)
		}
		if h.ids, err = unseal(s.ID, h.key, s.Sealed); err != nil {
			return nil, nil, unreadableHold(err)
		}
		subjects = append(subjects, h)
	}
	return subjects, entities, nil
}

// unreadableHold stops what would delete while a Hold cannot be read. A key service that is away may come back.
func unreadableHold(err error) error {
	if dsr.CodeOf(err) == dsr.CodeUnavailable {
		return err
	}
	return connectors.Permanent("hold-unreadable", "the identifiers of a hold cannot be decrypted, so nothing may be deleted",
		"see whether Lethe runs with the keys that it was placed under; then retry", nil)
}

// lost stops what would delete while a map has lost what a Hold is on: renamed, its rows are still there and nobody would
// look for them. It is asked of the current map, and of the older one that work goes on under: what that does not know yet
// by name may be in rows that it reaches.
func lost(cur *atlas, system string, subjects []openHold, entities []*dsr.Hold) error {
	gone := func(h *dsr.Hold, what, hint string) error {
		return connectors.Permanent("hold-unresolved", "what "+h.ID+" covers cannot be found, so nothing may be deleted: "+what,
			hint+", or lift the hold and place another; then retry", nil)
	}
	for _, h := range subjects {
		if (cur.Tenants == "") != (h.Tenant == "") {
			return gone(h.Hold, "its tenant and the data map's do not go together", "correct tenants in the map")
		}
		for _, id := range h.ids {
			if _, ok := cur.Identifiers[id.Name]; !ok {
				return gone(h.Hold, "the data map has no identifier "+id.Name, "declare it again while the hold lasts")
			}
		}
	}
	for _, h := range entities {
		s := cur.System(h.System)
		if s == nil || h.System == system && s.Entity(h.Entity) == nil {
			return gone(h, "the data map has no "+h.System+"."+h.Entity, "call it that again")
		}
	}
	return nil
}

// learnedHolds is openHolds after the Systems that teach were asked, under the current map, what else the subjects of
// Holds are called: of every Hold when that was asked longer ago than ttl, and at once of one that was placed meanwhile,
// for whoever placed it may have known no more than an address.
func (e *Engine) learnedHolds(ctx context.Context, ttl time.Duration) (subjects []openHold, entities []*dsr.Hold, err error) {
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	if subjects, entities, err = e.openHolds(ctx); err != nil {
		return nil, nil, err
	}
	known := e.holds.known
	if e.now().Sub(e.holds.at).Abs() >= ttl {
		known = nil
	}
	var batch connectors.Batch
	for _, h := range subjects {
		if !known[h.ID] || h.Unlearned != "" {
			batch = append(batch, connectors.Subject{Ref: h.ID, Tenant: h.Tenant, Identifiers: h.ids})
		}
	}
	if len(batch) > 0 {
		m, err := e.current(ctx)
		if err != nil {
			return nil, nil, err
		}
		news, err := e.learn(ctx, m, batch)
		if err != nil {
			return nil, nil, err
		}
		for i, h := range subjects {
			if known[h.ID] && h.Unlearned == "" {
				continue
			}
			if err := e.addToHold(ctx, h, news[h.ID]); err != nil {
				return nil, nil, err
			}
			subjects[i].ids = append(slices.Clone(h.ids), news[h.ID]...)
		}
	}
	if known == nil {
		e.holds.at = e.now()
	}
	e.holds.known = map[string]bool{}
	for _, h := range subjects {
		e.holds.known[h.ID] = true
	}
	return subjects, entities, nil
}

// addToHold seals what was learned of a held subject, and commits to it and to what was known under every live key, so
// that Requests that were filed under another find it.
func (e *Engine) addToHold(ctx context.Context, h openHold, news []dsr.Identifier) error {
	sealed, err := e.sealForHold(h.Hold, h.key, append(slices.Clone(h.ids), news...))
	if err != nil {
		return err
	}
	sealed = slices.DeleteFunc(sealed, func(s SealedIdentifier) bool { return slices.Contains(h.Commitments, s.Commitment) })
	if len(sealed) == 0 && h.Unlearned == "" {
		return nil
	}
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		if err := tx.LockSubjects(lockOfHolds); err != nil {
			return err
		}
		now, err := tx.HoldOf(h.ID)
		if err != nil || now.LiftedAt != nil {
			return err // what was forgotten stays forgotten
		}
		if err := skipEmpty(sealed, tx.AddHoldIdentifiers); err != nil {
			return err
		}
		return tx.SetUnlearned(h.ID, "")
	})
}

// relearn asks the Systems again about the subjects of Holds of whom not everything is known. A System that still does not
// answer is asked again later; what the Hold says of itself is kept true.
func (e *Engine) relearn(ctx context.Context) error {
	var waiting []*dsr.Hold
	err := e.c.Store.InTx(ctx, func(tx Tx) error {
		open, err := tx.OpenHolds()
		waiting = nil
		for _, h := range open {
			if h.Unlearned != "" {
				waiting = append(waiting, h.Hold)
			}
		}
		return err
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	_, _, failure := e.learnedHolds(ctx, e.c.Policy.FindingsTTL)
	if failure == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	why := cmp.Or(string(dsr.CodeOf(failure)), reasonFault)
	e.c.Logger.WarnContext(ctx, "what the subjects of holds are called is still not known", "holds", len(waiting), "code", why)
	return e.c.Store.InTx(ctx, func(tx Tx) error {
		for _, h := range waiting {
			if err := tx.SetUnlearned(h.ID, why); err != nil {
				return err
			}
		}
		return nil
	})
}

// sealForHold seals identifiers under a Hold's key. Of each there is a commitment under every live key; the ciphertext
// stands beside the first.
func (e *Engine) sealForHold(h *dsr.Hold, key DataKey, ids []dsr.Identifier) ([]SealedIdentifier, error) {
	sealed, err := e.seal(h.ID, h.Tenant, key, ids)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		all, err := e.c.Committer.Candidates(h.Tenant, id.Name, id.Value)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if c != sealed[i].Commitment {
				s := sealed[i]
				s.Commitment, s.Ciphertext, s.KeyID = c, nil, ""
				sealed = append(sealed, s)
			}
		}
	}
	return sealed, nil
}

// learn follows what Systems teach about subjects and returns what was not known of each, by Ref. Rounds end when
// nothing new is learned, or with the last of discovery's.
func (e *Engine) learn(ctx context.Context, m *atlas, batch connectors.Batch) (map[string][]dsr.Identifier, error) {
	news := map[string][]dsr.Identifier{}
	batch = slices.Clone(batch)
	for round := 1; round <= maxRounds && len(batch) > 0; round++ {
		learned := map[string][]dsr.Identifier{}
		for _, name := range m.teachers() {
			conn, release, err := e.connect(ctx, m, name)
			if err != nil {
				return nil, err
			}
			found, err := conn.connector.Locate(ctx, connectors.Query{Batch: batch, Teaching: true})
			release()
			if err != nil {
				return nil, reachable(err)
			}
			for _, l := range found.Learned {
				if id, ok := e.normaliseLearned(m, l.Identifier); ok {
					learned[l.Subject] = append(learned[l.Subject], id)
				}
			}
		}
		again := batch[:0]
		for _, s := range batch {
			fresh := newTo(s.Identifiers, learned[s.Ref])
			if len(fresh) == 0 {
				continue
			}
			news[s.Ref] = append(news[s.Ref], fresh...)
			s.Identifiers = append(slices.Clone(s.Identifiers), fresh...)
			again = append(again, s)
		}
		batch = again
	}
	return news, nil
}
