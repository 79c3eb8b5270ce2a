package memory_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/memory"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// spoilSweep changes the job behind the connector's back.
func spoilSweep(spoil func(j *connectors.SweepJob)) wrap {
	return func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, sweep: func(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
			spoil(&j)
			return db.Sweep(ctx, j)
		}}
	}
}

// sweepDefects are sweepers that are wrong.
var sweepDefects = []defect{
	{name: "counts-wrong", found: "Due", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, due: func(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
			due, err := db.Due(ctx, q)
			slices.Reverse(due)
			return due, err
		}}
	}},
	{name: "no-holds", found: "SweepHeld", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, due: func(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
			q.Held = connectors.Holds{}
			return db.Due(ctx, q)
		}}
	}},
	{name: "sweeps-nothing", found: "Sweep", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), sweep: func(context.Context, connectors.SweepJob) (connectors.SweepMeasures, error) {
			return connectors.SweepMeasures{}, nil
		}}
	}},
	{name: "sweeps-nothing", found: "RandomSweeps", of: flat, wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), sweep: func(context.Context, connectors.SweepJob) (connectors.SweepMeasures, error) {
			return connectors.SweepMeasures{}, nil
		}}
	}},
	{name: "a-second-early", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Cut.Before = j.Cut.Before.Add(time.Second) })},
	{name: "a-second-late", found: "Sweep", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Cut.Before = j.Cut.Before.Add(-time.Second) })},
	{name: "a-second-early", found: "RandomSweeps", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Cut.Before = j.Cut.Before.Add(time.Second) })},
	{name: "another-zone", found: "RandomSweeps", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Cut.Zone = time.UTC })},
	{name: "no-conditions", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Rule.When = nil })},
	{name: "no-earlier-rules", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Cut.After = nil })},
	{name: "null-is-due", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Rule.Start.Null = retention.NullDue })},
	{name: "no-relations", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Rule.Start.Latest = nil })},
	{name: "deletes-instead", found: "Sweep", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Rule.Action = retention.Delete })},
	{name: "masks-little", found: "Sweep", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) {
		j.Rule.Masks = maps.Clone(j.Rule.Masks)
		delete(j.Rule.Masks, "email")
	})},
	{name: "caps-by-itself", found: "Sweep", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, sweep: func(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
			if j.Limits.RowsPerRequest > 0 {
				return connectors.SweepMeasures{}, connectors.Permanent(dsr.CodeOverCap, "too many rows", "", nil)
			}
			return db.Sweep(ctx, j)
		}}
	}},
	{name: "counts-twice", found: "Sweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Journal = generous{j.Journal} })},
	{name: "counts-twice", found: "ConcurrentSweeps", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Journal = generous{j.Journal} })},
	{name: "takes-what-is-kept", found: "SweepFamily", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			if e := &sys.Entities[i]; e.Keep != nil {
				e.Keep, e.Erase = nil, dsr.Delete
			}
		}
	})},
	{name: "no-minimum", found: "SweepFamily", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].Rules = nil
		}
	})},
	{name: "leaves-children", found: "SweepFamily", wrap: spoilMap(func(sys *connectors.System) {
		for i := range sys.Entities {
			sys.Entities[i].OwnedBy = nil
		}
	})},
	{name: "ignores-holds", found: "SweepHeld", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held = connectors.Holds{} })},
	{name: "ignores-holds", found: "SweepHeld", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held = connectors.Holds{} })},
	{name: "ignores-entities", found: "SweepHeld", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held.Entities = nil })},
	{name: "ignores-subjects", found: "SweepHeld", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held.Subjects = nil })},
	{name: "ignores-holds", found: "SweepHeldMeanwhile", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held = connectors.Holds{} })},
	{name: "ignores-holds", found: "RandomSweeps", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held = connectors.Holds{} })},
	{name: "ignores-holds", found: "RandomSweeps", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Held = connectors.Holds{} })},
	{name: "never-yields", found: "SweepSlices", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Deadline = j.Deadline.AddDate(100, 0, 0) })},
	{name: "only-yields", found: "SweepSlices", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		return &defective{DB: open(), sweep: func(context.Context, connectors.SweepJob) (connectors.SweepMeasures, error) {
			return connectors.SweepMeasures{}, connectors.ErrYield
		}}
	}},
	{name: "is-not-told", found: "SweepStop", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Pace.Stop = nil })},
	{name: "stops-late", found: "SweepStop", of: flat, wrap: spoilSweep(func(j *connectors.SweepJob) {
		stop, told := j.Pace.Stop, false
		j.Pace.Stop = func() bool {
			if told {
				return true
			}
			told = stop()
			return false
		}
	})},
	{name: "starts-again", found: "InterruptedSweep", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Journal = forgetful{j.Journal} })},
	{name: "starts-again", found: "SweepJournalFails", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Journal = forgetful{j.Journal} })},
	{name: "hears-no-fence", found: "SweepFenced", wrap: spoilSweep(func(j *connectors.SweepJob) { j.Journal = deaf{j.Journal} })},
	{name: "never-stops", found: "CancelledSweep", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, sweep: func(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
			return db.Sweep(context.WithoutCancel(ctx), j)
		}}
	}},
	{name: "says-who", found: "SweepErrorsNameNobody", wrap: func(_ *connectors.System, open func() *memory.DB) connectors.Connector {
		db := open()
		return &defective{DB: db, sweep: func(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
			m, err := db.Sweep(ctx, j)
			if err != nil {
				err = connectors.Permanent(dsr.CodeInvalid, "cannot sweep anna.canary@example.com", "", err)
			}
			return m, err
		}}
	}},
}
