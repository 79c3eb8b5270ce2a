package connectortest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// twins are two controllers whose customers have the same numbers and addresses: nothing but the tenant tells them apart.
func twins(b Backend) (*connectors.System, Dataset) {
	customers := connectors.Entity{
		Name: "customers", Subject: true, Tenant: "account", Erase: dsr.Delete,
		Fields: []connectors.Field{{Name: "email", Identifier: "email"}, {Name: "id", Identifier: "user_id"}},
	}
	notes := connectors.Entity{
		Name: "notes", Tenant: "account", Erase: dsr.Delete, NotPersonal: []string{"body"},
		OwnedBy: owners(connectors.Owner{Columns: []string{"customer_id"}, Entity: "customers", References: []string{"id"}}),
	}
	if b.Flat { // a note names whose it is
		notes.OwnedBy, notes.Fields = nil, []connectors.Field{{Name: "customer_id", Identifier: "user_id"}}
	}
	d := Dataset{Tables: []Table{
		table("customers", columns(words("account"), integer("id"), words("email"), optional(day("left_on"))), "account", "id"),
		table("notes", columns(integer("id"), words("account"), integer("customer_id"), optional(words("body"))), "id"),
	}}
	n := 0
	for _, account := range []string{"north", "south"} {
		for id, email := range []string{anna, bert, cleo} {
			d.add("customers", Row{"account": account, "id": id + 1, "email": email, "left_on": "2020-01-01"})
			n++
			d.add("notes", Row{"id": n, "account": account, "customer_id": id + 1})
		}
	}
	return &connectors.System{Name: "twins", Identifiers: kinds(), TenantName: "account", Entities: byName([]connectors.Entity{customers, notes})}, d
}

// ofTenant is a person as one controller knows them, by address and number.
func ofTenant(tenant, ref, email string, id int) connectors.Subject {
	s := subject(ref, email)
	s.Tenant, s.Identifiers = tenant, append(s.Identifiers, number(id))
	return s
}

// testHeldTenants: one controller's hold holds no row of another's, whatever they have in common, and an erasure for one
// is not kept up by the other's.
func testHeldTenants(t *testing.T, b Backend) {
	sys, d := twins(b)
	w := setup(t, b, sys, d)
	for _, chunk := range []int{0, 1} {
		w.chunk = chunk
		for _, who := range []struct{ erased, held, entity string }{{"north", "south", ""}, {"south", "north", ""}, {"north", "north", ""}, {"north", "", "south"}} {
			w.Load(t, d)
			c := w.open(t)
			var held connectors.Holds
			if who.held != "" {
				held.Subjects = connectors.Batch{ofTenant(who.held, "h", anna, 1)}
			} else {
				held.Entities = []connectors.Frozen{{Entity: "customers", When: []dsr.Condition{{Field: "account", Values: []string{who.entity}}}}}
			}
			batch := connectors.Batch{ofTenant(who.erased, "a", anna, 1), ofTenant(who.erased, "b", bert, 2)}
			j := w.eraseHeld(t, c, batch, held)
			left, err := c.Verify(context.Background(), connectors.Search{Batch: batch, Held: held, Keys: j})
			require.NoError(t, err)
			require.Equal(t, who.erased == who.held, len(left) > 0, "%v", who)
			require.NoError(t, c.Close())
		}
	}
}

// testSweepTenants: what goes with a row is its own tenant's, and a hold is on its own tenant's.
func testSweepTenants(t *testing.T, b Backend) {
	sys, d := twins(b)
	w := setup(t, b, sys, d)
	d.Table("notes").Rows[5]["customer_id"] = int64(9) // nobody's: 3 in the south has none
	for name, held := range map[string]connectors.Holds{
		"none":       {},
		"north":      {Subjects: connectors.Batch{ofTenant("north", "h", anna, 1)}},
		"south":      {Subjects: connectors.Batch{ofTenant("south", "h", anna, 1)}},
		"of both":    {Subjects: connectors.Batch{ofTenant("south", "h", anna, 1), ofTenant("north", "i", bert, 2)}},
		"its entity": {Entities: []connectors.Frozen{{Entity: "customers", When: []dsr.Condition{{Field: "account", Values: []string{"south"}}}}}},
	} {
		for _, chunk := range []int{0, 1} {
			w.Load(t, d)
			w.chunk = chunk
			c := w.open(t)
			label := fmt.Sprintf("%s, chunk %d", name, chunk)
			r := ruling{entity: "customers", rule: deletes("left_on"), cut: connectors.Cut{Before: cutAt, Zone: time.UTC}, held: held}
			w.dueNow(t, c, r, d, label)
			w.swept(t, r, sweep(t, c, r), label)
			require.NoError(t, c.Close())
		}
	}
}
