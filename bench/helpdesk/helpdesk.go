// Package helpdesk is the database of the erasure benchmarks: 20 tables and 51 rows a subject, generated from a seed.
package helpdesk

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// table is one table: Rows of it belong to each row of Parent. The root has no parent.
type table struct {
	name   string
	parent string
	column string // reference to the parent
	rows   int
}

// tables are in an order in which parents come first. 51 rows a subject in all.
var tables = func() []table {
	ts := []table{
		{name: "customers"},
		{"orders", "customers", "customer_id", 2},
		{"order_lines", "orders", "order_id", 2},
		{"payments", "orders", "order_id", 1},
		{"tickets", "customers", "customer_id", 3},
		{"messages", "tickets", "ticket_id", 3},
		{"attachments", "tickets", "ticket_id", 1},
		{"devices", "customers", "customer_id", 1},
		{"sessions", "devices", "device_id", 2},
	}
	for _, name := range []string{
		"addresses", "consents", "logins", "ratings", "views", "notes", "coupons", "wishes", "invites", "surveys",
	} {
		ts = append(ts, table{name, "customers", "customer_id", 2})
	}
	return append(ts, table{"subscriptions", "customers", "customer_id", 4})
}()

// RowsPerSubject is how many rows each subject has.
const RowsPerSubject = 51

// Email is the address of subject i (0-based).
func Email(i int) string { return fmt.Sprintf("subject%d@example.com", i) }

// Create makes the schema and fills it with the given number of subjects.
func Create(ctx context.Context, db *pgxpool.Pool, subjects int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	total := map[string]int{}
	for _, t := range tables {
		ddl := "CREATE TABLE " + t.name + " (id bigint PRIMARY KEY, "
		n := subjects
		if t.parent == "" {
			ddl += "email text NOT NULL UNIQUE, name text, "
		} else {
			ddl += t.column + " bigint NOT NULL, "
			n = total[t.parent] * t.rows
		}
		total[t.name] = n
		if _, err := db.Exec(ctx, ddl+"payload text)"); err != nil {
			return err
		}
		if err := fill(ctx, db, t, n, rng); err != nil {
			return err
		}
		if t.parent == "" {
			// addresses are compared without regard to case, as `lethe check` asks for
			if _, err := db.Exec(ctx, "CREATE INDEX ON customers (lower(email))"); err != nil {
				return err
			}
		} else {
			for _, q := range []string{
				fmt.Sprintf("CREATE INDEX ON %s (%s)", t.name, t.column),
				fmt.Sprintf("ALTER TABLE %s ADD FOREIGN KEY (%s) REFERENCES %s (id)", t.name, t.column, t.parent),
			} {
				if _, err := db.Exec(ctx, q); err != nil {
					return err
				}
			}
		}
	}
	_, err := db.Exec(ctx, "VACUUM ANALYZE")
	return err
}

func fill(ctx context.Context, db *pgxpool.Pool, t table, n int, rng *rand.Rand) error {
	columns := []string{"id", "email", "name", "payload"}
	if t.parent != "" {
		columns = []string{"id", t.column, "payload"}
	}
	_, err := db.CopyFrom(ctx, pgx.Identifier{t.name}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
		payload := fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
		if t.parent == "" {
			return []any{int64(i + 1), Email(i), fmt.Sprintf("Subject %d", i), payload}, nil
		}
		return []any{int64(i + 1), int64(i/t.rows + 1), payload}, nil
	}))
	return err
}

// Map is the data map of the database for a data source name in the variable HELPDESK.
func Map() []byte {
	var b strings.Builder
	b.WriteString(`version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers:
  email: {kind: email}
systems:
  helpdesk:
    connector: postgres
    dsn: ${HELPDESK}
    entities:
      customers:
        subject: true
        fields:
          email: {identifier: email, category: user.contact.email}
          name: {category: user.name}
          payload: {category: user.content}
        erase: delete
`)
	for _, t := range tables[1:] {
		fmt.Fprintf(&b, "      %s: {owned_by: {%s: %s}, fields: {payload: {category: user.content}}, erase: delete}\n",
			t.name, t.column, t.parent)
	}
	return []byte(b.String())
}

// EraseByHand deletes subjects with one pipelined statement a table in one transaction, as a person who knows the
// schema would write it, and returns how many rows went.
func EraseByHand(ctx context.Context, db *pgxpool.Pool, emails []string) (rows int64, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var ids []int64
		if err := tx.QueryRow(ctx, "SELECT array_agg(id) FROM customers WHERE email = ANY($1)", emails).Scan(&ids); err != nil {
			return err
		}
		var batch pgx.Batch
		for i := len(tables) - 1; i >= 0; i-- {
			t := tables[i]
			switch t.parent {
			case "":
				batch.Queue("DELETE FROM customers WHERE id = ANY($1)", ids)
			case "customers":
				batch.Queue(fmt.Sprintf("DELETE FROM %s WHERE %s = ANY($1)", t.name, t.column), ids)
			default:
				batch.Queue(fmt.Sprintf("DELETE FROM %s WHERE %s IN (SELECT id FROM %s WHERE customer_id = ANY($1))",
					t.name, t.column, t.parent), ids)
			}
		}
		res := tx.SendBatch(ctx, &batch)
		for range tables {
			tag, err := res.Exec()
			if err != nil {
				return err
			}
			rows += tag.RowsAffected()
		}
		return res.Close()
	})
	return rows, err
}

// Grow gives a subject more rows, spread over its tickets' messages.
func Grow(ctx context.Context, db *pgxpool.Pool, subject, rows int) error {
	_, err := db.Exec(ctx, `INSERT INTO messages (id, ticket_id, payload)
		SELECT (SELECT max(id) FROM messages) + i, $1::bigint * 3 + 1 + i % 3, md5(i::text) FROM generate_series(1, $2::bigint) i`,
		subject, rows)
	return err
}

// Copy writes the rows of a subject's messages, which are most of what a grown subject has, with COPY TO STDOUT.
func Copy(ctx context.Context, db *pgxpool.Pool, subject int, w io.Writer) error {
	c, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	_, err = c.Conn().PgConn().CopyTo(ctx, w, fmt.Sprintf(
		"COPY (SELECT * FROM messages WHERE ticket_id BETWEEN %d AND %d ORDER BY id) TO STDOUT", subject*3+1, subject*3+3))
	return err
}
