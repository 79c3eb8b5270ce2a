package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/memory"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// memoryShop is the shop of shopSchema in the reference connector.
func memoryShop(people int) *memory.Store {
	column := func(name string, class connectors.ColumnClass) connectors.Column {
		return connectors.Column{Name: name, Class: class, Type: string(class), Nullable: name != "id", HasText: class == connectors.ClassText}
	}
	integer, text := connectors.ClassInteger, connectors.ClassText
	refer := func(columns ...string) (rs []connectors.Reference) {
		for _, c := range columns {
			rs = append(rs, connectors.Reference{Name: c, Columns: []string{c}, Entity: "customers", References: []string{"id"}})
		}
		return rs
	}
	table := func(name string, references []connectors.Reference, columns ...connectors.Column) memory.Table {
		t := memory.Table{EntitySchema: connectors.EntitySchema{
			Name: name, Columns: columns, PrimaryKey: []string{"id"}, References: references,
		}}
		for _, r := range references {
			t.Indexes = append(t.Indexes, r.Columns)
		}
		return t
	}
	customers := table("customers", nil, column("id", integer), column("email", text), column("name", text))
	carts := table("carts", refer("customer_id"), column("id", integer), column("customer_id", integer), column("content", text))
	carts.Columns[1].Nullable = false
	messages := table("messages", refer("sender_id", "recipient_id"),
		column("id", integer), column("sender_id", integer), column("recipient_id", integer), column("body", text))
	for i := range int64(people) {
		customers.Rows = append(customers.Rows, memory.Row{"id": i, "email": fmt.Sprintf("p%d@example.com", i), "name": "P"})
		carts.Rows = append(carts.Rows, memory.Row{"id": i, "customer_id": i, "content": "x"})
		messages.Rows = append(messages.Rows, memory.Row{"id": i, "sender_id": i, "recipient_id": (i + 1) % int64(people), "body": "x"})
	}
	return memory.NewStore(customers, carts, messages)
}

// The engine's promises do not depend on the connector: the reference one keeps them too, in a batch of many.
func TestManyAtOnceInMemory(t *testing.T) {
	t.Parallel()
	const people = 300
	s := memoryShop(people)
	h := open(t, dbtest.SQLite(t), nil, func(c *engine.Config) {
		auto(c)
		c.Kinds = append(c.Kinds, memory.Kind(s))
		c.Policy.BatchSize = 120
	})
	h.activate(strings.Replace(shopMap, "connector: sqlite\n    dsn: ${SHOP}", "connector: memory", 1))
	var ids []string
	for i := range people - 1 {
		kind := dsr.Erasure
		if i%10 == 0 {
			ids = append(ids, h.file(dsr.Access, fmt.Sprintf("p%d@example.com", i)).ID)
		}
		ids = append(ids, h.file(kind, fmt.Sprintf("p%d@example.com", i)).ID)
	}
	h.drain()
	sum := map[string]int64{}
	for _, id := range ids {
		h.wants(id, dsr.Completed)
		for k, n := range h.receipts(id) {
			sum[k] += n
		}
	}
	left := s.Dump()
	require.Len(t, left["customers"], 1)
	require.Len(t, left["carts"], 1)
	require.EqualValues(t, people-1, sum["shop.customers.delete"])
	require.EqualValues(t, people-1, sum["shop.carts.delete"])
	require.EqualValues(t, people-len(left["messages"]), sum["shop.messages.delete"])
	require.Len(t, left["messages"], 2, "each has an owner who stays")
	require.EqualValues(t, 30, sum["shop.customers.export"])
}
