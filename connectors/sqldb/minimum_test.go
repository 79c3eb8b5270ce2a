package sqldb_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

const officeSchema = `
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(100), name VARCHAR(100));
CREATE TABLE tickets (id BIGINT PRIMARY KEY, customer_id BIGINT NOT NULL REFERENCES customers (id), status VARCHAR(20) NOT NULL, closed_on DATE NULL, note VARCHAR(100));
CREATE TABLE parts (id BIGINT PRIMARY KEY, ticket_id BIGINT NOT NULL REFERENCES tickets (id), what VARCHAR(100));
CREATE TABLE visits (id BIGINT PRIMARY KEY, customer_id BIGINT NOT NULL REFERENCES customers (id));
CREATE TABLE letters (id BIGINT PRIMARY KEY, sender_id BIGINT NULL REFERENCES customers (id), recipient_id BIGINT NULL REFERENCES customers (id), body VARCHAR(100));
INSERT INTO customers VALUES (1, 'al@example.com', 'Al'), (2, 'bo@example.com', 'Bo'), (3, 'cy@example.com', 'Cy');
INSERT INTO tickets VALUES (1, 1, 'invoiced', '2020-05-10', 'to al@example.com'), (2, 1, 'draft', '2020-05-10', 'x'), (3, 1, 'invoiced', '2015-02-28', 'x'),
 (4, 2, 'invoiced', NULL, 'x'), (5, 2, 'invoiced', '2022-01-01', 'x'), (6, 3, 'draft', '2022-01-01', 'x'), (7, 3, 'invoiced', '2021-03-01', 'asked by al@example.com'), (8, 1, 'invoiced', '2023-01-31', 'x');
INSERT INTO parts VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 3, 'x'), (4, 4, 'x'), (6, 6, 'x'), (7, 1, 'x');
INSERT INTO visits VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO letters VALUES (1, 1, 2, 'x'), (2, 3, 1, 'x')
`

// invoiced is the minimum of the tickets that were invoiced: five years from the day on which they were closed.
func invoiced() []connectors.Rule {
	return []connectors.Rule{{Rule: retention.Rule{
		Name: "shop.tickets.books", Action: retention.Delete, When: []dsr.Condition{{Field: "status", Values: []string{"invoiced"}}},
		Class: retention.Class{Name: "books", Period: retention.Period{Years: 7}, Minimum: retention.Period{Years: 5}, Start: retention.EndOfProcess},
		Start: retention.StartingPoint{Kind: retention.StartField, Field: "closed_on", Null: retention.NullKeep},
	}}}
}

func office() []connectors.Entity {
	return []connectors.Entity{
		{Name: "customers", Subject: true, Fields: []connectors.Field{idField("email", "email")}, Erase: dsr.Delete},
		{
			Name: "letters", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("sender_id", "customers"), owner("recipient_id", "customers")},
		},
		{Name: "parts", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("ticket_id", "tickets")}},
		{
			Name: "tickets", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("customer_id", "customers")}, Mentions: []string{"note"},
			Rules: invoiced(),
		},
		{Name: "visits", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("customer_id", "customers")}},
	}
}

func dateOf(s string) time.Time {
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return at
}

// waits is what Verify finds, as "subject entity rows cause day".
func (f *fixture) waits(db connectors.Connector, batch connectors.Batch, held connectors.Holds, keys connectors.Keys) []string {
	f.t.Helper()
	found, err := db.Verify(context.Background(), connectors.Search{Batch: batch, Held: held, Keys: keys})
	require.NoError(f.t, err)
	out := []string{}
	for _, r := range found {
		out = append(out, waitLine(r.Subject, r.Entity, r.Count, r.Waits))
	}
	slices.Sort(out)
	return out
}

func waitLine(subject, entity string, rows int64, why *dsr.Exception) string {
	line := subject + " " + entity + " " + strconv.FormatInt(rows, 10)
	switch {
	case why == nil:
		return line + " now"
	case why.Ends == nil:
		return line + " " + string(why.Cause)
	}
	return line + " " + string(why.Cause) + " " + why.Ends.Format(time.DateOnly)
}

// A row under a statutory minimum waits with what leads to it and what belongs to it; all else goes, and the rest when the
// minimum has ended.
func TestRowsUnderAMinimumWait(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(officeSchema)
		now := dateOf("2024-06-01").Add(9 * time.Hour)
		db := f.openAt(func() time.Time { return now }, office()...)
		defer db.Close()
		al, bo := subject("a", "email", "al@example.com"), subject("b", "email", "bo@example.com")
		located, err := db.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{al, bo}})
		require.NoError(t, err)
		var counts []string
		for _, c := range located.Counts {
			if c.Method == dsr.Wait {
				counts = append(counts, waitLine(c.Subject, c.Entity, c.Rows, c.Exception))
			} else {
				counts = append(counts, waitLine(c.Subject, c.Entity+" "+string(c.Method), c.Rows, nil))
			}
		}
		require.ElementsMatch(t, []string{
			"a customers 1 statutory-minimum 2028-01-31", "a letters release 2 now", "a parts delete 2 now", "a parts 2 statutory-minimum 2028-01-31",
			"a tickets delete 2 now", "a tickets 3 statutory-minimum 2028-01-31", "a visits delete 1 now",
			"b customers 1 statutory-minimum", "b letters release 1 now", "b parts 1 statutory-minimum", "b tickets 2 statutory-minimum", "b visits delete 1 now",
		}, counts)

		batch := connectors.Batch{al, bo}
		j := &journal{}
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
		state := func(table string) []string { return f.rows("SELECT id FROM " + table + " ORDER BY id") }
		require.Equal(t, []string{"1", "2", "3"}, state("customers"))
		require.Equal(t, []string{"1|to al@example.com", "4|x", "5|x", "6|x", "7|asked by al@example.com", "8|x"}, f.rows("SELECT id, note FROM tickets ORDER BY id"))
		require.Equal(t, []string{"1", "4", "6", "7"}, state("parts"))
		require.Equal(t, []string{"3"}, state("visits"))
		require.Equal(t, []string{"2|3|NULL"}, f.rows("SELECT id, sender_id, recipient_id FROM letters ORDER BY id"))
		require.Equal(t, []string{
			"a customers 1 statutory-minimum 2028-01-31", "a parts 2 statutory-minimum 2028-01-31", "a tickets 1 statutory-minimum 2025-05-10",
			"a tickets 1 statutory-minimum 2026-03-01", "a tickets 1 statutory-minimum 2028-01-31",
			"b customers 1 statutory-minimum", "b parts 1 statutory-minimum", "b tickets 1 statutory-minimum", "b tickets 1 statutory-minimum 2027-01-01",
		}, f.waits(db, batch, connectors.Holds{}, j))
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: &journal{}}), "twice is once")
		require.Equal(t, []string{"1", "4", "5", "6", "7", "8"}, state("tickets"))

		// a hold on one of them counts for it
		held := connectors.Holds{Entities: []connectors.Frozen{{Entity: "tickets", When: []dsr.Condition{{Field: "id", Values: []string{"8"}}}}}}
		require.Contains(t, f.waits(db, batch, held, j), "a tickets 1 hold")

		now = dateOf("2025-05-10")
		require.Contains(t, f.waits(db, batch, connectors.Holds{}, j), "a tickets 1 now")
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j2(j)}))
		require.Equal(t, []string{"4", "5", "6", "7", "8"}, state("tickets"))
		require.Equal(t, []string{"4", "6"}, state("parts"))
		require.Equal(t, []string{"1", "2", "3"}, state("customers"))

		now = dateOf("2028-01-31")
		f.exec("UPDATE tickets SET closed_on = '2020-01-01' WHERE id = 4")
		j = j2(j)
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
		require.Empty(t, f.waits(db, batch, connectors.Holds{}, j))
		require.Equal(t, []string{"3"}, state("customers"))
		require.Equal(t, []string{"6|x", "7|asked by [redacted]"}, f.rows("SELECT id, note FROM tickets ORDER BY id"))
		require.Equal(t, []string{"6"}, state("parts"))
	})
}

// j2 is a new Run's journal of the same subjects: their keys stay.
func j2(j *journal) *journal { return &journal{spool: j.spool} }

// A person's own row that must be kept stays alone: what they own goes.
func TestAPersonUnderAMinimumStaysAlone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE people (id BIGINT PRIMARY KEY, email VARCHAR(100), left_on VARCHAR(40));
CREATE TABLE posts (id BIGINT PRIMARY KEY, person_id BIGINT NOT NULL REFERENCES people (id), body VARCHAR(100));
CREATE TABLE likes (id BIGINT PRIMARY KEY, post_id BIGINT NOT NULL REFERENCES posts (id));
INSERT INTO people VALUES (1, 'al@example.com', '2024-01-01T10:00:00Z');
INSERT INTO posts VALUES (1, 1, 'x');
INSERT INTO likes VALUES (1, 1)`)
		now := dateOf("2024-06-01")
		db := f.openAt(func() time.Time { return now },
			connectors.Entity{Name: "likes", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("post_id", "posts")}},
			connectors.Entity{Name: "people", Subject: true, Fields: []connectors.Field{idField("email", "email")}, Erase: dsr.Delete, Rules: []connectors.Rule{{Rule: retention.Rule{
				Name: "r", Action: retention.Delete, Start: retention.StartingPoint{Kind: retention.StartField, Field: "left_on", Null: retention.NullKeep},
				Class: retention.Class{Name: "law", Period: retention.Period{Years: 1}, Minimum: retention.Period{Years: 1}, Start: retention.Collection},
			}}}},
			connectors.Entity{Name: "posts", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("person_id", "people")}})
		defer db.Close()
		batch := connectors.Batch{subject("a", "email", "al@example.com")}
		require.ElementsMatch(t, []string{"a likes delete 1", "a people wait 1", "a posts delete 1"}, f.located(db, connectors.Query{Batch: batch}))
		j := &journal{}
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
		require.Equal(t, []string{"1"}, f.rows("SELECT id FROM people"))
		require.Empty(t, f.rows("SELECT id FROM posts"))
		require.Equal(t, []string{"a people 1 statutory-minimum 2025-01-01"}, f.waits(db, batch, connectors.Holds{}, j))
		now = dateOf("2025-01-01")
		f.erase(db, batch...)
		require.Empty(t, f.rows("SELECT id FROM people"))
	})
}

// What is masked on an erasure is not while a law wants it; what says keep has said what is masked of it.
func TestMasksWaitForTheMinimum(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(officeSchema)
		now := dateOf("2024-06-01")
		for _, keep := range []bool{false, true} {
			entities := office()
			entities[0].Anchor = map[string]mask.Spec{"email": random, "name": null}
			entities[3].Erase, entities[3].Mentions, entities[3].Masks = dsr.Mask, nil, map[string]mask.Spec{"note": constant("-")}
			if keep {
				entities[3].Erase, entities[3].Keep = dsr.Keep, &connectors.Keep{Article: "17(3)(b)", Class: "books"}
			}
			db := f.openAt(func() time.Time { return now }, entities...)
			batch := connectors.Batch{subject("a", "email", "al@example.com")}
			if keep {
				batch = connectors.Batch{subject("c", "email", "cy@example.com")}
			}
			j := &journal{}
			require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
			if keep {
				require.Empty(t, f.waits(db, batch, connectors.Holds{}, j))
				require.Equal(t, []string{"-", "-"}, f.rows("SELECT note FROM tickets WHERE customer_id = 3 ORDER BY id"))
				require.NoError(t, db.Close())
				continue
			}
			require.Equal(t, []string{"to al@example.com", "-", "-", "x"}, f.rows("SELECT note FROM tickets WHERE customer_id = 1 ORDER BY id"))
			require.Equal(t, []string{"NULL"}, f.rows("SELECT name FROM customers WHERE id = 1"), "the row is anchored for what stays")
			require.Equal(t, []string{
				"a parts 2 statutory-minimum 2028-01-31", "a tickets 1 statutory-minimum 2025-05-10", "a tickets 1 statutory-minimum 2028-01-31",
			}, f.waits(db, batch, connectors.Holds{}, j), "found by the keys in the journal")
			now = dateOf("2028-02-01")
			j = j2(j)
			require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
			require.Empty(t, f.waits(db, batch, connectors.Holds{}, j))
			require.Equal(t, []string{"-", "-", "-", "-"}, f.rows("SELECT note FROM tickets WHERE customer_id = 1 ORDER BY id"))
			require.NoError(t, db.Close())
			now = dateOf("2024-06-01")
		}
	})
}
