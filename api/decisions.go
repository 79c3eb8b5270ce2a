package api

import (
	"context"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
)

// decide runs one decision on the version that the caller saw.
func decide[T any](
	ctx context.Context, ifMatch *string, do func(ctx context.Context, a dsr.Actor, version int64) (*T, error),
) (*T, error) {
	version, err := seen(ifMatch)
	if err != nil {
		return nil, err
	}
	ctx, actor := caller(ctx)
	return do(ctx, actor, version)
}

// ConfirmIdentity ends the wait for the subject's identity.
func (s *server) ConfirmIdentity(
	ctx context.Context, in gen.ConfirmIdentityRequestObject,
) (gen.ConfirmIdentityResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.ConfirmIdentity(ctx, a, in.Id, v, in.Body.Method)
	})
	if err != nil {
		return nil, err
	}
	return gen.ConfirmIdentity200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// InstructRequest records the controller's instruction.
func (s *server) InstructRequest(
	ctx context.Context, in gen.InstructRequestRequestObject,
) (gen.InstructRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Instruct(ctx, a, in.Id, v, in.Body.Reference)
	})
	if err != nil {
		return nil, err
	}
	return gen.InstructRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// ApproveRequest approves a plan by its hash.
func (s *server) ApproveRequest(
	ctx context.Context, in gen.ApproveRequestRequestObject,
) (gen.ApproveRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Approve(ctx, a, in.Id, v, in.Body.PlanHash)
	})
	if err != nil {
		return nil, fieldsOfTheContract(err)
	}
	return gen.ApproveRequest202JSONResponse{RequestUnderWayJSONResponse: underWay(r)}, nil
}

// RefuseRequest ends a request with an article.
func (s *server) RefuseRequest(
	ctx context.Context, in gen.RefuseRequestRequestObject,
) (gen.RefuseRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Refuse(ctx, a, in.Id, v, in.Body.Article, in.Body.Reason)
	})
	if err != nil {
		return nil, err
	}
	return gen.RefuseRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// ExtendRequest extends the deadline.
func (s *server) ExtendRequest(
	ctx context.Context, in gen.ExtendRequestRequestObject,
) (gen.ExtendRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Extend(ctx, a, in.Id, v, string(in.Body.Reason))
	})
	if err != nil {
		return nil, err
	}
	return gen.ExtendRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// PauseRequest stops the clock.
func (s *server) PauseRequest(ctx context.Context, in gen.PauseRequestRequestObject) (gen.PauseRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Pause(ctx, a, in.Id, v, string(in.Body.Reason))
	})
	if err != nil {
		return nil, err
	}
	return gen.PauseRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// ResumeRequest lets the clock run again.
func (s *server) ResumeRequest(
	ctx context.Context, in gen.ResumeRequestRequestObject,
) (gen.ResumeRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Resume(ctx, a, in.Id, v)
	})
	if err != nil {
		return nil, err
	}
	return gen.ResumeRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// CancelRequest withdraws a request.
func (s *server) CancelRequest(
	ctx context.Context, in gen.CancelRequestRequestObject,
) (gen.CancelRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Cancel(ctx, a, in.Id, v)
	})
	if err != nil {
		return nil, err
	}
	return gen.CancelRequest200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}

// RetryRequest goes on with a request that needs attention.
func (s *server) RetryRequest(ctx context.Context, in gen.RetryRequestRequestObject) (gen.RetryRequestResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		return s.Engine.Retry(ctx, a, in.Id, v)
	})
	if err != nil {
		return nil, err
	}
	return gen.RetryRequest202JSONResponse{RequestUnderWayJSONResponse: underWay(r)}, nil
}

// CompleteTask ends the manual task of a system.
func (s *server) CompleteTask(ctx context.Context, in gen.CompleteTaskRequestObject) (gen.CompleteTaskResponseObject, error) {
	r, err := decide(ctx, in.Params.IfMatch, func(ctx context.Context, a dsr.Actor, v int64) (*dsr.Request, error) {
		tasks, err := s.Engine.Tasks(ctx, a, in.Id)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			if t.System == in.System {
				return s.Engine.CompleteTask(ctx, a, in.Id, v, t.ID, in.Body.Records)
			}
		}
		return nil, &dsr.Error{
			Code: dsr.CodeNotFound, Field: "system", Msg: "the request has no task in this system",
			Hint: "see the request's tasks",
		}
	})
	if err != nil {
		return nil, err
	}
	return gen.CompleteTask200JSONResponse{RequestJSONResponse: asIs(r)}, nil
}
