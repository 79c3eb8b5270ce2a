package api

import (
	"context"
	"fmt"
	"time"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// ListRules lists the deletion rules and where they stand.
func (s *server) ListRules(ctx context.Context, _ gen.ListRulesRequestObject) (gen.ListRulesResponseObject, error) {
	ctx, actor := caller(ctx)
	st, err := s.Engine.Rules(ctx, actor)
	if err != nil {
		return nil, err
	}
	return gen.ListRules200JSONResponse{RetentionStatusJSONResponse: fromStatus(st)}, nil
}

// GetRule shows one.
func (s *server) GetRule(ctx context.Context, in gen.GetRuleRequestObject) (gen.GetRuleResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.Rule(ctx, actor, in.Rule)
	if err != nil {
		return nil, err
	}
	return gen.GetRule200JSONResponse{RuleJSONResponse: gen.RuleJSONResponse(fromRule(*r))}, nil
}

// ApproveRule approves a rule by its hash.
func (s *server) ApproveRule(ctx context.Context, in gen.ApproveRuleRequestObject) (gen.ApproveRuleResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.ApproveRule(ctx, actor, in.Rule, in.Body.Hash)
	if err != nil {
		return nil, err
	}
	return gen.ApproveRule200JSONResponse{RuleJSONResponse: gen.RuleJSONResponse(fromRule(*r))}, nil
}

// PauseRule stops a rule's Sweep and lets none begin.
func (s *server) PauseRule(ctx context.Context, in gen.PauseRuleRequestObject) (gen.PauseRuleResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.PauseRule(ctx, actor, in.Rule)
	if err != nil {
		return nil, err
	}
	return gen.PauseRule200JSONResponse{RuleJSONResponse: gen.RuleJSONResponse(fromRule(*r))}, nil
}

// ResumeRule lets a paused rule go on.
func (s *server) ResumeRule(ctx context.Context, in gen.ResumeRuleRequestObject) (gen.ResumeRuleResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.ResumeRule(ctx, actor, in.Rule)
	if err != nil {
		return nil, err
	}
	return gen.ResumeRule200JSONResponse{RuleJSONResponse: gen.RuleJSONResponse(fromRule(*r))}, nil
}

// StopSweeps stops every Sweep.
func (s *server) StopSweeps(ctx context.Context, in gen.StopSweepsRequestObject) (gen.StopSweepsResponseObject, error) {
	ctx, actor := caller(ctx)
	st, err := s.Engine.StopSweeps(ctx, actor, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return gen.StopSweeps200JSONResponse{RetentionStatusJSONResponse: fromStatus(st)}, nil
}

// StartSweeps lets Sweeps go on.
func (s *server) StartSweeps(ctx context.Context, _ gen.StartSweepsRequestObject) (gen.StartSweepsResponseObject, error) {
	ctx, actor := caller(ctx)
	st, err := s.Engine.StartSweeps(ctx, actor)
	if err != nil {
		return nil, err
	}
	return gen.StartSweeps200JSONResponse{RetentionStatusJSONResponse: fromStatus(st)}, nil
}

// ForecastRetention counts what rules make due.
func (s *server) ForecastRetention(
	ctx context.Context, in gen.ForecastRetentionRequestObject,
) (gen.ForecastRetentionResponseObject, error) {
	ctx, actor := caller(ctx)
	f, err := s.Engine.Forecast(ctx, actor, val(in.Params.Rule)...)
	if err != nil {
		return nil, err
	}
	return gen.ForecastRetention200JSONResponse{At: f.At, Rules: each(f.Rules, fromForecast)}, nil
}

// SimulateRetention compares a changed data map with the present one.
func (s *server) SimulateRetention(
	ctx context.Context, in gen.SimulateRetentionRequestObject,
) (gen.SimulateRetentionResponseObject, error) {
	ctx, actor := caller(ctx)
	sim, err := s.Engine.Simulate(ctx, actor, []byte(in.Body.Map))
	if err != nil {
		return nil, err
	}
	forecast := func(f *engine.RuleForecast) *gen.RuleForecast {
		if f == nil {
			return nil
		}
		return ptr(fromForecast(*f))
	}
	return gen.SimulateRetention200JSONResponse{
		At: sim.At, MapVersion: sim.MapVersion,
		Rules: each(sim.Rules, func(d engine.RuleDifference) gen.RuleDifference {
			return gen.RuleDifference{
				Rule: d.Rule, System: d.System, Entity: d.Entity, Change: gen.RuleDifferenceChange(d.Change),
				Before: forecast(d.Before), After: forecast(d.After),
			}
		}),
	}, nil
}

func fromStatus(st *engine.RetentionStatus) gen.RetentionStatusJSONResponse {
	out := gen.RetentionStatusJSONResponse{Schedule: st.Schedule, TimeZone: st.Zone.String(), Rules: each(st.Rules, fromRule)}
	if w := st.Window; w != (engine.Window{}) {
		out.Window = ptr(clock(w.From) + "-" + clock(w.To))
	}
	if st.Stopped != nil {
		out.Stopped = &gen.StoppedSweeps{By: st.Stopped.By, At: st.Stopped.At, Reason: st.Stopped.Reason}
	}
	return out
}

// clock writes a time since midnight as 22:30.
func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

func fromRule(st engine.RuleStatus) gen.Rule {
	r, state := st.Rule, st.State
	out := gen.Rule{
		Name: r.Name, System: st.System, Entity: st.Entity, Class: r.Class.Name, Period: r.Class.Period.String(),
		Minimum: period(r.Class.Minimum), Grace: period(r.Class.Grace), From: string(r.Class.Start), Start: fromStart(r.Start),
		When: each(r.When, fromCondition), Action: gen.Action(r.Action), Reviewed: !r.Unreviewed,
		Cap:  gen.RuleCap{Rows: opt(r.Cap.Rows), Share: opt(r.Cap.Share), Growth: opt(r.Cap.Growth)},
		Hash: st.Hash, NeedsApproval: st.NeedsApproval, PausedBy: opt(state.PausedBy), PausedAt: state.PausedAt,
		CountedAt: state.Counted, LastSuccess: state.LastSuccess, NextRun: st.NextRun,
	}
	if state.ApprovedHash == st.Hash { // of an older rule it is no approval
		out.ApprovedBy, out.ApprovedAt = opt(state.ApprovedBy), state.ApprovedAt
	}
	if state.Counted != nil {
		out.Due, out.Held, out.Blocked, out.Backlog = &state.Due, &state.Held, &state.Blocked, &state.Backlog
	}
	if st.Last != nil {
		out.LastSweep = ptr(fromSweep(st.Last))
	}
	return out
}

func period(p retention.Period) *string {
	if p == (retention.Period{}) {
		return nil
	}
	return ptr(p.String())
}

func fromStart(p retention.StartingPoint) gen.RuleStart {
	out := gen.RuleStart{
		Kind: gen.RuleStartKind(p.Kind), Field: opt(p.Field), IfNull: opt(gen.RuleStartIfNull(p.Null)), NullField: opt(p.NullField),
	}
	if len(p.Latest) > 0 {
		out.Latest = ptr(each(p.Latest, func(r retention.Related) string { return r.Entity + "." + r.Field }))
	}
	return out
}

func fromCondition(c dsr.Condition) gen.Condition {
	out := gen.Condition{Field: c.Field, Null: opt(c.Null), NotNull: opt(c.NotNull)}
	if len(c.Values) > 0 {
		out.Values = &c.Values
	}
	return out
}

func fromForecast(f engine.RuleForecast) gen.RuleForecast {
	return gen.RuleForecast{
		Rule: f.Rule, System: f.System, Entity: f.Entity, Action: gen.Action(f.Action), Would: opt(f.Would), Hint: opt(f.Hint),
		Problem: opt(f.Problem),
		Horizons: each(f.Horizons, func(h engine.Horizon) gen.Horizon {
			return gen.Horizon{
				Days: h.Days, Before: h.Before, Rows: h.Rows, Bytes: h.Bytes, Held: h.Held, Blocked: h.Blocked,
				BlockedBy: each(h.BlockedBy, same), Unreadable: fromUnreadable(h.Unreadable), Free: h.Free(), Total: h.Total,
			}
		}),
	}
}

func fromUnreadable(u map[dsr.Code]int64) map[string]int64 {
	out := map[string]int64{}
	for code, n := range u {
		out[string(code)] = n
	}
	return out
}
