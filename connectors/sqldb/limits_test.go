package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

func TestAPlanAboveItsCapsChangesNothingAndOthersGoOn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		j := &journal{}
		batch := connectors.Batch{subject("a", "email", "anna@example.com"), subject("c", "email", "cy@example.com")}
		err := db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j, Limits: connectors.Limits{RowsPerRequest: 5}})
		var se *connectors.SubjectError
		require.ErrorAs(t, err, &se)
		require.Equal(t, "a", se.Subject)
		require.Equal(t, dsr.CodeOverCap, dsr.CodeOf(err))
		require.True(t, connectors.IsPermanent(err))
		require.Equal(t, []string{"1", "2"}, f.rows("SELECT id FROM customers ORDER BY id"))
		require.Equal(t, []string{"1|1|2|from anna@example.com"}, f.rows("SELECT * FROM messages WHERE id = 1"))
		for _, tally := range j.tallies {
			require.Equal(t, "c", tally.Subject)
		}
	})
}

func TestTenantsAreNeverCrossed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, account VARCHAR(10), email VARCHAR(200), name VARCHAR(20));
CREATE TABLE notes (id BIGINT PRIMARY KEY, account VARCHAR(10), customer_id BIGINT, body VARCHAR(100));
CREATE TABLE news (id BIGINT PRIMARY KEY, email VARCHAR(100));
INSERT INTO customers VALUES (1, 'x', 'anna@example.com', 'A'), (2, 'y', 'anna@example.com', 'A');
INSERT INTO notes VALUES (1, 'x', 1, 'n'), (2, 'y', 1, 'n'), (3, 'y', 2, 'n'), (4, 'y', NULL, 'anna@example.com'), (5, 'x', 7, 'anna@example.com');
INSERT INTO news VALUES (1, 'anna@example.com');
`)
		c := customers()
		c.Tenant = "account"
		db := f.openSystem(&connectors.System{TenantName: "account", Entities: []connectors.Entity{
			c,
			{Name: "news", Shared: true, Fields: []connectors.Field{idField("email", "email")}},
			{Name: "notes", Tenant: "account", Mentions: []string{"body"}, OwnedBy: []connectors.Owner{owner("customer_id", "customers")}},
		}})
		s := subject("s", "email", "anna@example.com")
		require.Error(t, db.Erase(context.Background(), connectors.Job{Batch: connectors.Batch{s}, Journal: &journal{}}), "no tenant named")
		s.Tenant = "x"
		require.Equal(t, []string{"s customers delete 1", "s news delete 1", "s notes delete 1", "s notes redact 1"},
			f.located(db, connectors.Query{Batch: connectors.Batch{s}}))
		f.erase(db, s)
		require.Equal(t, []string{"2"}, f.rows("SELECT id FROM customers"))
		require.Equal(t, []string{"2|n", "3|n", "4|anna@example.com", "5|[redacted]"}, f.rows("SELECT id, body FROM notes ORDER BY id"))
		other := s
		other.Ref, other.Tenant = "t", "y"
		records := f.export(db, other)["t"]
		require.Len(t, records, 3, "%v", records)
	})
}

func TestHeldSubjectsKeepTheirRows(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		batch := connectors.Batch{subject("a", "email", "anna@example.com"), subject("b", "email", "bo@example.com")}
		before := f.rows("SELECT * FROM messages WHERE id IN (1, 2, 4) ORDER BY id")
		job := connectors.Job{Batch: batch, Held: connectors.Holds{Subjects: connectors.Batch{subject("h", "email", "bo@example.com")}}, Journal: &journal{}}
		require.NoError(t, db.Erase(context.Background(), job))
		require.Equal(t, []string{"1", "2", "42"}, f.rows("SELECT id FROM customers ORDER BY id"), "held messages refer to the first")
		require.Equal(t, before, f.rows("SELECT * FROM messages WHERE id IN (1, 2, 4) ORDER BY id"), "a held subject's text is not redacted")
		require.Empty(t, f.rows("SELECT id FROM orders WHERE customer_id = 1"), "the rest went")
		require.Equal(t, []string{"a customers waits", "a messages waits", "b customers waits", "b messages waits", "b order_lines waits", "b orders waits"}, f.residue(db, job))
		f.exec("DELETE FROM messages WHERE sender_id = 1 OR recipient_id = 1")
		require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Held: job.Held, Journal: &journal{}}))
		require.Equal(t, []string{"2", "42"}, f.rows("SELECT id FROM customers ORDER BY id"))
		f.erase(db, batch...) // the hold was lifted
		require.Equal(t, []string{"42"}, f.rows("SELECT id FROM customers ORDER BY id"))
	})
}

func TestAHoldOnAnEntityKeepsItsRowsAndWhatTheyReferTo(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		batch := connectors.Batch{subject("a", "email", "anna@example.com"), subject("b", "email", "bo@example.com")}
		lines := connectors.Frozen{Entity: "order_lines", When: []dsr.Condition{{Field: "what", Values: []string{"y", "q"}}}}
		texts := connectors.Frozen{Entity: "messages", When: []dsr.Condition{{Field: "id", Values: []string{"4"}}}}
		job := connectors.Job{Batch: batch, Held: connectors.Holds{Entities: []connectors.Frozen{lines, texts}}, Journal: &journal{}}
		require.NoError(t, db.Erase(context.Background(), job))
		require.Equal(t, []string{"101"}, f.rows("SELECT id FROM order_lines"), "a leaf of the map is read when a hold may cover it")
		require.Equal(t, []string{"10|1"}, f.rows("SELECT id, customer_id FROM orders"))
		require.Equal(t, []string{"1|Anna@Example.com", "2|bo@example.com", "42|cy@example.com"}, f.rows("SELECT id, email FROM customers ORDER BY id"))
		require.Equal(t, []string{"4|2|42|about ANNA@example.com."}, f.rows("SELECT * FROM messages"))
		require.Equal(t, []string{"a customers waits", "a messages waits", "a order_lines waits", "a orders waits", "b customers waits", "b messages waits"}, f.residue(db, job))
		f.erase(db, batch...)
		require.Equal(t, []string{"42"}, f.rows("SELECT id FROM customers"))
		require.Equal(t, []string{"4|NULL|42|about [redacted]."}, f.rows("SELECT * FROM messages"))

		job.Held.Entities[0].When[0].Field = "nothing"
		require.Equal(t, sqldb.CodeSchema, dsr.CodeOf(db.Erase(context.Background(), job)), "a hold that cannot be asked stops everything")
	})
}

func TestOnlyEntitiesOfThePlanAreTouched(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		anna := subject("a", "email", "anna@example.com")
		anna.Entities = map[string]bool{"order_lines": true}
		j := f.erase(db, anna)
		require.Equal(t, map[string]int64{"order_lines delete": 2}, j.sum())
		require.Equal(t, []string{"102"}, f.rows("SELECT id FROM order_lines"))
		require.Len(t, f.rows("SELECT id FROM customers"), 3)
	})
}

func TestALargeSubjectYieldsAndIsResumed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200), name VARCHAR(20));
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id BIGINT REFERENCES customers (id));
CREATE TABLE order_lines (id BIGINT PRIMARY KEY, order_id BIGINT REFERENCES orders (id));
INSERT INTO customers VALUES (1, 'anna@example.com', 'A'), (2, 'bo@example.com', 'B');
`)
		var orders, lines []string
		for i := 1; i <= 60; i++ {
			orders = append(orders, fmt.Sprintf("(%d, %d)", i, 1+i%10/9))
			for k := range 5 {
				lines = append(lines, fmt.Sprintf("(%d, %d)", i*10+k, i))
			}
		}
		f.exec("INSERT INTO orders VALUES " + strings.Join(orders, ", ") + ";\nINSERT INTO order_lines VALUES " + strings.Join(lines, ", "))
		es := helpdeskMap()
		db := f.open(es[0], es[1], es[2])
		db.Split(16, 5)
		j := &journal{}
		job := connectors.Job{Batch: connectors.Batch{subject("a", "email", "anna@example.com")}, Journal: j, Deadline: time.Now()}
		slices := 0
		for {
			err := db.Erase(context.Background(), job)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, connectors.ErrYield)
			slices++
			if slices > 3 {
				job.Deadline = time.Time{}
			}
			require.Less(t, slices, 100)
		}
		require.Greater(t, slices, 3)
		require.Equal(t, map[string]int64{"customers delete": 1, "orders delete": 54, "order_lines delete": 270}, j.sum())
		require.Len(t, f.rows("SELECT id FROM order_lines"), 30)
		require.NoError(t, db.Erase(context.Background(), job), "delivered twice")
		require.Equal(t, map[string]int64{"customers delete": 1, "orders delete": 54, "order_lines delete": 270}, j.sum())
	})
}

func TestAFencedRunStops(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		db := f.open(helpdeskMap()...)
		j := &journal{}
		job := connectors.Job{Batch: connectors.Batch{subject("a", "email", "anna@example.com")}, Journal: fenceLater{j}}
		require.ErrorIs(t, db.Erase(context.Background(), job), connectors.ErrFenced)
		require.Len(t, f.rows("SELECT id FROM customers"), 3, "nothing is committed without its intent")
	})
}

// fenceLater is a journal whose run is taken over after the first step.
type fenceLater struct{ *journal }

func (f fenceLater) Step(name string) {
	f.fenced = true
	f.journal.Step(name)
}

func TestErrorsCarryNoValues(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(`
CREATE TABLE customers (id BIGINT PRIMARY KEY, email VARCHAR(200) UNIQUE, name VARCHAR(20));
CREATE TABLE secrets (id BIGINT PRIMARY KEY, customer_email VARCHAR(200) REFERENCES customers (email));
INSERT INTO customers VALUES (1, 'anna@example.com', 'Canary'), (2, 'bo@example.com', 'B');
INSERT INTO secrets VALUES (1, 'anna@example.com');
`)
		db := f.open(customers())
		batch := connectors.Batch{subject("a", "email", "anna@example.com"), subject("b", "email", "bo@example.com")}
		j := &journal{}
		err := db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j})
		require.Error(t, err)
		require.True(t, connectors.IsPermanent(err))
		require.Equal(t, sqldb.CodeConstraint, dsr.CodeOf(err))
		for _, canary := range []string{"anna", "Canary", "example.com"} {
			require.NotContains(t, err.Error(), canary)
		}
		require.Equal(t, []string{"1"}, f.rows("SELECT id FROM customers"), "the other subject went on")
		require.Equal(t, map[string]int64{"customers delete": 1}, j.sum())

		gone := f.open(connectors.Entity{Name: "nowhere", Subject: true, Fields: []connectors.Field{idField("email", "email")}})
		_, err = gone.Locate(context.Background(), connectors.Query{Batch: batch})
		require.Equal(t, sqldb.CodeSchema, dsr.CodeOf(err))
	})
}

func TestAnUnreachableDatabaseIsTransient(t *testing.T) {
	t.Parallel()
	for kind, dsn := range map[string]string{
		"postgres": "postgres://u:secret@127.0.0.1:1/db?sslmode=disable&connect_timeout=2",
		"mariadb":  "mysql://u:secret@127.0.0.1:1/db", "sqlite": "sqlite:///nonexistent/dir/x.db",
	} {
		s := &connectors.System{Name: "shop", Connector: kind, Settings: map[string]any{"dsn": dsn}, Entities: []connectors.Entity{customers()}}
		db, err := sqldb.Open(context.Background(), s, connectors.Options{})
		require.NoError(t, err, "opening does not connect")
		_, err = db.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{subject("a", "email", "a@example.com")}})
		require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err), "%s: %v", kind, err)
		require.False(t, connectors.IsPermanent(err))
		require.NotContains(t, err.Error(), "secret")
		require.NoError(t, db.Close())
	}
}

func TestOpenRefusesBadSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]map[string]any{
		"no dsn": {}, "other scheme": {"dsn": "mysql://a@b/c"}, "no such ca": {"dsn": "postgres://a@b/c", "ca": "/nonexistent"},
		"unknown auth": {"dsn": "postgres://a@b/c", "auth": "kerberos"}, "iam without region": {"dsn": "postgres://a@b/c", "auth": "rds-iam"},
		"iam without tls": {"dsn": "postgres://a@b/c?sslmode=disable", "auth": "rds-iam", "region": "eu-north-1"},
	} {
		_, err := sqldb.Open(context.Background(), &connectors.System{Connector: "postgres", Settings: settings}, connectors.Options{})
		var e *dsr.Error
		require.True(t, errors.As(err, &e), name)
		require.Equal(t, dsr.CodeInvalid, e.Code, name)
		require.NotEmpty(t, e.Field, name)
	}
}

func TestExportMasksOtherPeopleAndResumes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec(helpdesk)
		es := helpdeskMap()
		es[3].ExportMask = map[string]mask.Spec{"body": redact}
		db := f.open(es...)
		got := f.export(db, subject("b", "email", "bo@example.com"))["b"]
		require.Equal(t, []string{
			"customers: id=2, email=bo@example.com, name=Bo",
			"messages: id=1, sender_id=1, recipient_id=2, body=[redacted]",
			"messages: id=2, sender_id=2, recipient_id=1, body=[redacted]",
			"messages: id=4, sender_id=2, recipient_id=42, body=[redacted]",
			"order_lines: id=102, order_id=12, what=z",
			"orders: id=12, customer_id=2, note=c",
		}, got)
	})
}
