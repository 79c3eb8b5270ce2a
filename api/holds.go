package api

import (
	"context"
	"time"

	openapi_types "github.com/oapi-codegen/runtime/types"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// PlaceHold stops deletion of a subject's or an Entity's data.
func (s *server) PlaceHold(ctx context.Context, in gen.PlaceHoldRequestObject) (gen.PlaceHoldResponseObject, error) {
	ctx, actor := caller(ctx)
	b := in.Body
	n := engine.NewHold{
		Restriction: b.Kind == gen.HoldKindRestriction, Tenant: val(b.Tenant), Identifiers: toIdentifiers(val(b.Identifiers)),
		Request: val(b.Request), System: val(b.System), Entity: val(b.Entity), When: each(val(b.When), toCondition),
		Reference: val(b.Reference),
	}
	if b.Review != nil {
		n.Review = b.Review.Time
	}
	h, err := s.Engine.PlaceHold(ctx, actor, n)
	if err != nil {
		return nil, err
	}
	return gen.PlaceHold201JSONResponse{
		Body:    fromHold(h),
		Headers: gen.PlaceHold201ResponseHeaders{Location: ptr("/v1/holds/" + h.ID), ETag: ptr(etag(h.Version))},
	}, nil
}

// ListHolds lists Holds, newest first.
func (s *server) ListHolds(ctx context.Context, in gen.ListHoldsRequestObject) (gen.ListHoldsResponseObject, error) {
	inner, actor := caller(ctx)
	p := in.Params
	cursor, err := after(p.Cursor, holdID)
	if err != nil {
		return nil, err
	}
	page, next, err := s.Engine.Holds(inner, actor, engine.HoldFilter{
		Lifted: val(p.Lifted), Overdue: val(p.Overdue), Tenant: val(p.Tenant), System: val(p.System), Cursor: cursor,
		Limit: limit(p.Limit),
	})
	if err != nil {
		return nil, err
	}
	out := gen.ListHolds200JSONResponse{Body: gen.HoldPage{Holds: each(page, fromHold), NextCursor: opt(next)}}
	out.Headers.Link = nextLink(ctx, "cursor", next)
	return out, nil
}

// SearchHolds lists the Holds on one exact identifier.
func (s *server) SearchHolds(ctx context.Context, in gen.SearchHoldsRequestObject) (gen.SearchHoldsResponseObject, error) {
	ctx, actor := caller(ctx)
	b := in.Body
	cursor, err := after(b.Cursor, holdID)
	if err != nil {
		return nil, err
	}
	page, next, err := s.Engine.Holds(ctx, actor, engine.HoldFilter{
		Lifted: val(b.Lifted), Tenant: val(b.Tenant), Cursor: cursor, Limit: limit(b.Limit),
		Identifier: &engine.RawIdentifier{Name: b.Identifier.Name, Value: dsr.NewSecret(b.Identifier.Value)},
	})
	if err != nil {
		return nil, fieldsOfTheContract(err, "identifiers[0]", "identifier")
	}
	return gen.SearchHolds200JSONResponse{Holds: each(page, fromHold), NextCursor: opt(next)}, nil
}

// GetHold shows one.
func (s *server) GetHold(ctx context.Context, in gen.GetHoldRequestObject) (gen.GetHoldResponseObject, error) {
	ctx, actor := caller(ctx)
	h, err := s.Engine.Hold(ctx, actor, in.Hold)
	if err != nil {
		return nil, err
	}
	return gen.GetHold200JSONResponse{HoldJSONResponse: holdAsIs(h)}, nil
}

// LiftHold ends a Hold.
func (s *server) LiftHold(ctx context.Context, in gen.LiftHoldRequestObject) (gen.LiftHoldResponseObject, error) {
	h, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Hold, error) {
		return s.Engine.LiftHold(ctx, a, in.Hold, v)
	})
	if err != nil {
		return nil, err
	}
	return gen.LiftHold200JSONResponse{HoldJSONResponse: holdAsIs(h)}, nil
}

// ReviewHold sets the next review date of a legal hold.
func (s *server) ReviewHold(ctx context.Context, in gen.ReviewHoldRequestObject) (gen.ReviewHoldResponseObject, error) {
	h, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Hold, error) {
		return s.Engine.ReviewHold(ctx, a, in.Hold, v, in.Body.Review.Time)
	})
	if err != nil {
		return nil, err
	}
	return gen.ReviewHold200JSONResponse{HoldJSONResponse: holdAsIs(h)}, nil
}

func holdAsIs(h *dsr.Hold) gen.HoldJSONResponse {
	return gen.HoldJSONResponse{Body: fromHold(h), Headers: gen.HoldResponseHeaders{ETag: ptr(etag(h.Version))}}
}

func toCondition(c gen.Condition) dsr.Condition {
	return dsr.Condition{Field: c.Field, Values: val(c.Values), Null: val(c.Null), NotNull: val(c.NotNull)}
}

func fromHold(h *dsr.Hold) gen.Hold {
	out := gen.Hold{
		Id: h.ID, Kind: gen.HoldKindLegal, Tenant: opt(h.Tenant), Identifiers: len(h.Commitments), Request: opt(h.Request), Unlearned: opt(h.Unlearned),
		System: opt(h.System), Entity: opt(h.Entity), When: each(h.When, fromCondition), Reference: opt(h.Reference),
		PlacedBy: h.PlacedBy, LiftedBy: opt(h.LiftedBy), CreatedAt: h.CreatedAt, LiftedAt: h.LiftedAt, Version: h.Version,
	}
	if h.Restriction {
		out.Kind = gen.HoldKindRestriction
	}
	if !h.Review.IsZero() {
		out.Review = &openapi_types.Date{Time: h.Review.UTC().Truncate(24 * time.Hour)}
	}
	return out
}
