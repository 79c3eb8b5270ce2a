package connectortest

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// state compares what the store holds with what the erasure of a batch must leave, and nothing else changed.
func (w *world) state(t *testing.T, batch connectors.Batch) {
	t.Helper()
	w.stateHeld(t, batch, connectors.Holds{})
}

func (w *world) stateHeld(t *testing.T, batch connectors.Batch, held connectors.Holds) {
	t.Helper()
	got := w.dump(t)
	require.Empty(t, diff(w.data.rows(), expectHeld(w.sys, w.data, batch, held).after, got), "state after the erasure")
	require.Empty(t, w.data.dangling(got), "references to nothing")
}

// outcome compares state and tallies.
func (w *world) outcome(t *testing.T, batch connectors.Batch, j *Journal) {
	t.Helper()
	w.state(t, batch)
	require.Empty(t, cmp.Diff(expect(w.sys, w.data, batch).counts, tallied(j.Tallies())), "tallies")
	refs := map[string]bool{}
	for _, s := range batch {
		refs[s.Ref] = true
	}
	for _, tally := range j.Tallies() {
		require.True(t, refs[tally.Subject], "a tally is credited to a subject that is not in the batch")
	}
}

// gone asserts that everything is answered: Verify finds nothing and an export shows only what stays by declaration.
func (w *world) gone(t *testing.T, c connectors.Connector, batch connectors.Batch, j *Journal) {
	t.Helper()
	noResidue(t, c, batch, j)
	if _, ok := c.(connectors.Exporter); !ok {
		return
	}
	fates := expect(w.sys, w.data, batch).fates
	sinks := export(t, c, batch)
	for _, s := range batch {
		for _, r := range w.records(sinks, s.Ref) {
			f, ok := fates[r.Entity][w.recordKey(r)]
			stays := ok && (f.action == dsr.Keep || f.action == dsr.Anchor || f.action == dsr.Mask || f.e.AccessedBy != nil && f.action == "")
			require.True(t, stays, "an export after the erasure still shows %s %s", r.Entity, w.recordKey(r))
		}
	}
}

func (w *world) recordKey(r Record) string {
	e := w.sys.Entity(r.Entity)
	table := w.data.Table(e.From())
	row := map[string]string{}
	for _, c := range table.Columns {
		row[c.Name] = canonical(c.Class, r.Values[c.Name])
	}
	return table.key(row)
}

func testErase(t *testing.T, b Backend) {
	w := setupSample(t, b)
	for _, who := range []string{anna, bert, cleo, dora} {
		w.Load(t, w.data)
		c := w.open(t)
		batch := discover(t, c, connectors.Batch{subject("s", who)})
		var before map[string]*fate
		if _, ok := c.(connectors.Exporter); ok {
			before = shown(w.sys, w.data, batch[0])
		}
		j := erase(t, c, batch)
		w.outcome(t, batch, j)
		w.gone(t, c, batch, j)
		for entity, rows := range expect(w.sys, w.data, batch).fates { // an export had shown what is touched now
			for k, f := range rows {
				if before != nil && f.action != "" && f.action != dsr.Redact {
					require.NotNil(t, before[entity+" "+k], "%s %s is touched but was not shown", entity, k)
				}
			}
		}
	}
}

func testEraseEveryone(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("d", dora), subject("b", bert), subject("a", anna), subject("c", cleo)})
	j := erase(t, c, batch)
	w.outcome(t, batch, j)
	w.gone(t, c, batch, j)
}

// testEraseTwice: twice is once, also for a job that is delivered again.
func testEraseTwice(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	j := erase(t, c, batch)
	once := w.dump(t)
	first := tallied(j.Tallies())
	require.NoError(t, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
	require.Empty(t, cmp.Diff(once, w.dump(t)), "a job that is delivered again has no further effect")
	require.Empty(t, cmp.Diff(first, tallied(j.Tallies())), "nor is it counted again")

	again := erase(t, c, batch)
	for name, n := range tallied(again.Tallies()) {
		require.NotContains(t, name, string(dsr.Delete), "the second erasure deleted %d", n)
	}
	w.state(t, batch)
	noResidue(t, c, batch, again)
}

// testScope: only entities that the approved Plan names are touched.
func testScope(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	batch[0].Entities = map[string]bool{"messages": true, "articles": true}
	j := erase(t, c, batch)
	w.outcome(t, batch, j)
	noResidue(t, c, batch, j)
}

// testSharedOwners: a row lives until its last owner goes; the order does not matter.
func testSharedOwners(t *testing.T, b Backend) {
	d := shopData()
	w := setup(t, b, shop(), d)
	for _, order := range [][]string{{anna, bert}, {bert, anna}} {
		w.Load(t, d)
		c := w.open(t)
		batch := discover(t, c, connectors.Batch{subject("1", order[0]), subject("2", order[1])})
		for i := range batch {
			j := erase(t, c, batch[i:i+1])
			noResidue(t, c, batch[i:i+1], j)
			rows := w.dump(t)["messages"]
			if i == 0 {
				require.Contains(t, rows, "1", "the other owner lives")
				require.Contains(t, rows, "2", "the other owner lives")
			} else {
				require.NotContains(t, rows, "1")
				require.NotContains(t, rows, "2")
			}
		}
		// the final state is that of both in one batch
		require.Empty(t, diff(d.rows(), expect(w.sys, d, batch).after, w.dump(t)))
	}
}

func testMessageToOneself(t *testing.T, b Backend) {
	w := setup(t, b, shop(), shopData())
	c := w.open(t)
	erase(t, c, discover(t, c, connectors.Batch{subject("a", anna)}))
	rows := w.dump(t)["messages"]
	require.NotContains(t, rows, "3", "a message to oneself goes")
	require.NotContains(t, rows, "5", "an owner who is gone does not keep a row")
	require.Equal(t, null, rows["1"]["sender_id"])
	require.Equal(t, "1002", rows["1"]["recipient_id"], "only what is declared for the owner that goes changes")
	require.Equal(t, "hello Bert, write to [redacted]", rows["1"]["body"])
	require.Equal(t, "do you know [redacted], or [redacted]? not x"+anna, rows["4"]["body"])
	require.Equal(t, "nothing of interest", rows["6"]["body"])
}

// testAccessors: an accessor's erasure deletes nothing, and their export shows no row whose owners are gone.
func testAccessors(t *testing.T, b Backend) {
	w := setup(t, b, shop(), shopData())
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	if _, ok := c.(connectors.Exporter); ok {
		seen := map[string]any{}
		for _, r := range w.records(export(t, c, batch[:1]), "a") {
			if r.Entity == "documents" {
				seen[w.recordKey(r)] = r.Values["title"]
			}
		}
		require.Len(t, seen, 2)
		require.Equal(t, "withheld", fmt.Sprint(seen["2"]), "other people's fields are masked in an export")
	}
	erase(t, c, batch[:1])
	require.Contains(t, w.dump(t)["documents"], "2", "the owner lives")
	require.NotContains(t, w.dump(t)["documents"], "1", "an accessor does not keep a row")
	if _, ok := c.(connectors.Exporter); ok {
		for _, r := range w.records(export(t, c, batch[1:]), "b") {
			require.False(t, r.Entity == "documents" && w.recordKey(r) == "1", "the row's owner is gone")
		}
	}
}

// testMemberships: the last member's group goes, with what it owns.
func testMemberships(t *testing.T, b Backend) {
	w := setup(t, b, shop(), shopData())
	c := w.open(t)
	erase(t, c, discover(t, c, connectors.Batch{subject("a", anna)}))
	rows := w.dump(t)
	require.NotContains(t, rows["clubs"], "2")
	require.NotContains(t, rows["posts"], "2")
	require.Contains(t, rows["clubs"], "1")
	require.Contains(t, rows["clubs"], "3")
	require.Len(t, rows["memberships"], 2)
	erase(t, c, discover(t, c, connectors.Batch{subject("c", cleo)}))
	rows = w.dump(t)
	require.NotContains(t, rows["clubs"], "3", "the last member is gone")
	require.NotContains(t, rows["posts"], "3")
	require.Contains(t, rows["clubs"], "1")
}

func testPolymorphic(t *testing.T, b Backend) {
	w := setup(t, b, shop(), shopData())
	c := w.open(t)
	erase(t, c, discover(t, c, connectors.Batch{subject("a", anna)}))
	rows := w.dump(t)["comments"]
	require.NotContains(t, rows, "1")
	require.NotContains(t, rows, "2", "owned through the order")
	require.Contains(t, rows, "3", "the same number under another type")
	require.Contains(t, rows, "4")
}

// testTree: an entity that refers to itself, deeper than a chunk.
func testTree(t *testing.T, b Backend) {
	sys := &connectors.System{Name: "tree", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		customers(),
		{
			Name: "folders", Erase: dsr.Delete, NotPersonal: []string{"name"},
			OwnedBy: owners(owner("owner_id", "customers"), owner("parent_id", "folders")),
		},
	})}
	d := Dataset{Tables: []Table{
		customersTable(),
		table("folders", columns(integer("id"), optional(integer("owner_id")), optional(integer("parent_id")), words("name")), "id").
			refers("owner_id", "customers").refers("parent_id", "folders"),
	}}
	d.add("customers", Row{"id": 1001, "email": anna, "name": "A"}, Row{"id": 1002, "email": bert, "name": "B"})
	for i := range 12 {
		r := Row{"id": 10 + i, "name": fmt.Sprint("folder ", i)}
		if i%6 == 0 {
			r["owner_id"] = 1001 + i/6
		} else {
			r["parent_id"] = 10 + i - 1
		}
		d.add("folders", r)
	}
	w := setup(t, b, sys, d)
	w.chunk = 2
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	j := erase(t, c, batch)
	w.outcome(t, batch, j)
	w.gone(t, c, batch, j)
}

// testCircle: tables that refer to each other, one of them by a column that is no tie of ownership; the circle is broken at the column that may be NULL.
func testCircle(t *testing.T, b Backend) {
	sys := &connectors.System{Name: "circle", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		customers(),
		{Name: "threads", Erase: dsr.Delete, OwnedBy: owners(owner("customer_id", "customers"))},
		{Name: "replies", Erase: dsr.Delete, OwnedBy: owners(owner("thread_id", "threads"))},
	})}
	d := Dataset{Tables: []Table{
		customersTable(),
		table("threads", columns(integer("id"), integer("customer_id"), optional(integer("last_id"))), "id").
			refers("customer_id", "customers").refers("last_id", "replies"),
		table("replies", columns(integer("id"), integer("thread_id")), "id").refers("thread_id", "threads"),
	}}
	d.add("customers", Row{"id": 1001, "email": anna, "name": "A"}, Row{"id": 1002, "email": bert, "name": "B"})
	d.add("threads", Row{"id": 1, "customer_id": 1001, "last_id": 2}, Row{"id": 2, "customer_id": 1002, "last_id": 3}, Row{"id": 3, "customer_id": 1002})
	d.add("replies", Row{"id": 1, "thread_id": 1}, Row{"id": 2, "thread_id": 1}, Row{"id": 3, "thread_id": 2})
	w := setup(t, b, sys, d)
	for _, chunk := range []int{0, 1} {
		w.Load(t, d)
		w.chunk = chunk
		c := w.open(t)
		batch := discover(t, c, connectors.Batch{subject("b", bert)})
		j := erase(t, c, batch)
		w.outcome(t, batch, j)
		w.gone(t, c, batch, j)
	}
}

func testCompositeKeys(t *testing.T, b Backend) {
	sys := &connectors.System{Name: "composite", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		customers(),
		{Name: "shipments", Erase: dsr.Delete, OwnedBy: owners(owner("customer_id", "customers"))},
		{
			Name: "parcels", Erase: dsr.Delete,
			OwnedBy: owners(connectors.Owner{Columns: []string{"depot", "shipment_no"}, Entity: "shipments", References: []string{"depot", "no"}}),
		},
	})}
	d := Dataset{Tables: []Table{
		customersTable(),
		table("shipments", columns(words("depot"), integer("no"), integer("customer_id")), "depot", "no").refers("customer_id", "customers"),
		table("parcels", columns(integer("id"), words("depot"), integer("shipment_no")), "id").
			refersBy([]string{"depot", "shipment_no"}, "shipments", "depot", "no"),
	}}
	sys.Entity("shipments").NotPersonal = []string{"depot"}
	d.add("customers", Row{"id": 1001, "email": anna, "name": "A"}, Row{"id": 1002, "email": bert, "name": "B"})
	d.add("shipments", Row{"depot": "north", "no": 1, "customer_id": 1001}, Row{"depot": "south", "no": 1, "customer_id": 1002},
		Row{"depot": "north", "no": 2, "customer_id": 1002}, Row{"depot": `o'k "x", \`, "no": 3, "customer_id": 1001})
	d.add("parcels", Row{"id": 1, "depot": "north", "shipment_no": 1}, Row{"id": 2, "depot": "south", "shipment_no": 1},
		Row{"id": 3, "depot": "north", "shipment_no": 2}, Row{"id": 4, "depot": `o'k "x", \`, "shipment_no": 3})
	w := setup(t, b, sys, d)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	j := erase(t, c, batch)
	w.outcome(t, batch, j)
	w.gone(t, c, batch, j)
}

// testMaskedRows: every mask in every kind of column, on rows that stay.
func testMaskedRows(t *testing.T, b Backend) {
	pseudonym := mask.Spec{Kind: mask.HMAC}
	sys := &connectors.System{Name: "masks", Identifiers: kinds(), Entities: byName([]connectors.Entity{{
		Name: "accounts", Subject: true, Erase: dsr.Keep, Keep: accounting(), NotPersonal: []string{"status"},
		Fields: []connectors.Field{{Name: "email", Identifier: "email"}, {Name: "customer_no", Identifier: "user_id"}},
		Masks: masks{
			"email": pseudonym, "customer_no": toRandom, "name": toRandom, "about": toRedact, "age": {Kind: mask.Generalise, Step: 10},
			"postcode": {Kind: mask.Generalise, Step: 3}, "profile": toRedact, "nick": toNull, "city": constant("O'Hara \\ \"x\""),
		},
	}})}
	d := Dataset{Tables: []Table{table("accounts", columns(integer("id"), words("email"), integer("customer_no"), words("name"),
		optional(words("about")), optional(integer("age")), words("postcode"), optional(document("profile")), optional(words("nick")),
		words("city"), words("status")), "id").unique("email").unique("customer_no")}}
	for i, who := range []string{anna, bert, cleo, dora} {
		d.add("accounts", Row{
			"id": i + 1, "email": who, "customer_no": 500 + i, "name": "N" + who, "about": "I am " + who, "age": 41 + i, "postcode": "11122",
			"profile": fmt.Sprintf(`{"mail":%q,"n":[1.5,true,null,{"k":"see %s"}]}`, who, who), "nick": "n", "city": "Umeå", "status": "ok",
		})
	}
	d.Table("accounts").Rows[1]["about"] = nil
	w := setup(t, b, sys, d)
	c := w.open(t)
	batch := connectors.Batch{subject("a", anna), subject("b", bert), subject("c", cleo)}
	j := erase(t, c, batch)
	w.outcome(t, batch, j)
	noResidue(t, c, batch, j)
	// a pseudonym is still found by whoever has the key, and is not masked twice
	before := w.dump(t)["accounts"]["1"]["email"]
	found, err := c.Locate(context.Background(), connectors.Query{Batch: batch[:1]})
	require.NoError(t, err)
	require.NotEmpty(t, found.Counts, "a pseudonymised row is found under its live key")
	erase(t, c, batch[:1])
	require.Equal(t, before, w.dump(t)["accounts"]["1"]["email"])
}

// testTenants: the same person under two controllers is two; no statement crosses.
func testTenants(t *testing.T, b Backend) {
	c := customers()
	c.Tenant = "account"
	c.Anchor = nil
	sys := &connectors.System{Name: "tenants", Identifiers: kinds(), TenantName: "account", Entities: byName([]connectors.Entity{
		c,
		{Name: "notes", Tenant: "account", Erase: dsr.Delete, Mentions: []string{"body"}, OwnedBy: owners(owner("customer_id", "customers"))},
	})}
	if b.Flat { // a note names whose it is
		notes := sys.Entity("notes")
		notes.OwnedBy, notes.Fields = nil, []connectors.Field{{Name: "customer_id", Identifier: "user_id"}}
	}
	people := table("customers", columns(integer("id"), words("account"), words("email"), words("name"), optional(words("phone"))), "id")
	d := Dataset{Tables: []Table{
		people,
		table("notes", columns(integer("id"), words("account"), integer("customer_id"), words("body")), "id").refers("customer_id", "customers"),
	}}
	d.add("customers", Row{"id": 1, "account": "north", "email": anna, "name": "A"}, Row{"id": 2, "account": "south", "email": anna, "name": "A"},
		Row{"id": 3, "account": "north", "email": bert, "name": "B"})
	d.add("notes", Row{"id": 1, "account": "north", "customer_id": 1, "body": "x"}, Row{"id": 2, "account": "south", "customer_id": 2, "body": "x"},
		Row{"id": 3, "account": "north", "customer_id": 3, "body": "ask " + anna}, Row{"id": 4, "account": "south", "customer_id": 2, "body": "ask " + anna})
	w := setup(t, b, sys, d)
	conn := w.open(t)
	north := subject("n", anna)
	_, err := conn.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{north}})
	require.Error(t, err, "a subject without its tenant")
	north.Tenant = "north"
	batch := connectors.Batch{north}
	found, err := conn.Locate(context.Background(), connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Empty(t, found.Ambiguous, "the other tenant's row is another person")
	batch = discover(t, conn, batch)
	j := erase(t, conn, batch)
	w.outcome(t, batch, j)
	w.gone(t, conn, batch, j)
	rows := w.dump(t)
	require.Contains(t, rows["customers"], "2")
	require.Equal(t, "ask "+anna, rows["notes"]["4"]["body"])
	require.Equal(t, "ask [redacted]", rows["notes"]["3"]["body"])

	// one batch may have subjects of both
	w.Load(t, d)
	conn = w.open(t)
	south := subject("s", anna)
	south.Tenant = "south"
	both := discover(t, conn, connectors.Batch{north, south})
	j = erase(t, conn, both)
	w.outcome(t, both, j)
}

// testLimits: a Plan above its caps halts with nothing executed.
func testLimits(t *testing.T, b Backend) {
	w := setupCrowd(t, b, 200, 1100)
	d := w.data
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("d", dora)})
	run := func(l connectors.Limits) (*Journal, error) {
		j := NewJournal()
		return j, eraser(t, c).Erase(context.Background(), connectors.Job{Batch: batch, Journal: j, Limits: l})
	}
	for name, l := range map[string]connectors.Limits{"rows": {RowsPerRequest: 200}, "share": {ShareOfTable: 0.1}} {
		j, err := run(l)
		require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err), "%s: %v", name, err)
		require.True(t, connectors.IsPermanent(err), name)
		require.Empty(t, tallied(j.Tallies()), name)
		require.Empty(t, diff(d.rows(), d.rows(), w.dump(t)), name)
	}
	j, err := run(connectors.Limits{RowsPerRequest: 201, ShareOfTable: 0.25})
	require.NoError(t, err)
	w.outcome(t, batch, j)
}

// testBatchSizes: one by one or together, in small chunks or large: the same final state and the same counts.
func testBatchSizes(t *testing.T, b Backend) {
	w := setupCrowd(t, b, 30, 40)
	d := w.data
	people := connectors.Batch{subject("c", cleo), subject("a", anna), subject("d", dora), subject("b", bert)}
	for _, chunk := range []int{0, 1, 7} {
		w.Load(t, d)
		w.chunk = chunk
		c := w.open(t)
		batch := discover(t, c, people)
		j := erase(t, c, batch)
		w.outcome(t, batch, j)
	}
	w.Load(t, d)
	w.chunk = 3
	c := w.open(t)
	batch := discover(t, c, people)
	for i := range batch {
		erase(t, c, batch[i:i+1])
	}
	got := w.dump(t)
	want := expect(w.sys, d, batch).after
	require.Empty(t, diff(d.rows(), want, got))
	require.Empty(t, d.dangling(got))
}
