package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// sweepWorker works one slice of a Sweep.
type sweepWorker struct {
	river.WorkerDefaults[engine.SweepSlice]
	engine engine.Worker
}

func (w *sweepWorker) Work(ctx context.Context, job *river.Job[engine.SweepSlice]) error {
	return w.engine.SweepSlice(ctx, job.Args)
}
