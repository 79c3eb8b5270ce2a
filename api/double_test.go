package api_test

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

func (e *engineDouble) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// rule is one that has everything.
func (e *engineDouble) rule() (*engine.RuleStatus, error) {
	at := time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	sweep, err := e.sweep()
	return &engine.RuleStatus{
		Rule: connectors.Rule{Rule: retention.Rule{
			Name: ruleName, Action: retention.Delete, Cap: retention.Cap{Rows: 5000, Share: 0.1, Growth: 3},
			Class: retention.Class{
				Name: "accounting", Period: retention.Period{Years: 7}, Start: retention.EndOfCalendarYear,
				Minimum: retention.Period{Years: 7}, Grace: retention.Period{Days: 7},
			},
			Start: retention.StartingPoint{
				Kind: retention.StartField, Field: "placed_at", Null: retention.NullOther, NullField: "created_at",
				Latest: []retention.Related{{Entity: "lines", Field: "booked_at"}},
			},
			When: []dsr.Condition{{Field: "status", Values: []string{"closed"}}, {Field: "dispute", Null: true}, {Field: "no", NotNull: true}},
		}},
		System: "shop", Entity: "orders", Hash: "abc123", Last: sweep, NextRun: &at,
		State: retention.RuleState{
			ApprovedHash: "abc123", ApprovedBy: "ada", ApprovedAt: &at, PausedBy: "olga", PausedAt: &at, Counted: &at, Due: 3,
			LastSuccess: &at,
		},
	}, err
}

func (e *engineDouble) sweep() (*retention.Sweep, error) {
	at := time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	due := int64(41_200)
	return &retention.Sweep{
		ID: sweepID, Rule: ruleName, System: "shop", Entity: "orders", Action: retention.Delete, State: retention.SweepStopped,
		StartedBy: "lethe", Before: at, Due: &due, Held: 2, Blocked: 1, BlockedBy: []string{"invoices"}, Total: 1_000_000,
		Results: []dsr.ReceiptLine{{Entity: "orders", Method: dsr.Held, Count: 2}},
		Measures: retention.SweepMeasures{
			Bytes: 1 << 20, Transactions: 9, Longest: 48 * time.Millisecond, Worked: 3 * time.Second,
			Pauses: map[string]time.Duration{"lag": 1500 * time.Millisecond},
		},
		Reason: "over-cap", Hint: "Stopped: 41,200 due, cap 5,000. Nothing deleted.", Version: 7, CreatedAt: at, UpdatedAt: at,
	}, e.failure()
}

func (e *engineDouble) status() (*engine.RetentionStatus, error) {
	r, err := e.rule()
	return &engine.RetentionStatus{
		Schedule: "30 2 * * *", Zone: time.UTC, Window: engine.Window{From: 22 * time.Hour, To: 5*time.Hour + 30*time.Minute},
		Stopped: &engine.Stop{By: "olga", At: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), Reason: "incident"},
		Rules:   []engine.RuleStatus{*r},
	}, err
}

func (e *engineDouble) held() (*dsr.Hold, error) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	return &dsr.Hold{
		ID: holdID, System: "shop", Entity: "orders", When: []dsr.Condition{{Field: "dispute", NotNull: true}}, Reference: "CASE-17/4",
		Review: day.AddDate(1, 0, 0), PlacedBy: "ada", CreatedAt: day, Version: 7,
	}, e.failure()
}

func (e *engineDouble) Rules(context.Context, dsr.Actor) (*engine.RetentionStatus, error) {
	return e.status()
}

func (e *engineDouble) Rule(context.Context, dsr.Actor, string) (*engine.RuleStatus, error) {
	return e.rule()
}

func (e *engineDouble) ApproveRule(context.Context, dsr.Actor, string, string) (*engine.RuleStatus, error) {
	return e.rule()
}

func (e *engineDouble) PauseRule(context.Context, dsr.Actor, string) (*engine.RuleStatus, error) {
	return e.rule()
}

func (e *engineDouble) ResumeRule(context.Context, dsr.Actor, string) (*engine.RuleStatus, error) {
	return e.rule()
}

func (e *engineDouble) StopSweeps(context.Context, dsr.Actor, string) (*engine.RetentionStatus, error) {
	return e.status()
}

func (e *engineDouble) StartSweeps(context.Context, dsr.Actor) (*engine.RetentionStatus, error) {
	return e.status()
}

func (e *engineDouble) forecast() engine.RuleForecast {
	return engine.RuleForecast{
		Rule: ruleName, System: "shop", Entity: "orders", Action: retention.Delete, Would: "over-cap",
		Hint: "Stopped: 41,200 due, cap 5,000. Nothing deleted.",
		Horizons: []engine.Horizon{{
			Days: 7, Due: connectors.Due{
				Rows: 10, Held: 2, Blocked: 1, BlockedBy: []string{"invoices"}, Bytes: 4096, Total: 100,
				Unreadable: map[dsr.Code]int64{dsr.CodeUnreadable: 3},
			},
		}},
	}
}

func (e *engineDouble) Forecast(context.Context, dsr.Actor, ...string) (*engine.Forecast, error) {
	return &engine.Forecast{Rules: []engine.RuleForecast{e.forecast()}}, e.failure()
}

func (e *engineDouble) Simulate(context.Context, dsr.Actor, []byte) (*engine.Simulation, error) {
	f := e.forecast()
	return &engine.Simulation{
		MapVersion: 3, Rules: []engine.RuleDifference{{Rule: ruleName, System: "shop", Entity: "orders", Change: "added", After: &f}},
	}, e.failure()
}

func (e *engineDouble) Sweep(context.Context, dsr.Actor, string, bool) (*retention.Sweep, error) {
	return e.sweep()
}

func (e *engineDouble) ApproveSweep(context.Context, dsr.Actor, string, int64, int64) (*retention.Sweep, error) {
	return e.sweep()
}

func (e *engineDouble) GetSweep(context.Context, dsr.Actor, string) (*retention.Sweep, error) {
	return e.sweep()
}

func (e *engineDouble) Sweeps(context.Context, dsr.Actor, engine.SweepFilter) ([]*retention.Sweep, string, error) {
	s, err := e.sweep()
	return []*retention.Sweep{s}, e.next, err
}

func (e *engineDouble) PlaceHold(context.Context, dsr.Actor, engine.NewHold) (*dsr.Hold, error) {
	return e.held()
}

func (e *engineDouble) ReviewHold(context.Context, dsr.Actor, string, int64, time.Time) (*dsr.Hold, error) {
	return e.held()
}

func (e *engineDouble) LiftHold(context.Context, dsr.Actor, string, int64) (*dsr.Hold, error) {
	return e.held()
}

func (e *engineDouble) Hold(context.Context, dsr.Actor, string) (*dsr.Hold, error) {
	return e.held()
}

func (e *engineDouble) Holds(context.Context, dsr.Actor, engine.HoldFilter) ([]*dsr.Hold, string, error) {
	h, err := e.held()
	return []*dsr.Hold{h}, e.next, err
}
