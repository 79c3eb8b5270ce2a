package engine

import (
	"context"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Systems lists the Systems of the current data map with what Lethe knows of them without asking them.
func (e *Engine) Systems(ctx context.Context, _ dsr.Actor) ([]SystemStatus, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := e.Stats(ctx)
	if err != nil {
		return nil, err
	}
	teachers := m.teachers()
	out := make([]SystemStatus, len(m.Systems))
	for i, s := range m.Systems {
		out[i] = SystemStatus{
			Name: s.Name, Connector: s.Connector, Entities: len(s.Entities), Teaches: slices.Contains(teachers, s.Name),
			Pending: stats.Pending[s.Name], Failed: stats.Failed[s.Name],
		}
		conn, release, err := e.connect(ctx, m, s.Name)
		if err != nil {
			_, out[i].Problem = explain(err)
			continue
		}
		out[i].Capabilities = connectors.CapabilitiesOf(conn.connector)
		conn.checking.Lock()
		if !conn.checked.IsZero() {
			at := conn.checked
			out[i].Checked, out[i].Findings = &at, conn.findings
		}
		conn.checking.Unlock()
		release()
	}
	return out, nil
}

// CheckSystem asks a System now for everything that would make a Request fail or be incomplete.
func (e *Engine) CheckSystem(ctx context.Context, _ dsr.Actor, name string) (*CheckResult, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	if m.System(name) == nil {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such system"}
	}
	conn, release, err := e.connect(ctx, m, name)
	if err != nil {
		return nil, err
	}
	defer release()
	found, at, err := conn.check(ctx, e.now, 0)
	if err != nil {
		return nil, reachable(err)
	}
	unheard, err := e.unheard(ctx, m, m.System(name))
	if err != nil {
		return nil, reachable(err)
	}
	return &CheckResult{System: name, At: at, Findings: slices.Concat(found, unheard)}, nil
}

// reachable keeps a System's error from being taken for one of ours.
func reachable(err error) error {
	if dsr.CodeOf(err) != "" {
		return err
	}
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: "the system did not answer", Hint: "see whether it is running and reachable", Err: err}
}

// Preview locates a subject and returns the Plan that a Request would get. Nothing is stored.
func (e *Engine) Preview(ctx context.Context, a dsr.Actor, n NewRequest) (*Preview, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := e.validate(a, m, &n)
	if err != nil {
		return nil, err
	}
	r := &dsr.Request{ID: "preview", Kind: n.Kind, Tenant: n.Tenant, Scope: n.Scope, MapVersion: m.version}
	out := &Preview{Kind: n.Kind, MapVersion: m.version, Learned: map[string]int{}}
	given := len(ids)
	for round := 1; ; round++ {
		var learned []dsr.Identifier
		for _, name := range m.teachers() {
			f, err := e.previewOne(ctx, m, name, r, ids, true)
			if err != nil {
				return nil, err
			}
			learned = append(learned, f.learned...)
			out.Problems = append(out.Problems, problemsOf(name, f)...)
		}
		news := newTo(ids, learned)
		if len(news) == 0 {
			break
		}
		ids = append(ids, news...)
		if round == maxRounds {
			out.Problems = append(out.Problems, Problem{Code: reasonStillLearning})
			break
		}
	}
	for _, id := range ids[given:] {
		out.Learned[id.Name]++
	}
	plan := &dsr.Plan{}
	for _, s := range m.Systems {
		if !inScope(r, s) {
			continue
		}
		f, err := e.previewOne(ctx, m, s.Name, r, ids, false)
		if err != nil {
			return nil, err
		}
		out.Problems = append(out.Problems, problemsOf(s.Name, f)...)
		unsound, err := e.unsound(ctx, m, s.Name)
		if err != nil {
			return nil, err
		}
		out.Problems = append(out.Problems, unsound...)
		plan.Lines = append(plan.Lines, planLines(n.Kind, m, s, f.receipt, e.now())...)
		plan.Unsearched = append(plan.Unsearched, f.receipt.Unsearched...)
		plan.Copies = append(plan.Copies, copiesOf(s, f.receipt)...)
	}
	plan.Sort()
	out.Lines, out.Unsearched, out.Copies = plan.Lines, plan.Unsearched, plan.Copies
	out.Problems = unique(out.Problems)
	return out, nil
}

func unique(ps []Problem) []Problem {
	seen := map[Problem]bool{}
	return slices.DeleteFunc(ps, func(p Problem) bool {
		again := seen[p]
		seen[p] = true
		return again
	})
}

func problemsOf(system string, f *finding) []Problem {
	var ps []Problem
	for _, a := range f.ambiguous {
		ps = append(ps, Problem{Code: reasonAmbiguous, System: system, Entity: a.Entity})
	}
	if f.share != "" {
		ps = append(ps, Problem{Code: reasonShare, System: system, Entity: f.share})
	}
	return ps
}

// unsound lists the errors of a System's Check: a Request would stop at the first.
func (e *Engine) unsound(ctx context.Context, m *atlas, system string) ([]Problem, error) {
	conn, release, err := e.connect(ctx, m, system)
	if err != nil {
		return nil, err
	}
	defer release()
	found, _, err := conn.check(ctx, e.now, e.c.Policy.FindingsTTL)
	if err != nil {
		return nil, reachable(err)
	}
	var ps []Problem
	for _, f := range found {
		if f.Severity == connectors.Error && f.Rule == "" {
			ps = append(ps, Problem{Code: "check-" + f.Code, System: system, Entity: f.Entity, Hint: f.Hint})
		}
	}
	return ps, nil
}

func (e *Engine) previewOne(
	ctx context.Context, m *atlas, system string, r *dsr.Request, ids []dsr.Identifier, teaching bool,
) (*finding, error) {
	conn, release, err := e.connect(ctx, m, system)
	if err != nil {
		return nil, err
	}
	defer release()
	w := &workload{atlas: m, conn: conn}
	found := map[string]*finding{"preview": {}}
	q := connectors.Query{
		Batch: connectors.Batch{{
			Ref: "preview", Tenant: r.Tenant, Identifiers: ids, Entities: scopedEntities(r, conn.system),
		}},
		Teaching: teaching, Export: r.Kind == dsr.Access && !teaching,
	}
	if _, err := e.ask(ctx, w, q, found); err != nil {
		return nil, reachable(err)
	}
	f := found["preview"]
	if f.err != nil {
		return nil, reachable(f.err)
	}
	return f, nil
}

// LoadMap validates a data map without storing it. Its error names every fault with line and column.
func (e *Engine) LoadMap(_ context.Context, yaml []byte) error {
	_, err := e.parse(&StoredMap{YAML: yaml})
	return err
}

// ActivateMap stores a data map as the newest version; the newest one again is no new version. Requests keep the
// version that they were planned under.
func (e *Engine) ActivateMap(ctx context.Context, a dsr.Actor, yaml []byte) (int, error) {
	m, err := e.parse(&StoredMap{YAML: yaml})
	if err != nil {
		return 0, err
	}
	var version int
	err = e.change(ctx, a, func(c *changes) error {
		var before int
		old, err := c.tx.LatestMap()
		switch {
		case err == nil:
			before = old.Version
		case dsr.CodeOf(err) != dsr.CodeNotFound:
			return err
		}
		if version, err = c.tx.PutMap(m.hash, yaml, c.now); err != nil {
			return err
		}
		if version != before {
			c.mapActivated(version, m.hash)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	e.maps.mu.Lock()
	e.maps.current = nil
	e.maps.mu.Unlock()
	_, err = e.current(ctx)
	return version, err
}

// CurrentMap returns the newest data map as it was stored.
func (e *Engine) CurrentMap(ctx context.Context) (*StoredMap, error) {
	m, err := e.current(ctx)
	if err != nil {
		return nil, err
	}
	return m.stored, nil
}
