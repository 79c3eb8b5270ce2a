package connectortest

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// contracts are kept and pacts go, and both are of two customers who are anchored for the sake of what refers to them. A
// customer's own number is an identifier, by which they are found when they are anchored.
func contracts() (*connectors.System, Dataset) {
	pair := func(name string) connectors.Entity {
		return connectors.Entity{Name: name, Erase: dsr.Delete, OwnedBy: owners(owner("first_id", "customers"), owner("second_id", "customers"))}
	}
	kept, pacts := pair("contracts"), pair("pacts")
	kept.Erase, kept.Keep, kept.Masks = dsr.Keep, accounting(), masks{"text": toRedact}
	pacts.NotPersonal = []string{"text"}
	pactTable := func(name string) Table {
		return table(name, columns(integer("id"), integer("first_id"), integer("second_id"), optional(words("text"))), "id").
			refers("first_id", "customers").refers("second_id", "customers")
	}
	d := Dataset{Tables: []Table{customersTable(), pactTable("contracts"), pactTable("pacts")}}
	d.add("customers",
		Row{"id": 1001, "email": anna, "name": "Anna", "phone": "+46701740605"}, Row{"id": 1002, "email": bert, "name": "Bert"},
		Row{"id": 1003, "email": cleo, "name": "Cleo"})
	d.add("contracts", Row{"id": 1, "first_id": 1001, "second_id": 1002, "text": "x"}, Row{"id": 2, "first_id": 1003, "second_id": 1003, "text": "y"})
	d.add("pacts", Row{"id": 1, "first_id": 1001, "second_id": 1002}, Row{"id": 2, "first_id": 1002, "second_id": 1003}, Row{"id": 3, "first_id": 1001, "second_id": 1001})
	return &connectors.System{Name: "contracts", Identifiers: kinds(), Entities: byName([]connectors.Entity{customers(), kept, pacts})}, d
}

// testAnchoredTogether: of two owners of a kept row who are erased together each is anchored, and nothing is left to do.
func testAnchoredTogether(t *testing.T, b Backend) {
	sys, d := contracts()
	w := setup(t, b, sys, d)
	for _, chunk := range []int{0, 1} {
		w.Load(t, d)
		w.chunk = chunk
		c := w.open(t)
		batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
		j := erase(t, c, batch)
		w.outcome(t, batch, j)
		noResidue(t, c, batch, j)
		require.Equal(t, "Former customer", w.dump(t)["customers"]["1001"]["name"])
		require.NotContains(t, w.dump(t)["pacts"], "1")
		again := erase(t, c, batch) // a round for what another system had left
		for _, tally := range again.Tallies() {
			require.Contains(t, []dsr.Method{dsr.Keep, dsr.Release}, tally.Method, "twice is once")
		}
		noResidue(t, c, batch, again)
	}
}

// testAnchoredInTurn: an owner who was erased and only anchored owns nothing any more. With the last living one a shared
// row goes, whoever was first.
func testAnchoredInTurn(t *testing.T, b Backend) {
	sys, d := contracts()
	w := setup(t, b, sys, d)
	for _, order := range [][]string{{anna, bert, cleo}, {cleo, bert, anna}, {bert, anna, cleo}} {
		w.Load(t, d)
		c := w.open(t)
		for _, email := range order {
			w.data = d.with(w.dump(t))
			batch := discover(t, c, connectors.Batch{subject("s", email)})
			j := erase(t, c, batch)
			w.outcome(t, batch, j)
			left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
			require.NoError(t, err)
			require.Empty(t, left)
		}
		require.Empty(t, w.dump(t)["pacts"], "all their owners are erased: %v", order)
		require.Len(t, w.dump(t)["contracts"], 2)
		w.data = d
	}
}

// testAnchoredHeld: what a hold kept of a person who was anchored goes when it is lifted, though the address by which they
// were found stands nowhere any more: the keys that were spooled lead to it.
func testAnchoredHeld(t *testing.T, b Backend) {
	sys, d := contracts()
	people := sys.Entity("customers")
	people.Teaches = false
	people.Fields = slices.DeleteFunc(slices.Clone(people.Fields), func(f connectors.Field) bool { return f.Identifier == "user_id" })
	w := setup(t, b, sys, d)
	for name, held := range map[string]connectors.Holds{
		"a row that goes":  {Entities: []connectors.Frozen{{Entity: "pacts", When: []dsr.Condition{{Field: "id", Values: []string{"1", "3"}}}}}},
		"a row that stays": {Entities: []connectors.Frozen{{Entity: "contracts"}}},
		"somebody else":    {Subjects: connectors.Batch{subject("h", bert)}},
	} {
		for _, chunk := range []int{0, 1} {
			w.Load(t, d)
			w.chunk = chunk
			c := w.open(t)
			batch := connectors.Batch{subject("a", anna), subject("c", cleo)}
			j := NewJournal()
			require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Held: held, Journal: j}), name)
			w.stateHeld(t, batch, held)
			left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Held: held, Keys: j})
			require.NoError(t, err)
			// what a living owner shares with her loses nothing when she goes, so nothing of it waits
			require.Equal(t, len(held.Entities) > 0, len(left) > 0, "%s: the keys lead to what waits", name)
			for _, r := range left {
				require.NotNil(t, r.Waits, "%s: %v", name, r)
			}
			require.Equal(t, "Former customer", w.dump(t)["customers"]["1001"]["name"], name)
			next := j.Next()
			require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: next}), name)
			w.state(t, batch)
			noResidue(t, c, batch, next)
			require.NoError(t, c.Close())
		}
	}
}
