package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// heedSearch is how long all Systems together may be searched for what is held before their settings are lifted: what is
// lifted without need is set again by the next Sweep, and what is deleted meanwhile comes never back.
const heedSearch = 20 * time.Second

// findUnheard is the code of a Finding: a setting that is not Lethe's to lift deletes what a Hold may cover.
const findUnheard = "hold-unheard"

// Heed makes the Systems that delete by settings of their own heed the Holds: a rule's setting is lifted while a Hold may
// cover something that it deletes, also where the rule is paused, every Sweep is stopped, or it has changed and waits for an
// approval. Of a rule that never was approved nothing is set, and so nothing lifted. Then a Sweep begins of each that may
// run: it looks at all that is there, which may take long, and sets again what no Hold reaches.
func (e *Engine) Heed(ctx context.Context, w Heed) error {
	err := e.heed(ctx, w.System, func(bool) bool { return true })
	if m, mapErr := e.current(ctx); mapErr == nil {
		for _, r := range m.running() {
			if r.Action != retention.Expire || w.System != "" && w.System != r.System {
				continue
			}
			if _, err := e.Sweep(ctx, dsr.Engine, r.Name, true); err != nil {
				e.c.Logger.WarnContext(ctx, "no sweep follows a hold in a system that deletes by itself", "system", r.System,
					"rule", r.Name, "code", dsr.CodeOf(err))
			}
		}
	}
	return err
}

// heed lifts settings of rules of one System, or of all; which is asked whether a Sweep of the rule may begin.
func (e *Engine) heed(ctx context.Context, system string, which func(sweeps bool) bool) error {
	m, err := e.current(ctx)
	if err != nil {
		return nil //nolint:nilerr // without a data map nothing is set
	}
	var states map[string]*retention.RuleState
	var stop *Stop
	err = e.c.Store.InTx(ctx, func(tx Tx) (err error) {
		if states, err = tx.RuleStates(); err != nil {
			return err
		}
		stop, err = tx.Stopped(StopOfSweeps)
		return err
	})
	if err != nil {
		return err
	}
	until := e.now().Add(heedSearch)
	var errs []error
	for _, r := range m.running() {
		s := stateOf(states, r.Name)
		waits := needsApproval(r, s)
		if r.Action != retention.Expire || system != "" && system != r.System || waits && s.ApprovedHash == "" || !which(stop == nil && s.PausedAt == nil && !waits) {
			continue
		}
		out, err := e.heedOne(ctx, m, r.System, r.Entity, &r.Rule, until.Sub(e.now()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if out.Lifted {
			err = e.change(ctx, dsr.Engine, func(c *changes) error {
				c.evidence("rule.lifted", r.System, detail{"rule": r.Name, "entity": r.Entity, "cause": string(dsr.CauseHold)})
				return nil
			})
			errs = append(errs, err)
		}
		if len(out.Stay) > 0 {
			e.c.Logger.WarnContext(ctx, "a system deletes what a hold may cover by a setting that is not Lethe's", "system", r.System,
				"entity", r.Entity, "settings", out.Stay)
		}
	}
	return errors.Join(errs...)
}

// heedOne asks one System about one Entity. A System without settings of its own answers nothing.
func (e *Engine) heedOne(
	ctx context.Context, m *atlas, system, entity string, rule *connectors.Rule, search time.Duration,
) (connectors.Heeded, error) {
	conn, release, err := e.connect(ctx, m, system)
	if err != nil {
		return connectors.Heeded{}, err
	}
	defer release()
	h, ok := conn.connector.(connectors.Heeder)
	if !ok {
		return connectors.Heeded{}, nil
	}
	held, err := e.heldIn(ctx, m, system, e.c.Policy.FindingsTTL)
	if err != nil { // it is not known what they cover: that may be anything
		subjects, entities, openErr := e.openHolds(ctx)
		if openErr != nil {
			return connectors.Heeded{}, openErr
		}
		held, search = holdsOf(system, subjects, entities), 0
	}
	if held.Empty() {
		return connectors.Heeded{}, nil
	}
	return h.Heed(ctx, connectors.HeedJob{Entity: entity, Rule: rule, Held: held, Search: max(0, search)})
}

// unheard are the findings about settings of a System that delete what a Hold may cover. It reads only.
func (e *Engine) unheard(ctx context.Context, m *atlas, s *connectors.System) ([]connectors.Finding, error) {
	until := e.now().Add(heedSearch)
	var found []connectors.Finding
	for i := range s.Entities {
		entity := &s.Entities[i]
		out, err := e.heedOne(ctx, m, s.Name, entity.Name, nil, until.Sub(e.now()))
		if err != nil {
			return nil, err
		}
		for _, stay := range out.Stay {
			f := connectors.Finding{
				Code: findUnheard, Severity: connectors.Warning, Entity: entity.Name, Message: stay + " deletes what a hold may cover",
				Hint: "Change it while the hold lasts. Only what an approved rule with action: expire has set is lifted by Lethe.",
			}
			if j := slices.IndexFunc(entity.Rules, func(r connectors.Rule) bool { return r.Action == retention.Expire }); j >= 0 {
				f.Rule = entity.Rules[j].Name
			}
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b connectors.Finding) int { return cmp.Compare(a.Entity, b.Entity) })
	return found, nil
}
