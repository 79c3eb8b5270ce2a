package connectortest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func sweeper(t *testing.T, c connectors.Connector) connectors.Sweeper {
	t.Helper()
	s, ok := c.(connectors.Sweeper)
	if !ok {
		t.Skip("the connector cannot sweep")
	}
	return s
}

func (r ruling) job(j *Journal) connectors.SweepJob {
	return connectors.SweepJob{Entity: r.entity, Rule: r.rule, Cut: r.cut, Held: r.held, Journal: j}
}

// sweep carries a rule out to its end.
func sweep(t *testing.T, c connectors.Connector, r ruling) *Journal {
	t.Helper()
	j := NewJournal()
	_, err := sweeper(t, c).Sweep(context.Background(), r.job(j))
	require.NoError(t, err)
	return j
}

// swept compares the store and the tallies with what a rule must do.
func (w *world) swept(t *testing.T, r ruling, j *Journal, label string) {
	t.Helper()
	want := expectSweep(w.sys, w.data, r)
	got := w.dump(t)
	require.Empty(t, diff(w.data.rows(), want.after, got), "%s: state", label)
	require.Empty(t, w.data.dangling(got), label)
	require.Empty(t, cmp.Diff(want.counts, tallied(j.Tallies())), "%s: tallies", label)
	for _, tally := range j.Tallies() {
		require.Empty(t, tally.Subject, "%s: a sweep has no subject", label)
	}
}

// dueNow compares what Due counts with what it must, at the ruling's cut-off.
func (w *world) dueNow(t *testing.T, c connectors.Connector, r ruling, d Dataset, label string) {
	t.Helper()
	w.sameDue(t, expectSweep(w.sys, d, r).due, w.count(t, c, r), label)
}

// count asks Due for the ruling's cut-off.
func (w *world) count(t *testing.T, c connectors.Connector, r ruling) connectors.Due {
	t.Helper()
	got, err := sweeper(t, c).Due(context.Background(), connectors.DueQuery{
		Entity: r.entity, Rule: r.rule, Cuts: []connectors.Cut{r.cut}, Held: r.held,
	})
	require.NoError(t, err)
	require.Len(t, got, 1)
	return got[0]
}

func (w *world) sameDue(t *testing.T, want, got connectors.Due, label string) {
	t.Helper()
	if got.Total == 0 { // nobody estimated it
		want.Total = 0
	}
	got.Bytes = 0
	if len(got.BlockedBy) == 0 {
		got.BlockedBy = nil
	}
	require.Empty(t, cmp.Diff(want, got), label)
}

// testDue: what is due at several cut-offs, in their order. It reads only.
func testDue(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	c := w.open(t)
	var cuts []time.Time
	for _, days := range []int{0, 1, -30, 30, 90, 2000} {
		cuts = append(cuts, cutAt.AddDate(0, 0, days))
	}
	for name, r := range b.rulings() {
		q := connectors.DueQuery{Entity: r.entity, Rule: r.rule}
		for _, cut := range cuts {
			q.Cuts = append(q.Cuts, connectors.Cut{Before: cut, Zone: time.UTC, After: r.cut.After})
		}
		got, err := sweeper(t, c).Due(context.Background(), q)
		require.NoError(t, err, name)
		require.Len(t, got, len(cuts), name)
		for i := range cuts {
			r.cut = q.Cuts[i]
			w.sameDue(t, expectSweep(w.sys, w.data, r).due, got[i], fmt.Sprintf("%s, before %v", name, cuts[i]))
		}
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "Due must not change anything")
}

// testSweep: nothing due stays and nothing else goes, for every kind of rule; twice is once. Caps are the engine's.
func testSweep(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	for name, r := range b.rulings() {
		for _, chunk := range []int{0, 1, 4} {
			label := fmt.Sprintf("%s, chunk %d", name, chunk)
			w.Load(t, w.data)
			w.chunk = chunk
			c := w.open(t)
			j := NewJournal()
			job := r.job(j)
			job.Limits = connectors.Limits{RowsPerRequest: 1, ShareOfTable: 0.001}
			_, err := sweeper(t, c).Sweep(context.Background(), job)
			require.NoError(t, err, label)
			w.swept(t, r, j, label)

			once, counted := w.dump(t), tallied(j.Tallies())
			w.dueNow(t, c, r, w.data.with(once), label+", afterwards")
			_, err = sweeper(t, c).Sweep(context.Background(), job)
			require.NoError(t, err, label)
			require.Empty(t, cmp.Diff(counted, tallied(j.Tallies())), "%s: a job that is delivered again is counted again", label)
			again := sweep(t, c, r)
			for at := range tallied(again.Tallies()) {
				require.Contains(t, []string{r.entity + " " + string(dsr.Held), r.entity + " " + string(dsr.Blocked)}, at, "%s: again", label)
			}
			require.Empty(t, cmp.Diff(once, w.dump(t)), "%s: twice is once", label)
			require.NoError(t, c.Close())
		}
	}
}

// testSweepFamily: children go with their parent, and one that must stay blocks it.
func testSweepFamily(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	sys := w.sys
	spoilt := map[string]func(*connectors.System){
		"kept": func(*connectors.System) {},
		"a minimum": func(s *connectors.System) {
			rule := deletes("placed_at")
			rule.Class.Period, rule.Class.Minimum = retention.Period{Years: 1000}, retention.Period{Years: 1000}
			s.Entity("orders").Rules = []connectors.Rule{rule}
		},
		"a minimum that is over": func(s *connectors.System) {
			rule := deletes("placed_at")
			rule.Class.Minimum = retention.Period{Days: 1}
			s.Entity("orders").Rules = []connectors.Rule{rule}
		},
		"a minimum of some": func(s *connectors.System) {
			rule := deletes("placed_at")
			rule.When = []dsr.Condition{{Field: "id", Values: []string{"5", "6"}}}
			rule.Class.Period, rule.Class.Minimum = retention.Period{Years: 1000}, retention.Period{Years: 1000}
			s.Entity("orders").Rules = []connectors.Rule{rule}
		},
		"masked, deep": func(s *connectors.System) {
			s.Entity("lines").Erase, s.Entity("lines").Masks = dsr.Mask, masks{"text": toNull}
		},
		"released": func(s *connectors.System) {
			s.Entity("orders").Erase, s.Entity("orders").Masks = dsr.Mask, masks{"account_id": toNull}
		},
	}
	for name, spoil := range spoilt {
		for _, chunk := range []int{0, 1} {
			w.Load(t, w.data)
			w.sys = private(sys)
			w.chunk = chunk
			spoil(w.sys)
			c := w.open(t)
			r := ruling{entity: "accounts", rule: deletes("created_at"), cut: at(cutAt)}
			label := fmt.Sprintf("%s, chunk %d", name, chunk)
			w.dueNow(t, c, r, w.data, label)
			w.swept(t, r, sweep(t, c, r), label)
			require.NoError(t, c.Close())
		}
	}
}

// testSweepHeld: what is held is counted and stays, with what refers to it or owns it.
func testSweepHeld(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	frozenPart := func(entity, field string, values ...string) []connectors.Frozen {
		return []connectors.Frozen{{Entity: entity, When: []dsr.Condition{{Field: field, Values: values}}}}
	}
	list := map[string]connectors.Holds{
		"subjects": {Subjects: connectors.Batch{subject("a", anna), subject("x", address(0))}},
		"all":      {Entities: []connectors.Frozen{{Entity: "accounts"}}},
		"some":     {Entities: frozenPart("accounts", "id", "1", "12", "19")},
		"both":     {Subjects: connectors.Batch{subject("x", address(5))}, Entities: frozenPart("accounts", "name", "Cleo", "Bert")},
	}
	if !b.Flat {
		list["a child"] = connectors.Holds{Entities: frozenPart("orders", "id", "1", "5")}
		list["a grandchild"] = connectors.Holds{Entities: frozenPart("lines", "id", "2")}
	}
	for name, held := range list {
		for _, action := range []retention.Action{retention.Delete, retention.Pseudonymise} {
			for _, chunk := range []int{0, 1} {
				w.Load(t, w.data)
				w.chunk = chunk
				c := w.open(t)
				r := ruling{entity: "accounts", rule: deletes("closed_at"), cut: at(cutAt), held: held}
				if r.rule.Action = action; action == retention.Pseudonymise {
					r.rule.Masks = masks{"email": toRandom, "name": constant("-")}
				}
				label := fmt.Sprintf("%s, %s, chunk %d", name, action, chunk)
				w.dueNow(t, c, r, w.data, label)
				w.swept(t, r, sweep(t, c, r), label)
				r.held = connectors.Holds{} // lifted
				sweep(t, c, r)
				require.Empty(t, diff(w.data.rows(), expectSweep(w.sys, w.data, r).after, w.dump(t)), "%s, lifted", label)
				require.NoError(t, c.Close())
			}
		}
	}
}

// testSweepHeldMeanwhile: a row that comes under a hold, or is due no more, after the sweep began stays as it is.
func testSweepHeldMeanwhile(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	w.chunk = 1
	for name, change := range map[string]Row{
		"held":     {"id": 21, "email": address(11), "name": "for the court", "status": "closed", "closed_at": "2019-04-01T00:00:00Z"},
		"due late": {"id": 20, "email": address(10), "name": "N", "status": "closed", "closed_at": "2029-04-01T00:00:00Z"},
	} {
		w.Load(t, w.data)
		c := w.open(t)
		r := ruling{entity: "accounts", rule: deletes("closed_at"), cut: at(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)), held: connectors.Holds{
			Entities: []connectors.Frozen{{Entity: "accounts", When: []dsr.Condition{{Field: "name", Values: []string{"for the court"}}}}},
		}}
		change = w.full("accounts", change)
		j := NewJournal()
		job := r.job(j)
		job.Deadline = time.Now().Add(-time.Second)
		_, err := sweeper(t, c).Sweep(context.Background(), job)
		require.ErrorIs(t, err, connectors.ErrYield, name)
		w.Put(t, "accounts", change)
		resweep(t, c, job, j)
		key := fmt.Sprint(change["id"])
		want := w.data.canonical(map[string][]Row{"accounts": {change}})["accounts"][key]
		require.Empty(t, cmp.Diff(want, w.dump(t)["accounts"][key]), name)
		require.NotContains(t, w.dump(t)["accounts"], "22", name)
	}
}

// testSweepUnreadStart: a row whose start is no time is not due, whatever it is; it stays, and the sweep says so once all
// else is done.
func testSweepUnreadStart(t *testing.T, b Backend) {
	w := setupArchive(t, b)
	starts := []string{"2020-13-45", "2019-05-05", "soon", "2999-01-01", "2019-05-05T10:00:00Z", "2021-02-29"}
	for i, row := range w.data.Table("accounts").Rows {
		row["status"] = starts[i%len(starts)]
	}
	for _, action := range []retention.Action{retention.Delete, retention.Pseudonymise} {
		for _, chunk := range []int{0, 1} {
			w.Load(t, w.data)
			w.chunk = chunk
			c := w.open(t)
			r := ruling{entity: "accounts", rule: deletes("status"), cut: at(cutAt)}
			if r.rule.Action = action; action == retention.Pseudonymise {
				r.rule.Masks = masks{"email": toRandom, "name": constant("-")}
			}
			label := fmt.Sprintf("%s, chunk %d", action, chunk)
			readable := r
			readable.rule.When = []dsr.Condition{{Field: "status", Values: []string{starts[1], starts[3], starts[4]}}}
			w.sameDue(t, expectSweep(w.sys, w.data, readable).due, w.count(t, c, r), label)
			j := NewJournal()
			for again := range 2 {
				_, err := sweeper(t, c).Sweep(context.Background(), r.job(j))
				namesNobody(t, label, err)
				require.True(t, connectors.IsPermanent(err), "%s, call %d: %v", label, again, err)
				require.Equal(t, connectors.CodeStart, dsr.CodeOf(err), label)
				w.swept(t, readable, j, label)
			}
			require.NoError(t, c.Close())
		}
	}
}
