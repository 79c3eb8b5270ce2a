package engine_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// Two controllers have customers with the same addresses and notes with the same texts. Invoices must be kept for a year,
// whoever asks, and go after two.
const twinMap = `
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
tenants: {identifier: account}
identifiers:
  account: {kind: opaque}
  email: {kind: email}
deletion_classes:
  gone: {period: P30D, from: collection}
  books: {period: P2Y, minimum: P1Y, from: collection}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers:
        subject: true
        tenant: account
        fields: {email: {identifier: email}}
        not_personal: [id, left_on]
        erase: delete
        anchor: {email: random}
        retention: [{class: gone, start: left_on, if_null: keep, action: delete, review: never}]
      notes:
        tenant: account
        owned_by: {customer_id: customers}
        not_personal: [body]
        erase: delete
      invoices:
        tenant: account
        owned_by: {customer_id: customers}
        not_personal: [sent_on]
        keep: {article: "17(3)(b)", statute: "Sample Act 7:2", class: books}
        retention: [{class: books, start: sent_on, action: delete, review: never}]
`

const twinSchema = `
CREATE TABLE customers (id INTEGER PRIMARY KEY, account TEXT, email TEXT, left_on DATE NULL);
CREATE INDEX customers_email ON customers (email);
CREATE INDEX customers_left ON customers (left_on);
CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT, customer_id INTEGER NOT NULL REFERENCES customers (id), body TEXT);
CREATE INDEX notes_customer ON notes (customer_id);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, account TEXT, customer_id INTEGER NOT NULL REFERENCES customers (id), sent_on DATE NOT NULL);
CREATE INDEX invoices_customer ON invoices (customer_id);
CREATE INDEX invoices_sent ON invoices (sent_on);
INSERT INTO customers VALUES (1, 'a', 'ada@example.com', '2025-01-01'), (2, 'b', 'ada@example.com', '2025-01-01'),
 (3, 'a', 'bob@example.com', NULL), (4, 'b', 'bob@example.com', NULL), (5, 'a', 'cy@example.com', '2025-01-01'), (6, 'b', 'cy@example.com', '2026-02-20');
INSERT INTO notes VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'x'), (3, 'a', 3, 'x'), (4, 'b', 4, 'x'), (5, 'a', 5, 'x'), (6, 'b', 6, 'x');
INSERT INTO invoices VALUES (1, 'a', 1, '2023-01-01'), (3, 'a', 3, '2026-01-01'), (4, 'b', 4, '2023-01-01');
`

// TestTheOrderOfPrecedence: legal hold > statutory minimum > erasure > regular deletion, for each tenant by itself.
func TestTheOrderOfPrecedence(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, twinSchema)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(twinMap)
	erase := func(tenant, mail string) string {
		r, err := h.File(t.Context(), filer, engine.NewRequest{
			Kind: dsr.Erasure, Tenant: tenant, Identifiers: email(mail), Verified: true, Method: "session",
		})
		require.NoError(t, err)
		h.drain()
		return r.ID
	}
	sweep := func(rule string) *retention.Sweep {
		s := h.sweepNow(rule)
		h.drain()
		return h.swept(s.ID, retention.SweepDone)
	}
	there := func(table string, ids ...int64) {
		t.Helper()
		var got []int64
		rows, err := x.db.Query("SELECT id FROM " + table + " ORDER BY id")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var id int64
			require.NoError(t, rows.Scan(&id))
			got = append(got, id)
		}
		require.NoError(t, rows.Err())
		require.Equal(t, ids, got, table)
	}
	held, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
		Tenant: "a", Identifiers: email("ada@example.com"), Reference: "T-1", Review: h.time.Now().AddDate(0, 6, 0),
	})
	require.NoError(t, err)

	// A hold wins over an erasure, but only of its own tenant's.
	mine, other := erase("a", "ada@example.com"), erase("b", "ada@example.com")
	require.Equal(t, "held", h.wants(mine, dsr.Deferred).Reason)
	h.wants(other, dsr.Completed)
	there("customers", 1, 3, 4, 5, 6)
	there("notes", 1, 3, 4, 5, 6)

	// A statutory minimum wins over an erasure, and an erasure over a regular deletion that is not due yet.
	kept := erase("a", "bob@example.com")
	h.wants(kept, dsr.CompletedWithExceptions)
	there("notes", 1, 4, 5, 6)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 3 AND email LIKE '%.invalid'"))

	// A hold wins over a regular deletion, of a row whose statutory minimum has ended too.
	s := sweep("shop.invoices.books")
	require.EqualValues(t, 1, s.Held)
	require.EqualValues(t, 1, s.Count(dsr.Delete))
	there("invoices", 1, 3)
	s = sweep("shop.customers.gone")
	require.EqualValues(t, 1, s.Held)
	require.EqualValues(t, 1, s.Count(dsr.Held))
	there("customers", 1, 3, 4, 6)
	there("notes", 1, 4, 6)

	// With the hold everything that waited for it goes by itself: the erasure is older than the minimum's end.
	h.lift(held)
	h.drain()
	h.wants(mine, dsr.CompletedWithExceptions)
	there("notes", 4, 6)
	there("invoices", 1, 3)
	require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1 AND email LIKE '%.invalid'"))

	// A statutory minimum wins over a regular deletion: the parent of a row that must stay is blocked until it ends.
	x.exec("UPDATE customers SET left_on = '2025-01-01' WHERE id = 3")
	s = sweep("shop.customers.gone")
	require.EqualValues(t, 2, s.Blocked)
	require.Equal(t, []string{"invoices"}, s.BlockedBy)
	there("customers", 1, 3, 4, 6)
	sweep("shop.invoices.books")
	there("invoices", 3)
	h.time.forward(2 * 365 * 24 * time.Hour)
	h.tick()
	_, err = h.StartSweeps(t.Context(), operator) // so long a time that nobody saw pass has stopped them
	require.NoError(t, err)
	sweep("shop.invoices.books")
	require.Zero(t, x.count("SELECT count(*) FROM invoices"))
	sweep("shop.customers.gone")
	there("customers", 4)
	there("notes", 4)
}

// A hold on an entity is on every tenant's rows that meet its conditions, and on no others.
func TestAHoldOnOneTenantsRows(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, twinSchema)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(twinMap)
	x.exec("DELETE FROM invoices")
	x.exec("UPDATE customers SET left_on = '2025-01-01'")
	_, err := h.PlaceHold(t.Context(), officer, engine.NewHold{
		System: "shop", Entity: "notes", When: []dsr.Condition{{Field: "account", Values: []string{"a"}}}, Reference: "T-1",
		Review: h.time.Now().AddDate(0, 6, 0),
	})
	require.NoError(t, err)
	s := h.sweepNow("shop.customers.gone")
	h.drain()
	got := h.swept(s.ID, retention.SweepDone)
	require.EqualValues(t, 3, got.Blocked)
	require.Equal(t, []string{"notes"}, got.BlockedBy)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers WHERE account = 'a'"))
	require.Zero(t, x.count("SELECT count(*) FROM customers WHERE account = 'b'"))
}

// A row of which one rule's law says that it must stay does not go by another rule of its entity, in which only the one's
// conditions count; what is masked stays, and may be.
func TestAStatutoryMinimumWinsOverEveryRule(t *testing.T) {
	t.Parallel()
	x := sqliteTarget(t, `
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT);
CREATE INDEX customers_email ON customers (email);
CREATE TABLE papers (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), kind TEXT NOT NULL, made_on DATE NOT NULL, paid_on DATE, note TEXT);
CREATE INDEX papers_customer ON papers (customer_id);
CREATE INDEX papers_made ON papers (made_on);
CREATE INDEX papers_paid ON papers (paid_on);
INSERT INTO customers VALUES (1, 'ada@example.com');
INSERT INTO papers VALUES (1, 1, 'invoice', '2024-01-01', '2024-02-01', 'x'), (2, 1, 'draft', '2024-01-01', '2026-02-01', 'x'),
 (3, 1, 'invoice', '2024-01-01', '2026-02-01', 'x'), (4, 1, 'invoice', '2024-01-01', NULL, 'x'), (5, 1, 'draft', '2026-02-28', NULL, 'x');
`)
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, auto)
	h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {email: {kind: email}}
deletion_classes:
  notes: {period: P30D, from: collection}
  short: {period: P1M, from: collection}
  books: {period: P2Y, minimum: P1Y, from: end_of_process}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers: {subject: true, fields: {email: {identifier: email}}, not_personal: [id], erase: delete, anchor: {email: random}}
      papers:
        owned_by: {customer_id: customers}
        fields: {note: {}}
        not_personal: [kind, made_on, paid_on]
        keep: {article: "17(3)(b)", class: books}
        mask: {note: "-"}
        retention:
          - {class: short, start: made_on, action: delete, review: never}
          - {class: books, start: paid_on, if_null: keep, when: {kind: invoice}, action: delete, review: never}
          - {class: notes, start: made_on, action: pseudonymise, mask: {note: "-"}, review: never}
`)
	f, err := h.Forecast(t.Context(), officer, "shop.papers.short")
	require.NoError(t, err)
	require.EqualValues(t, 2, f.Rules[0].Horizons[0].Rows)
	s := h.sweepNow("shop.papers.short")
	h.drain()
	require.EqualValues(t, 2, h.swept(s.ID, retention.SweepDone).Count(dsr.Delete))
	require.Zero(t, x.count("SELECT count(*) FROM papers WHERE id IN (1, 2)"), "of one the minimum has ended, of the other there is none")
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM papers"))
	s = h.sweepNow("shop.papers.notes")
	h.drain()
	require.EqualValues(t, 2, h.swept(s.ID, retention.SweepDone).Count(dsr.Mask))
}

// Rows that a law wants wait by themselves: of one table an erasure takes those that may go, the others when their time has
// come, with what led to them, and nobody has to remember. What says so is the plan, and it is approved once.
func TestAStatutoryMinimumWinsOverAnErasureRowByRow(t *testing.T) {
	t.Parallel()
	for name, anchor := range map[string]string{"stays": "", "anchored": ", anchor: {email: random}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := sqliteTarget(t, `
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT);
CREATE INDEX customers_email ON customers (email);
CREATE TABLE tickets (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), status TEXT NOT NULL, closed_on DATE);
CREATE INDEX tickets_customer ON tickets (customer_id);
CREATE INDEX tickets_closed ON tickets (status, closed_on);
CREATE TABLE notes (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id));
CREATE INDEX notes_customer ON notes (customer_id);
INSERT INTO customers VALUES (1, 'ada@example.com'), (2, 'bob@example.com');
INSERT INTO tickets VALUES (1, 1, 'invoiced', '2025-06-01'), (2, 1, 'draft', '2025-06-01'), (3, 1, 'invoiced', '2025-12-24'), (4, 1, 'invoiced', '2020-01-01'), (5, 2, 'invoiced', '2025-06-01');
INSERT INTO notes VALUES (1, 1);
`)
			h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": x.url}, nil)
			h.activate(`
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {email: {kind: email}, number: {kind: integer}}
deletion_classes:
  books: {period: P3Y, minimum: P2Y, from: end_of_process}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers: {subject: true, teaches: true, fields: {id: {identifier: number}, email: {identifier: email}}, erase: delete` + anchor + `}
      notes: {owned_by: {customer_id: customers}, erase: delete}
      tickets:
        owned_by: {customer_id: customers}
        not_personal: [status, closed_on]
        erase: delete
        retention: [{class: books, start: closed_on, if_null: keep, when: {status: invoiced}, action: delete}]
`)
			r := h.file(dsr.Erasure, "ada@example.com")
			h.drain()
			_, p := h.plan(r.ID)
			var waits *dsr.Exception
			lines := map[string]int64{}
			for _, l := range p.Lines {
				lines[l.Entity+" "+string(l.Method)] = l.Count
				if l.Entity == "tickets" && l.Method == dsr.Wait {
					waits = l.Exception
				}
			}
			zone, err := time.LoadLocation("Europe/Stockholm")
			require.NoError(t, err)
			last := time.Date(2027, 12, 24, 0, 0, 0, 0, zone)
			require.NotNil(t, waits)
			require.True(t, last.Equal(*waits.Ends))
			waits.Ends = nil
			require.Equal(t, &dsr.Exception{Cause: dsr.CauseMinimum, Article: "17(3)(b)", Class: "books"}, waits)
			want := map[string]int64{"tickets delete": 2, "tickets wait": 2, "notes delete": 1, "customers wait": 1}
			if anchor != "" {
				delete(want, "customers wait")
				want["customers anchor"] = 1
			}
			require.Equal(t, want, lines)

			h.approve(r.ID)
			h.drain()
			first := time.Date(2027, 6, 1, 0, 0, 0, 0, zone)
			r = h.wants(r.ID, dsr.Deferred)
			require.True(t, first.Equal(*r.DeferTo), r.DeferTo)
			require.EqualValues(t, 0, x.count("SELECT count(*) FROM tickets WHERE id IN (2, 4)"))
			require.EqualValues(t, 2, x.count("SELECT count(*) FROM tickets WHERE customer_id = 1"))
			require.Zero(t, x.count("SELECT count(*) FROM notes"))

			tick := func(at time.Time) {
				h.time.forward(at.Sub(h.time.Now()))
				require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickDeferred}))
				h.drain()
			}
			tick(first.Add(-time.Minute))
			require.EqualValues(t, 2, x.count("SELECT count(*) FROM tickets WHERE customer_id = 1"))
			tick(first)
			r = h.wants(r.ID, dsr.Deferred)
			require.True(t, last.Equal(*r.DeferTo), r.DeferTo)
			require.EqualValues(t, 1, x.count("SELECT count(*) FROM tickets WHERE customer_id = 1"))
			require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers WHERE id = 1"))
			tick(last)
			h.wants(r.ID, dsr.Completed)
			require.Zero(t, x.count("SELECT count(*) FROM tickets WHERE customer_id = 1"))
			require.Zero(t, x.count("SELECT count(*) FROM customers WHERE id = 1"))
			require.EqualValues(t, 1, x.count("SELECT count(*) FROM tickets"), "another person's")
			got := h.receipts(r.ID)
			require.EqualValues(t, 4, got["shop.tickets.delete"])
			require.EqualValues(t, 1, got["shop.customers.delete"])
			es, err := h.Events(t.Context(), officer, r.ID, 0, 0)
			require.NoError(t, err)
			deferred := 0
			for _, e := range es {
				if e.Type == "deferred" {
					deferred++
					require.Equal(t, last.UTC().Format(time.DateOnly), e.Detail["shop.tickets.statutory-minimum"])
				}
			}
			require.Equal(t, 2, deferred)
			require.Contains(t, es[len(es)-1].Detail["exception.0"]+es[len(es)-1].Detail["exception.1"], "shop.tickets 17(3)(b) books until 2027-12-24")
		})
	}
}
