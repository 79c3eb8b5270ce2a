package sqldb_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// The saboteur of property 19: something puts a record back, or keeps it from going. Verify must find it.
func TestVerifyFindsWhatASaboteurLeft(t *testing.T) {
	t.Parallel()
	const schema = `
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200), name VARCHAR(100));
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id BIGINT, note VARCHAR(100));
CREATE TABLE order_lines (id BIGINT PRIMARY KEY, order_id BIGINT, what VARCHAR(50));
CREATE TABLE messages (id BIGINT PRIMARY KEY, sender_id BIGINT, recipient_id BIGINT, body VARCHAR(500));
CREATE TABLE invoices (id BIGINT PRIMARY KEY, customer_id BIGINT, memo VARCHAR(100));
CREATE TABLE visits (id BIGINT PRIMARY KEY, data {{json}});
INSERT INTO customers VALUES (1, 'anna@example.com', 'Anna'), (2, 'bo@example.com', 'Bo');
INSERT INTO orders VALUES (10, 1, 'a'), (12, 2, 'c');
INSERT INTO order_lines VALUES (100, 10, 'x'), (102, 12, 'z');
INSERT INTO messages VALUES (1, 1, 2, 'x'), (2, 2, 2, 'about anna@example.com'), (3, 1, 1, 'self');
INSERT INTO invoices VALUES (1, 1, 'Anna, main street');
INSERT INTO visits VALUES (1, '{"by": "anna@example.com"}');
`
	entities := func() []connectors.Entity {
		es := helpdeskMap()
		es[0].Anchor = map[string]mask.Spec{"email": random, "name": constant("Former customer")}
		return append(
			es,
			connectors.Entity{
				Name: "invoices", OwnedBy: []connectors.Owner{owner("customer_id", "customers")},
				Keep: &connectors.Keep{Article: "17(3)(b)"}, Masks: map[string]mask.Spec{"memo": redact},
			},
			connectors.Entity{Name: "visits", Fields: []connectors.Field{idField("data", "email")}},
		)
	}
	after := map[string]struct{ script, entity, field string }{
		"another case":           {"INSERT INTO customers VALUES (9, 'ANNA@Example.COM', 'x')", "customers", "email"},
		"the old key":            {"UPDATE customers SET email = 'anna@example.com' WHERE id = 1", "customers", "email"},
		"a child of the old key": {"INSERT INTO orders VALUES (99, 1, 'late')", "orders", ""},
		"a grandchild":           {"INSERT INTO order_lines VALUES (999, 10, 'late')", "order_lines", ""},
		"a shared row":           {"INSERT INTO messages VALUES (99, 1, NULL, 'late')", "messages", ""},
		"a released reference":   {"UPDATE messages SET sender_id = 1 WHERE id = 1", "messages", "sender_id"},
		"free text":              {"INSERT INTO messages VALUES (99, 2, 2, 'cc: Anna@Example.com;')", "messages", "body"},
		"a masked field":         {"UPDATE invoices SET memo = 'Anna again'", "invoices", "memo"},
		"a document":             {`INSERT INTO visits VALUES (2, '["x", {"who": "Anna@example.com"}]')`, "visits", "data"},
	}
	for name, s := range after {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				f.exec(f.dialect(schema))
				db := f.open(entities()...)
				anna := subject("a", "email", "anna@example.com")
				j := f.erase(db, anna)
				f.exec(s.script)
				residue, err := db.Verify(context.Background(), connectors.Search{Batch: connectors.Batch{anna}, Keys: j})
				require.NoError(t, err)
				require.Contains(t, residue, dsr.Residue{Subject: "a", System: "shop", Entity: s.entity, Field: s.field, Count: 1})
				// Erasing again mends what identifiers find; a child that only an old key finds is for a person.
				j2 := &journal{spool: j.spool}
				require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{anna}, Journal: j2}))
			})
		})
	}
	noDelete := map[string]string{
		"postgres": `CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER stay BEFORE DELETE ON %s FOR EACH ROW EXECUTE FUNCTION stay()`,
		"sqlite": "CREATE TRIGGER stay BEFORE DELETE ON %s BEGIN SELECT RAISE(IGNORE); END",
	}
	noUpdate := map[string]string{
		"postgres": `CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER stay BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION stay()`,
		"sqlite":  "CREATE TRIGGER stay BEFORE UPDATE ON %s BEGIN SELECT RAISE(IGNORE); END",
		"mariadb": "CREATE TRIGGER stay BEFORE UPDATE ON %[1]s FOR EACH ROW SET NEW.%[2]s = OLD.%[2]s",
	}
	triggers := []struct {
		what          map[string]string
		table, column string
		count         int64
	}{
		{noDelete, "orders", "", 1},
		{noDelete, "order_lines", "", 1},
		{noDelete, "messages", "", 1},
		{noDelete, "visits", "", 1},
		{noUpdate, "customers", "email", 1},
		{noUpdate, "messages", "body", 1},
		{noUpdate, "messages", "sender_id", 1},
		{noUpdate, "invoices", "memo", 1},
	}
	for _, tr := range triggers {
		t.Run("trigger on "+tr.table+" "+tr.column, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, f *fixture) {
				if tr.what[f.kind] == "" {
					return // MariaDB's triggers cannot swallow a DELETE
				}
				f.exec(f.dialect(schema))
				text := tr.what[f.kind]
				if tr.column == "" {
					tr.column = "id"
				}
				if f.kind == "mariadb" {
					text = fmt.Sprintf(text, tr.table, tr.column)
				} else {
					text = fmt.Sprintf(text, tr.table)
				}
				f.exec(text)
				db := f.open(entities()...)
				anna := subject("a", "email", "anna@example.com")
				j := &journal{}
				require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{anna}, Journal: j}))
				residue, err := db.Verify(context.Background(), connectors.Search{Batch: connectors.Batch{anna}, Keys: j})
				require.NoError(t, err)
				found := false
				for _, r := range residue {
					found = found || r.Entity == tr.table
				}
				require.True(t, found, "%v", residue)
				for what := range j.sum() {
					if tr.column != "id" {
						break
					}
					require.NotEqual(t, tr.table+" delete", what, "what a trigger kept is not counted")
				}
			})
		})
	}
}

// Rows that are gone are followed together, whatever the shape of their tables' keys.
func TestVerifyFollowsKeysOfDifferentShapes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200));
CREATE TABLE groups_of (id BIGINT PRIMARY KEY, title VARCHAR(50));
CREATE TABLE members (group_id BIGINT, customer_id BIGINT, PRIMARY KEY (group_id, customer_id));
CREATE TABLE notes (id BIGINT PRIMARY KEY, group_id BIGINT, what VARCHAR(50));
INSERT INTO customers VALUES (1, 'anna@example.com'), (2, 'bo@example.com');
INSERT INTO groups_of VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'bo too');
INSERT INTO members VALUES (1, 1), (2, 1), (3, 1), (4, 1), (4, 2);
INSERT INTO notes VALUES (1, 1, 'x'), (2, 4, 'y');
`)
		db := f.open(
			connectors.Entity{Name: "customers", Subject: true, Fields: []connectors.Field{idField("email", "email")}},
			connectors.Entity{Name: "groups_of"},
			connectors.Entity{
				Name: "members", OwnedBy: []connectors.Owner{owner("customer_id", "customers")},
				Owns: []connectors.Owner{owner("group_id", "groups_of")},
			},
			connectors.Entity{Name: "notes", OwnedBy: []connectors.Owner{owner("group_id", "groups_of")}},
		)
		anna := subject("a", "email", "anna@example.com")
		j := f.erase(db, anna)
		residue, err := db.Verify(context.Background(), connectors.Search{Batch: connectors.Batch{anna}, Keys: j})
		require.NoError(t, err)
		require.Empty(t, residue)
		require.Equal(t, []string{"4"}, f.rows("SELECT id FROM groups_of"))
		f.exec("INSERT INTO notes VALUES (9, 1, 'late')")
		residue, err = db.Verify(context.Background(), connectors.Search{Batch: connectors.Batch{anna}, Keys: j})
		require.NoError(t, err)
		require.Equal(t, []dsr.Residue{{Subject: "a", System: "shop", Entity: "notes", Count: 1}}, residue)
	})
}

// Two erasures at once of people who share rows: whoever comes second deletes them.
func TestConcurrentErasuresOfSharedOwners(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200) NOT NULL, name VARCHAR(100));
CREATE TABLE messages (id BIGINT PRIMARY KEY, sender_id BIGINT, recipient_id BIGINT, body VARCHAR(500));
CREATE TABLE attachments (id BIGINT PRIMARY KEY, message_id BIGINT NOT NULL REFERENCES messages (id));
`)
		const pairs = 12
		for i := range pairs * 2 {
			f.exec(fmt.Sprintf("INSERT INTO customers VALUES (%d, 'p%d@example.com', 'x')", i, i))
		}
		id := 0
		for i := 0; i < pairs*2; i += 2 {
			for k := range 10 {
				id++
				a, b := i, i+1
				if k%2 == 0 {
					a, b = b, a
				}
				f.exec(fmt.Sprintf("INSERT INTO messages VALUES (%d, %d, %d, 'x');\nINSERT INTO attachments VALUES (%d, %d)", id, a, b, id, id))
			}
		}
		es := helpdeskMap()
		db := f.open(es[0], es[3], connectors.Entity{Name: "attachments", OwnedBy: []connectors.Owner{owner("message_id", "messages")}})
		var wg sync.WaitGroup
		for side := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := side; i < pairs*2; i += 2 {
					s := subject(fmt.Sprint(i), "email", fmt.Sprintf("p%d@example.com", i))
					job := connectors.Job{Batch: connectors.Batch{s}, Journal: &journal{}}
					for {
						err := db.Erase(context.Background(), job)
						if err == nil {
							break
						}
						if dsr.CodeOf(err) != dsr.CodeUnavailable { // a lost race may be tried again
							t.Error(err)
							return
						}
					}
				}
			}()
		}
		wg.Wait()
		for _, table := range []string{"customers", "messages", "attachments"} {
			require.Empty(t, f.rows("SELECT * FROM "+table), table)
		}
	})
}

// Rows that are added while an erasure runs are erased or reported.
func TestInsertsThatRaceAnErasureAreErasedOrReported(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200) NOT NULL, name VARCHAR(100));
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id BIGINT, note VARCHAR(100));
INSERT INTO customers VALUES (1, 'anna@example.com', 'x');
`)
		for i := range 300 {
			f.exec(fmt.Sprintf("INSERT INTO orders VALUES (%d, 1, 'x')", i))
		}
		db := f.open(customers(), connectors.Entity{Name: "orders", OwnedBy: []connectors.Owner{owner("customer_id", "customers")}})
		db.Split(20, 1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 1000; ; i++ {
				select {
				case <-stop:
					return
				default:
					_, _ = f.raw.Exec(fmt.Sprintf("INSERT INTO orders VALUES (%d, 1, 'late')", i))
				}
			}
		}()
		anna := subject("a", "email", "anna@example.com")
		j := &journal{}
		for {
			err := db.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{anna}, Journal: j})
			if err == nil {
				break
			}
			require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err), "%v", err)
		}
		close(stop)
		wg.Wait()
		residue, err := db.Verify(context.Background(), connectors.Search{Batch: connectors.Batch{anna}, Keys: j})
		require.NoError(t, err)
		left := int64(len(f.rows("SELECT id FROM orders")))
		var reported int64
		for _, r := range residue {
			reported += r.Count
		}
		require.Equal(t, left, reported)
	})
}
