package sqldb_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// tables makes rows out of their references, by column, with ids from 1.
func tables(rows map[string][]map[string]int) map[string]map[int]*genRow {
	out := map[string]map[int]*genRow{}
	for name, list := range rows {
		out[name] = map[int]*genRow{}
		for i, refs := range list {
			out[name][i+1] = &genRow{refs: refs, body: "text"}
		}
	}
	return out
}

// Two subjects in transactions of their own: what the second one's erases is not what the first one's did.
func TestSharedRowsAreWorkedByTheTransactionThatCan(t *testing.T) {
	t.Parallel()
	persons := []map[string]int{{}, {}, {}, {}, {}}
	for _, c := range []struct {
		name  string
		world world
	}{
		{
			name: "a membership that the first subject's rows lead to is the second subject's",
			world: world{
				tables: []genTable{
					{name: "t0", owns: -1},
					{name: "t1", owns: -1, refs: []genRef{{col: "r0", to: 0}, {col: "r1", to: 0}}},
					{name: "t2", owns: 1, refs: []genRef{{col: "r0", to: 0}}},
					{name: "t3", owns: -1, refs: []genRef{{col: "r0", to: 0}, {col: "r1", to: 2}}},
				},
				rows: tables(map[string][]map[string]int{
					"t0": persons, "t1": {{"r0": 1, "r1": 3}}, "t2": {{"r0": 2, "own": 1}}, "t3": {{"r0": 3, "r1": 1}},
				}),
			},
		},
		{
			name: "a row of the first subject goes with the last membership, the second subject's",
			world: world{
				tables: []genTable{
					{name: "t0", owns: -1},
					{name: "t1", owns: -1, refs: []genRef{{col: "r0", to: 0}}},
					{name: "t2", owns: 1, refs: []genRef{{col: "r0", to: 0}}},
					{name: "t3", owns: 2, refs: []genRef{{col: "r0", to: 0}}},
					{name: "t4", owns: -1, refs: []genRef{{col: "r0", to: 0}, {col: "r1", to: 1}}},
				},
				rows: tables(map[string][]map[string]int{
					"t0": persons, "t1": {{"r0": 1}}, "t2": {{"r0": 2, "own": 1}}, "t3": {}, "t4": {{"r0": 3, "r1": 1}},
				}),
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				w, erased := c.world, []int{1, 2}
				want, _ := w.expected(erased)
				for _, rows := range []int{1, 1000} {
					w.create(f)
					db := w.open(f)
					db.Split(rows, 1)
					f.erase(db, batchOf(erased)...)
					require.NoError(t, db.Close())
					if diff := cmp.Diff(want, w.actual(f)); diff != "" {
						t.Fatalf("transactions of %d rows (-want +got):\n%s", rows, diff)
					}
				}
			})
		})
	}
}
