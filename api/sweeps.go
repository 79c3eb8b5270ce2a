package api

import (
	"context"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// StartSweep carries a rule out, or counts what that would do.
func (s *server) StartSweep(ctx context.Context, in gen.StartSweepRequestObject) (gen.StartSweepResponseObject, error) {
	ctx, actor := caller(ctx)
	if val(in.Body.DryRun) {
		f, err := s.Engine.Forecast(ctx, actor, in.Rule)
		if err != nil {
			return nil, err
		}
		if len(f.Rules) == 0 {
			return nil, &dsr.Error{
				Code: dsr.CodeWrongState, Msg: "the rule has no sweeps of its own", Hint: "look at the rules after it",
			}
		}
		return gen.StartSweep200JSONResponse(fromForecast(f.Rules[0])), nil
	}
	sw, err := s.Engine.Sweep(ctx, actor, in.Rule, val(in.Body.Now))
	if err != nil {
		return nil, err
	}
	return gen.StartSweep202JSONResponse{
		Body:    fromSweep(sw),
		Headers: gen.StartSweep202ResponseHeaders{Location: ptr("/v1/retention/sweeps/" + sw.ID), ETag: ptr(etag(sw.Version))},
	}, nil
}

// ListSweeps lists Sweeps, newest first.
func (s *server) ListSweeps(ctx context.Context, in gen.ListSweepsRequestObject) (gen.ListSweepsResponseObject, error) {
	inner, actor := caller(ctx)
	p := in.Params
	cursor, err := after(p.Cursor, sweepID)
	if err != nil {
		return nil, err
	}
	page, next, err := s.Engine.Sweeps(inner, actor, engine.SweepFilter{
		Rule: val(p.Rule), System: val(p.System), Cursor: cursor, Limit: limit(p.Limit),
		States: each(val(p.State), func(st gen.SweepState) retention.SweepState { return retention.SweepState(st) }),
	})
	if err != nil {
		return nil, err
	}
	out := gen.ListSweeps200JSONResponse{Body: gen.SweepPage{Sweeps: each(page, fromSweep), NextCursor: opt(next)}}
	out.Headers.Link = nextLink(ctx, "cursor", next)
	return out, nil
}

// GetSweep shows one.
func (s *server) GetSweep(ctx context.Context, in gen.GetSweepRequestObject) (gen.GetSweepResponseObject, error) {
	ctx, actor := caller(ctx)
	sw, err := s.Engine.GetSweep(ctx, actor, in.Sweep)
	if err != nil {
		return nil, err
	}
	return gen.GetSweep200JSONResponse{SweepJSONResponse: sweepAsIs(sw)}, nil
}

// ApproveSweep lets a Sweep go on that is stopped over a cap.
func (s *server) ApproveSweep(ctx context.Context, in gen.ApproveSweepRequestObject) (gen.ApproveSweepResponseObject, error) {
	sw, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*retention.Sweep, error) {
		return s.Engine.ApproveSweep(ctx, a, in.Sweep, v, in.Body.Due)
	})
	if err != nil {
		return nil, err
	}
	return gen.ApproveSweep202JSONResponse{SweepJSONResponse: sweepAsIs(sw)}, nil
}

func sweepAsIs(sw *retention.Sweep) gen.SweepJSONResponse {
	return gen.SweepJSONResponse{Body: fromSweep(sw), Headers: gen.SweepResponseHeaders{ETag: ptr(etag(sw.Version))}}
}

func fromSweep(sw *retention.Sweep) gen.Sweep {
	return gen.Sweep{
		Id: sw.ID, Rule: sw.Rule, System: sw.System, Entity: sw.Entity, Action: gen.Action(sw.Action), RuleHash: sw.RuleHash,
		MapVersion: sw.MapVersion, State: gen.SweepState(sw.State), StartedBy: sw.StartedBy, Now: sw.Now, Before: sw.Before,
		Due: sw.Due, Held: sw.Held, Blocked: sw.Blocked, BlockedBy: each(sw.BlockedBy, same), Total: opt(sw.Total),
		ApprovedBy: opt(sw.ApprovedBy), Approved: opt(sw.Approved), Left: sw.Left, Results: each(sw.Results, fromReceiptLine),
		Measures: fromMeasures(sw.Measures), Reason: opt(sw.Reason), Hint: opt(sw.Hint), Version: sw.Version,
		CreatedAt: sw.CreatedAt, UpdatedAt: sw.UpdatedAt, FinishedAt: sw.FinishedAt,
	}
}

func fromMeasures(m retention.SweepMeasures) gen.SweepMeasures {
	out := gen.SweepMeasures{
		Bytes: m.Bytes, Transactions: m.Transactions, LongestSeconds: m.Longest.Seconds(), WorkedSeconds: m.Worked.Seconds(),
		PausedSeconds: map[string]float64{},
	}
	for why, d := range m.Pauses {
		out.PausedSeconds[why] = d.Seconds()
	}
	return out
}
