package engine

import (
	"context"

	"github.com/lethe-gdpr/lethe/dsr"
)

// place binds an identifier's ciphertext to its Request, or Hold, and name.
func place(owner, name string) []byte { return []byte("identifier\x00" + owner + "\x00" + name) }

// seal encrypts and commits to identifiers of a Request, or Hold.
func (e *Engine) seal(owner, tenant string, k DataKey, ids []dsr.Identifier) ([]SealedIdentifier, error) {
	sealed := make([]SealedIdentifier, len(ids))
	for i, id := range ids {
		keyID, commitment, err := e.c.Committer.Commit(tenant, id.Name, id.Value)
		if err != nil {
			return nil, err
		}
		ciphertext, err := k.Seal([]byte(id.Value.Reveal()), place(owner, id.Name))
		if err != nil {
			return nil, err
		}
		sealed[i] = SealedIdentifier{
			Request: owner, Name: id.Name, Origin: id.Origin, Source: id.Source, Ciphertext: ciphertext,
			KeyID: keyID, Commitment: commitment,
		}
	}
	return sealed, nil
}

// unseal opens the identifiers of a Request, or Hold.
func unseal(owner string, k DataKey, sealed []SealedIdentifier) ([]dsr.Identifier, error) {
	ids := make([]dsr.Identifier, 0, len(sealed))
	for _, s := range sealed {
		if s.Ciphertext == nil {
			continue
		}
		plain, err := k.Open(s.Ciphertext, place(owner, s.Name))
		if err != nil {
			return nil, &dsr.Error{
				Code: "identifiers-unreadable", Msg: "the identifiers cannot be decrypted",
				Hint: "see whether Lethe runs with the keys that it was filed under",
			}
		}
		ids = append(ids, dsr.Identifier{
			Name: s.Name, Value: dsr.NewSecret(string(plain)), Origin: s.Origin, Source: s.Source,
		})
	}
	return ids, nil
}

// member is one Request's part of a Run: its Task and what is needed to work on it.
type member struct {
	task    *dsr.Task
	request *dsr.Request
	sealed  []SealedIdentifier
	wrapped []byte

	key DataKey          // opened
	ids []dsr.Identifier // opened
}

// loadMembers reads what a Run's Tasks need, in three statements. Members whose Request is gone are left out.
func loadMembers(tx Tx, tasks []*dsr.Task) ([]*member, error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	ids := make([]string, 0, len(tasks))
	seen := map[string]bool{}
	for _, t := range tasks {
		if !seen[t.Request] {
			seen[t.Request] = true
			ids = append(ids, t.Request)
		}
	}
	requests, err := tx.LockRequests(ids...)
	if err != nil {
		return nil, err
	}
	sealed, err := tx.IdentifiersOf(ids...)
	if err != nil {
		return nil, err
	}
	keys, err := tx.DataKeys(ids...)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*dsr.Request, len(requests))
	for _, r := range requests {
		byID[r.ID] = r
	}
	ms := make([]*member, 0, len(tasks))
	for _, t := range tasks {
		if r := byID[t.Request]; r != nil {
			ms = append(ms, &member{task: t, request: r, sealed: sealed[r.ID], wrapped: keys[r.ID]})
		}
	}
	return ms, nil
}

// open decrypts a member's identifiers.
func (e *Engine) open(ctx context.Context, m *member) error {
	if m.wrapped == nil {
		return &dsr.Error{Code: "identifiers-forgotten", Msg: "the identifiers of this request are destroyed"}
	}
	k, err := e.c.Cipher.OpenDataKey(ctx, m.wrapped)
	if err != nil {
		return err
	}
	m.key = k
	m.ids, err = unseal(m.request.ID, k, m.sealed)
	return err
}
