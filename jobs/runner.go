// Package jobs runs the engine's work on River: one file per worker, each a few lines that call the engine. Work is
// at-least-once; the engine's fences make a second delivery harmless. Job arguments hold ids only, and what lands in
// river_job.errors names a code, never a value (see guard.go).
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// Config is what a Runner is made of. Engine, Store and one of Pool and SQLite are required.
type Config struct {
	Engine  engine.Worker
	Store   engine.Store // remembers when each Tick last ran
	Pool    *pgxpool.Pool
	SQLite  *sql.DB
	Time    engine.Time // nil is the machine's clock
	Logger  *slog.Logger
	Workers int           // Runs and packages worked at once in this process; 0 is twice the cores, 4 on SQLite
	Grace   time.Duration // how long Stop waits for slices to reach a checkpoint; 0 is 40 s, more than a slice takes
	// FetchCooldown is the least time between two fetches, and so a part of every step's latency; 0 is 20 ms.
	FetchCooldown time.Duration
}

const (
	fetchCooldown = 20 * time.Millisecond
	// pollPostgres is only a fallback: a new job is announced by NOTIFY. SQLite has no such thing.
	pollPostgres = 250 * time.Millisecond
	pollSQLite   = 50 * time.Millisecond
	pollUpkeep   = time.Second

	// jobTimeout ends what hangs for good; statements and calls of connectors have their own, shorter times. Erase and
	// Export yield after a slice of 30 s at most, but Locate and Verify are one pass over a batch, and a lake is large.
	jobTimeout = 12 * time.Hour
	// rescueAfter is when a job whose worker is gone is tried again. It is only the second net: the lease of a Run ends
	// much earlier, and upkeep then enqueues its next slice.
	rescueAfter = jobTimeout + 15*time.Minute
	// assembleTimeout bounds the building of one access package.
	assembleTimeout = time.Hour

	grace = 40 * time.Second
	// cancelWithin is how long jobs may take to return once their context is cancelled.
	cancelWithin = 10 * time.Second

	// Rows of jobs are not evidence; the ledger is. Those that failed for good stay for whoever looks into it.
	keepCompleted = 5 * time.Minute
	keepCancelled = 24 * time.Hour
	keepDiscarded = 7 * 24 * time.Hour
)

// Runner works jobs until it is stopped.
type Runner struct {
	client interface {
		Start(ctx context.Context) error
		Stop(ctx context.Context) error
		StopAndCancel(ctx context.Context) error
	}
	grace time.Duration
}

// New returns a Runner that has not started.
func New(c Config) (*Runner, error) {
	if c.Engine == nil || c.Store == nil || (c.Pool == nil) == (c.SQLite == nil) {
		return nil, errors.New("jobs: Engine, Store and either Pool or SQLite are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Time == nil {
		c.Time = machineClock{}
	}
	if c.Grace == 0 {
		c.Grace = grace
	}
	if c.FetchCooldown == 0 {
		c.FetchCooldown = fetchCooldown
	}
	r := &Runner{grace: c.Grace}
	var err error
	if c.Pool != nil {
		r.client, err = client(riverpgxv5.New(c.Pool), &c, pollPostgres, 2*runtime.GOMAXPROCS(0))
	} else {
		r.client, err = client(riversqlite.New(c.SQLite), &c, pollSQLite, 4)
	}
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return r, nil
}

func client[T any](driver riverdriver.Driver[T], c *Config, poll time.Duration, workers int) (*river.Client[T], error) {
	if c.Workers > 0 {
		workers = c.Workers
	}
	all := river.NewWorkers()
	river.AddWorker(all, &gatherWorker{engine: c.Engine})
	river.AddWorker(all, &sliceWorker{engine: c.Engine})
	river.AddWorker(all, &assembleWorker{engine: c.Engine})
	river.AddWorker(all, &sweepWorker{engine: c.Engine})
	river.AddWorker(all, &countWorker{engine: c.Engine})
	river.AddWorker(all, &heedWorker{engine: c.Engine})
	river.AddWorker(all, &tickWorker{engine: c.Engine, store: c.Store, time: c.Time, every: c.Engine.Ticks()})
	return river.NewClient(driver, &river.Config{
		Logger:  c.Logger,
		Workers: all,
		Queues: map[string]river.QueueConfig{
			engine.QueueWork: {MaxWorkers: workers},
			// One at a time: a Tick never overtakes itself in a process.
			engine.QueueUpkeep: {MaxWorkers: 1, FetchPollInterval: pollUpkeep},
		},
		FetchCooldown:               c.FetchCooldown,
		FetchPollInterval:           max(poll, c.FetchCooldown),
		JobTimeout:                  jobTimeout,
		RescueStuckJobsAfter:        rescueAfter,
		SoftStopTimeout:             c.Grace,
		RetryPolicy:                 backoff{},
		PeriodicJobs:                periodic(c.Engine.Ticks()),
		Plugins:                     []rivertype.Plugin{&guard{log: c.Logger}},
		CompletedJobRetentionPeriod: keepCompleted,
		CancelledJobRetentionPeriod: keepCancelled,
		DiscardedJobRetentionPeriod: keepDiscarded,
	})
}

// Start begins to work jobs; they outlive ctx, which only bounds the start itself. Call Stop once.
func (r *Runner) Start(ctx context.Context) error {
	return r.client.Start(context.WithoutCancel(ctx))
}

// Stop takes no new jobs, waits for running ones to reach a checkpoint, then cancels them and waits until they have
// returned. It returns early, with an error, when ctx ends and the cancelled jobs have not returned soon after.
func (r *Runner) Stop(ctx context.Context) error {
	err := r.client.Stop(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer cancel()
	return r.client.StopAndCancel(last)
}

// backoff tries a failed job again after 1, 2, 4 … 60 s. The engine counts faults of systems itself and answers no
// error for them, so what comes here is a fault of the control database or of Lethe.
type backoff struct{}

func (backoff) NextRetry(job *rivertype.JobRow) time.Time {
	const most = 6
	return time.Now().Add(min(time.Second<<min(len(job.Errors), most), time.Minute))
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }
