package sqldb_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// trap is a shape that schemas in the wild have and that erasers fall into.
type trap struct {
	name   string
	only   string // one database
	script string
	// entities are the map; the subject is anna@example.com unless told otherwise.
	entities []connectors.Entity
	subject  connectors.Subject
	// want is what queries return afterwards.
	want map[string][]string
	// tallies of the erasure; nil is not looked at.
	tallies map[string]int64
}

var people = connectors.Entity{
	Name: "people", Subject: true, Erase: dsr.Delete, Fields: []connectors.Field{idField("email", "email"), {Name: "id"}},
}

const peopleTable = `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100));
INSERT INTO people VALUES (1, 'anna@example.com'), (2, 'bo@example.com');
`

func with(e connectors.Entity, change func(e *connectors.Entity)) connectors.Entity {
	change(&e)
	return e
}

var traps = []trap{
	{
		name: "e-mail address as primary key, referred to in another case",
		script: `
CREATE TABLE people (email VARCHAR(100) PRIMARY KEY);
CREATE TABLE posts (id BIGINT PRIMARY KEY, author VARCHAR(100) REFERENCES people (email));
INSERT INTO people VALUES ('Anna@Example.com'), ('bo@example.com');
INSERT INTO posts VALUES (1, 'Anna@Example.com'), (2, 'bo@example.com');
`,
		entities: []connectors.Entity{
			{Name: "people", Subject: true, Fields: []connectors.Field{idField("email", "email")}},
			{Name: "posts", OwnedBy: []connectors.Owner{owner("author", "people")}},
		},
		want: map[string][]string{"SELECT * FROM people": {"bo@example.com"}, "SELECT * FROM posts": {"2|bo@example.com"}},
	},
	{
		name: "address shared by two customers goes with the last",
		script: `
CREATE TABLE addresses (id BIGINT PRIMARY KEY, street VARCHAR(50));
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100), address_id BIGINT REFERENCES addresses (id));
INSERT INTO addresses VALUES (1, 'shared'), (2, 'own');
INSERT INTO people VALUES (1, 'anna@example.com', 1), (2, 'bo@example.com', 1), (3, 'anna@example.com', 2);
`,
		entities: []connectors.Entity{
			with(people, func(e *connectors.Entity) { e.Owns = []connectors.Owner{owner("address_id", "addresses")} }),
			{Name: "addresses"},
		},
		want: map[string][]string{"SELECT id FROM addresses": {"1"}, "SELECT id FROM people": {"2"}},
	},
	{
		name: "self-reference: answers of others stay without their parent",
		script: peopleTable + `
CREATE TABLE comments (id BIGINT PRIMARY KEY, author_id BIGINT REFERENCES people (id), parent_id BIGINT REFERENCES comments (id));
INSERT INTO comments VALUES (1, 1, NULL);
INSERT INTO comments VALUES (2, 1, 1);
INSERT INTO comments VALUES (3, 2, 1);
INSERT INTO comments VALUES (4, 1, 2);
INSERT INTO comments VALUES (5, 2, NULL);
INSERT INTO comments VALUES (6, 1, 5);
`,
		entities: []connectors.Entity{
			people,
			{
				Name: "comments", OwnedBy: []connectors.Owner{owner("author_id", "people"), owner("parent_id", "comments")},
				OnOwnerErased: map[string]map[string]mask.Spec{"parent_id": {"parent_id": null}, "author_id": {"author_id": null}},
			},
		},
		want: map[string][]string{"SELECT * FROM comments ORDER BY id": {"3|2|NULL", "5|2|NULL", "6|NULL|5"}},
	},
	{
		name: "self-reference that is no tie of ownership",
		script: peopleTable + `
CREATE TABLE notes (id BIGINT PRIMARY KEY, author_id BIGINT REFERENCES people (id), previous BIGINT REFERENCES notes (id));
INSERT INTO notes VALUES (1, 1, NULL);
INSERT INTO notes VALUES (2, 1, 1);
INSERT INTO notes VALUES (3, 1, 2);
UPDATE notes SET previous = 3 WHERE id = 1;
`,
		entities: []connectors.Entity{people, {Name: "notes", OwnedBy: []connectors.Owner{owner("author_id", "people")}}},
		want:     map[string][]string{"SELECT * FROM notes": {}, "SELECT id FROM people": {"2"}},
		tallies:  map[string]int64{"notes delete": 3, "people delete": 1},
	},
	{
		name: "cycle of references",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100), favourite BIGINT);
CREATE TABLE orders (id BIGINT PRIMARY KEY, person_id BIGINT NOT NULL REFERENCES people (id));
INSERT INTO people VALUES (1, 'anna@example.com', NULL), (2, 'bo@example.com', NULL);
INSERT INTO orders VALUES (10, 1), (11, 1), (20, 2);
` + "{{people.favourite -> orders}}" + `
UPDATE people SET favourite = 10 WHERE id = 1;
UPDATE people SET favourite = 20 WHERE id = 2;
`,
		entities: []connectors.Entity{people, {Name: "orders", OwnedBy: []connectors.Owner{owner("person_id", "people")}}},
		want:     map[string][]string{"SELECT id FROM orders": {"20"}, "SELECT * FROM people": {"2|bo@example.com|20"}},
	},
	{
		name: "cycle of references that opens at one end only, away from the subject",
		script: peopleTable + `
CREATE TABLE carts (id BIGINT PRIMARY KEY, person_id BIGINT NOT NULL REFERENCES people (id), current_id BIGINT);
CREATE TABLE items (id BIGINT PRIMARY KEY, cart_id BIGINT NOT NULL REFERENCES carts (id));
INSERT INTO carts VALUES (1, 1, NULL), (2, 2, NULL);
INSERT INTO items VALUES (10, 1), (11, 1), (20, 2);
` + "{{carts.current_id -> items}}" + `
UPDATE carts SET current_id = 10 WHERE id = 1;
UPDATE carts SET current_id = 20 WHERE id = 2;
`,
		entities: []connectors.Entity{
			people,
			{Name: "carts", OwnedBy: []connectors.Owner{owner("person_id", "people")}},
			{Name: "items", OwnedBy: []connectors.Owner{owner("cart_id", "carts")}},
		},
		want: map[string][]string{"SELECT id FROM items": {"20"}, "SELECT * FROM carts": {"2|2|20"}},
	},
	{
		name: "composite key",
		script: `
CREATE TABLE people (country VARCHAR(2), id BIGINT, email VARCHAR(100), PRIMARY KEY (country, id));
CREATE TABLE orders (country VARCHAR(2), nr BIGINT, pid BIGINT, PRIMARY KEY (country, nr), FOREIGN KEY (country, pid) REFERENCES people (country, id));
CREATE TABLE order_lines (country VARCHAR(2), nr BIGINT, pos BIGINT, PRIMARY KEY (country, nr, pos), FOREIGN KEY (country, nr) REFERENCES orders (country, nr));
INSERT INTO people VALUES ('se', 1, 'anna@example.com'), ('de', 1, 'bo@example.com');
INSERT INTO orders VALUES ('se', 1, 1), ('de', 1, 1), ('se', 2, 1);
INSERT INTO order_lines VALUES ('se', 1, 1), ('se', 2, 1), ('de', 1, 1);
`,
		entities: []connectors.Entity{
			people,
			{Name: "orders", OwnedBy: []connectors.Owner{{Columns: []string{"country", "pid"}, Entity: "people", References: []string{"country", "id"}}}},
			{Name: "order_lines", OwnedBy: []connectors.Owner{{Columns: []string{"country", "nr"}, Entity: "orders"}}},
		},
		want: map[string][]string{
			"SELECT country, id FROM people": {"de|1"}, "SELECT country, nr FROM orders": {"de|1"}, "SELECT country, nr FROM order_lines": {"de|1"},
		},
	},
	{
		name: "polymorphic reference",
		script: peopleTable + `
CREATE TABLE teams (id BIGINT PRIMARY KEY);
CREATE TABLE files (id BIGINT PRIMARY KEY, owner_type VARCHAR(20), owner_id BIGINT);
INSERT INTO teams VALUES (1);
INSERT INTO files VALUES (1, 'person', 1), (2, 'team', 1), (3, 'person', 2), (4, NULL, 1);
`,
		entities: []connectors.Entity{
			people,
			{Name: "teams"},
			{Name: "files", OwnedBy: []connectors.Owner{
				{Columns: []string{"owner_id"}, Entity: "people", When: &connectors.Discriminator{Column: "owner_type", Value: "person"}},
				{Columns: []string{"owner_id"}, Entity: "teams", When: &connectors.Discriminator{Column: "owner_type", Value: "team"}},
			}},
		},
		want: map[string][]string{"SELECT id FROM files ORDER BY id": {"2", "3", "4"}},
	},
	{
		name: "NOT NULL and UNIQUE under a mask",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100) NOT NULL UNIQUE, code INTEGER NOT NULL UNIQUE);
INSERT INTO people VALUES (1, 'anna@example.com', 7), (2, 'bo@example.com', 8);
`,
		entities: []connectors.Entity{with(people, func(e *connectors.Entity) {
			e.Erase, e.Masks = dsr.Mask, map[string]mask.Spec{"email": random, "code": random}
		})},
		want: map[string][]string{"SELECT id FROM people WHERE email LIKE '%@x.invalid' AND code <> 7": {"1"}, "SELECT * FROM people WHERE id = 2": {"2|bo@example.com|8"}},
	},
	{
		name: "JSON document and integer that hold the identifier",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100));
CREATE TABLE events (id BIGINT PRIMARY KEY, payload {{json}});
INSERT INTO people VALUES (1, 'anna@example.com');
INSERT INTO events VALUES (1, '{"who": {"mail": "ANNA@example.com"}}'), (2, '{"who": "joanna@example.com"}'), (3, '["anna@example.com"]'), (4, NULL);
`,
		entities: []connectors.Entity{people, {Name: "events", Fields: []connectors.Field{idField("payload", "email")}}},
		want:     map[string][]string{"SELECT id FROM events ORDER BY id": {"2", "4"}},
	},
	{
		name: "opaque 42 is integer 42 and text 42, not 042 and not 420",
		script: `
CREATE TABLE a (id BIGINT PRIMARY KEY, who INTEGER);
CREATE TABLE b (id BIGINT PRIMARY KEY, who VARCHAR(20));
INSERT INTO a VALUES (1, 42), (2, 420);
INSERT INTO b VALUES (1, '42'), (2, '042'), (3, '420'), (4, 'x42');
`,
		entities: []connectors.Entity{
			{Name: "a", Fields: []connectors.Field{idField("who", "user_id")}}, {Name: "b", Fields: []connectors.Field{idField("who", "user_id")}},
		},
		subject: subject("s", "user_id", "42"),
		want:    map[string][]string{"SELECT id FROM a": {"2"}, "SELECT id FROM b ORDER BY id": {"2", "3", "4"}},
	},
	{
		name: "UUIDs, telephone numbers and addresses in other spellings",
		script: `
CREATE TABLE a (id BIGINT PRIMARY KEY, u VARCHAR(50), p VARCHAR(50), i VARCHAR(50));
INSERT INTO a VALUES (1, 'C0FFEE00-0000-4000-8000-000000000001', NULL, NULL), (2, 'c0ffee00000040008000000000000001', NULL, NULL);
INSERT INTO a VALUES (3, NULL, '+46 (70) 123-45-67', NULL), (4, NULL, '0046701234567', NULL), (5, NULL, NULL, '10.1.2.3'), (6, 'c0ffee00-0000-4000-8000-000000000002', '+46701234568', '10.1.2.33');
`,
		entities: []connectors.Entity{{Name: "a", Fields: []connectors.Field{idField("u", "uid"), idField("p", "phone"), idField("i", "ip")}}},
		subject:  subject("s", "uid", "c0ffee00-0000-4000-8000-000000000001", "phone", "+46701234567", "ip", "10.1.2.3"),
		want:     map[string][]string{"SELECT id FROM a": {"6"}},
	},
	{
		name: "generated column beside the data",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100), domain_len INTEGER GENERATED ALWAYS AS (length(email)) STORED);
CREATE TABLE notes (id BIGINT PRIMARY KEY, person_id BIGINT, note VARCHAR(50), shout VARCHAR(60) GENERATED ALWAYS AS (upper(note)) STORED);
INSERT INTO people (id, email) VALUES (1, 'anna@example.com');
INSERT INTO notes (id, person_id, note) VALUES (1, 1, 'secret');
`,
		entities: []connectors.Entity{
			with(people, func(e *connectors.Entity) { e.Anchor = map[string]mask.Spec{"email": random} }),
			{Name: "notes", OwnedBy: []connectors.Owner{owner("person_id", "people")}, Keep: &connectors.Keep{Article: "17(3)(b)"}, Masks: map[string]mask.Spec{"note": redact}},
		},
		want:    map[string][]string{"SELECT * FROM notes": {"1|1|[redacted]|[REDACTED]"}, "SELECT id FROM people": {"1"}},
		tallies: map[string]int64{"notes keep": 1, "people anchor": 1},
	},
	{
		name: "several owners through memberships",
		script: peopleTable + `
CREATE TABLE groups_ (id BIGINT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE memberships (person_id BIGINT REFERENCES people (id), group_id BIGINT REFERENCES groups_ (id));
CREATE TABLE posts (id BIGINT PRIMARY KEY, group_id BIGINT NOT NULL REFERENCES groups_ (id));
INSERT INTO groups_ VALUES (1, 'only anna'), (2, 'both'), (3, 'only bo'), (4, 'anna and nobody');
{{key memberships}}
INSERT INTO memberships (person_id, group_id) VALUES (1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (NULL, 4);
INSERT INTO posts VALUES (1, 1), (2, 2), (3, 3), (4, 4);
`,
		entities: []connectors.Entity{
			people,
			{Name: "memberships", OwnedBy: []connectors.Owner{owner("person_id", "people")}, Owns: []connectors.Owner{owner("group_id", "groups_")}},
			{Name: "groups_"},
			{Name: "posts", OwnedBy: []connectors.Owner{owner("group_id", "groups_")}},
		},
		want: map[string][]string{
			"SELECT id FROM groups_ ORDER BY id": {"2", "3"}, "SELECT id FROM posts ORDER BY id": {"2", "3"},
			"SELECT person_id, group_id FROM memberships ORDER BY group_id": {"2|2", "2|3"},
		},
	},
	{
		name: "accessors see and never decide",
		script: peopleTable + `
CREATE TABLE tickets (id BIGINT PRIMARY KEY, owner_id BIGINT, agent_id BIGINT);
INSERT INTO tickets VALUES (1, 2, 1), (2, 1, 2);
`,
		entities: []connectors.Entity{
			people,
			{Name: "tickets", OwnedBy: []connectors.Owner{owner("owner_id", "people")}, AccessedBy: []connectors.Owner{owner("agent_id", "people")}},
		},
		want: map[string][]string{"SELECT id FROM tickets": {"1"}},
	},
	{
		name: "an identifier in somebody else's row is taken out of it",
		script: peopleTable + `
CREATE TABLE orders (id BIGINT PRIMARY KEY, person_id BIGINT REFERENCES people (id), contact VARCHAR(100), must VARCHAR(100) NOT NULL);
INSERT INTO orders VALUES (1, 2, 'ANNA@example.com', 'x@example.com'), (2, 2, NULL, 'anna@example.com'), (3, 1, NULL, ''), (4, NULL, 'anna@example.com', '');
`,
		entities: []connectors.Entity{people, {
			Name: "orders", OwnedBy: []connectors.Owner{owner("person_id", "people")},
			Fields: []connectors.Field{idField("contact", "email"), idField("must", "email")},
		}},
		want: map[string][]string{
			"SELECT id, contact FROM orders ORDER BY id":          {"1|NULL", "2|NULL"},
			"SELECT id FROM orders WHERE must LIKE '%@x.invalid'": {"2"},
			"SELECT id FROM orders WHERE must = 'x@example.com'":  {"1"},
		},
		tallies: map[string]int64{"orders delete": 2, "orders redact": 2, "people delete": 1},
	},
	{
		name: "pseudonymised rows are found under every live key",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100));
CREATE TABLE bookings (id BIGINT PRIMARY KEY, email VARCHAR(100), note VARCHAR(100));
INSERT INTO people VALUES (1, 'anna@example.com');
INSERT INTO bookings VALUES (1, 'Anna@example.com', 'x'), (2, 'bo@example.com', 'y');
`,
		entities: []connectors.Entity{people, {
			Name: "bookings", Fields: []connectors.Field{idField("email", "email")}, Keep: &connectors.Keep{Article: "17(3)(b)"},
			Masks: map[string]mask.Spec{"email": {Kind: mask.HMAC}, "note": constant("gone")},
		}},
		want: map[string][]string{
			"SELECT id, note FROM bookings ORDER BY id":              {"1|gone", "2|y"},
			"SELECT id FROM bookings WHERE email LIKE '%@x.invalid'": {"1"},
		},
	},
	{
		name: "quoted names and another schema", only: "postgres",
		script: `
CREATE SCHEMA "CRM";
CREATE TABLE "CRM"."Order Table" ("Select" BIGINT PRIMARY KEY, "e""mail" VARCHAR(100));
INSERT INTO "CRM"."Order Table" VALUES (1, 'anna@example.com'), (2, 'bo@example.com');
`,
		entities: []connectors.Entity{{Name: "orders", Source: "CRM.Order Table", Subject: true, Fields: []connectors.Field{idField(`e"mail`, "email")}}},
		want:     map[string][]string{`SELECT "Select" FROM "CRM"."Order Table"`: {"2"}},
	},
	{
		name: "a collation that ignores case and accents does not make two people one", only: "mariadb",
		script: `
CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, email VARCHAR(100), KEY (email)) COLLATE utf8mb4_general_ci;
CREATE TABLE notes (id BIGINT PRIMARY KEY, person_id VARCHAR(20), KEY (person_id)) COLLATE utf8mb4_general_ci;
CREATE TABLE logins (id BIGINT PRIMARY KEY, who VARCHAR(20)) COLLATE utf8mb4_general_ci;
INSERT INTO people VALUES ('AbC', 'JOSE@example.com'), ('xyz', 'josé@example.com');
INSERT INTO notes VALUES (1, 'abc'), (2, 'ABC'), (3, 'xyz');
INSERT INTO logins VALUES (1, 'AbC'), (2, 'aBc');
`,
		entities: []connectors.Entity{
			people,
			{Name: "notes", OwnedBy: []connectors.Owner{owner("person_id", "people")}},
			{Name: "logins", Fields: []connectors.Field{idField("who", "user_id")}},
		},
		subject: subject("s", "email", "jose@example.com", "user_id", "AbC"),
		want: map[string][]string{
			"SELECT id FROM people": {"xyz"}, "SELECT id FROM notes": {"3"}, "SELECT id FROM logins": {"2"},
		},
	},
	{
		name: "enum, array and inet columns", only: "postgres",
		script: `
CREATE TYPE who AS ENUM ('anna', 'bo');
CREATE TABLE a (id BIGINT PRIMARY KEY, w who, tags TEXT[], nums BIGINT[], i INET, u UUID);
INSERT INTO a VALUES (1, 'anna', NULL, NULL, NULL, NULL), (2, 'bo', '{x,"ANNA@example.com"}', NULL, NULL, NULL), (3, NULL, '{joanna@example.com}', '{7,4242}', NULL, NULL);
INSERT INTO a VALUES (4, NULL, NULL, '{42}', NULL, NULL), (5, NULL, NULL, NULL, '10.0.0.1', NULL), (6, NULL, NULL, NULL, '10.0.0.2', 'c0ffee00-0000-4000-8000-000000000001'), (7, 'bo', NULL, NULL, '10.0.0.3', NULL);
`,
		entities: []connectors.Entity{{Name: "a", Fields: []connectors.Field{
			idField("w", "user_id"), idField("tags", "email"), idField("nums", "number"), idField("i", "ip"), idField("u", "uid"),
		}}},
		subject: subject("s", "user_id", "anna", "email", "anna@example.com", "number", "42", "ip", "10.0.0.1", "uid", "c0ffee00-0000-4000-8000-000000000001"),
		want:    map[string][]string{"SELECT id FROM a ORDER BY id": {"3", "7"}},
	},
	{
		name: "partitioned table", only: "postgres",
		script: peopleTable + `
CREATE TABLE logins (id BIGINT, at DATE, person_id BIGINT, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE logins_1 PARTITION OF logins FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE logins_2 PARTITION OF logins FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE marks (id BIGINT, at DATE, PRIMARY KEY (id, at), FOREIGN KEY (id, at) REFERENCES logins (id, at));
INSERT INTO logins VALUES (1, '2026-01-10', 1), (2, '2026-02-10', 1), (3, '2026-02-11', 2);
INSERT INTO marks VALUES (1, '2026-01-10'), (3, '2026-02-11');
`,
		entities: []connectors.Entity{
			people,
			{Name: "logins", OwnedBy: []connectors.Owner{owner("person_id", "people")}},
			{Name: "marks", OwnedBy: []connectors.Owner{{Columns: []string{"id", "at"}, Entity: "logins"}}},
		},
		want: map[string][]string{"SELECT id FROM logins": {"3"}, "SELECT id FROM marks": {"3"}},
	},
	{
		name: "cycle without a nullable column, deferrable", only: "postgres",
		script: `
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100), profile_id BIGINT NOT NULL);
CREATE TABLE profiles (id BIGINT PRIMARY KEY, person_id BIGINT NOT NULL REFERENCES people (id));
ALTER TABLE people ADD FOREIGN KEY (profile_id) REFERENCES profiles (id) DEFERRABLE;
BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO people VALUES (1, 'anna@example.com', 5); INSERT INTO profiles VALUES (5, 1); COMMIT;
`,
		entities: []connectors.Entity{people, {Name: "profiles", OwnedBy: []connectors.Owner{owner("person_id", "people")}}},
		want:     map[string][]string{"SELECT id FROM people": {}, "SELECT id FROM profiles": {}},
	},
	{
		name: "table without any key", only: "postgres",
		script: peopleTable + `
CREATE TABLE log (person_id BIGINT, line TEXT);
CREATE TABLE shared (a BIGINT, b BIGINT, body TEXT);
INSERT INTO log VALUES (1, 'x'), (1, 'x'), (2, 'y');
INSERT INTO shared VALUES (1, 2, 'hi'), (1, 1, 'self'), (2, 1, 'anna@example.com');
`,
		entities: []connectors.Entity{
			people,
			{Name: "log", OwnedBy: []connectors.Owner{owner("person_id", "people")}},
			{Name: "shared", Mentions: []string{"body"}, OwnedBy: []connectors.Owner{owner("a", "people"), owner("b", "people")}},
		},
		want: map[string][]string{"SELECT * FROM log": {"2|y"}, "SELECT * FROM shared ORDER BY body": {"2|NULL|[redacted]", "NULL|2|hi"}},
	},
}

func (f *fixture) dialect(script string) string {
	json, cycle, carts := "JSONB", "ALTER TABLE people ADD FOREIGN KEY (favourite) REFERENCES orders (id);\n", "ALTER TABLE carts ADD FOREIGN KEY (current_id) REFERENCES items (id);\n"
	member := "ALTER TABLE memberships ADD COLUMN id BIGSERIAL PRIMARY KEY;\n"
	switch f.kind {
	case "mariadb":
		json, member = "JSON", "ALTER TABLE memberships ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY;\n"
	case "sqlite": // columns get their references when they are made, and rows have an address
		json, cycle, carts, member = "JSON", "", "", ""
		script = strings.Replace(script, "favourite BIGINT)", "favourite BIGINT REFERENCES orders (id))", 1)
		script = strings.Replace(script, "current_id BIGINT)", "current_id BIGINT REFERENCES items (id))", 1)
	}
	return strings.NewReplacer("{{json}}", json, "{{people.favourite -> orders}}", cycle, "{{carts.current_id -> items}}", carts, "{{key memberships}}", member).Replace(script)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	for _, tr := range traps {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				if tr.only != "" && tr.only != f.kind {
					return
				}
				f.exec(f.dialect(tr.script))
				s := tr.subject
				if s.Ref == "" {
					s = subject("s", "email", "anna@example.com")
				}
				db := f.openSystem(&connectors.System{Entities: tr.entities, Identifiers: map[string]dsr.IdentifierKind{
					"email": dsr.KindEmail, "user_id": dsr.KindOpaque, "uid": dsr.KindUUID, "phone": dsr.KindPhone, "ip": dsr.KindIP,
					"number": dsr.KindInteger,
				}})
				planned := map[string]int64{}
				l, err := db.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{s}})
				require.NoError(t, err)
				for _, c := range l.Counts {
					planned[c.Entity+" "+string(c.Method)] += c.Rows
				}
				f.export(db, s)
				j := f.erase(db, s)
				for query, want := range tr.want {
					require.Equal(t, want, f.rows(query), query)
				}
				require.Equal(t, planned, j.sum(), "what was located is what was done")
				if tr.tallies != nil {
					require.Equal(t, tr.tallies, j.sum())
				}
				again := f.erase(db, s).sum()
				for what, n := range again {
					require.Contains(t, what, " keep", "%d rows the second time", n)
				}
			})
		})
	}
}

// A subject whose rows cannot be handled fails with the reason; nothing is half done, and others go on.
func TestImpossibleMasksChangeNothing(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]connectors.Entity{
		"null in NOT NULL":      {Masks: map[string]mask.Spec{"email": null}},
		"text mask on integer":  {Masks: map[string]mask.Spec{"code": redact}},
		"text in integer":       {Masks: map[string]mask.Spec{"code": constant("gone")}},
		"constant under UNIQUE": {Masks: map[string]mask.Spec{"email": constant("x@example.com")}},
		"mask too long":         {Masks: map[string]mask.Spec{"short": constant("too long for it")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				f.exec(`
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100) NOT NULL UNIQUE, code INTEGER, short VARCHAR(3));
CREATE TABLE notes (id BIGINT PRIMARY KEY, person_id BIGINT NOT NULL);
INSERT INTO people VALUES (1, 'anna@example.com', 7, 'abc'), (2, 'bo@example.com', 8, 'abc');
INSERT INTO notes VALUES (1, 1), (2, 2);
`)
				e := with(e, func(e *connectors.Entity) {
					e.Name, e.Subject, e.Erase, e.Fields = "people", true, dsr.Mask, people.Fields
				})
				db := f.open(e, connectors.Entity{Name: "notes", OwnedBy: []connectors.Owner{owner("person_id", "people")}, Erase: dsr.Delete})
				err := db.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{subject("s", "email", "anna@example.com")}, Journal: &journal{}})
				require.True(t, connectors.IsPermanent(err), "%v", err)
				require.Equal(t, sqldb.CodeValue, dsr.CodeOf(err))
				require.NotContains(t, err.Error(), "anna")
				require.Equal(t, []string{"1|anna@example.com|7|abc", "2|bo@example.com|8|abc"}, f.rows("SELECT * FROM people ORDER BY id"))
				require.Equal(t, []string{"1", "2"}, f.rows("SELECT id FROM notes ORDER BY id"))
			})
		})
	}
}
