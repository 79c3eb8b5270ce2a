package app

import (
	"context"
	"time"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/telemetry"
	"github.com/lethe-gdpr/lethe/retention"
)

// engineMetrics gives the engine's numbers to telemetry, which knows no domain types.
type engineMetrics struct{ m *telemetry.Metrics }

var _ engine.Metrics = engineMetrics{}

func (e engineMetrics) Transition(kind dsr.Kind, from, to dsr.State) {
	e.m.Transition(string(kind), string(from), string(to))
}

func (e engineMetrics) Finished(kind dsr.Kind, state dsr.State, took time.Duration) {
	e.m.Finished(string(kind), string(state), took)
}

func (e engineMetrics) RunDone(system string, phase dsr.Phase, members int, took time.Duration) {
	e.m.RunDone(system, string(phase), members, took)
}

func (e engineMetrics) TaskFailed(system string, phase dsr.Phase, reason string) {
	e.m.TaskFailed(system, string(phase), reason)
}

func (e engineMetrics) SweepEnded(s *retention.Sweep) {
	rows := map[string]int64{}
	for _, l := range s.Results {
		rows[string(l.Method)] += l.Count
	}
	e.m.SweepEnded(s.Rule, string(s.State), rows, s.Measures.Longest, s.Measures.Pauses)
}

// snapshotWithin bounds a scrape.
const snapshotWithin = 5 * time.Second

func (a *App) snapshot() (*telemetry.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotWithin)
	defer cancel()
	s, err := a.engine.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := &telemetry.Snapshot{
		Open: map[[2]string]int64{}, NearestDue: s.NearestDue, Pending: s.Pending, Failed: s.Failed,
	}
	for kind, states := range s.Open {
		for state, n := range states {
			out.Open[[2]string{string(kind), string(state)}] = n
		}
	}
	out.SweepsHalted, out.OverdueHolds = s.SweepsHalted, s.OverdueHolds
	out.Holds = map[string]int64{"legal": s.LegalHolds, "restriction": s.Restrictions}
	out.Sweeps = map[string]int64{}
	for _, state := range []retention.SweepState{retention.SweepRunning, retention.SweepPaused, retention.SweepStopped} {
		out.Sweeps[string(state)] = s.Sweeps[state] // 0 too: an alert on what is absent never ends
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, telemetry.Rule{
			Name: r.Rule, Active: s.Active[r.Rule], Counted: r.Counted != nil, Due: r.Due, Held: r.Held, Blocked: r.Blocked,
			Backlog: r.Backlog, LastSuccess: r.LastSuccess,
		})
	}
	return out, nil
}
