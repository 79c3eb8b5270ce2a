package engine

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

// horizons are how many days ahead a forecast looks.
var horizons = []int{0, 7, 30, 90}

// What keeps a Sweep from deleting, as a forecast says it.
const (
	wouldNeedApproval = "needs-approval"
	wouldBePaused     = "paused"
	wouldBeStopped    = "stopped"
	wouldBeOverCap    = "over-cap"
)

// Forecast implements [Retention].
func (e *Engine) Forecast(ctx context.Context, a dsr.Actor, rules ...string) (*Forecast, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range rules {
		if _, err := m.find(name); err != nil {
			return nil, err
		}
	}
	var states map[string]*retention.RuleState
	var stop *Stop
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		if stop, err = tx.Stopped(StopOfSweeps); err != nil {
			return err
		}
		states, err = tx.RuleStates()
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &Forecast{At: e.now()}
	for _, r := range m.running() {
		if len(rules) > 0 && !slices.Contains(rules, r.Name) {
			continue
		}
		f := e.forecast(ctx, m, r, out.At, func() (*connection, func(), error) { return e.connect(ctx, m, r.System) })
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f.Would, f.Hint, err = e.would(ctx, r, stateOf(states, r.Name), stop, &f); err != nil {
			return nil, err
		}
		out.Rules = append(out.Rules, f)
	}
	return out, nil
}

// forecast counts what one rule makes due. Faults of the System become the forecast's Problem.
func (e *Engine) forecast(
	ctx context.Context, m *atlas, r *datamap.Rule, now time.Time, connect func() (*connection, func(), error),
) RuleForecast {
	f := RuleForecast{Rule: r.Name, System: r.System, Entity: r.Entity, Action: r.Action}
	cuts := make([]connectors.Cut, len(horizons))
	for i, days := range horizons {
		cuts[i] = m.cut(r, now, days)
	}
	due, err := e.due(ctx, m, r, cuts, e.c.Policy.FindingsTTL, connect)
	if err != nil {
		code, hint := explain(err)
		f.Problem = code + ": " + hint
		return f
	}
	for i, d := range due {
		f.Horizons = append(f.Horizons, Horizon{Days: horizons[i], Before: cuts[i].Before, Due: d})
	}
	if err := e.sweepable(ctx, r, connect); err != nil {
		f.Would, f.Hint = explain(err)
	}
	return f
}

// sweepable reports what a System's Check has against a Sweep of the rule.
func (e *Engine) sweepable(ctx context.Context, r *datamap.Rule, connect func() (*connection, func(), error)) error {
	conn, release, err := connect()
	if err != nil {
		return err
	}
	defer release()
	return e.sound(ctx, conn, r.Name)
}

// due asks a System what a rule makes due at some cut-offs. It reads only.
func (e *Engine) due(
	ctx context.Context, m *atlas, r *datamap.Rule, cuts []connectors.Cut, ttl time.Duration, connect func() (*connection, func(), error),
) ([]connectors.Due, error) {
	conn, release, err := connect()
	if err != nil {
		return nil, err
	}
	defer release()
	sweeper, ok := conn.connector.(connectors.Sweeper)
	if !ok {
		return nil, unsupported(conn.system, "sweep")
	}
	held, err := e.heldIn(ctx, m, r.System, ttl)
	if err != nil {
		return nil, err
	}
	due, err := sweeper.Due(ctx, connectors.DueQuery{Entity: r.Entity, Rule: r.Rule, Cuts: cuts, Held: held})
	if err == nil && len(due) != len(cuts) {
		err = connectors.Permanent(reasonFault, "the connector counted for other cut-offs than it was asked for", "", nil)
	}
	return due, err
}

// would says what a Sweep started now would meet.
func (e *Engine) would(ctx context.Context, r *datamap.Rule, s *retention.RuleState, stop *Stop, f *RuleForecast) (code, hint string, err error) {
	switch {
	case stop != nil:
		return wouldBeStopped, "every sweep is stopped (" + stop.Reason + ")", nil
	case s.PausedAt != nil:
		return wouldBePaused, "the rule is paused", nil
	case f.Would != "": // what the System's Check found
		return f.Would, f.Hint, nil
	case needsApproval(r, s):
		return wouldNeedApproval, "the rule is new or has changed; approve it when the counts are what you expect", nil
	case len(f.Horizons) == 0:
		return "", "", nil
	}
	done, err := e.doneSweeps(ctx, r.Name)
	if err != nil {
		return "", "", err
	}
	if hint = overCap(r, e.c.Policy.CountSlack, f.Horizons[0].Due, done); hint != "" {
		return wouldBeOverCap, hint, nil
	}
	return "", "", nil
}

// errOtherAccess is why a System of a simulated map is not counted.
var errOtherAccess = connectors.Permanent("other-access", "the changed map reaches this system in another way than the present one",
	"activate it to count: a simulation connects to nowhere that a server was not told to", nil)

// sameAccess reports whether two maps reach a System in the same way. Whoever may simulate a map may not choose where
// Lethe connects to, nor where the secrets of its environment are sent.
func sameAccess(present, changed *connectors.System) bool {
	return present != nil && present.Connector == changed.Connector && reflect.DeepEqual(present.Settings, changed.Settings)
}

// Simulate implements [Retention].
func (e *Engine) Simulate(ctx context.Context, a dsr.Actor, yaml []byte) (*Simulation, error) {
	if err := e.everyTenant(ctx, a); err != nil {
		return nil, err
	}
	cur, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	changed, err := e.parse(&StoredMap{YAML: yaml})
	if err != nil {
		return nil, err
	}
	out := &Simulation{At: e.now(), MapVersion: cur.version}
	after := map[string]*datamap.Rule{}
	for _, r := range changed.running() {
		after[r.Name] = r
	}
	opened := map[string]*connection{}
	defer func() {
		for _, c := range opened {
			_ = c.connector.Close()
		}
	}()
	count := func(r *datamap.Rule) *RuleForecast {
		f := e.forecast(ctx, changed, r, out.At, func() (*connection, func(), error) {
			c := opened[r.System]
			if c == nil {
				if !sameAccess(cur.System(r.System), changed.System(r.System)) {
					return nil, nil, errOtherAccess
				}
				var err error
				if c, err = e.openSystem(ctx, changed.System(r.System)); err != nil {
					return nil, nil, err
				}
				opened[r.System] = c
			}
			return c, func() {}, nil
		})
		return &f
	}
	for _, r := range cur.running() {
		f := e.forecast(ctx, cur, r, out.At, func() (*connection, func(), error) { return e.connect(ctx, cur, r.System) })
		d := RuleDifference{Rule: r.Name, System: r.System, Entity: r.Entity, Change: "removed", Before: &f}
		if now, ok := after[r.Name]; ok {
			delete(after, r.Name)
			d.Change, d.After = "same", count(now)
			if now.Hash() != r.Hash() || now.System != r.System || now.Entity != r.Entity {
				d.Change = "changed"
			}
		}
		out.Rules = append(out.Rules, d)
	}
	for _, r := range changed.running() {
		if _, added := after[r.Name]; added {
			out.Rules = append(out.Rules, RuleDifference{
				Rule: r.Name, System: r.System, Entity: r.Entity, Change: "added", After: count(r),
			})
		}
	}
	return out, ctx.Err()
}
