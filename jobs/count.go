package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// countWorker counts what a rule makes due that may not run.
type countWorker struct {
	river.WorkerDefaults[engine.CountDue]
	engine engine.Worker
}

func (w *countWorker) Work(ctx context.Context, job *river.Job[engine.CountDue]) error {
	return w.engine.CountDue(ctx, job.Args)
}
