package connectortest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// The tables of the random graphs are fixed, the map and the rows are drawn: which references are ties of ownership or
// of access, what erasure does, who refers to whom. References that the map does not declare are empty.
func graphTables() Dataset {
	node := func(name string, above ...string) Table {
		t := table(name, columns(integer("id"), optional(integer("p1")), optional(integer("p2")), optional(integer("up")), optional(words("body"))), "id").
			refers("p1", "people").refers("p2", "people")
		for _, to := range above {
			t = t.refers("up", to)
		}
		return t
	}
	return Dataset{Tables: []Table{
		table("people", columns(integer("id"), words("email"), optional(words("name"))), "id").unique("email"),
		node("a", "a"), node("b", "a"), node("c", "b"),
		table("links", columns(integer("id"), integer("person_id"), integer("a_id")), "id").refers("person_id", "people").refers("a_id", "a"),
	}}
}

func address(i int) string { return fmt.Sprintf("person%d.canary@example.com", i) }

func number(i int) dsr.Identifier {
	return dsr.Identifier{Name: "user_id", Value: dsr.NewSecret(fmt.Sprint(i)), Origin: dsr.Known}
}

// drawHolds draws people under a hold and entities of which some rows are.
func drawHolds(rt *rapid.T, sys *connectors.System, people connectors.Batch) connectors.Holds {
	var h connectors.Holds
	if !rapid.Bool().Draw(rt, "holds") {
		return h
	}
	for i, s := range people {
		if rapid.IntRange(0, 3).Draw(rt, fmt.Sprint("held", i+1)) == 0 {
			h.Subjects = append(h.Subjects, s)
		}
	}
	for i := range sys.Entities {
		name := sys.Entities[i].Name
		when := rapid.SampledFrom([][]dsr.Condition{
			nil, nil, nil,
			{},
			{{Field: "id", Values: []string{"1", "3"}}},
			{{Field: "id", Values: []string{"2"}}, {Field: "id", NotNull: true}},
			{{Field: "id", Null: true}},
		}).Draw(rt, name+".held")
		if when != nil {
			h.Entities = append(h.Entities, connectors.Frozen{Entity: name, When: when})
		}
	}
	return h
}

// drawGraph draws a map and rows for it. With numbered the number of a person is an identifier, by which an anchored row
// is found again.
func drawGraph(rt *rapid.T, numbered bool) (*connectors.System, Dataset) {
	people := connectors.Entity{
		Name: "people", Subject: true, Erase: dsr.Delete,
		Fields: []connectors.Field{{Name: "email", Identifier: "email"}},
		Anchor: masks{"email": toRandom, "name": toNull},
	}
	if numbered {
		people.Fields = append(people.Fields, connectors.Field{Name: "id", Identifier: "user_id"})
	}
	entities := []connectors.Entity{people}
	d := graphTables()
	n := rapid.IntRange(1, 5).Draw(rt, "people")
	for i := range n {
		d.add("people", Row{"id": i + 1, "email": address(i + 1), "name": "n"})
	}
	person := func(label string) any {
		if i := rapid.IntRange(0, n).Draw(rt, label); i > 0 {
			return i
		}
		return nil
	}
	linked := rapid.Bool().Draw(rt, "links")
	above := map[string]string{"a": "a", "b": "a", "c": "b"}
	sizes := map[string]int{}
	for _, name := range []string{"a", "b", "c"} {
		e := connectors.Entity{Name: name, Erase: dsr.Delete, OnOwnerErased: map[string]masks{}, NotPersonal: []string{}}
		tied := map[string]bool{}
		for _, col := range []string{"p1", "p2", "up"} {
			to := "people"
			if col == "up" {
				to = above[name]
			}
			if rapid.SampledFrom([]string{"owner", "owner", "none"}).Draw(rt, name+"."+col) == "owner" {
				e.OwnedBy = append(e.OwnedBy, owner(col, to))
				e.OnOwnerErased[col] = masks{col: toNull}
				tied[col] = true
			}
		}
		if len(e.OwnedBy) == 0 {
			e.OwnedBy = owners(owner("p1", "people"))
			e.OnOwnerErased = emptied("p1")
			tied["p1"] = true
		}
		if rapid.Bool().Draw(rt, name+".mentions") {
			e.Mentions = []string{"body"}
		} else {
			e.NotPersonal = []string{"body"}
		}
		// a held membership has a kept row released that would otherwise be kept whole
		if !tied["up"] && !(numbered && linked && name == "a") && rapid.IntRange(0, 3).Draw(rt, name+".keep") == 0 {
			e.Erase, e.Keep = dsr.Keep, accounting()
		}
		rows := rapid.IntRange(0, 6).Draw(rt, name+".rows")
		sizes[name] = rows
		for i := range rows {
			r := Row{"id": i + 1}
			for _, col := range []string{"p1", "p2"} {
				if tied[col] {
					r[col] = person(fmt.Sprint(name, i, col))
				}
			}
			if tied["up"] {
				limit := sizes[above[name]]
				if name == above[name] {
					limit = i // to an earlier row of its own
				}
				if up := rapid.IntRange(0, limit).Draw(rt, fmt.Sprint(name, i, "up")); up > 0 {
					r["up"] = up
				}
			}
			if m := rapid.IntRange(0, n).Draw(rt, fmt.Sprint(name, i, "mention")); m > 0 {
				r["body"] = "see " + address(m) + "."
			}
			d.add(name, r)
		}
		entities = append(entities, e)
	}
	links := connectors.Entity{Name: "links", Erase: dsr.Delete, OwnedBy: owners(owner("person_id", "people")), Owns: owners(owner("a_id", "a"))}
	if linked && sizes["a"] > 0 {
		for i := range rapid.IntRange(0, 6).Draw(rt, "links.rows") {
			d.add("links", Row{
				"id": i + 1, "person_id": rapid.IntRange(1, n).Draw(rt, fmt.Sprint("link", i, "p")),
				"a_id": rapid.IntRange(1, sizes["a"]).Draw(rt, fmt.Sprint("link", i, "a")),
			})
		}
	}
	entities = append(entities, links)
	return &connectors.System{Name: "graph", Identifiers: kinds(), Entities: byName(entities)}, d
}

// testRandomGraphs: for any ownership graph, subjects, chunk and interruption, the state and the tallies are those that
// the oracle computes.
func testRandomGraphs(t *testing.T, b Backend) {
	b.random(t, func(rt *rapid.T) {
		numbered := rapid.Bool().Draw(rt, "numbered")
		sys, d := drawGraph(rt, numbered)
		var people connectors.Batch
		for i := range d.Table("people").Rows {
			s := subject(fmt.Sprint("s", i+1), address(i+1))
			if numbered {
				s.Identifiers = append(s.Identifiers, number(i+1))
			}
			people = append(people, s)
		}
		batch := some(rt, people)
		// A held owner has a kept row let go of the others, which an erasure of all of them keeps whole.
		holdable := numbered && (len(batch) == 1 || !slices.ContainsFunc(sys.Entities, func(e connectors.Entity) bool { return e.Keep != nil }))
		eraseRandomly(t, rt, b, sys, d, batch, people, holdable)
	})
}

// drawMinima draws entities of which some rows are under a statutory minimum until their day, and gives every row one.
func drawMinima(rt *rapid.T, sys *connectors.System, d Dataset) (Dataset, bool) {
	if !rapid.Bool().Draw(rt, "minima") {
		return d, false
	}
	for i := range sys.Entities {
		e := &sys.Entities[i]
		switch rapid.IntRange(0, 5).Draw(rt, e.Name+".minimum") {
		case 0:
			e.Rules = []connectors.Rule{law()}
		case 1:
			e.Rules = []connectors.Rule{law(dsr.Condition{Field: "id", Values: []string{"1", "3"}})}
		case 2:
			e.Rules = []connectors.Rule{law(dsr.Condition{Field: "id", Values: []string{"2"}}), law(dsr.Condition{Field: "id", Values: []string{"4"}})}
		}
	}
	return since(d, "2029-01-15", "2020-02-29", "2030-05-01"), true
}

// random draws as often as the backend allows.
func (b Backend) random(t *testing.T, property func(rt *rapid.T)) {
	drawn, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if drawn++; b.Graphs > 0 && drawn > b.Graphs && !failed {
			return
		}
		passed := false
		defer func() { failed = failed || !passed }() // a failure is then made smaller, whatever the bound
		property(rt)
		passed = true
	})
}

// some are any of the people.
func some(rt *rapid.T, people connectors.Batch) connectors.Batch {
	var batch connectors.Batch
	for i, s := range people {
		if i == 0 || rapid.Bool().Draw(rt, fmt.Sprint("erase", i+1)) {
			batch = append(batch, s)
		}
	}
	return batch
}

// eraseRandomly erases a batch of the people in any way, and compares. With holdable some of the rows may be held.
func eraseRandomly(t *testing.T, rt *rapid.T, b Backend, sys *connectors.System, d Dataset, batch, people connectors.Batch, holdable bool) {
	today := lawDay(time.UTC)
	minima := false
	if holdable && !b.Flat {
		d, minima = drawMinima(rt, sys, d)
	}
	b.Load(t, d)
	chunk := rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(rt, "chunk")
	open := func() connectors.Connector {
		return b.Open(t, private(sys), connectors.Options{Pseudonyms: keyring{}, Now: func() time.Time { return today }}, chunk)
	}
	c := open()
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	check := func(what string, difference any) {
		if text := fmt.Sprint(difference); text != "[]" && text != "" {
			rt.Fatalf("%s:\n%s", what, text)
		}
	}
	for _, s := range batch { // each alone
		found, err := c.Locate(ctx, connectors.Query{Batch: connectors.Batch{s}})
		if err != nil {
			rt.Fatalf("Locate: %v", err)
		}
		got := map[string]int64{}
		for _, n := range found.Counts {
			got[n.Entity+" "+string(n.Method)] += n.Rows
		}
		check("Locate's counts", cmp.Diff(expectLocated(sys, d, s, today), got))
	}
	var held connectors.Holds
	if holdable {
		held = drawHolds(rt, sys, people)
	}
	want := expectOn(sys, d, batch, held, today)
	e, ok := c.(connectors.Eraser)
	if !ok {
		return
	}
	j := NewJournal()
	job := connectors.Job{Batch: batch, Held: held, Journal: j}
	if rapid.Bool().Draw(rt, "slices") {
		job.Deadline = time.Now().Add(-time.Second)
	}
	run := ctx
	if at := rapid.IntRange(0, 30).Draw(rt, "interrupted"); at > 0 {
		interrupted, cancel := context.WithCancel(ctx)
		defer cancel()
		run = interrupted
		j.AtStep(func(i int, _ string) {
			if i == at {
				cancel()
			}
		})
	}
	for i := 0; ; i++ {
		err := e.Erase(run, job)
		check("dangling references", d.dangling(d.canonical(b.Dump(t))))
		if err == nil {
			break
		}
		if connectors.IsPermanent(err) || i > 200 {
			rt.Fatalf("Erase: %v", err)
		}
		if run.Err() != nil { // interrupted: another worker takes over
			_ = c.Close()
			c = open()
			e, run = c.(connectors.Eraser), ctx
			j.Heal()
		}
	}
	got := d.canonical(b.Dump(t))
	check("state", diff(d.rows(), want.after, got))
	tallies := tallied(j.Tallies())
	if len(batch) > 1 && chunk > 0 {
		// subjects that are worked one after the other may each release the same row
		for at, n := range releases(sys, d, batch) {
			if got := tallies[at]; got >= want.counts[at] && got <= n {
				delete(tallies, at)
				delete(want.counts, at)
			}
		}
	}
	check("tallies", cmp.Diff(want.counts, tallies))
	left, err := c.Verify(ctx, connectors.Search{Batch: batch, Held: held, Keys: j})
	if err != nil {
		rt.Fatalf("Verify: %v", err)
	}
	w := &world{Backend: b, sys: sys, data: d}
	check("residue", w.heldBack(t, batch, left, dsr.CauseHold, dsr.CauseMinimum))
	for _, r := range left {
		if r.Waits.Cause == dsr.CauseHold && held.Empty() || r.Waits.Cause == dsr.CauseMinimum && (!minima || r.Waits.Ends == nil) {
			rt.Fatalf("%v waits, and nothing like that is there", r)
		}
	}
	if held.Empty() && !minima {
		return
	}
	j = NewJournal() // the holds are lifted, and the minima have ended
	today = today.AddDate(10, 0, 0)
	_ = c.Close()
	c = open()
	e = c.(connectors.Eraser)
	if err := e.Erase(ctx, connectors.Job{Batch: batch, Journal: j}); err != nil {
		rt.Fatalf("Erase after the holds: %v", err)
	}
	check("state after the holds", diff(d.rows(), expect(sys, d, batch).after, d.canonical(b.Dump(t))))
	if left, err = c.Verify(ctx, connectors.Search{Batch: batch, Keys: j}); err != nil {
		rt.Fatalf("Verify: %v", err)
	}
	check("residue after the holds", left)
}

// releases are how many rows would be released for each subject alone, together.
func releases(sys *connectors.System, d Dataset, b connectors.Batch) map[string]int64 {
	out := map[string]int64{}
	for _, s := range b {
		for at, n := range expect(sys, d, connectors.Batch{s}).counts {
			if strings.HasSuffix(at, " "+string(dsr.Release)) {
				out[at] += n
			}
		}
	}
	return out
}
