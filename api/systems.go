package api

import (
	"context"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// ListSystems lists the systems of the data map.
func (s *server) ListSystems(ctx context.Context, _ gen.ListSystemsRequestObject) (gen.ListSystemsResponseObject, error) {
	ctx, actor := caller(ctx)
	all, err := s.Engine.Systems(ctx, actor)
	if err != nil {
		return nil, err
	}
	return gen.ListSystems200JSONResponse{Systems: each(all, func(st engine.SystemStatus) gen.System {
		return gen.System{
			Name: st.Name, Connector: st.Connector, Entities: st.Entities, Teaches: st.Teaches,
			Capabilities: gen.Capabilities{
				Export: st.Capabilities.Export, Erase: st.Capabilities.Erase, Grants: st.Capabilities.Grants,
			},
			Pending: st.Pending, Failed: st.Failed, CheckedAt: st.Checked, Findings: fromFindings(engine.CheckResult{Findings: st.Findings}),
			Problem: opt(st.Problem),
		}
	})}, nil
}

// CheckSystem finds everything that would make a request fail or be incomplete.
func (s *server) CheckSystem(ctx context.Context, in gen.CheckSystemRequestObject) (gen.CheckSystemResponseObject, error) {
	ctx, actor := caller(ctx)
	r, err := s.Engine.CheckSystem(ctx, actor, in.Name)
	if err != nil {
		return nil, err
	}
	return gen.CheckSystem200JSONResponse{System: r.System, At: r.At, Findings: fromFindings(*r)}, nil
}

// fromFindings takes the result as a whole, because this package does not know the connectors' types by name.
func fromFindings(r engine.CheckResult) []gen.Finding {
	out := make([]gen.Finding, 0, len(r.Findings))
	for _, f := range r.Findings {
		out = append(out, gen.Finding{
			Code: f.Code, Severity: string(f.Severity), Entity: opt(f.Entity), Field: opt(f.Field), Rule: opt(f.Rule),
			Message: f.Message, Hint: opt(f.Hint),
		})
	}
	return out
}
