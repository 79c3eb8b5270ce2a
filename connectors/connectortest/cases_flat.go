package connectortest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// testSharedRecords: a record that names two people goes with the first of them, whichever that is; what mentions two
// loses one mention at a time.
func testSharedRecords(t *testing.T, b Backend) {
	w := setupSample(t, b)
	var people connectors.Batch
	for _, order := range [][]string{{anna, bert}, {bert, anna}} {
		w.Load(t, w.data)
		c := w.open(t)
		people = discover(t, c, connectors.Batch{subject("1", order[0]), subject("2", order[1])})
		j := erase(t, c, people[:1])
		w.outcome(t, people[:1], j)
		require.NotContains(t, w.dump(t)["messages"], "2", "it names the first")
		j = erase(t, c, people[1:])
		noResidue(t, c, people, j)
		require.Empty(t, diff(w.data.rows(), expect(w.sys, w.data, people).after, w.dump(t)))
	}
}

// testExpire: what only expires is counted as such with its reason, is left alone, and waits; nothing of it is plain
// residue.
func testExpire(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	ctx := context.Background()
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("e", evan)})
	want := expect(w.sys, w.data, batch).counts
	found, err := c.Locate(ctx, connectors.Query{Batch: batch})
	require.NoError(t, err)
	got := map[string]int64{}
	waits := func(what string, e *dsr.Exception) {
		require.NotNil(t, e, "%s: nobody is told why it stays", what)
		require.Equal(t, dsr.CauseRetention, e.Cause, what)
	}
	for _, n := range found.Counts {
		got[n.Entity+" "+string(n.Method)] += n.Rows
		waits(n.Entity, n.Exception)
	}
	require.Empty(t, cmp.Diff(want, got))
	j := NewJournal()
	if e, ok := c.(connectors.Eraser); ok {
		require.NoError(t, e.Erase(ctx, connectors.Job{Batch: batch, Journal: j}))
	}
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "what only expires is left alone")
	left, err := c.Verify(ctx, connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, r := range left {
		require.Equal(t, "a", r.Subject)
		require.Equal(t, w.sys.Name, r.System)
		require.Positive(t, r.Count)
		waits(r.Entity, r.Waits)
		seen[r.Entity+" "+string(dsr.Expire)] = true
	}
	for at := range want {
		require.True(t, seen[at], "%s is there, and Verify does not say so", at)
	}
}

// testDamaged: a content that cannot be read to its end is a permanent fault of everybody whose it may be; it names
// nobody, and the content is left as it was.
func testDamaged(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	intact := w.Damage(t, "visits", w.full("visits", Row{"id": 9, "device_token": "tok-anna-phone"}))
	fails := func(name string, err error) {
		namesNobody(t, name, err)
		require.True(t, connectors.IsPermanent(err), "%s: trying again does not mend it: %v", name, err)
		require.True(t, intact(t), name)
	}
	_, err := c.Locate(context.Background(), connectors.Query{Batch: batch})
	fails("Locate", err)
	if e, ok := c.(connectors.Eraser); ok {
		err := e.Erase(context.Background(), connectors.Job{Batch: batch, Journal: NewJournal()})
		fails("Erase", err)
		var one *connectors.SubjectError
		require.ErrorAs(t, err, &one)
		require.Equal(t, "visits", one.Entity)
	}
	_, err = c.Verify(context.Background(), connectors.Search{Batch: batch, Keys: NewJournal()})
	fails("Verify", err)
}

// testFlatErrorsNameNobody provokes errors where nothing can be wrong with ties.
func testFlatErrorsNameNobody(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	both := discover(t, c, connectors.Batch{subject("a", anna), subject("d", dora)})
	err := eraser(t, c).Erase(context.Background(), connectors.Job{
		Batch: both, Journal: NewJournal(), Limits: connectors.Limits{RowsPerRequest: 2},
	})
	namesNobody(t, "limit", err)
	var one *connectors.SubjectError
	require.ErrorAs(t, err, &one)
	require.Equal(t, "a", one.Subject)
	require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err))
	require.NotContains(t, w.dump(t)["customers"], "1004", "the other subject of the batch goes on")
	require.Contains(t, w.dump(t)["customers"], "1001")

	w.Load(t, w.data)
	c = w.open(t)
	j := NewJournal()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	j.AtStep(func(n int, _ string) {
		if n == 2 {
			cancel()
		}
	})
	err = eraser(t, c).Erase(ctx, connectors.Job{Batch: both, Journal: j})
	namesNobody(t, "cancelled", err)
	require.False(t, connectors.IsPermanent(err))
	j.Heal()
	j.OnSave(func(int) error { return errors.New("no journal") }, nil)
	namesNobody(t, "journal", eraser(t, w.open(t)).Erase(context.Background(), connectors.Job{Batch: both, Journal: j}))
}

// drawLake draws a map without ties and records for it: what erasure does to each kind, whom each record names, in
// which of its fields, and whom its text mentions.
func drawLake(rt *rapid.T, people int) (*connectors.System, Dataset) {
	var d Dataset
	var entities []connectors.Entity
	somebody := func(label string) int { return rapid.IntRange(0, people).Draw(rt, label) }
	for _, name := range []string{"a", "b", "c"} {
		e := connectors.Entity{Name: name, Erase: dsr.Delete, Fields: []connectors.Field{
			{Name: "email", Identifier: "email"},
			{Name: "note", Category: "user.content"},
			{Name: "to", Identifier: "email"},
			{Name: "who.id", Identifier: "user_id"},
		}}
		switch rapid.SampledFrom([]dsr.Method{dsr.Delete, dsr.Mask, dsr.Keep}).Draw(rt, name+".erase") {
		case dsr.Mask:
			e.Erase, e.Masks = dsr.Mask, masks{"email": toNull, "who.id": toNull, "to": toRedact, "note": toRedact}
		case dsr.Keep:
			e.Erase, e.Keep, e.Masks = dsr.Keep, accounting(), masks{"note": mask.Spec{Kind: mask.Constant, Value: "withheld"}}
		}
		if rapid.Bool().Draw(rt, name+".mentions") {
			e.Mentions = []string{"body"}
		} else {
			e.NotPersonal = []string{"body"}
		}
		entities = append(entities, e)
		d.Tables = append(d.Tables, table(name, columns(integer("id"), optional(words("email")), words("note"),
			optional(document("to")), optional(integer("who.id")), optional(words("body"))), "id"))
		for i := range rapid.IntRange(0, 9).Draw(rt, name+".rows") {
			r := Row{"id": i + 1, "note": fmt.Sprint("note ", i)}
			at := func(col string) string { return fmt.Sprint(name, i, col) }
			if n := somebody(at("email")); n > 0 {
				r["email"] = rapid.SampledFrom([]string{address(n), "X" + address(n), "Person" + address(n)[6:]}).Draw(rt, at("spelling"))
			}
			if n := somebody(at("id")); n > 0 {
				r["who.id"] = n
			}
			switch n := somebody(at("to")); {
			case n > 1:
				r["to"] = fmt.Sprintf(`["none@example.com",%q,%q]`, address(n), address(n-1))
			case n == 1:
				r["to"] = `[]`
			}
			if n := somebody(at("body")); n > 0 {
				r["body"] = "see " + address(n) + "\t\"" + address(1) + "\", é"
			}
			d.add(name, r)
		}
	}
	return &connectors.System{Name: "random", Identifiers: kinds(), Entities: entities}, d
}

// testRandomRecords: for any map without ties, records, subjects, chunk and interruption, the state and the tallies are
// those that the oracle computes.
func testRandomRecords(t *testing.T, b Backend) {
	b.random(t, func(rt *rapid.T) {
		var people connectors.Batch
		for i := range rapid.IntRange(1, 4).Draw(rt, "people") {
			s := subject(fmt.Sprint("s", i+1), address(i+1))
			if rapid.Bool().Draw(rt, fmt.Sprint("id known", i+1)) {
				s.Identifiers = append(s.Identifiers, number(i+1))
			}
			people = append(people, s)
		}
		sys, d := drawLake(rt, len(people))
		eraseRandomly(t, rt, b, sys, d, some(rt, people), people, true)
	})
}
