package demo

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/oapi-codegen/runtime/types"

	"github.com/lethe-gdpr/lethe/client"
)

// RetentionResult is what came of the sweeps. Due counts rows whose time had come before them; DueAfter those that were
// still due afterwards and neither held nor blocked.
type RetentionResult struct {
	Due      int64 `json:"due"`
	Deleted  int64 `json:"deleted"`
	Held     int64 `json:"held"`
	Blocked  int64 `json:"blocked"`
	DueAfter int64 `json:"due_after"`
}

// heldCustomer is a customer whom somebody is in a dispute with.
const heldCustomer = 390

// retain places a legal hold, shows what is due, approves the rules and lets each sweep once.
func (d *demo) retain(ctx context.Context) (*RetentionResult, error) {
	review := types.Date{Time: d.now.AddDate(1, 0, 0)}
	reference := "dispute-2026-07"
	hold, err := client.Read[client.Hold](d.dpo.PlaceHold(ctx, &client.PlaceHoldParams{}, client.NewHold{
		Kind: client.HoldKindLegal, Reference: &reference, Review: &review,
		Identifiers: &client.Identifiers{{Name: "email", Value: email(heldCustomer)}},
	}))
	if err != nil {
		return nil, err
	}
	d.say("   The officer places a legal hold on one customer, to be looked at again on %s.\n", hold.Review)
	before, err := d.forecast(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.sayForecast(before); err != nil {
		return nil, err
	}
	out := &RetentionResult{}
	for _, f := range before.Rules {
		for _, h := range f.Horizons {
			if h.Days == 0 {
				out.Due += h.Rows
				out.Held += h.Held
				out.Blocked += h.Blocked
			}
		}
	}
	rules, err := client.Read[client.RetentionStatus](d.dpo.ListRules(ctx))
	if err != nil {
		return nil, err
	}
	d.say("   The officer approves the rules, because they are new; then each sweeps.\n")
	ruled := map[string]bool{}
	for _, r := range rules.Rules {
		ruled[r.Entity] = true
	}
	for _, r := range rules.Rules {
		results, err := d.sweep(ctx, &r)
		if err != nil {
			return nil, err
		}
		for _, l := range results { // a parent's sweep takes its children with it, some of which were due themselves
			if ruled[l.Entity] && l.Method == client.MethodDelete {
				out.Deleted += l.Count
			}
		}
	}
	after, err := d.forecast(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range after.Rules {
		for _, h := range f.Horizons {
			if h.Days == 0 {
				out.DueAfter += h.Free
			}
		}
	}
	d.say("   %d were due: %d deleted, %d held, %d blocked; still due: %d.\n", out.Due, out.Deleted, out.Held, out.Blocked, out.DueAfter)
	return out, nil
}

func (d *demo) forecast(ctx context.Context) (*client.Forecast, error) {
	return client.Read[client.Forecast](d.dpo.ForecastRetention(ctx, &client.ForecastRetentionParams{}))
}

// sayForecast prints what is due now and later.
func (d *demo) sayForecast(f *client.Forecast) error {
	w := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', 0)
	for _, r := range f.Rules {
		fmt.Fprintf(w, "     %s\t", r.Rule)
		for _, h := range r.Horizons {
			when := "now"
			if h.Days > 0 {
				when = fmt.Sprintf("in %d days", h.Days)
			}
			fmt.Fprintf(w, "%s %d\t", when, h.Rows)
		}
		if len(r.Horizons) > 0 {
			now := r.Horizons[0]
			fmt.Fprintf(w, "(%d held, %d blocked %v)", now.Held, now.Blocked, now.BlockedBy)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// sweep approves a rule where it has to be, sweeps it once and returns what that did.
func (d *demo) sweep(ctx context.Context, r *client.Rule) ([]client.ReceiptLine, error) {
	if r.NeedsApproval {
		_, err := client.Read[client.Rule](d.dpo.ApproveRule(ctx, r.Name, client.RuleApproval{Hash: r.Hash}))
		if err != nil {
			return nil, err
		}
	}
	now := true
	s, err := client.Read[client.Sweep](d.agent.StartSweep(ctx, r.Name, &client.StartSweepParams{}, client.SweepOrder{Now: &now}))
	if err != nil {
		return nil, err
	}
	for s.State == client.SweepStateRunning {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
		if s, err = client.Read[client.Sweep](d.agent.GetSweep(ctx, s.Id)); err != nil {
			return nil, err
		}
	}
	d.say("     %s: %s %s", r.Name, s.State, given(s.Hint))
	for _, l := range s.Results {
		d.say("  %s.%s=%d", l.Entity, l.Method, l.Count)
	}
	d.say("\n")
	if s.State != client.SweepStateDone {
		return nil, fmt.Errorf("the sweep of %s is %s: %s", r.Name, s.State, given(s.Hint))
	}
	return s.Results, nil
}
