package connectortest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// eraseHeld carries an erasure out to its end while something is held, and looks at what Verify says.
func (w *world) eraseHeld(t *testing.T, c connectors.Connector, batch connectors.Batch, held connectors.Holds) *Journal {
	t.Helper()
	j := NewJournal()
	require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Held: held, Journal: j}))
	w.stateHeld(t, batch, held)
	left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Held: held, Keys: j})
	require.NoError(t, err)
	require.Empty(t, w.heldBack(t, batch, left, dsr.CauseHold))
	return j
}

// heldBack compares what Verify found with what an erasure would still do if nothing were held and no minimum were left: all
// of that waits for one of the causes, nothing of it is plain residue, and nothing else waits. It returns one line a
// difference.
func (w *world) heldBack(t *testing.T, batch connectors.Batch, left []dsr.Residue, causes ...dsr.Cause) []string {
	t.Helper()
	var out []string
	now := w.data.with(w.dump(t))
	waiting := map[string]bool{}
	for _, r := range left {
		switch {
		case r.Waits == nil:
			out = append(out, fmt.Sprintf("plain residue: %v", r))
		case !slices.Contains(causes, r.Waits.Cause) || r.Count < 1 || r.System != w.sys.Name:
			out = append(out, fmt.Sprintf("%v waits for %q", r, r.Waits.Cause))
		}
		waiting[r.Subject+" "+r.Entity] = true
	}
	for _, s := range batch {
		undone := expectAmong(w.sys, now, s, batch)
		for i := range w.sys.Entities {
			e := &w.sys.Entities[i]
			there := now.rows()[e.From()]
			must := slices.ContainsFunc(slices.Collect(maps.Keys(there)), func(k string) bool {
				return visibly(there[k], undone.after[e.From()][k])
			})
			may := slices.ContainsFunc(slices.Collect(maps.Keys(undone.counts)), func(at string) bool {
				return strings.HasPrefix(at, e.Name+" ")
			})
			switch is := waiting[s.Ref+" "+e.Name]; {
			case must && !is:
				out = append(out, s.Ref+" "+e.Name+": something waits, and Verify does not say so")
			case is && !may:
				out = append(out, s.Ref+" "+e.Name+": nothing waits, and Verify says so")
			}
		}
	}
	slices.Sort(out)
	return out
}

// visibly reports whether a row would be gone or would look different; that a random value is one nobody can see.
func visibly(is, want map[string]string) bool {
	for c, v := range is {
		if want[c] != v && want[c] != fresh {
			return true
		}
	}
	return false
}

// lifted erases again when nothing is held any more: the state is that of an erasure that nothing ever stopped.
func (w *world) lifted(t *testing.T, c connectors.Connector, batch connectors.Batch) {
	t.Helper()
	j := erase(t, c, batch)
	w.state(t, batch)
	noResidue(t, c, batch, j)
}

// testHeld: rows of a subject under a hold neither go nor change, and wait.
func testHeld(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	held := discover(t, c, connectors.Batch{subject("h", bert)})
	w.eraseHeld(t, c, batch, connectors.Holds{Subjects: held})
	rows := w.dump(t)
	require.Contains(t, rows["messages"], "1", "it is the held person's too")
	if !b.Flat {
		require.Equal(t, "1001", rows["messages"]["1"]["sender_id"], "the held owner's row does not change")
	}
	require.NotContains(t, rows["devices"], "1")
	w.lifted(t, c, batch)

	// the held person's own erasure takes only mentions out of what is nobody's
	w.Load(t, w.data)
	c = w.open(t)
	w.eraseHeld(t, c, held, connectors.Holds{Subjects: held})
	require.Equal(t, w.data.rows()["customers"], w.dump(t)["customers"])
	w.lifted(t, c, held)
}

// testHeldEntity: a hold on an entity, or on the part of one that conditions name.
func testHeldEntity(t *testing.T, b Backend) {
	w := setupSample(t, b)
	when := func(c ...dsr.Condition) []dsr.Condition { return c }
	list := map[string]connectors.Frozen{
		"whole": {Entity: "visits"},
		"value": {Entity: "devices", When: when(dsr.Condition{Field: "token", Values: []string{"tok-anna-phone", "another"}})},
		"other": {Entity: "devices", When: when(dsr.Condition{Field: "token", Values: []string{"tok-bert-phone"}})},
		"null":  {Entity: "orders", When: when(dsr.Condition{Field: "note", Null: true})},
		"some":  {Entity: "orders", When: when(dsr.Condition{Field: "note", NotNull: true})},
		"both": {Entity: "orders", When: when(dsr.Condition{Field: "note", NotNull: true}, dsr.Condition{
			Field: "total", Values: []string{"200", "300"},
		})},
		"text": {Entity: "articles", When: when(dsr.Condition{Field: "slug", Values: []string{"a"}})},
	}
	for name, f := range list {
		t.Run(name, func(t *testing.T) {
			w.Load(t, w.data)
			c := w.open(t)
			batch := discover(t, c, connectors.Batch{subject("a", anna)})
			w.eraseHeld(t, c, batch, connectors.Holds{Entities: []connectors.Frozen{f}})
			w.lifted(t, c, batch)
		})
	}
}

// testHeldKeeps: what a held row refers to stays with it where it cannot be anchored; the rest goes, and it is no fault.
func testHeldKeeps(t *testing.T, b Backend) {
	sys := shop()
	sys.Entity("customers").Anchor = nil
	sys.Entities = slices.DeleteFunc(sys.Entities, func(e connectors.Entity) bool {
		return e.Name == "orders" || e.Name == "order_lines" || e.Name == "comments"
	})
	d := shopData()
	d.Tables = slices.DeleteFunc(d.Tables, func(t Table) bool {
		return t.Name == "orders" || t.Name == "order_lines" || t.Name == "comments"
	})
	w := setup(t, b, sys, d)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("d", dora)})
	w.eraseHeld(t, c, batch, connectors.Holds{Entities: []connectors.Frozen{
		{Entity: "messages", When: []dsr.Condition{{Field: "id", Values: []string{"3"}}}},
	}})
	rows := w.dump(t)
	require.Equal(t, anna, rows["customers"]["1001"]["email"], "the held message refers to it")
	require.NotContains(t, rows["devices"], "1")
	require.NotContains(t, rows["customers"], "1004")
	w.lifted(t, c, batch)
}

// testHeldMeanwhile: a row that comes under a hold after it was decided that it goes stays as it is.
func testHeldMeanwhile(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 1
	change := Row{"id": 5, "sender_id": 1001, "body": "for the court"}
	if b.Flat {
		change = Row{"id": 3, "sender.email": anna, "body": "for the court"}
	}
	change = w.full("messages", change)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	held := connectors.Holds{Entities: []connectors.Frozen{
		{Entity: "messages", When: []dsr.Condition{{Field: "body", Values: []string{"for the court"}}}},
	}}
	j := NewJournal()
	j.AtStep(func(n int, _ string) {
		if n == 1 {
			w.Put(t, "messages", change)
		}
	})
	var err error
	for range 10 { // a content that changed meanwhile may be a fault that goes away
		if err = eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Held: held, Journal: j}); err == nil {
			break
		}
		require.False(t, connectors.IsPermanent(err), "%v", err)
	}
	require.NoError(t, err)
	key := fmt.Sprint(change["id"])
	require.Equal(t, w.data.canonical(map[string][]Row{"messages": {change}})["messages"][key], w.dump(t)["messages"][key])
	left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Held: held, Keys: j})
	require.NoError(t, err)
	require.Empty(t, w.heldBack(t, batch, left, dsr.CauseHold))
}

// testHeldExpires: what only expires and is held waits for the hold, whoever set it; the rest waits for its date.
func testHeldExpires(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	for name, h := range map[string]struct {
		held connectors.Holds
		all  []string // "subject entity" of which everything is held
	}{
		"subject": {connectors.Holds{Subjects: discover(t, c, connectors.Batch{subject("h", bert)})}, []string{"b customers", "b devices", "b visits"}},
		"entity":  {connectors.Holds{Entities: []connectors.Frozen{{Entity: "devices"}}}, []string{"a devices", "b devices"}},
		"part": {connectors.Holds{Entities: []connectors.Frozen{{Entity: "devices", When: []dsr.Condition{
			{Field: "token", Values: []string{"tok-bert-phone"}},
		}}}}, []string{"b devices"}},
	} {
		j := NewJournal()
		if e, ok := c.(connectors.Eraser); ok {
			require.NoError(t, e.Erase(context.Background(), connectors.Job{Batch: batch, Held: h.held, Journal: j}), name)
		}
		require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), name)
		for _, at := range h.all {
			for _, tally := range j.Tallies() {
				require.NotEqual(t, at, tally.Subject+" "+tally.Entity, "%s: what is held is not called expiring", name)
			}
		}
		left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Held: h.held, Keys: j})
		require.NoError(t, err, name)
		causes := map[string]map[dsr.Cause]bool{}
		for _, r := range left {
			require.NotNil(t, r.Waits, "%s: %v", name, r)
			at := r.Subject + " " + r.Entity
			if causes[at] == nil {
				causes[at] = map[dsr.Cause]bool{}
			}
			causes[at][r.Waits.Cause] = true
		}
		for _, at := range h.all {
			require.Equal(t, map[dsr.Cause]bool{dsr.CauseHold: true}, causes[at], "%s: %s", name, at)
		}
		if name == "part" {
			require.Equal(t, map[dsr.Cause]bool{dsr.CauseRetention: true}, causes["a devices"], "the rest of the entity is not held")
		}
	}
}
