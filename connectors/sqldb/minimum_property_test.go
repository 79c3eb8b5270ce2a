package sqldb_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// genLaw is the minimum of a generated table: of young rows it ends on 5 May 2031.
func genLaw(name string) []connectors.Rule {
	return []connectors.Rule{{Rule: retention.Rule{
		Name: name, Action: retention.Delete, Start: retention.StartingPoint{Kind: retention.StartField, Field: "since"},
		Class: retention.Class{Name: "law", Period: retention.Period{Years: 4}, Minimum: retention.Period{Years: 2}, Start: retention.Collection},
	}}}
}

// drawMinima puts rows of some tables under a statutory minimum. A membership that nobody has is not: it would keep what it
// owns from its other owners' erasures for good, as it would under a hold.
func (w *world) drawMinima(t *rapid.T) {
	for i := range w.tables {
		tb := &w.tables[i]
		if tb.keep || rapid.IntRange(0, 2).Draw(t, "law") > 0 {
			continue
		}
		tb.law = true
		for id := 1; id <= len(w.rows[tb.name]); id++ {
			row := w.rows[tb.name][id]
			row.young = rapid.Bool().Draw(t, "young") && (tb.owns < 0 || slices.ContainsFunc(tb.refs, func(r genRef) bool {
				return !r.accessor && w.rows[w.tables[r.to].name][row.refs[r.col]] != nil
			}))
		}
	}
}

// grown is the world when every minimum has ended.
func (w *world) grown() *world {
	out := *w
	out.rows = map[string]map[int]*genRow{}
	for name, rows := range w.rows {
		out.rows[name] = map[int]*genRow{}
		for id, row := range rows {
			old := *row
			old.young = false
			out.rows[name][id] = &old
		}
	}
	return &out
}

// Both sides of a statutory minimum: nothing under one that has not ended goes or changes, all else does at once, and the
// rest when it has ended.
func TestErasureLeavesWhatALawWants(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		checks(t, f, func(rt *rapid.T, f *fixture) {
			w := genWorld(rt, rapid.Bool().Draw(rt, "keeps"))
			erased := drawErased(rt)
			w.drawMinima(rt)
			w.log(rt, erased)
			w.create(f)
			defer w.drop(f)
			now := dateOf("2030-06-01")
			db := w.openAt(f, func() time.Time { return now })
			defer db.Close()
			rows, subjects := rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "rows"), rapid.IntRange(1, 3).Draw(rt, "subjects")
			whole := rows == 1000 && subjects >= len(erased)
			if !w.keeps || whole {
				db.Split(rows, subjects)
			} else {
				whole = true
			}
			want, tallies := w.expected(erased)
			j := &journal{}
			require.NoError(f.t, db.Erase(context.Background(), connectors.Job{Batch: batchOf(erased), Journal: j}))
			if diff := cmp.Diff(want, w.actual(f)); diff != "" {
				rt.Fatalf("rows differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tallies, j.sum()); diff != "" && whole {
				rt.Fatalf("tallies differ (-want +got):\n%s", diff)
			}
			residue, err := db.Verify(context.Background(), connectors.Search{Batch: batchOf(erased), Keys: j})
			require.NoError(f.t, err)
			for _, r := range residue {
				require.NotNil(f.t, r.Waits, r)
				require.NotNil(f.t, r.Waits.Ends, r)
				require.Equal(f.t, dsr.Exception{Cause: dsr.CauseMinimum, Ends: r.Waits.Ends}, *r.Waits)
				require.True(f.t, dateOf("2031-05-05").Equal(*r.Waits.Ends), r)
			}
			now = dateOf("2031-05-05")
			want, _ = w.grown().expected(erased)
			waited := len(residue) > 0
			require.Equal(f.t, cmp.Diff(want, w.actual(f)) != "", waited, "what waits is what is left to do")
			j = j2(j)
			require.NoError(f.t, db.Erase(context.Background(), connectors.Job{Batch: batchOf(erased), Journal: j}))
			if diff := cmp.Diff(want, w.actual(f)); diff != "" {
				rt.Fatalf("rows differ when it has ended (-want +got):\n%s", diff)
			}
			residue, err = db.Verify(context.Background(), connectors.Search{Batch: batchOf(erased), Keys: j})
			require.NoError(f.t, err)
			require.Empty(f.t, residue)
		})
	})
}
