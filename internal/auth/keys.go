package auth

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
)

// NewKey is what a new key is made from.
type NewKey struct {
	Principal string
	System    bool
	Label     string
	Roles     []string
	Tenants   []string // nil is every tenant
	ExpiresAt *time.Time
}

// CodePrincipalKind is the error of a key for a principal that is known as the other kind, person or system.
const CodePrincipalKind dsr.Code = "principal-kind"

// CreateKey stores a key and returns its token, which is not kept. A caller may grant operator, auditor and portal;
// dpo only when it has that role itself, so that running the house does not become deciding. A caller that is bound
// to tenants may bind a key to those only.
func (g *Guard) CreateKey(ctx context.Context, by dsr.Actor, n NewKey) (*Key, dsr.Secret, error) {
	if err := g.validate(by, n); err != nil {
		return nil, dsr.Secret{}, err
	}
	id, token, hash := newToken()
	k := Key{
		ID: id, Hash: hash, Principal: n.Principal, System: n.System, Label: n.Label, Roles: n.Roles, Tenants: n.Tenants,
		CreatedBy: by.ID, CreatedAt: g.c.Now().UTC().Truncate(time.Microsecond), ExpiresAt: n.ExpiresAt,
	}
	err := g.c.Store.InsertKey(ctx, k)
	if dsr.CodeOf(err) == dsr.CodeConflict {
		return nil, dsr.Secret{}, &dsr.Error{
			Code: CodePrincipalKind, Field: "type", Msg: "this principal is known as the other type",
			Hint: "a person and a system never share a principal, because four eyes are counted by it",
		}
	}
	if err != nil {
		return nil, dsr.Secret{}, err
	}
	return &k, token, nil
}

func (g *Guard) validate(by dsr.Actor, n NewKey) error {
	invalid := func(field, msg string) error { return &dsr.Error{Code: dsr.CodeInvalid, Field: field, Msg: msg} }
	switch {
	case !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`).MatchString(n.Principal):
		return invalid("principal", "lower-case letters, digits, dots, dashes and underscores, at most 64")
	case n.Principal == dsr.Engine.ID:
		return invalid("principal", "this name is Lethe's own")
	case len(n.Roles) == 0:
		return invalid("roles", "at least one role is needed")
	case n.ExpiresAt != nil && !n.ExpiresAt.After(g.c.Now()):
		return invalid("expires_at", "is in the past")
	case by.Tenants != nil && len(n.Tenants) == 0:
		return invalid("tenants", "your own key is bound to tenants, so this one must be")
	}
	for _, r := range n.Roles {
		if !slices.Contains(Roles(), r) {
			return invalid("roles", "there is no such role")
		}
		if r == dsr.RoleDPO && !by.Has(dsr.RoleDPO) {
			return &dsr.Error{
				Code: dsr.CodeForbidden, Field: "roles", Msg: "only a caller with the role dpo may grant it",
				Hint: "ask somebody whose key has the roles dpo and operator",
			}
		}
	}
	for _, t := range n.Tenants {
		if !by.MayReach(t) {
			return &dsr.Error{Code: dsr.CodeForbidden, Field: "tenants", Msg: "your own key is not bound to this tenant"}
		}
	}
	return nil
}

// Keys lists keys in id order after the id, those that the caller may see; next is empty on the last page.
func (g *Guard) Keys(ctx context.Context, by dsr.Actor, after string, limit int) (page []Key, next string, err error) {
	all, err := g.c.Store.Keys(ctx, after, limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(all) > limit {
		all = all[:limit]
		next = all[limit-1].ID
	}
	return slices.DeleteFunc(all, func(k Key) bool { return !visible(by, &k) }), next, nil
}

// RevokeKey ends a key; revoking it again changes nothing. CodeNotFound when the caller may not see it.
func (g *Guard) RevokeKey(ctx context.Context, by dsr.Actor, id string) (*Key, error) {
	k, err := g.c.Store.Key(ctx, id)
	if dsr.CodeOf(err) == dsr.CodeNotFound || err == nil && !visible(by, k) {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "there is no such key"}
	}
	if err != nil {
		return nil, err
	}
	k, err = g.c.Store.RevokeKey(ctx, id, by.ID, g.c.Now())
	g.forget(id)
	return k, err
}

// visible: a caller that is bound to tenants sees the keys that reach no further than itself.
func visible(by dsr.Actor, k *Key) bool {
	if by.Tenants == nil {
		return true
	}
	return k.Tenants != nil && !slices.ContainsFunc(k.Tenants, func(t string) bool { return !by.MayReach(t) })
}
