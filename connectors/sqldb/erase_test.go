package sqldb_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

func customers() connectors.Entity {
	return connectors.Entity{
		Name: "customers", Subject: true, Teaches: true, Erase: dsr.Delete,
		Fields: []connectors.Field{idField("email", "email"), idField("id", "user_id"), {Name: "name"}},
	}
}

const helpdesk = `
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200) NOT NULL, name VARCHAR(100));
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id BIGINT NOT NULL REFERENCES customers (id), note VARCHAR(200));
CREATE TABLE order_lines (id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL REFERENCES orders (id), what VARCHAR(50));
CREATE TABLE messages (id BIGINT PRIMARY KEY, sender_id BIGINT REFERENCES customers (id), recipient_id BIGINT REFERENCES customers (id), body VARCHAR(500));
INSERT INTO customers VALUES (1, 'Anna@Example.com', 'Anna'), (2, 'bo@example.com', 'Bo'), (42, 'cy@example.com', 'Cy');
INSERT INTO orders VALUES (10, 1, 'a'), (11, 1, 'b'), (12, 2, 'c');
INSERT INTO order_lines VALUES (100, 10, 'x'), (101, 10, 'y'), (102, 12, 'z');
INSERT INTO messages VALUES (1, 1, 2, 'from anna@example.com'), (2, 2, 1, 'hi'), (3, 1, 1, 'self'), (4, 2, 42, 'about ANNA@example.com.'), (5, 1, NULL, 'draft');
`

func helpdeskMap() []connectors.Entity {
	return []connectors.Entity{
		customers(),
		{Name: "orders", OwnedBy: []connectors.Owner{owner("customer_id", "customers")}, Erase: dsr.Delete},
		{Name: "order_lines", OwnedBy: []connectors.Owner{owner("order_id", "orders")}, Erase: dsr.Delete},
		{
			Name: "messages", Erase: dsr.Delete, Mentions: []string{"body"},
			OwnedBy: []connectors.Owner{owner("sender_id", "customers"), owner("recipient_id", "customers")},
			OnOwnerErased: map[string]map[string]mask.Spec{
				"sender_id": {"sender_id": null}, "recipient_id": {"recipient_id": null},
			},
		},
	}
}

func TestASubjectIsErasedWithAllThatOnlyTheyOwn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		anna := subject("a", "email", "anna@example.com")
		require.Equal(t, []string{
			"a customers delete 1", "a messages delete 2", "a messages redact 1", "a messages release 2",
			"a order_lines delete 2", "a orders delete 2",
		}, f.located(db, connectors.Query{Batch: connectors.Batch{anna}}))
		j := f.erase(db, anna)
		require.Equal(t, []string{"2", "42"}, f.rows("SELECT id FROM customers ORDER BY id"))
		require.Equal(t, []string{"12"}, f.rows("SELECT id FROM orders ORDER BY id"))
		require.Equal(t, []string{"102"}, f.rows("SELECT id FROM order_lines ORDER BY id"))
		require.Equal(t, []string{
			"1|NULL|2|from [redacted]", "2|2|NULL|hi", "4|2|42|about [redacted].",
		}, f.rows("SELECT * FROM messages ORDER BY id"))
		require.Equal(t, map[string]int64{
			"customers delete": 1, "messages delete": 2, "messages redact": 1, "messages release": 2,
			"order_lines delete": 2, "orders delete": 2,
		}, j.sum())
		require.Empty(t, f.erase(db, anna).sum(), "twice is once")
	})
}

func TestLearnedIdentifiersComeFromTeachingEntities(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		l, err := db.Locate(context.Background(), connectors.Query{
			Batch: connectors.Batch{subject("a", "email", "anna@example.com"), subject("c", "user_id", "42")}, Teaching: true,
		})
		require.NoError(t, err)
		got := map[string]string{}
		for _, learned := range l.Learned {
			got[learned.Subject+" "+learned.Identifier.Name] = learned.Identifier.Value.Reveal()
		}
		require.Equal(t, map[string]string{"a user_id": "1", "c email": "cy@example.com"}, got)
	})
}

func TestExportShowsWhatErasureTouches(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		got := f.export(db, subject("a", "email", "anna@example.com"), subject("c", "user_id", "42"))
		require.Equal(t, map[string][]string{
			"a": {
				"customers: id=1, email=Anna@Example.com, name=Anna",
				"messages: id=1, sender_id=1, recipient_id=2, body=from anna@example.com",
				"messages: id=2, sender_id=2, recipient_id=1, body=hi",
				"messages: id=3, sender_id=1, recipient_id=1, body=self",
				"messages: id=4, sender_id=2, recipient_id=42, body=about ANNA@example.com.",
				"messages: id=5, sender_id=1, recipient_id=<nil>, body=draft",
				"order_lines: id=100, order_id=10, what=x",
				"order_lines: id=101, order_id=10, what=y",
				"orders: id=10, customer_id=1, note=a",
				"orders: id=11, customer_id=1, note=b",
			},
			"c": {
				"customers: id=42, email=cy@example.com, name=Cy",
				"messages: id=4, sender_id=2, recipient_id=42, body=about ANNA@example.com.",
			},
		}, got)
	})
}
