package connectortest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// full completes a row of a table with NULLs, and whole numbers as the suite has them.
func (w *world) full(table string, r Row) Row {
	d := Dataset{Tables: []Table{{EntitySchema: w.data.Table(table).EntitySchema}}}
	return d.add(table, r).Tables[0].Rows[0]
}

// comeback is one thing that is there again after an erasure.
type comeback struct {
	name, table, field string
	row                Row
}

// testSaboteur puts one thing back after an erasure; Verify finds each.
func testSaboteur(t *testing.T, b Backend) {
	w := setupSample(t, b)
	list := []comeback{
		{"her row", "customers", "", Row{"id": 1001, "email": anna, "name": "Anna Canary"}},
		{"another case", "customers", "email", Row{"id": 2001, "email": strings.ToUpper(anna), "name": "A"}},
		{"another row with her phone", "customers", "phone", Row{"id": 2001, "email": "new@example.com", "name": "A", "phone": "0046 70-174 06 05"}},
		{"the kept row's mask", "orders", "note", Row{"id": 1, "customer_id": 1001, "total": 100, "note": "leave it with the neighbour"}},
		{"her device's visit", "visits", "device_token", Row{"id": 9, "device_token": "tok-anna-phone"}},
		{"a mention in another case", "articles", "body", Row{"id": 2, "slug": "b", "body": "By <Anna.Canary@EXAMPLE.com>."}},
		{"a mention in a document", "articles", "meta", Row{"id": 2, "slug": "b", "body": "x", "meta": `{"a":{"b":["` + anna + `"]}}`}},
	}
	if b.Flat {
		list = append(list,
			comeback{"a nested field", "messages", "sender.id", Row{"id": 9, "sender.id": 1001, "body": "x"}},
			comeback{"a repeated field", "messages", "recipients", Row{"id": 9, "recipients": `["new@example.com","` + strings.ToUpper(anna) + `"]`, "body": "x"}},
			comeback{"a masked record", "audit", "actor.email", Row{"id": 1, "actor.email": anna, "city": "-"}},
			comeback{"a mention in a masked record", "audit", "text", Row{"id": 9, "city": "Umeå", "text": "call +46 (0)70 174 06 05"}},
		)
	} else {
		list = append(list,
			comeback{"a mention in another's message", "messages", "body", Row{"id": 9, "sender_id": 1002, "recipient_id": 1003, "body": "call +46 (0)70 174 06 05"}},
			comeback{"a row that she owns", "devices", "", Row{"id": 9, "customer_id": 1001, "token": "t"}},
			comeback{"the reference of a released row", "messages", "", Row{"id": 1, "sender_id": 1001, "recipient_id": 1002, "body": "x"}},
		)
	}
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) { w.sabotage(t, c, w.Put) })
	}
	for place, put := range w.Sabotage {
		t.Run(place, func(t *testing.T) {
			w.sabotage(t, comeback{place, "visits", "", Row{"id": 9, "device_token": "tok-anna-phone"}}, put)
		})
	}
}

func (w *world) sabotage(t *testing.T, c comeback, put func(*testing.T, string, Row)) {
	w.Load(t, w.data)
	conn := w.open(t)
	batch := discover(t, conn, connectors.Batch{subject("a", anna)})
	j := erase(t, conn, batch)
	noResidue(t, conn, batch, j)
	put(t, c.table, w.full(c.table, c.row))
	left, err := conn.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	i := slices.IndexFunc(left, func(r dsr.Residue) bool { return r.Entity == c.table && (c.field == "" || r.Field == c.field) })
	require.GreaterOrEqual(t, i, 0, "Verify did not find it, but %v", left)
	require.Equal(t, "a", left[i].Subject)
	require.Equal(t, w.sys.Name, left[i].System)
	require.Positive(t, left[i].Count)
	for _, r := range left {
		require.False(t, r.Entity == "orders" && c.table != "orders", "what the Plan keeps is no residue: %v", r)
		require.Nil(t, r.Waits, "it could go at once: %v", r)
	}
	// erasing again mends it
	j = erase(t, conn, batch)
	noResidue(t, conn, batch, j)
	require.NoError(t, conn.Close())
}

// testNothingErased: an erasure that did nothing is found out, in every entity.
func testNothingErased(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("d", dora)})
	left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Keys: NewJournal()})
	require.NoError(t, err)
	for _, s := range batch {
		for at := range expect(w.sys, w.data, connectors.Batch{s}).counts {
			entity, method, _ := strings.Cut(at, " ")
			if m := dsr.Method(method); m == dsr.Delete || m == dsr.Mask || m == dsr.Redact {
				require.True(t, slices.ContainsFunc(left, func(r dsr.Residue) bool {
					return r.Subject == s.Ref && r.Entity == entity && r.Waits == nil
				}), "%s: %s is not found, but %v", s.Ref, at, left)
			}
		}
	}
}

// testOrphan: a row that appears under a parent that is gone is found by the spooled keys.
func testOrphan(t *testing.T, b Backend) {
	sys := &connectors.System{Name: "orphans", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		customers(),
		{Name: "notes", Erase: dsr.Delete, OwnedBy: owners(owner("customer_id", "customers")), Fields: []connectors.Field{{Name: "body", Category: "user.content"}}},
		{Name: "tags", Erase: dsr.Delete, OwnedBy: owners(owner("note_id", "notes"))},
	})}
	d := Dataset{Tables: []Table{
		customersTable(),
		table("notes", columns(integer("id"), integer("customer_id"), words("body")), "id"),
		table("tags", columns(integer("id"), integer("note_id")), "id"),
	}}
	d.add("customers", Row{"id": 1001, "email": anna, "name": "A"}, Row{"id": 1002, "email": bert, "name": "B"})
	d.add("notes", Row{"id": 1, "customer_id": 1001, "body": "x"}, Row{"id": 2, "customer_id": 1002, "body": "y"})
	d.add("tags", Row{"id": 1, "note_id": 1}, Row{"id": 2, "note_id": 2})
	w := setup(t, b, sys, d)
	for _, c := range []struct {
		table, field string
		row          Row
	}{
		{"notes", "customer_id", Row{"id": 9, "customer_id": 1001, "body": "z"}}, {"tags", "note_id", Row{"id": 9, "note_id": 1}},
	} {
		w.Load(t, d)
		conn := w.open(t)
		batch := discover(t, conn, connectors.Batch{subject("a", anna)})
		j := erase(t, conn, batch)
		require.NotEmpty(t, j.Spooled(), "keys that others refer to are spooled")
		w.outcome(t, batch, j)
		noResidue(t, conn, batch, j)
		w.Put(t, c.table, w.full(c.table, c.row))
		left, err := conn.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(left, func(r dsr.Residue) bool { return r.Entity == c.table && r.Count == 1 }),
			"the orphan in %s was not found, but %v", c.table, left)
	}
}

// testLateRow: a row that is added while an erasure runs is erased, or reported.
func testLateRow(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 1
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("d", dora), subject("a", anna)})
	j := NewJournal()
	past := time.Now().Add(-time.Second)
	added := false
	var made progress
	for range maxSlices {
		err := eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j, Deadline: past})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, connectors.ErrYield)
		made.check(t, j)
		if !added { // Anna's row is there until she is done: she keeps orders
			w.Put(t, "visits", w.full("visits", Row{"id": 99, "device_token": "tok-anna-phone"}))
			added = true
		}
	}
	require.True(t, added)
	left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	if _, there := w.dump(t)["visits"]["99"]; there {
		require.True(t, slices.ContainsFunc(left, func(r dsr.Residue) bool { return r.Entity == "visits" }), "neither erased nor reported")
	} else {
		require.Empty(t, left)
	}
}
