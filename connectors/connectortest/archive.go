package connectortest

import (
	"fmt"
	"testing"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// cutAt is the cut-off of most cases; the rows of [archive] lie around it.
var cutAt = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)

func at(cut time.Time) connectors.Cut { return connectors.Cut{Before: cut, Zone: time.UTC} }

// archive is what rules are tried on: accounts with orders, lines and invoices, or the accounts' records alone where
// there are no ties.
func (b Backend) archive() (*connectors.System, Dataset) {
	accounts := connectors.Entity{
		Name: "accounts", Subject: true, Erase: dsr.Delete, NotPersonal: []string{"status"},
		Fields: []connectors.Field{{Name: "email", Identifier: "email"}, {Name: "name", Category: "user.name"}},
	}
	d := Dataset{Tables: []Table{
		table("accounts", columns(integer("id"), words("email"), words("name"), words("status"), optional(moment("created_at")),
			optional(moment("closed_at")), optional(day("ends_on"))), "id"),
	}}
	d.add("accounts",
		Row{"id": 1, "email": anna, "name": "Anna", "status": "closed", "created_at": "2020-01-05T10:00:00Z", "closed_at": "2024-02-29T23:59:59Z", "ends_on": "2024-02-29"},
		Row{"id": 2, "email": bert, "name": "Bert", "status": "closed", "created_at": "2021-01-05T10:00:00Z", "closed_at": "2024-03-01T00:00:00Z", "ends_on": "2024-03-01"},
		Row{"id": 3, "email": cleo, "name": "Cleo", "status": "closed", "created_at": "2022-06-05T10:00:00Z", "closed_at": "2023-12-31T12:00:00Z", "ends_on": "2023-12-31"},
		Row{"id": 4, "email": dora, "name": "Dora", "status": "open", "created_at": "2019-06-05T10:00:00Z"},
		Row{"id": 5, "email": evan, "name": "Evan", "status": "open", "created_at": "2024-03-01T00:00:01Z", "closed_at": "2019-01-01T00:00:00Z", "ends_on": "2019-01-01"},
		Row{"id": 6, "email": "fred.canary@example.com", "name": "Fred", "status": "closed"},
	)
	for i := range 14 {
		d.add("accounts", Row{
			"id": 10 + i, "email": address(i), "name": "N", "status": "closed", "created_at": "2018-01-01T00:00:00Z",
			"closed_at": fmt.Sprintf("2024-%02d-01T00:00:00Z", 1+i%4), "ends_on": fmt.Sprintf("2024-%02d-01", 1+i%4),
		})
	}
	if b.Flat {
		return &connectors.System{Name: "archive", Identifiers: kinds(), Entities: []connectors.Entity{accounts}}, d
	}
	d.Tables = append(d.Tables,
		table("orders", columns(integer("id"), optional(integer("account_id")), moment("placed_at"), words("state")), "id").refers("account_id", "accounts"),
		table("lines", columns(integer("id"), integer("order_id"), optional(words("text"))), "id").refers("order_id", "orders"),
		table("invoices", columns(integer("id"), integer("account_id"), words("text")), "id").refers("account_id", "accounts"),
	)
	d.add("orders",
		Row{"id": 1, "account_id": 1, "placed_at": "2022-01-01T00:00:00Z", "state": "sent"}, Row{"id": 2, "account_id": 3, "placed_at": "2024-05-01T00:00:00Z", "state": "sent"},
		Row{"id": 3, "account_id": 4, "placed_at": "2023-05-01T00:00:00Z", "state": "sent"}, Row{"id": 4, "account_id": 4, "placed_at": "2024-02-01T00:00:00Z", "state": "open"},
		Row{"id": 5, "account_id": 10, "placed_at": "2018-02-01T00:00:00Z", "state": "sent"}, Row{"id": 6, "placed_at": "2018-02-01T00:00:00Z", "state": "sent"},
	)
	d.add("lines", Row{"id": 1, "order_id": 1, "text": "a"}, Row{"id": 2, "order_id": 1}, Row{"id": 3, "order_id": 2}, Row{"id": 4, "order_id": 4, "text": "b"}, Row{"id": 5, "order_id": 5})
	d.add("invoices", Row{"id": 1, "account_id": 3, "text": "kept"}, Row{"id": 2, "account_id": 2, "text": "kept"}, Row{"id": 3, "account_id": 4, "text": "kept"})
	return &connectors.System{Name: "archive", Identifiers: kinds(), Entities: byName([]connectors.Entity{
		accounts,
		{Name: "orders", Erase: dsr.Delete, NotPersonal: []string{"state"}, OwnedBy: owners(owner("account_id", "accounts"))},
		{Name: "lines", Erase: dsr.Delete, NotPersonal: []string{"text"}, OwnedBy: owners(owner("order_id", "orders"))},
		{
			Name: "invoices", Erase: dsr.Keep, Keep: accounting(), OwnedBy: owners(owner("account_id", "accounts")),
			Fields: []connectors.Field{{Name: "text", Category: "user.financial"}},
		},
	})}, d
}

func setupArchive(t *testing.T, b Backend) *world {
	t.Helper()
	sys, d := b.archive()
	return setup(t, b, sys, d)
}

// deletes is a rule that deletes accounts by a field.
func deletes(field string) connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "archive.accounts.old", Class: retention.Class{Name: "old", Period: retention.Period{Years: 1}, Start: retention.Collection},
		Start:  retention.StartingPoint{Kind: retention.StartField, Field: field, Null: retention.NullKeep},
		Action: retention.Delete,
	}}
}

// rulings are rules of every kind on accounts.
func (b Backend) rulings() map[string]ruling {
	out := map[string]ruling{}
	add := func(name string, cut connectors.Cut, change func(*ruling)) {
		r := ruling{entity: "accounts", rule: deletes("closed_at"), cut: cut}
		if change != nil {
			change(&r)
		}
		out[name] = r
	}
	when := func(c ...dsr.Condition) func(*ruling) { return func(r *ruling) { r.rule.When = c } }
	add("by time", at(cutAt), nil)
	add("nothing", at(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)), nil)
	add("all that have a start", at(time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)), nil)
	add("by day", at(cutAt), func(r *ruling) { r.rule.Start.Field = "ends_on" })
	add("null is due", at(cutAt), func(r *ruling) { r.rule.Start.Null = retention.NullDue })
	add("null is another field", at(cutAt), func(r *ruling) {
		r.rule.Start.Null, r.rule.Start.NullField = retention.NullOther, "created_at"
	})
	add("one value", at(cutAt), when(dsr.Condition{Field: "status", Values: []string{"open"}}))
	add("several values", at(cutAt), when(dsr.Condition{Field: "status", Values: []string{"open", "closed", "lost"}}))
	add("several conditions", at(cutAt), when(dsr.Condition{Field: "status", Values: []string{"closed"}}, dsr.Condition{Field: "name", Values: []string{"N", "Cleo"}}))
	add("not null", at(cutAt), when(dsr.Condition{Field: "ends_on", NotNull: true}))
	add("null", at(cutAt), func(r *ruling) {
		r.rule.Start.Field, r.rule.When = "created_at", []dsr.Condition{{Field: "closed_at", Null: true}}
	})
	add("after an earlier rule", at(cutAt), func(r *ruling) {
		earlier := deletes("created_at")
		earlier.Action = retention.Next
		r.cut.After = []connectors.Bound{{Rule: earlier, Before: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)}}
	})
	add("pseudonymise", at(cutAt), func(r *ruling) {
		r.rule.Action, r.rule.Masks = retention.Pseudonymise, masks{"email": toRandom, "name": constant("Former customer")}
	})
	if !b.Flat {
		add("end of relationship", at(cutAt), func(r *ruling) {
			r.rule.Start.Latest = []retention.Related{{Entity: "orders", Field: "placed_at"}}
		})
		add("related alone", at(cutAt), func(r *ruling) {
			r.rule.Start.Field, r.rule.Start.Latest = "", []retention.Related{{Entity: "orders", Field: "placed_at"}}
		})
		add("related, or due", at(cutAt), func(r *ruling) {
			r.rule.Start.Field, r.rule.Start.Null, r.rule.Start.Latest = "", retention.NullDue, []retention.Related{{Entity: "orders", Field: "placed_at"}}
		})
		add("a child's own rule", at(cutAt), func(r *ruling) { r.entity, r.rule.Start.Field = "orders", "placed_at" })
	}
	return out
}
