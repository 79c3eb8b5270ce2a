package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// tickWorker runs one piece of upkeep when it is due. River's periodic jobs forget when they last ran: after a
// restart each would run at once, or a daily one on a machine that restarts twice a day never. So they only ask, and
// a row remembers.
type tickWorker struct {
	river.WorkerDefaults[engine.Tick]
	engine engine.Worker
	store  engine.Store
	time   engine.Time
	every  map[string]time.Duration
}

// asking is how often at most a Tick asks whether it is due.
const asking = 5 * time.Minute

// periodic makes one job per Tick that asks as often as it is due, but for long periods more often.
func periodic(every map[string]time.Duration) []*river.PeriodicJob {
	var all []*river.PeriodicJob
	for name, period := range every {
		all = append(all, river.NewPeriodicJob(
			river.PeriodicInterval(min(period, asking)),
			func() (river.JobArgs, *river.InsertOpts) {
				return engine.Tick{Name: name}, &river.InsertOpts{
					Queue:       engine.QueueUpkeep,
					MaxAttempts: 1, // the next one comes by itself
					UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: waiting},
				}
			},
			&river.PeriodicJobOpts{RunOnStart: true},
		))
	}
	return all
}

// waiting are the states in which one Tick makes another needless.
var waiting = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

func (w *tickWorker) Work(ctx context.Context, job *river.Job[engine.Tick]) error {
	var last time.Time
	err := w.store.InTx(ctx, func(tx engine.Tx) (err error) {
		last, err = tx.LastRun(job.Args.Name)
		return err
	})
	if err != nil {
		return err
	}
	now := w.time.Now()
	// A tenth early, so that jitter does not make a Tick miss every second turn.
	period := w.every[job.Args.Name]
	if now.Sub(last) < period-period/10 && !last.After(now) {
		return nil
	}
	if err := w.engine.Tick(ctx, job.Args); err != nil {
		return err
	}
	return w.store.InTx(ctx, func(tx engine.Tx) error { return tx.SetLastRun(job.Args.Name, now) })
}
