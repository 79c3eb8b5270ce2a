package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// sliceWorker continues a Run from its checkpoint.
type sliceWorker struct {
	river.WorkerDefaults[engine.Slice]
	engine engine.Worker
}

func (w *sliceWorker) Work(ctx context.Context, job *river.Job[engine.Slice]) error {
	return w.engine.Slice(ctx, job.Args)
}
