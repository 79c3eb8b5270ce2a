package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// heedWorker makes systems that delete by settings of their own heed the holds.
type heedWorker struct {
	river.WorkerDefaults[engine.Heed]
	engine engine.Worker
}

func (w *heedWorker) Work(ctx context.Context, job *river.Job[engine.Heed]) error {
	return w.engine.Heed(ctx, job.Args)
}
