package sqldb_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// A user with exactly the printed grants finds nothing to complain of and does the whole job: it deletes, releases,
// anchors, masks what is kept, redacts other people's texts and opens a circle of references.
func TestTheGrantedUserDoesTheWholeJob(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "mariadb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, kind)
			f.exec(`
CREATE TABLE customers (id INT PRIMARY KEY, email VARCHAR(100) NOT NULL UNIQUE, name VARCHAR(100), favourite INT);
CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, note VARCHAR(500), FOREIGN KEY (customer) REFERENCES customers (id));
CREATE TABLE messages (id INT PRIMARY KEY, sender INT, recipient INT, body VARCHAR(500),
  FOREIGN KEY (sender) REFERENCES customers (id), FOREIGN KEY (recipient) REFERENCES customers (id));
CREATE TABLE lists (id INT PRIMARY KEY, customer INT NOT NULL, title VARCHAR(100), FOREIGN KEY (customer) REFERENCES customers (id));
CREATE TABLE guests (id INT PRIMARY KEY, customer INT NOT NULL, email VARCHAR(100), FOREIGN KEY (customer) REFERENCES customers (id));
CREATE INDEX o1 ON orders (customer);
CREATE INDEX m1 ON messages (sender);
CREATE INDEX m2 ON messages (recipient);
CREATE INDEX l1 ON lists (customer);
CREATE INDEX g1 ON guests (customer);
CREATE INDEX g2 ON guests (email);
CREATE INDEX c1 ON customers (favourite);
ALTER TABLE customers ADD FOREIGN KEY (favourite) REFERENCES lists (id) ON DELETE SET NULL;
INSERT INTO customers VALUES (1, 'ann@example.com', 'Ann', NULL), (2, 'bob@example.com', 'Bob', NULL), (3, 'cat@example.com', 'Cat', NULL);
INSERT INTO orders VALUES (1, 1, 'ring ann@example.com');
INSERT INTO messages VALUES (1, 1, 2, 'hello'), (2, 1, 1, 'to myself'), (3, 2, 3, 'ann@example.com says hi');
INSERT INTO lists VALUES (1, 1, 'wishes'), (2, 2, 'more');
INSERT INTO guests VALUES (1, 2, 'ann@example.com');
UPDATE customers SET favourite = 1 WHERE id = 1`)
			s := &connectors.System{Entities: []connectors.Entity{
				{
					Name: "customers", Subject: true, Teaches: true, Erase: dsr.Delete,
					Fields:     []connectors.Field{idField("email", "email"), {Name: "name", Category: "user.name"}},
					Anchor:     map[string]mask.Spec{"email": random, "name": null, "favourite": null},
					AccessedBy: []connectors.Owner{owner("favourite", "lists")},
				},
				{
					Name: "guests", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("customer", "customers")},
					Fields: []connectors.Field{idField("email", "email")},
				},
				{Name: "lists", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("customer", "customers")}, NotPersonal: []string{"title"}},
				{
					Name: "messages", Erase: dsr.Delete, Mentions: []string{"body"},
					OwnedBy:       []connectors.Owner{owner("sender", "customers"), owner("recipient", "customers")},
					OnOwnerErased: map[string]map[string]mask.Spec{"sender": {"sender": null}, "recipient": {"recipient": null}},
				},
				{
					Name: "orders", Erase: dsr.Keep, Keep: &connectors.Keep{Article: "17(3)(b)"}, Masks: map[string]mask.Spec{"note": redact},
					OwnedBy: []connectors.Owner{owner("customer", "customers")}, Fields: []connectors.Field{{Name: "note", Category: "user.content"}},
				},
			}}
			admin := f.openSystem(s)
			u, err := url.Parse(f.url)
			require.NoError(t, err)
			user := "job_" + strings.TrimPrefix(u.Path, "/lethe_")
			script, err := admin.Grants(context.Background(), user)
			require.NoError(t, err)
			if kind == "postgres" {
				f.exec("CREATE ROLE " + user + " LOGIN PASSWORD 'secret'")
				t.Cleanup(func() { f.exec("DROP OWNED BY " + user + ";\nDROP ROLE " + user) })
			} else {
				f.exec("CREATE USER " + user + "@'%' IDENTIFIED BY 'secret'")
				t.Cleanup(func() { f.exec("DROP USER " + user + "@'%'") })
			}
			for _, line := range strings.Split(script, "\n") {
				if line != "" && !strings.HasPrefix(line, "--") {
					f.exec(line)
				}
			}
			u.User = url.UserPassword(user, "secret")
			f.url = u.String()
			db := f.openSystem(s)

			found, err := db.Check(context.Background())
			require.NoError(t, err)
			for _, finding := range found {
				require.Equal(t, connectors.Warning, finding.Severity, "%+v", finding)
			}
			ann := subject("t1", "email", "ann@example.com")
			require.NotEmpty(t, f.located(db, connectors.Query{Batch: connectors.Batch{ann}}))
			require.NotEmpty(t, f.export(db, ann)["t1"])
			f.erase(db, ann)
			require.Equal(t, []string{"0"}, f.rows("SELECT count(*) FROM customers WHERE email = 'ann@example.com'"))
			require.Equal(t, []string{"1|1"}, f.rows("SELECT id, customer FROM orders"))
			require.Equal(t, []string{"1|NULL|2", "3|2|3"}, f.rows("SELECT id, sender, recipient FROM messages ORDER BY id"))
			require.Equal(t, []string{"1|NULL"}, f.rows("SELECT id, email FROM guests"))
			require.Equal(t, []string{"2"}, f.rows("SELECT id FROM lists"))
		})
	}
}
