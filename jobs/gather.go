package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// gatherWorker claims the Tasks that are due in one System and works their Run's first slice.
type gatherWorker struct {
	river.WorkerDefaults[engine.Gather]
	engine engine.Worker
}

func (w *gatherWorker) Work(ctx context.Context, job *river.Job[engine.Gather]) error {
	return w.engine.Gather(ctx, job.Args)
}
