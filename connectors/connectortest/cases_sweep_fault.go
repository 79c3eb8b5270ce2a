package connectortest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// resweep calls Sweep with the same job until it ends.
func resweep(t *testing.T, c connectors.Connector, job connectors.SweepJob, j *Journal) (yields int) {
	t.Helper()
	var made progress
	for ; yields < maxSlices; yields++ {
		_, err := sweeper(t, c).Sweep(context.Background(), job)
		if err == nil {
			return yields
		}
		require.ErrorIs(t, err, connectors.ErrYield)
		made.check(t, j)
	}
	t.Fatal("Sweep yields for ever")
	return yields
}

// interruptible are the rulings that are interrupted, with holds and a blocked parent where there are ties.
func (b Backend) interruptible() []ruling {
	rulings := b.rulings()
	list := []ruling{rulings["null is another field"], rulings["pseudonymise"]}
	list[0].held = connectors.Holds{Subjects: connectors.Batch{subject("a", anna)}}
	return list
}

// testSweepSlices: a deadline that has passed yields at every chunk, and the work still ends with the same result.
func testSweepSlices(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 1
	for _, r := range b.interruptible() {
		w.Load(t, w.data)
		c := w.open(t)
		j := NewJournal()
		job := r.job(j)
		job.Deadline = time.Now().Add(-time.Second)
		require.Positive(t, resweep(t, c, job, j), "the deadline had passed, but Sweep did not yield")
		w.swept(t, r, j, string(r.rule.Action))
		for _, tally := range j.Tallies() {
			require.False(t, tally.Resolved, "a slice that yields is no interruption")
		}
	}
}

// testSweepStop: when it is told to stop, a Sweep yields before its next chunk, and goes on from there when it may.
func testSweepStop(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 1
	r := b.rulings()["by time"]
	c := w.open(t)
	j := NewJournal()
	job := r.job(j)
	asked := 0
	var stopped Tables
	job.Pace.Stop = func() bool {
		if asked++; asked == 3 {
			stopped = w.dump(t)
		}
		return asked >= 3
	}
	_, err := sweeper(t, c).Sweep(context.Background(), job)
	require.ErrorIs(t, err, connectors.ErrYield)
	require.Equal(t, 3, asked, "it asked on")
	require.Empty(t, cmp.Diff(stopped, w.dump(t)), "it went on after it was told to stop")
	require.NotEmpty(t, diff(w.data.rows(), expectSweep(w.sys, w.data, r).after, stopped), "there was something left to do")
	job.Pace.Stop = func() bool { return false }
	require.Zero(t, resweep(t, c, job, j))
	w.swept(t, r, j, "stopped")
}

// testInterruptedSweep stops at every kind of step and resumes with a connector that knows nothing.
func testInterruptedSweep(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 2
	for _, r := range b.interruptible() {
		w.Load(t, w.data)
		steps := sweep(t, w.open(t), r).Steps()
		require.NotEmpty(t, steps, "the connector names no steps")
		for _, n := range w.points(steps) {
			label := fmt.Sprintf("%s, step %d of %d: %s", r.rule.Action, n, len(steps), steps[n-1])
			w.Load(t, w.data)
			c := w.open(t)
			j := NewJournal()
			ctx, cancel := context.WithCancel(context.Background())
			j.AtStep(func(i int, _ string) {
				if i == n {
					cancel()
				}
			})
			_, err := sweeper(t, c).Sweep(ctx, r.job(j))
			cancel()
			if err != nil {
				require.False(t, connectors.IsPermanent(err), "%s: %v", label, err)
			}
			require.Empty(t, w.data.dangling(w.dump(t)), label)
			require.NoError(t, c.Close())
			j.Heal()
			c = w.open(t)
			resweep(t, c, r.job(j), j)
			w.swept(t, r, j, label)
			require.NoError(t, c.Close())
		}
	}
}

// testSweepJournalFails: Save fails before it is durable, or after, when only its answer is lost.
func testSweepJournalFails(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 2
	r := b.interruptible()[0]
	saves := sweep(t, w.open(t), r).Saves()
	for n := 1; n <= saves; n += max(1, saves/12) {
		for _, durable := range []bool{false, true} {
			label := fmt.Sprintf("save %d of %d, durable %t", n, saves, durable)
			w.Load(t, w.data)
			c := w.open(t)
			j := NewJournal()
			fail := func(i int) error {
				if i == n {
					return ErrJournal
				}
				return nil
			}
			if durable {
				j.OnSave(nil, fail)
			} else {
				j.OnSave(fail, nil)
			}
			_, err := sweeper(t, c).Sweep(context.Background(), r.job(j))
			require.ErrorIs(t, err, ErrJournal, label)
			require.False(t, connectors.IsPermanent(err), label)
			j.Heal()
			resweep(t, c, r.job(j), j)
			w.swept(t, r, j, label)
			require.NoError(t, c.Close())
		}
	}
}

// testSweepFenced: a worker whose sweep was taken over stops at once.
func testSweepFenced(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 1
	r := b.interruptible()[0]
	j := NewJournal()
	j.Fence()
	_, err := sweeper(t, w.open(t)).Sweep(context.Background(), r.job(j))
	require.ErrorIs(t, err, connectors.ErrFenced)
	require.False(t, connectors.IsPermanent(err))
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "a fenced worker changes nothing")

	steps := sweep(t, w.open(t), r).Steps()
	for _, n := range []int{1, len(steps) / 2, len(steps) - 1} {
		label := fmt.Sprintf("step %d of %d: %s", n, len(steps), steps[n-1])
		w.Load(t, w.data)
		j := NewJournal()
		passed := 0
		j.AtStep(func(i int, _ string) {
			if i == n {
				j.Fence()
			}
			passed = i
		})
		_, err := sweeper(t, w.open(t)).Sweep(context.Background(), r.job(j))
		if err == nil {
			require.GreaterOrEqual(t, n, passed-1, "%s: went on after it was fenced", label)
		} else {
			require.ErrorIs(t, err, connectors.ErrFenced, label)
		}
		j.Heal()
		resweep(t, w.open(t), r.job(j), j)
		w.swept(t, r, j, label)
	}
}

// testConcurrentSweeps: two sweeps of one rule at once, neither of which knows of the other. Every row is counted by one.
func testConcurrentSweeps(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	r := b.rulings()["all that have a start"]
	for _, chunk := range []int{0, 1, 3} {
		w.Load(t, w.data)
		w.chunk = chunk
		journals, errs := []*Journal{NewJournal(), NewJournal()}, make([]error, 2)
		var wait sync.WaitGroup
		var begun sync.WaitGroup // both have begun before either goes on
		begun.Add(len(journals))
		for i, j := range journals {
			arrive := sync.OnceFunc(begun.Done)
			j.AtStep(func(int, string) {
				arrive()
				begun.Wait()
			})
			s := sweeper(t, w.open(t))
			wait.Go(func() {
				defer arrive()
				for range 50 { // transient faults, deadlocks among them, are tried again
					if _, errs[i] = s.Sweep(context.Background(), r.job(j)); errs[i] == nil || connectors.IsPermanent(errs[i]) {
						return
					}
				}
			})
		}
		wait.Wait()
		label := fmt.Sprintf("chunk %d", chunk)
		for _, err := range errs {
			require.NoError(t, err, label)
		}
		want := expectSweep(w.sys, w.data, r)
		require.Empty(t, diff(w.data.rows(), want.after, w.dump(t)), label)
		both := tallied(slices.Concat(journals[0].Tallies(), journals[1].Tallies()))
		for _, counts := range []map[string]int64{want.counts, both} { // each tells of what it found
			delete(counts, r.entity+" "+string(dsr.Held))
			delete(counts, r.entity+" "+string(dsr.Blocked))
		}
		if b.Blind {
			for at, n := range want.counts {
				require.True(t, n <= both[at] && both[at] <= 2*n, "%s: %s is %d, counted %d", label, at, n, both[at])
			}
			continue
		}
		require.Empty(t, cmp.Diff(want.counts, both), label)
	}
}

// testCancelledSweep: a context that is over stops Due and Sweep, and nothing is changed.
func testCancelledSweep(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	s := sweeper(t, w.open(t))
	r := b.rulings()["by time"]
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Due(ctx, connectors.DueQuery{Entity: r.entity, Rule: r.rule, Cuts: []connectors.Cut{r.cut}})
	require.Error(t, err)
	require.False(t, connectors.IsPermanent(err))
	_, err = s.Sweep(ctx, r.job(NewJournal()))
	require.Error(t, err)
	require.False(t, connectors.IsPermanent(err))
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)))
}

// testSweepErrorsNameNobody provokes errors of a rule that does not fit, and looks for people's values in them.
func testSweepErrorsNameNobody(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	s := sweeper(t, w.open(t))
	r := b.rulings()["by time"]
	r.entity = "no_such_entity"
	_, err := s.Sweep(context.Background(), r.job(NewJournal()))
	namesNobody(t, "entity", err)
	require.True(t, connectors.IsPermanent(err), "a fault of the map is permanent: %v", err)
	_, err = s.Due(context.Background(), connectors.DueQuery{Entity: r.entity, Rule: r.rule, Cuts: []connectors.Cut{r.cut}})
	namesNobody(t, "entity", err)

	r = b.rulings()["by time"]
	r.rule.Start.Field = "name" // which is no time
	_, err = s.Sweep(context.Background(), r.job(NewJournal()))
	if err != nil {
		namesNobody(t, "start", err)
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "what does not fit deletes nothing")

	r = b.rulings()["by time"]
	j := NewJournal()
	j.OnSave(func(int) error { return ErrJournal }, nil)
	_, err = s.Sweep(context.Background(), r.job(j))
	namesNobody(t, "journal", err)
}
