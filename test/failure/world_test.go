package failure

import (
	"database/sql"
	"fmt"
	"net/url"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// backend is one of the databases that a target may be.
type backend struct {
	name   string
	driver string
	fresh  func(testing.TB) string
}

var backends = []backend{{"postgres", "pgx", dbtest.Postgres}, {"mariadb", "mysql", dbtest.MariaDB}}

func onBoth(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// target is a system under Lethe, seen by its administrator.
type target struct {
	backend
	url string
	db  *sql.DB
}

// rows of the subject whose erasure takes several transactions, and of everybody else together.
const (
	heavyTickets = 12_000
	others       = 20
)

// world fills a fresh database: subject 0 has many tickets, the others two each; every second has an invoice.
func (b backend) world(t *testing.T) *target {
	t.Helper()
	w := &target{backend: b, url: b.fresh(t)}
	w.connect(t)
	series := func(n int) string { // a table of one column i from 0 to n-1
		if b.driver == "mysql" {
			return fmt.Sprintf("(SELECT seq AS i FROM seq_0_to_%d) s", n-1)
		}
		return fmt.Sprintf("generate_series(0, %d) s(i)", n-1)
	}
	mail := "concat('subject-', i, '@example.com')"
	w.exec(
		t,
		"CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(200) NOT NULL UNIQUE, name varchar(200) NOT NULL)",
		`CREATE TABLE tickets (id bigint PRIMARY KEY, customer_id bigint NOT NULL, title varchar(200),
			FOREIGN KEY (customer_id) REFERENCES customers (id))`,
		`CREATE TABLE notes (id bigint PRIMARY KEY, customer_id bigint NOT NULL, body varchar(200),
			FOREIGN KEY (customer_id) REFERENCES customers (id))`,
		"CREATE INDEX tickets_customer ON tickets (customer_id)", "CREATE INDEX notes_customer ON notes (customer_id)",
		"INSERT INTO customers SELECT i, "+mail+", concat('Subject ', i) FROM "+series(others),
		fmt.Sprintf("INSERT INTO tickets SELECT i, 0, concat('Ticket ', i) FROM %s", series(heavyTickets)),
		fmt.Sprintf("INSERT INTO tickets SELECT %d + i, 1 + floor(i / 2), 'Late' FROM %s", heavyTickets, series(2*(others-1))),
		"INSERT INTO notes SELECT i, i, 'called' FROM "+series(others),
	)
	return w
}

func (w *target) connect(t testing.TB) {
	t.Helper()
	dsn := w.url
	if w.driver == "mysql" {
		dsn = dbtest.MySQLDSN(w.url)
	}
	var err error
	w.db, err = sql.Open(w.driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.db.Close() })
}

func (w *target) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, q := range statements {
		_, err := w.db.Exec(q)
		require.NoError(t, err, q)
	}
}

func (w *target) count(t testing.TB, query string) int64 {
	t.Helper()
	var n int64
	require.NoError(t, w.db.QueryRow(query).Scan(&n))
	return n
}

// through is the target's URL by way of a proxy.
func (w *target) through(t *testing.T, p *proxy) string {
	t.Helper()
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	u.Host = p.address
	return u.String()
}

// host is where the target's server listens.
func (w *target) host(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	return u.Host
}

// dataMap is the map of the world; notes says what becomes of notes.
func (w *target) dataMap(notes string) []byte {
	return fmt.Appendf(nil, `version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
art15:
  purposes: support
  recipients: {not_applicable: true}
  period: seven years
  rights: all
  complaint: the authority
  source: {not_applicable: true}
  automated_decisions: {not_applicable: true}
  transfers: {not_applicable: true}
identifiers:
  email: {kind: email}
deletion_classes:
  accounting: {period: P7Y, from: end_of_calendar_year}
systems:
  desk:
    connector: %s
    dsn: ${TARGET}
    settle: 300ms
    entities:
      customers:
        subject: true
        fields: {email: {identifier: email}, name: {category: user.name}}
        erase: delete
        anchor: {email: random, name: "Former customer"}
      tickets: {owned_by: {customer_id: customers}, fields: {title: {category: user.content}}, erase: delete}
      notes: {owned_by: {customer_id: customers}, %s}
`, w.name, notes)
}

const notesDeleted = "fields: {body: {category: user.content}}, erase: delete"
