package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// assembleWorker builds one access package.
type assembleWorker struct {
	river.WorkerDefaults[engine.Assemble]
	engine engine.Worker
}

func (w *assembleWorker) Work(ctx context.Context, job *river.Job[engine.Assemble]) error {
	return w.engine.Assemble(ctx, job.Args)
}

func (*assembleWorker) Timeout(*river.Job[engine.Assemble]) time.Duration { return assembleTimeout }
