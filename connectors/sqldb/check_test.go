package sqldb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/mask"
)

// cleanSchema and cleanSystem fit each other: Check finds nothing to say about them.
const cleanSchema = `
CREATE TABLE customers (
  id INTEGER PRIMARY KEY, email VARCHAR(200) NOT NULL UNIQUE, name VARCHAR(200) NOT NULL, phone VARCHAR(40), age INTEGER
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, note VARCHAR(2000), total NUMERIC(10,2) NOT NULL, status VARCHAR(20) NOT NULL,
  FOREIGN KEY (customer_id) REFERENCES customers (id)
);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, sender_id INTEGER, recipient_id INTEGER, body VARCHAR(2000) NOT NULL,
  FOREIGN KEY (sender_id) REFERENCES customers (id), FOREIGN KEY (recipient_id) REFERENCES customers (id)
);
CREATE INDEX messages_sender ON messages (sender_id);
CREATE INDEX messages_recipient ON messages (recipient_id);
CREATE TABLE comments (id INTEGER PRIMARY KEY, target_type VARCHAR(20) NOT NULL, target_id INTEGER NOT NULL, text_ VARCHAR(500));
CREATE INDEX comments_target ON comments (target_id);
CREATE TABLE products (id INTEGER PRIMARY KEY, sku VARCHAR(20))
`

func cleanSystem() *connectors.System {
	null := mask.Spec{Kind: mask.Null}
	return &connectors.System{
		Name:        "shop",
		Identifiers: map[string]dsr.IdentifierKind{"email": dsr.KindEmail, "user_id": dsr.KindOpaque},
		Ignored:     map[string]string{},
		Entities: []connectors.Entity{
			{
				Name: "comments", Erase: dsr.Delete, Mentions: []string{"text_"},
				OwnedBy: []connectors.Owner{
					{Columns: []string{"target_id"}, Entity: "customers", When: &connectors.Discriminator{Column: "target_type", Value: "customer"}},
					{Columns: []string{"target_id"}, Entity: "orders", When: &connectors.Discriminator{Column: "target_type", Value: "order"}},
				},
			},
			{
				Name: "customers", Subject: true, Teaches: true, Erase: dsr.Delete, NotPersonal: []string{"age"},
				Fields: []connectors.Field{
					{Name: "email", Identifier: "email", Category: "user.contact.email"},
					{Name: "id", Identifier: "user_id"},
					{Name: "name", Category: "user.name"},
					{Name: "phone", Category: "user.contact.phone_number"},
				},
				Anchor: map[string]mask.Spec{
					"email": {Kind: mask.Random}, "name": {Kind: mask.Constant, Value: "Former customer"}, "phone": null,
				},
			},
			{
				Name: "messages", Erase: dsr.Delete, Mentions: []string{"body"},
				OwnedBy: []connectors.Owner{
					{Columns: []string{"sender_id"}, Entity: "customers"}, {Columns: []string{"recipient_id"}, Entity: "customers"},
				},
				OnOwnerErased: map[string]map[string]mask.Spec{"sender_id": {"sender_id": null}, "recipient_id": {"recipient_id": null}},
			},
			{
				Name: "orders", Fields: []connectors.Field{{Name: "note", Category: "user.content"}, {Name: "total", Category: "user.financial"}},
				OwnedBy: []connectors.Owner{{Columns: []string{"customer_id"}, Entity: "customers"}}, NotPersonal: []string{"status"},
				Keep: &connectors.Keep{Article: "17(3)(b)", Statute: "Bokföringslag 7:2"}, Erase: dsr.Keep,
				Masks: map[string]mask.Spec{"note": {Kind: mask.Redact}},
			},
		},
	}
}

var backends = map[string]func(testing.TB) string{postgres: dbtest.Postgres, mariadb: dbtest.MariaDB, sqlite: dbtest.SQLite}

// check runs statements on a fresh database and checks a map against it.
func check(t *testing.T, backend string, s *connectors.System, statements ...string) []connectors.Finding {
	t.Helper()
	url := backends[backend](t)
	raw := openRaw(t, url)
	for _, st := range statements {
		execAll(t, raw, st)
	}
	return checkURL(t, backend, url, s)
}

func checkURL(t *testing.T, backend, url string, s *connectors.System) []connectors.Finding {
	t.Helper()
	s.Connector, s.Settings = backend, map[string]any{"dsn": url}
	db, err := Open(context.Background(), s, connectors.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	found, err := db.Check(context.Background())
	require.NoError(t, err)
	return found
}

func TestCleanMapYieldsNoFinding(t *testing.T) {
	t.Parallel()
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, check(t, backend, cleanSystem(), cleanSchema))
		})
	}
}

// field returns a pointer into the system's entity, so that a case can change it.
func entityOf(s *connectors.System, name string) *connectors.Entity { return s.Entity(name) }

// defect is one way in which a map and a database do not fit, and the finding that says so.
type defect struct {
	code   string
	on     string // backends; empty is all
	entity string
	field  string
	warn   bool
	sql    string
	edit   func(s *connectors.System)
	rows   string // of the subject of cleanRows, in the tables that sql makes
	bites  string // the reason of needs_attention when a warning comes true with those rows; empty when it cannot
	rule   string // that the finding is about
	fails  string // with what the rule's sweep fails although it did what it could; empty when it does not
}

var defects = []defect{
	{code: connectors.FindUnknownTable, entity: "orders", edit: func(s *connectors.System) { entityOf(s, "orders").Source = "order" }},
	{code: connectors.FindUnknownColumn, entity: "orders", field: "notes", edit: func(s *connectors.System) {
		entityOf(s, "orders").Fields[0].Name = "notes"
	}},
	{code: FindUnmappedColumn, entity: "orders", field: "note", edit: func(s *connectors.System) {
		e := entityOf(s, "orders")
		e.Fields, e.Masks = e.Fields[1:], nil
	}},
	{code: FindUnmappedColumn, entity: "customers", field: "nickname", sql: "ALTER TABLE customers ADD nickname VARCHAR(50)"},
	{
		code: FindUnmappedColumn, entity: "customers", field: "shout", warn: true, on: "postgres mariadb",
		sql: "ALTER TABLE customers ADD shout VARCHAR(200) GENERATED ALWAYS AS (upper(name)) STORED",
	},
	{
		code: connectors.FindUnmappedTable, entity: "wishes",
		sql: "CREATE TABLE wishes (id INTEGER PRIMARY KEY, c INTEGER, FOREIGN KEY (c) REFERENCES customers (id))",
	},
	{
		code: connectors.FindUnmappedTable, entity: "wish_items",
		sql: "CREATE TABLE wishes (id INTEGER PRIMARY KEY, c INTEGER, FOREIGN KEY (c) REFERENCES customers (id));\n" +
			"CREATE TABLE wish_items (id INTEGER PRIMARY KEY, w INTEGER, FOREIGN KEY (w) REFERENCES wishes (id))",
	},
	{code: connectors.FindUnmappedTable, entity: "newsletter", sql: "CREATE TABLE newsletter (id INTEGER PRIMARY KEY, email VARCHAR(100))"},
	{code: connectors.FindUnmappedTable, entity: "visits", sql: "CREATE TABLE visits (id INTEGER PRIMARY KEY, userId INTEGER, at DATE)"},
	{code: FindStaleIgnore, entity: "gone", warn: true, edit: func(s *connectors.System) { s.Ignored["gone"] = "empty" }},
	{code: FindViewMapped, entity: "orders", sql: "CREATE VIEW all_orders AS SELECT * FROM orders", edit: func(s *connectors.System) {
		entityOf(s, "orders").Source = "all_orders"
		s.Ignored["orders"] = "read through a view"
	}},
	{code: FindMaterializedView, on: postgres, entity: "mails", sql: "CREATE MATERIALIZED VIEW mails AS SELECT email FROM customers"},
	{code: FindTenantColumn, entity: "orders", edit: func(s *connectors.System) {
		s.TenantName = "account"
		for _, e := range []string{"customers", "messages", "comments"} {
			entityOf(s, e).Shared = true
		}
	}},
	{
		code: FindNoPrimaryKey, entity: "logins", warn: true, on: "postgres sqlite",
		sql:  "CREATE TABLE logins (c INTEGER NOT NULL, at DATE);\nCREATE INDEX logins_c ON logins (c)",
		edit: addLoginsWithoutID, rows: "INSERT INTO logins (c, at) VALUES (1, '2026-01-01')",
	},
	{
		code: FindNoPrimaryKey, entity: "logins", on: mariadb,
		sql:  "CREATE TABLE logins (c INTEGER NOT NULL, at DATE);\nCREATE INDEX logins_c ON logins (c)",
		edit: addLogins,
	},
	{
		code: FindNotTransactional, entity: "logins", on: mariadb,
		sql:  "CREATE TABLE logins (id INT PRIMARY KEY, c INTEGER NOT NULL, at DATE, KEY (c)) ENGINE=MyISAM",
		edit: addLogins,
	},
	{
		code: FindPartitionMapped, entity: "logins", warn: true, on: postgres,
		sql: "CREATE TABLE all_logins (c INTEGER NOT NULL, at DATE NOT NULL, PRIMARY KEY (c, at)) PARTITION BY RANGE (at);\n" +
			"CREATE TABLE logins PARTITION OF all_logins FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')",
		edit: addLoginsWithoutID, rows: "INSERT INTO logins (c, at) VALUES (1, '2026-01-01')",
	},
	{
		code: FindTrigger, entity: "orders", warn: true, on: sqlite,
		sql: "CREATE TRIGGER watch AFTER DELETE ON orders BEGIN SELECT 1; END",
	},
	{
		code: FindTrigger, entity: "orders", warn: true, on: mariadb,
		sql: "CREATE TRIGGER watch BEFORE UPDATE ON orders FOR EACH ROW SET NEW.note = NEW.note",
	},
	{
		code: FindTrigger, entity: "orders", warn: true, on: postgres,
		sql: "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\n" +
			"CREATE TRIGGER watch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION noop()",
	},
	{code: FindCompositeAsText, entity: "orders", field: "id, customer_id", edit: func(s *connectors.System) {
		entityOf(s, "orders").OwnedBy[0].Columns = []string{"id, customer_id"}
	}},
	{code: FindWrongReference, entity: "orders", field: "customer_id", edit: func(s *connectors.System) {
		entityOf(s, "orders").OwnedBy[0].Entity = "messages"
	}},
	{code: FindWrongReference, entity: "orders", field: "customer_id", edit: func(s *connectors.System) {
		entityOf(s, "orders").OwnedBy[0].References = []string{"id", "email"}
	}},
	{code: FindWrongReference, entity: "orders", field: "customer_id", edit: func(s *connectors.System) {
		entityOf(s, "orders").OwnedBy[0].Entity = "nobody"
	}},
	{code: FindReferenceType, entity: "orders", field: "customer_id", edit: func(s *connectors.System) {
		entityOf(s, "orders").OwnedBy[0].References = []string{"email"}
	}},
	{code: FindIdentifierType, entity: "customers", field: "age", edit: func(s *connectors.System) {
		e := entityOf(s, "customers")
		e.Fields = append(e.Fields, connectors.Field{Name: "age", Identifier: "email"})
	}},
	{
		code: FindUnindexedReference, entity: "logins", field: "c", on: "postgres sqlite",
		sql: "CREATE TABLE logins (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE)", edit: addLogins,
	},
	{
		code: FindUnindexedReference, entity: "logins", field: "c", on: mariadb,
		sql: "CREATE TABLE logins (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE)", edit: addLogins,
	},
	{ // an index on the type alone
		code: FindUnindexedReference, entity: "comments", field: "target_id", on: "postgres sqlite",
		sql: "DROP INDEX comments_target;\nCREATE INDEX comments_type ON comments (target_type)",
	},
	{
		code: FindUnindexedReference, entity: "comments", field: "target_id", on: mariadb,
		sql: "DROP INDEX comments_target ON comments;\nCREATE INDEX comments_type ON comments (target_type)",
	},
	{
		code: FindUnindexedReference, entity: "badges", field: "c", warn: true, on: "postgres sqlite",
		sql:  "CREATE TABLE badges (id INTEGER PRIMARY KEY, c INTEGER, FOREIGN KEY (c) REFERENCES customers (id) ON DELETE SET NULL)",
		edit: func(s *connectors.System) { s.Ignored["badges"] = "nothing personal" },
		rows: "INSERT INTO badges (id, c) VALUES (51, 1)",
	},
	{code: FindUnindexedIdentifier, entity: "customers", field: "phone", warn: true, edit: func(s *connectors.System) {
		s.Identifiers["phone"] = dsr.KindPhone
		entityOf(s, "customers").Fields[3].Identifier = "phone"
	}},
	{
		code: FindUnknownDiscriminator, entity: "comments", field: "target_type",
		sql: "INSERT INTO comments (id, target_type, target_id) VALUES (1, 'ticket', 1)",
	},
	{
		code: FindUndeclaredReference, entity: "messages", field: "sender_id",
		edit: func(s *connectors.System) {
			e := entityOf(s, "messages")
			e.OwnedBy, e.OnOwnerErased, e.NotPersonal = e.OwnedBy[1:], nil, []string{"sender_id"}
		},
	},
	{
		code: FindUndeclaredReference, entity: "badges", field: "c",
		sql:  "CREATE TABLE badges (id INTEGER PRIMARY KEY, c INTEGER, FOREIGN KEY (c) REFERENCES customers (id))",
		edit: func(s *connectors.System) { s.Ignored["badges"] = "nothing personal" },
	},
	{
		code: FindUndeclaredReference, entity: "badges", field: "c", warn: true,
		sql: "CREATE TABLE badges (id INTEGER PRIMARY KEY, c INTEGER, FOREIGN KEY (c) REFERENCES customers (id) ON DELETE CASCADE);\n" +
			"CREATE INDEX badges_c ON badges (c)",
		edit: func(s *connectors.System) { s.Ignored["badges"] = "nothing personal" },
		rows: "INSERT INTO badges (id, c) VALUES (51, 1)",
	},
	{code: FindNoOwner, entity: "products", edit: func(s *connectors.System) {
		s.Entities = append(s.Entities, connectors.Entity{
			Name: "products", Erase: dsr.Delete, Fields: []connectors.Field{{Name: "sku", Category: "user.content"}},
		})
	}},
	{
		code: FindNullableOnlyPath, entity: "logins", field: "c",
		sql:  "CREATE TABLE logins (id INTEGER PRIMARY KEY, c INTEGER, at DATE);\nCREATE INDEX logins_c ON logins (c)",
		edit: addLogins,
	},
	{code: FindNullableOnlyPath, entity: "messages", edit: func(s *connectors.System) {
		entityOf(s, "messages").OnOwnerErased = nil
	}, field: "sender_id, recipient_id"},
	{code: FindKeptWithoutAnchor, entity: "orders", field: "customer_id", edit: func(s *connectors.System) {
		entityOf(s, "customers").Anchor = nil
	}},
	{
		code: FindKeptWithoutAnchor, entity: "chats", field: "a", warn: true,
		sql: "CREATE TABLE chats (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b INTEGER NOT NULL, FOREIGN KEY (a) REFERENCES customers (id)," +
			" FOREIGN KEY (b) REFERENCES customers (id));\nCREATE INDEX c1 ON chats (a);\nCREATE INDEX c2 ON chats (b)",
		edit: func(s *connectors.System) {
			entityOf(s, "customers").Anchor = nil
			orders := entityOf(s, "orders")
			orders.Keep, orders.Masks, orders.Erase = nil, nil, dsr.Delete
			s.Entities = append(s.Entities, connectors.Entity{Name: "chats", Erase: dsr.Delete, OwnedBy: []connectors.Owner{
				{Columns: []string{"a"}, Entity: "customers"}, {Columns: []string{"b"}, Entity: "customers"},
			}})
		},
		rows:  "INSERT INTO chats (id, a, b) VALUES (41, 1, 2);\nINSERT INTO chats (id, a, b) VALUES (42, 1, 1)",
		bites: "database-constraint",
	},
	{
		code: FindBlockedDeletion, entity: "logins", field: "c",
		sql: "CREATE TABLE logins (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE, FOREIGN KEY (c) REFERENCES customers (id));\n" +
			"CREATE INDEX logins_c ON logins (c)",
		edit: func(s *connectors.System) {
			addLogins(s)
			entityOf(s, "logins").OwnedBy = nil
		},
	},
	{
		code: FindBlockedDeletion, entity: "logins", field: "c",
		sql: "CREATE TABLE logins (id INTEGER PRIMARY KEY, c INTEGER NOT NULL, at DATE, FOREIGN KEY (c) REFERENCES customers (id)" +
			" ON DELETE CASCADE);\nCREATE INDEX logins_c ON logins (c)",
		edit: func(s *connectors.System) {
			addLogins(s)
			entityOf(s, "logins").OwnedBy = nil
		},
	},
	{code: connectors.FindMask, entity: "orders", field: "status", edit: func(s *connectors.System) { // taken out of somebody else's row
		e := entityOf(s, "orders")
		e.NotPersonal, e.Keep, e.Masks, e.Erase = nil, nil, nil, dsr.Delete
		e.Fields = append(e.Fields, connectors.Field{Name: "status", Identifier: "email"})
	}},
	{
		code: FindCycle, entity: "ring_a", on: "postgres",
		sql: "CREATE TABLE ring_a (id INTEGER PRIMARY KEY, b INTEGER NOT NULL, c INTEGER NOT NULL);\n" +
			"CREATE TABLE ring_b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES ring_a (id));\n" +
			"ALTER TABLE ring_a ADD FOREIGN KEY (b) REFERENCES ring_b (id);\n" +
			"CREATE INDEX i1 ON ring_a (b);\nCREATE INDEX i2 ON ring_b (a);\nCREATE INDEX i3 ON ring_a (c)",
		edit: addRing,
	},
	{
		code: FindCycle, entity: "ring_a", on: "mariadb",
		sql: "CREATE TABLE ring_a (id INTEGER PRIMARY KEY, b INTEGER NOT NULL, c INTEGER NOT NULL, KEY (c));\n" +
			"CREATE TABLE ring_b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, FOREIGN KEY (a) REFERENCES ring_a (id));\n" +
			"ALTER TABLE ring_a ADD FOREIGN KEY (b) REFERENCES ring_b (id)",
		edit: addRing,
	},
	{code: connectors.FindMask, entity: "customers", field: "age", edit: func(s *connectors.System) { // text on an integer
		entityOf(s, "customers").Anchor["age"] = mask.Spec{Kind: mask.Constant, Value: "unknown"}
	}},
	{code: connectors.FindMask, entity: "customers", field: "name", edit: func(s *connectors.System) { // NULL on NOT NULL
		entityOf(s, "customers").Anchor["name"] = mask.Spec{Kind: mask.Null}
	}},
	{code: connectors.FindMask, entity: "customers", field: "email", edit: func(s *connectors.System) { // constant on UNIQUE
		entityOf(s, "customers").Anchor["email"] = mask.Spec{Kind: mask.Constant, Value: "nobody@example.com"}
	}},
	{code: connectors.FindMask, entity: "customers", field: "phone", edit: func(s *connectors.System) { // too long
		entityOf(s, "customers").Anchor["phone"] = mask.Spec{Kind: mask.Constant, Value: strings.Repeat("0", 41)}
	}},
	{
		code: connectors.FindMask, entity: "customers", field: "loud", on: "postgres mariadb", // generated
		sql: "ALTER TABLE customers ADD loud VARCHAR(200) GENERATED ALWAYS AS (upper(name)) STORED",
		edit: func(s *connectors.System) {
			entityOf(s, "customers").Anchor["loud"] = mask.Spec{Kind: mask.Constant, Value: "x"}
		},
	},
	{
		code: connectors.FindMask, entity: "customers", field: "mood", on: postgres, // not in the enum
		sql:  "CREATE TYPE mood AS ENUM ('glad', 'sad');\nALTER TABLE customers ADD mood mood",
		edit: moodMask(mask.Spec{Kind: mask.Constant, Value: "none"}),
	},
	{
		code: connectors.FindMask, entity: "customers", field: "mood", on: mariadb,
		sql:  "ALTER TABLE customers ADD mood ENUM('glad', 'sad')",
		edit: moodMask(mask.Spec{Kind: mask.Random}),
	},
	{
		code: connectors.FindMask, entity: "customers", field: "mood", on: sqlite,
		sql:  "ALTER TABLE customers ADD mood TEXT CHECK (mood IN ('glad', 'sad'))",
		edit: moodMask(mask.Spec{Kind: mask.Random}),
	},
	{
		code: connectors.FindMask, entity: "customers", field: "mood", on: postgres, // a domain's constraint
		sql:  "CREATE DOMAIN score AS int CHECK (VALUE > 0);\nALTER TABLE customers ADD mood score",
		edit: moodMask(mask.Spec{Kind: mask.Constant, Value: "-1"}),
	},
	{
		code: connectors.FindMask, entity: "customers", field: "mood", // a CHECK constraint
		sql:  "ALTER TABLE customers ADD mood INTEGER CHECK (mood > 0)",
		edit: moodMask(mask.Spec{Kind: mask.Constant, Value: "-1"}),
	},
	{
		code: FindMaskUnproven, entity: "customers", field: "mood", warn: true,
		sql:  "ALTER TABLE customers ADD mood INTEGER CHECK (mood > 0)",
		edit: moodMask(mask.Spec{Kind: mask.Random}),
	},
	{code: connectors.FindMask, entity: "customers", field: "id", edit: func(s *connectors.System) { // the primary key
		entityOf(s, "customers").Anchor["id"] = mask.Spec{Kind: mask.Random}
	}},
	{code: connectors.FindMask, entity: "orders", field: "customer_id", edit: func(s *connectors.System) { // a reference
		entityOf(s, "orders").Masks["customer_id"] = mask.Spec{Kind: mask.Random}
	}},
	{code: connectors.FindMask, entity: "orders", field: "total", edit: func(s *connectors.System) { // mentions in a number
		entityOf(s, "orders").Mentions = []string{"total"}
	}},
	{code: FindUnmaskedField, entity: "customers", field: "phone", edit: func(s *connectors.System) {
		delete(entityOf(s, "customers").Anchor, "phone")
	}},
}

func addLogins(s *connectors.System) {
	s.Entities = append(s.Entities, connectors.Entity{
		Name: "logins", Erase: dsr.Delete, NotPersonal: []string{"id", "at"}, Mentions: nil,
		OwnedBy: []connectors.Owner{{Columns: []string{"c"}, Entity: "customers"}},
		// A row that also opens something for its customer is no leaf.
		AccessedBy: []connectors.Owner{{Columns: []string{"c"}, Entity: "customers"}},
		Fields:     []connectors.Field{{Name: "at", Category: "user.behavior"}},
	})
}

func addLoginsWithoutID(s *connectors.System) {
	addLogins(s)
	entityOf(s, "logins").NotPersonal = nil
}

func addRing(s *connectors.System) {
	s.Entities = append(
		s.Entities,
		connectors.Entity{Name: "ring_a", Erase: dsr.Delete, OwnedBy: []connectors.Owner{
			{Columns: []string{"c"}, Entity: "customers"}, {Columns: []string{"b"}, Entity: "ring_b"},
		}},
		connectors.Entity{Name: "ring_b", Erase: dsr.Delete, OwnedBy: []connectors.Owner{{Columns: []string{"a"}, Entity: "ring_a"}}},
	)
}

func moodMask(spec mask.Spec) func(*connectors.System) {
	return func(s *connectors.System) { entityOf(s, "customers").Anchor["mood"] = spec }
}

func TestDefectsAreReported(t *testing.T) {
	t.Parallel()
	for i, d := range defects {
		for backend := range backends {
			if d.on != "" && !slices.Contains(strings.Fields(d.on), backend) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d/%s", d.code, i, backend), func(t *testing.T) {
				t.Parallel()
				s := cleanSystem()
				if d.edit != nil {
					d.edit(s)
				}
				found := check(t, backend, s, cleanSchema, d.sql)
				d.requireIn(t, found)
			})
		}
	}
}

// requireIn looks for the finding that the defect yields.
func (d *defect) requireIn(t *testing.T, found []connectors.Finding) {
	t.Helper()
	severity := connectors.Error
	if d.warn {
		severity = connectors.Warning
	}
	require.True(t, slices.ContainsFunc(found, func(f connectors.Finding) bool {
		return f.Code == d.code && f.Entity == d.entity && f.Field == d.field && f.Rule == d.rule && f.Severity == severity &&
			f.Message != "" && f.Hint != ""
	}), "%+v", found)
}
