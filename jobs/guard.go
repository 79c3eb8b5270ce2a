package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/lethe-gdpr/lethe/dsr"
)

// guard stands between every worker and River, which stores and logs the text of an error and the value of a panic.
type guard struct {
	river.PluginDefaults
	log *slog.Logger
}

func (g *guard) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may be anything; where it happened is enough to mend it.
			g.log.ErrorContext(ctx, "worker panicked", "kind", job.Kind, "job", job.ID, "type", fmt.Sprintf("%T", p),
				"stack", string(debug.Stack()))
			err = &jobError{code: "panic"}
		}
	}()
	err = work(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely):
		// The process stops: the job is free for another one at once, and this was no failed attempt.
		return river.JobSnooze(0)
	case errors.Is(err, context.DeadlineExceeded):
		return &jobError{code: "timeout"}
	}
	var own *dsr.Error
	if errors.As(err, &own) {
		return &jobError{code: string(own.Code), msg: own.Msg}
	}
	return &jobError{code: fmt.Sprintf("%T", innermost(err))}
}

// jobError is all that the job table learns.
type jobError struct{ code, msg string }

func (e *jobError) Error() string {
	if e.msg == "" {
		return e.code
	}
	return e.code + ": " + e.msg
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
