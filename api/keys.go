package api

import (
	"context"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

// CreateApiKey creates a key and shows its token, once.
func (s *server) CreateApiKey(ctx context.Context, in gen.CreateApiKeyRequestObject) (gen.CreateApiKeyResponseObject, error) {
	ctx, actor := caller(ctx)
	b := in.Body
	n := auth.NewKey{
		Principal: b.Principal, System: b.Type == gen.PrincipalTypeSystem, Label: val(b.Label),
		Tenants: val(b.Tenants), ExpiresAt: b.ExpiresAt,
	}
	for _, r := range b.Roles {
		n.Roles = append(n.Roles, string(r))
	}
	k, token, err := s.Guard.CreateKey(ctx, actor, n)
	if err != nil {
		return nil, err
	}
	return gen.CreateApiKey201JSONResponse{
		Body:    gen.CreatedApiKey{Key: fromKey(*k), Token: ptr(token.Reveal())},
		Headers: gen.CreateApiKey201ResponseHeaders{Location: ptr("/v1/api-keys/" + k.ID)},
	}, nil
}

// ListApiKeys lists keys, live and dead.
func (s *server) ListApiKeys(ctx context.Context, in gen.ListApiKeysRequestObject) (gen.ListApiKeysResponseObject, error) {
	inner, actor := caller(ctx)
	cursor, err := after(in.Params.Cursor, keyID)
	if err != nil {
		return nil, err
	}
	page, next, err := s.Guard.Keys(inner, actor, cursor, limit(in.Params.Limit))
	if err != nil {
		return nil, err
	}
	out := gen.ListApiKeys200JSONResponse{Body: gen.ApiKeyPage{Keys: each(page, fromKey), NextCursor: opt(next)}}
	out.Headers.Link = nextLink(ctx, "cursor", next)
	return out, nil
}

// RevokeApiKey ends a key.
func (s *server) RevokeApiKey(ctx context.Context, in gen.RevokeApiKeyRequestObject) (gen.RevokeApiKeyResponseObject, error) {
	ctx, actor := caller(ctx)
	k, err := s.Guard.RevokeKey(ctx, actor, in.Key)
	if err != nil {
		return nil, err
	}
	return gen.RevokeApiKey200JSONResponse(fromKey(*k)), nil
}

func fromKey(k auth.Key) gen.ApiKey {
	out := gen.ApiKey{
		Id: k.ID, Principal: k.Principal, Type: gen.PrincipalTypePerson, Label: opt(k.Label), CreatedBy: k.CreatedBy,
		Roles:     each(k.Roles, func(r string) gen.Role { return gen.Role(r) }),
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsed,
	}
	if k.System {
		out.Type = gen.PrincipalTypeSystem
	}
	if k.Tenants != nil {
		out.Tenants = &k.Tenants
	}
	return out
}
