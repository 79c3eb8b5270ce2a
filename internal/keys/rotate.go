package keys

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Info describes one key.
type Info struct {
	Set    Set
	ID     string
	Active bool
}

// List describes every key, the active one of each set first.
func (k *Keys) List() []Info {
	var all []Info
	for _, s := range allSets() {
		info := k.sets[s].KeysetInfo()
		keys := []Info{{Set: s, ID: keyID(info.PrimaryKeyId), Active: true}}
		for _, i := range info.KeyInfo {
			if i.KeyId != info.PrimaryKeyId {
				keys = append(keys, Info{Set: s, ID: keyID(i.KeyId)})
			}
		}
		all = append(all, keys...)
	}
	return all
}

// Prepare adds a key that is live but not active, and returns the Keys as the file now has them.
func (k *Keys) Prepare(ctx context.Context, s Set) (*Keys, string, error) {
	var added uint32
	next, err := k.change(ctx, s, func(m *keyset.Manager) (err error) {
		added, err = m.Add(template(s))
		return err
	})
	return next, keyID(added), err
}

// Promote makes a live key the active one.
func (k *Keys) Promote(ctx context.Context, s Set, id string) (*Keys, error) {
	return k.change(ctx, s, func(m *keyset.Manager) error {
		n, err := parseID(id)
		if err != nil {
			return err
		}
		return m.SetPrimary(n)
	})
}

// Retire deletes a commitment key for ever. inUse are the key ids that the database still needs (see the store's
// CommitmentKeysInUse); one of them is refused, for a suppression made with it could never again be recognised.
func (k *Keys) Retire(ctx context.Context, id string, inUse []string) (*Keys, error) {
	if slices.Contains(inUse, id) {
		return nil, &dsr.Error{
			Code: dsr.CodeWrongState, Field: "key", Msg: "suppressions or requests still need it",
			Hint: "they expire by themselves; try again when they have",
		}
	}
	return k.change(ctx, Commitments, func(m *keyset.Manager) error {
		n, err := parseID(id)
		if err != nil {
			return err
		}
		return m.Delete(n)
	})
}

// Reseal encrypts the keysets under another key-encryption key.
func (k *Keys) Reseal(ctx context.Context, kek KEK) (*Keys, error) {
	return k.rewrite(ctx, kek, k.sets)
}

// change starts from what the file has now, so that two operators do not undo each other's work unseen.
func (k *Keys) change(ctx context.Context, s Set, fn func(*keyset.Manager) error) (*Keys, error) {
	sets, err := read(ctx, k.path, k.kek)
	if err != nil {
		return nil, err
	}
	if sets[s] == nil {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "set", Msg: fmt.Sprintf("no keyset %q", s),
			Hint: "data, commitments or pseudonyms",
		}
	}
	m := keyset.NewManagerFromHandle(sets[s])
	if err := fn(m); err != nil {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "key", Msg: "cannot be changed so", Hint: "see the list of keys",
			Err: err,
		}
	}
	if sets[s], err = m.Handle(); err != nil {
		return nil, err
	}
	return k.rewrite(ctx, k.kek, sets)
}

func (k *Keys) rewrite(ctx context.Context, kek KEK, sets map[Set]*keyset.Handle) (*Keys, error) {
	next, err := open(k.path, kek, sets)
	if err != nil {
		return nil, err
	}
	body, err := seal(ctx, kek, sets)
	if err != nil {
		return nil, err
	}
	return next, replace(k.path, body)
}

func parseID(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a key id", id)
	}
	return uint32(n), nil
}
