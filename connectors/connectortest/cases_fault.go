package connectortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// rerun calls Erase with the same Job until it ends, as the engine does with slices and interrupted ones.
func rerun(t *testing.T, c connectors.Connector, job connectors.Job) {
	t.Helper()
	for range maxSlices {
		err := eraser(t, c).Erase(context.Background(), job)
		if err == nil {
			return
		}
		require.ErrorIs(t, err, connectors.ErrYield)
	}
	t.Fatal("Erase yields for ever")
}

// progress fails the test when slices end without a checkpoint that differs: a system so slow that a slice is over
// before its first chunk would never be done. A slice does at least one chunk.
type progress struct {
	last []byte
	same int
}

func (p *progress) check(t *testing.T, j *Journal) {
	t.Helper()
	p.same++
	if at := j.Checkpoint(); !bytes.Equal(at, p.last) {
		p.last, p.same = at, 0
	}
	require.Less(t, p.same, 3, "three slices made no progress: each must do at least one chunk, whatever its deadline")
}

// dryRun erases a batch once and returns the steps that it passed and how often it saved.
func (w *world) dryRun(t *testing.T, people connectors.Batch) (steps []string, saves int) {
	t.Helper()
	w.Load(t, w.data)
	c := w.open(t)
	j := erase(t, c, discover(t, c, people))
	require.NotEmpty(t, j.Steps(), "the connector names no steps")
	return j.Steps(), j.Saves()
}

// points chooses where to interrupt: every step of a short run, else the first, the last and one in the middle of each
// name, and an even sample.
func (w *world) points(steps []string) []int {
	limit := w.Interruptions
	if limit == 0 {
		limit = 40
	}
	chosen := map[int]bool{}
	at := map[string][]int{}
	for i, name := range steps {
		at[name] = append(at[name], i+1)
	}
	for _, list := range at {
		chosen[list[0]], chosen[list[len(list)/2]], chosen[list[len(list)-1]] = true, true, true
	}
	every := max(1, len(steps)/max(1, limit-len(chosen)))
	for i := 1; i <= len(steps); i += every {
		chosen[i] = true
	}
	var out []int
	for i := range chosen {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// testSlices: a deadline that has passed yields at every chunk, and the work still ends with the same result.
func testSlices(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 1
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	j := NewJournal()
	var made progress
	slices := 0
	for ; slices < maxSlices; slices++ {
		err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j, Deadline: time.Now().Add(-time.Second)})
		require.Empty(t, w.data.dangling(w.dump(t)), "after a slice")
		if err == nil {
			break
		}
		require.ErrorIs(t, err, connectors.ErrYield)
		made.check(t, j)
	}
	require.Positive(t, slices, "the deadline had passed, but Erase did not yield")
	w.outcome(t, batch, j)
	for _, tally := range j.Tallies() {
		require.False(t, tally.Resolved, "a slice that yields is no interruption")
	}
	noResidue(t, c, batch, j)
}

// testInterruptedErase stops at every kind of step and resumes with a connector that knows nothing: the final state
// and the tallies are those of an undisturbed run.
func testInterruptedErase(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 2
	people := connectors.Batch{subject("a", anna), subject("b", bert)}
	steps, _ := w.dryRun(t, people)
	for _, n := range w.points(steps) {
		label := fmt.Sprintf("step %d of %d: %s", n, len(steps), steps[n-1])
		w.Load(t, w.data)
		c := w.open(t)
		batch := discover(t, c, people)
		j := NewJournal()
		ctx, cancel := context.WithCancel(context.Background())
		j.AtStep(func(i int, _ string) {
			if i == n {
				cancel()
			}
		})
		err := eraser(t, c).Erase(ctx, connectors.Job{Batch: batch, Journal: j})
		cancel()
		if err != nil {
			require.False(t, connectors.IsPermanent(err), "%s: %v", label, err)
		}
		require.Empty(t, w.data.dangling(w.dump(t)), label)
		require.NoError(t, c.Close())
		j.Heal()
		c = w.open(t)
		rerun(t, c, connectors.Job{Batch: batch, Journal: j})
		require.Empty(t, diff(w.data.rows(), expect(w.sys, w.data, batch).after, w.dump(t)), label)
		require.Empty(t, cmp.Diff(expect(w.sys, w.data, batch).counts, tallied(j.Tallies())), label)
		noResidue(t, c, batch, j)
		require.NoError(t, c.Close())
	}
}

// testJournalFails: Save fails before it is durable, or after, when only its answer is lost, or it ends the slice,
// because somebody was held meanwhile.
func testJournalFails(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 3
	people := connectors.Batch{subject("a", anna), subject("b", bert)}
	_, saves := w.dryRun(t, people)
	every := max(1, saves/12)
	for n := 1; n <= saves; n += every {
		for _, fault := range []struct {
			err     error
			durable bool
		}{{ErrJournal, false}, {ErrJournal, true}, {connectors.ErrYield, true}} {
			label := fmt.Sprintf("save %d of %d, durable %t: %v", n, saves, fault.durable, fault.err)
			w.Load(t, w.data)
			c := w.open(t)
			batch := discover(t, c, people)
			j := NewJournal()
			fail := func(i int) error {
				if i == n {
					return fault.err
				}
				return nil
			}
			if fault.durable {
				j.OnSave(nil, fail)
			} else {
				j.OnSave(fail, nil)
			}
			err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j})
			require.ErrorIs(t, err, fault.err, label)
			require.Equal(t, n, j.Saves(), "%s: it went on", label)
			require.False(t, connectors.IsPermanent(err), label)
			j.Heal()
			rerun(t, c, connectors.Job{Batch: batch, Journal: j})
			require.Empty(t, diff(w.data.rows(), expect(w.sys, w.data, batch).after, w.dump(t)), label)
			require.Empty(t, cmp.Diff(expect(w.sys, w.data, batch).counts, tallied(j.Tallies())), label)
			require.NoError(t, c.Close())
		}
	}
}

// testFenced: a worker whose Run was taken over stops at once.
func testFenced(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 2
	people := connectors.Batch{subject("a", anna)}
	c := w.open(t)
	batch := discover(t, c, people)
	j := NewJournal()
	j.Fence()
	err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j})
	require.ErrorIs(t, err, connectors.ErrFenced)
	require.False(t, connectors.IsPermanent(err))
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "a fenced worker changes nothing")

	steps, _ := w.dryRun(t, people)
	for _, n := range []int{1, len(steps) / 2, len(steps) - 1} {
		label := fmt.Sprintf("step %d of %d: %s", n, len(steps), steps[n-1])
		w.Load(t, w.data)
		c := w.open(t)
		j := NewJournal()
		passed := 0
		j.AtStep(func(i int, _ string) {
			if i == n {
				j.Fence()
			}
			passed = i
		})
		err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j})
		if err == nil {
			require.GreaterOrEqual(t, n, passed-1, "%s: went on after it was fenced", label)
		} else {
			require.ErrorIs(t, err, connectors.ErrFenced, label)
		}
		j.Heal()
		rerun(t, w.open(t), connectors.Job{Batch: batch, Journal: j})
		require.Empty(t, diff(w.data.rows(), expect(w.sys, w.data, batch).after, w.dump(t)), label)
		require.Empty(t, cmp.Diff(expect(w.sys, w.data, batch).counts, tallied(j.Tallies())), label)
	}
}

// testCancelled: a context that is over stops every verb, and nothing is changed.
func testCancelled(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stopped := func(name string, err error) {
		require.Error(t, err, name)
		require.False(t, connectors.IsPermanent(err), "%s: an interruption is no permanent fault: %v", name, err)
	}
	_, err := c.Locate(ctx, connectors.Query{Batch: batch})
	stopped("Locate", err)
	_, err = c.Verify(ctx, connectors.Search{Batch: batch, Keys: NewJournal()})
	stopped("Verify", err)
	if e, ok := c.(connectors.Eraser); ok {
		stopped("Erase", e.Erase(ctx, connectors.Job{Batch: batch, Journal: NewJournal()}))
	}
	if e, ok := c.(connectors.Exporter); ok {
		j := NewJournal()
		stopped("Export", e.Export(ctx, connectors.Job{Batch: batch, Journal: j}, NewSinks(j).For))
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)))
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch})
	require.NoError(t, err, "the connector serves the next call")
	require.NotEmpty(t, found.Counts)
}

// namesNobody looks for the people's values in an error.
func namesNobody(t *testing.T, name string, err error) {
	t.Helper()
	require.Error(t, err, name)
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		text += fmt.Sprintf(" %+v", e)
	}
	for _, canary := range []string{"canary", "Canary", "CANARY", "tok-anna", "1740605", "Anna"} {
		require.False(t, strings.Contains(text, canary), "%s: the error tells of the subject", name)
	}
}

// testErrorsNameNobody provokes errors and looks for the subject's values in them.
func testErrorsNameNobody(t *testing.T, b Backend) {
	if b.Flat {
		testFlatErrorsNameNobody(t, b)
		return
	}
	sys := shop()
	sys.Entity("customers").Anchor = nil // an order that stays would refer to nothing
	w := setup(t, b, sys, shopData())
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	anonymous := func(name string, err error) {
		t.Helper()
		namesNobody(t, name, err)
	}
	err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: NewJournal()})
	anonymous("no anchor", err)
	require.True(t, connectors.IsPermanent(err), "a fault of the map is permanent: %v", err)
	require.Contains(t, w.dump(t)["customers"], "1001", "what cannot be erased whole is not begun")

	err = eraser(t, c).Erase(context.Background(), connectors.Job{
		Batch: batch, Journal: NewJournal(), Limits: connectors.Limits{RowsPerRequest: 1},
	})
	anonymous("limit", err)

	sys = shop()
	sys.Entity("messages").Mentions = []string{"no_such_column"}
	w.sys = sys
	_, err = w.open(t).Locate(context.Background(), connectors.Query{Batch: batch})
	anonymous("unknown column", err)

	// one subject's fault does not stop the others
	sys = shop()
	sys.Entity("customers").Anchor = nil
	w.sys = sys
	w.Load(t, w.data)
	c = w.open(t)
	both := discover(t, c, connectors.Batch{subject("a", anna), subject("d", dora)})
	err = eraser(t, c).Erase(context.Background(), connectors.Job{Batch: both, Journal: NewJournal()})
	var one *connectors.SubjectError
	require.ErrorAs(t, err, &one)
	require.Equal(t, "a", one.Subject)
	require.NotContains(t, w.dump(t)["customers"], "1004", "the other subject of the batch goes on")
	require.Contains(t, w.dump(t)["customers"], "1001")
	require.NotEqual(t, dsr.CodeUnavailable, dsr.CodeOf(err))
}
