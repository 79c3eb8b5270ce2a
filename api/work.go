package api

import (
	"context"
	"strconv"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// GetPlan shows what a request would do.
func (s *server) GetPlan(ctx context.Context, in gen.GetPlanRequestObject) (gen.GetPlanResponseObject, error) {
	ctx, actor := caller(ctx)
	hash, p, err := s.Engine.Plan(ctx, actor, in.Id)
	if err != nil {
		return nil, err
	}
	return gen.GetPlan200JSONResponse{
		Request: p.Request, Hash: hash, Kind: gen.Kind(p.Kind), MapVersion: p.MapVersion, MapHash: p.MapHash,
		Lines: each(p.Lines, fromPlanLine), Unsearched: each(p.Unsearched, same), Copies: each(p.Copies, fromCopy),
		CreatedAt: p.CreatedAt,
	}, nil
}

// ListTasks shows a request's work in each system.
func (s *server) ListTasks(ctx context.Context, in gen.ListTasksRequestObject) (gen.ListTasksResponseObject, error) {
	ctx, actor := caller(ctx)
	ts, err := s.Engine.Tasks(ctx, actor, in.Id)
	if err != nil {
		return nil, err
	}
	return gen.ListTasks200JSONResponse{Tasks: each(ts, fromTask)}, nil
}

// ListEvents shows a request's timeline.
func (s *server) ListEvents(ctx context.Context, in gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	inner, actor := caller(ctx)
	n := limit(in.Params.Limit)
	es, err := s.Engine.Events(inner, actor, in.Id, val(in.Params.After), n)
	if err != nil {
		return nil, err
	}
	out := gen.ListEvents200JSONResponse{Body: gen.EventPage{Events: each(es, fromEvent)}}
	if len(es) == n {
		out.Headers.Link = nextLink(ctx, "after", strconv.FormatInt(es[n-1].ID, 10))
	}
	return out, nil
}

// PreviewPlan counts what a request would do.
func (s *server) PreviewPlan(ctx context.Context, in gen.PreviewPlanRequestObject) (gen.PreviewPlanResponseObject, error) {
	ctx, actor := caller(ctx)
	b := in.Body
	p, err := s.Engine.Preview(ctx, actor, engine.NewRequest{
		Kind: dsr.Kind(b.Kind), Tenant: val(b.Tenant), Scope: toScope(b.Scope), Identifiers: toIdentifiers(b.Identifiers),
	})
	if err != nil {
		return nil, fieldsOfTheContract(err)
	}
	out := gen.PreviewPlan200JSONResponse{
		Kind: gen.Kind(p.Kind), MapVersion: p.MapVersion, Lines: each(p.Lines, fromPlanLine),
		Unsearched: each(p.Unsearched, same), Copies: each(p.Copies, fromCopy), Learned: p.Learned,
		Problems: each(p.Problems, func(p engine.Problem) gen.PreviewProblem {
			return gen.PreviewProblem{Code: p.Code, System: opt(p.System), Entity: opt(p.Entity), Hint: opt(p.Hint)}
		}),
	}
	if out.Learned == nil {
		out.Learned = map[string]int{}
	}
	return out, nil
}

// each maps a slice; nil becomes empty, because the contract has arrays where Go has nil.
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

func same(s string) string { return s }

func fromPlanLine(l dsr.PlanLine) gen.PlanLine {
	out := gen.PlanLine{System: l.System, Entity: l.Entity, Method: gen.Method(l.Method), Count: l.Count, Others: opt(l.Others)}
	if x := l.Exception; x != nil {
		out.Exception = &gen.Exception{
			Article: x.Article, Cause: opt(gen.Cause(x.Cause)), Statute: opt(x.Statute), Class: opt(x.Class), Ends: x.Ends,
		}
	}
	return out
}

func fromCopy(c dsr.Copy) gen.Copy {
	return gen.Copy{System: opt(c.System), What: c.What, Ends: opt(c.Ends), Recipient: opt(c.Recipient)}
}

func fromTask(t *dsr.Task) gen.Task {
	out := gen.Task{
		Id: t.ID, System: t.System, Phase: gen.Phase(t.Phase), State: gen.TaskState(t.State), Attempt: t.Attempt,
		Reason: opt(t.Reason), Hint: opt(t.Hint), UpdatedAt: t.Updated,
	}
	if !t.NotBefore.IsZero() {
		out.NotBefore = &t.NotBefore
	}
	if r := t.Receipt; r != nil {
		out.Receipt = &gen.Receipt{Residue: r.Residue, Lines: each(r.Lines, fromReceiptLine)}
		if !r.Started.IsZero() {
			out.Receipt.StartedAt = &r.Started
		}
		if !r.Finished.IsZero() {
			out.Receipt.FinishedAt = &r.Finished
		}
	}
	if len(t.Residue) > 0 {
		out.Residue = ptr(each(t.Residue, func(r dsr.Residue) gen.Residue {
			left := gen.Residue{Entity: r.Entity, Field: opt(r.Field), Count: r.Count}
			if w := r.Waits; w != nil {
				left.Waits = &gen.Waits{Cause: gen.Cause(w.Cause), Ends: w.Ends}
			}
			return left
		}))
	}
	return out
}

func fromReceiptLine(l dsr.ReceiptLine) gen.ReceiptLine {
	return gen.ReceiptLine{
		Entity: l.Entity, Method: gen.Method(l.Method), Count: l.Count, ResolvedAfterInterruption: opt(l.Resolved),
	}
}

func fromEvent(e dsr.Event) gen.Event {
	detail := e.Detail
	if detail == nil {
		detail = map[string]string{}
	}
	return gen.Event{
		Id: e.ID, At: e.At, Actor: e.Actor, Type: e.Type, From: opt(string(e.From)), To: opt(string(e.To)), Detail: detail,
	}
}
