package engine_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

// shopSchema is a shop with a person, rows that go, a row that must be kept, and messages between two owners.
const shopSchema = `
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);
CREATE TABLE carts (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), content TEXT);
CREATE INDEX carts_customer ON carts (customer_id);
CREATE TABLE messages (id INTEGER PRIMARY KEY, sender_id INTEGER REFERENCES customers (id), recipient_id INTEGER REFERENCES customers (id), body TEXT);
CREATE INDEX messages_sender ON messages (sender_id);
CREATE INDEX messages_recipient ON messages (recipient_id);
`

const shopRows = `
INSERT INTO customers VALUES (1, 'Ada@example.com', 'Ada'), (2, 'bob@example.com', 'Bob'), (3, 'cy@example.com', 'Cy');
INSERT INTO carts VALUES (10, 1, 'tea'), (11, 1, 'cups'), (12, 2, 'milk');
INSERT INTO messages VALUES (20, 1, 2, 'hello'), (21, 2, 3, 'psst'), (22, 1, 1, 'note to self');
`

const shopMap = `
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers:
  email: {kind: email}
  user_id: {kind: opaque}
art15:
  purposes: running the shop
  recipients: {not_applicable: true}
  period: until the account is closed
  rights: see our privacy page
  complaint: the data protection authority
  source: yourself
  automated_decisions: {not_applicable: true}
  transfers: {not_applicable: true}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP}
    entities:
      customers:
        subject: true
        teaches: true
        fields:
          id: {identifier: user_id}
          email: {identifier: email, category: user.contact.email}
          name: {category: user.name}
        erase: delete
      carts:
        owned_by: {customer_id: customers}
        fields: {content: {category: user.content}}
        erase: delete
      messages:
        owned_by: {sender_id: customers, recipient_id: customers}
        on_owner_erased: {sender_id: {sender_id: null}, recipient_id: {recipient_id: null}}
        fields: {body: {category: user.content}}
        erase: delete
`

func TestErasureToItsVerifiedEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		shop := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, url, map[string]string{"SHOP": shop.url}, nil)
		h.activate(shopMap)

		r := h.file(dsr.Erasure, "ADA@example.com ")
		h.drain()
		h.wants(r.ID, dsr.AwaitingReview)
		require.EqualValues(t, 3, shop.count("SELECT count(*) FROM customers"), "nothing changes before approval")
		h.approve(r.ID)
		h.drain()

		h.wants(r.ID, dsr.Completed)
		require.Zero(t, shop.count("SELECT count(*) FROM customers WHERE id = 1"))
		require.Zero(t, shop.count("SELECT count(*) FROM carts WHERE customer_id = 1"))
		require.EqualValues(t, 2, shop.count("SELECT count(*) FROM customers"))
		require.EqualValues(t, 1, shop.count("SELECT count(*) FROM messages WHERE id = 20 AND sender_id IS NULL AND recipient_id = 2"))
		require.Zero(t, shop.count("SELECT count(*) FROM messages WHERE id = 22"), "a message to oneself goes")
		require.Equal(t, map[string]int64{
			"shop.customers.delete": 1, "shop.carts.delete": 2, "shop.messages.delete": 1, "shop.messages.release": 1,
		}, h.receipts(r.ID))
	})
}

func TestAccessToItsPackage(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		shop := sqliteTarget(t, shopSchema+shopRows)
		h := open(t, url, map[string]string{"SHOP": shop.url}, nil)
		h.activate(shopMap)

		r := h.file(dsr.Access, "ada@example.com")
		h.drain()
		h.approve(r.ID)
		h.drain()

		h.wants(r.ID, dsr.Completed)
		info, err := h.PackageInfo(t.Context(), filer, r.ID)
		require.NoError(t, err)
		require.EqualValues(t, 5, info.Records)
		link, err := h.PackageLink(t.Context(), filer, r.ID)
		require.NoError(t, err)
		p, err := h.OpenPackage(t.Context(), link.Token)
		require.NoError(t, err)
		zip, err := io.ReadAll(p)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		require.NotEmpty(t, zip)
		_, err = h.OpenPackage(t.Context(), link.Token)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeNotFound}, "a link works once")
		require.Equal(t, map[string]int64{
			"shop.customers.export": 1, "shop.carts.export": 2, "shop.messages.export": 2,
		}, h.receipts(r.ID))
	})
}
