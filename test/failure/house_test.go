// Package failure breaks what Lethe depends on, on real databases, and asks every time for the same three things: the
// work ends in a state that a person understands, with a hint; nothing is lost or done twice; and once the cause is
// mended, a retry finishes it.
package failure

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/accesspackage"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/jobs"
)

// patience is how long a test waits for a state.
const patience = 50 * time.Second

// tries is how often a system may fail in a row before a person is asked.
const tries = 3

var (
	alice = dsr.Actor{ID: "alice", Roles: []string{dsr.RoleOperator}}
	bob   = dsr.Actor{ID: "bob", Roles: []string{dsr.RoleDPO, dsr.RoleOperator}}
)

// options say how a house differs from the usual one.
type options struct {
	control  string // URL of the control database
	dir      string
	target   string
	attempts int
	lease    time.Duration
	clock    *clock
	auto     bool // erasures are approved by policy
	step     func(run, name string)
	moved    func(from, to dsr.State) // after a Request's change of state is committed
	worked   func(done dsr.Phase)     // after a run is committed
	retries  *atomic.Int64            // counts pauses after a fault
	idle     bool                     // works no jobs
}

// house is a whole Lethe without its API.
type house struct {
	store  *store.Store
	engine *engine.Engine
	stop   func()
}

func open(t *testing.T, o options) *house {
	t.Helper()
	if o.attempts == 0 {
		o.attempts = tries
	}
	if o.lease == 0 {
		o.lease = 30 * time.Second
	}
	if o.clock == nil {
		o.clock = &clock{}
	}
	if o.retries == nil {
		o.retries = &atomic.Int64{}
	}
	ctx := context.WithoutCancel(t.Context())
	log := slog.New(counting{slog.DiscardHandler, o.retries})
	s, err := store.Open(ctx, o.control, store.Options{Logger: log})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(ctx))
	held, err := keys.Open(ctx, filepath.Join(o.dir, "keys"), nil)
	require.NoError(t, err)
	env := func(name string) (string, bool) { return o.target, name == "TARGET" }
	packages, err := accesspackage.New(filepath.Join(o.dir, "packages"), func(yaml []byte) (*datamap.Map, error) {
		return datamap.Load(yaml, env, sqldb.Kinds())
	})
	require.NoError(t, err)
	policy := engine.Policy{Attempts: o.attempts, Backoff: 20 * time.Millisecond, Lease: o.lease}
	if o.auto {
		policy.AutoApprove = []engine.AutoApproval{{Name: "test", Kinds: []dsr.Kind{dsr.Access, dsr.Erasure}}}
	}
	h := &house{store: s}
	h.engine, err = engine.New(engine.Config{
		Store: s, Cipher: held, Committer: held, Pseudonyms: held, Packager: packages, Kinds: sqldb.Kinds(), Getenv: env,
		Time: o.clock, Logger: log, Policy: policy, Step: o.step, Metrics: reports{o.moved, o.worked},
		Decorate: func(_ *connectors.System, c connectors.Connector) connectors.Connector {
			return connectors.Retry(c, connectors.DefaultBackoff)
		},
	})
	require.NoError(t, err)
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			require.NoError(t, h.engine.Close())
			require.NoError(t, s.Close())
		})
	}
	t.Cleanup(func() { h.stop() })
	if !o.idle {
		h.work(t, o, log)
	}
	return h
}

// work starts the workers, and the upkeep more often than River would.
func (h *house) work(t *testing.T, o options, log *slog.Logger) {
	t.Helper()
	runner, err := jobs.New(jobs.Config{
		Engine: h.engine, Store: h.store, Pool: h.store.Pool(), SQLite: h.store.SQLite(), Logger: log, Time: o.clock,
		Grace: 5 * time.Second,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	require.NoError(t, runner.Start(ctx))
	var upkeep sync.WaitGroup
	upkeep.Go(func() {
		every := time.NewTicker(300 * time.Millisecond)
		defer every.Stop()
		for {
			for _, tick := range []string{engine.TickLeases, engine.TickNudges} {
				_ = h.engine.Tick(ctx, engine.Tick{Name: tick}) // the next one comes by itself
			}
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
		}
	})
	closed := h.stop
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			upkeep.Wait()
			within, end := context.WithTimeout(context.Background(), 20*time.Second)
			defer end()
			_ = runner.Stop(within) // a control database that was cut off may answer with an error
			closed()
		})
	}
}

// clock is the machine's, moved by an offset.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time       { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) set(by time.Duration) { c.offset.Store(int64(by)) }

// counting counts the engine's notices that work goes on later.
type counting struct {
	slog.Handler
	retries *atomic.Int64
}

func (c counting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (c counting) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a system failed; its work goes on later" {
		c.retries.Add(1)
	}
	return nil
}

func (c counting) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c counting) WithGroup(string) slog.Handler      { return c }

// reports tells a test of every change of state and of every run that is done.
type reports struct {
	moved  func(from, to dsr.State)
	worked func(done dsr.Phase)
}

func (m reports) Transition(_ dsr.Kind, from, to dsr.State) {
	if m.moved != nil {
		m.moved(from, to)
	}
}

func (m reports) RunDone(_ string, phase dsr.Phase, _ int, _ time.Duration) {
	if m.worked != nil {
		m.worked(phase)
	}
}
func (reports) Finished(dsr.Kind, dsr.State, time.Duration) {}
func (reports) TaskFailed(string, dsr.Phase, string)        {}

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
		"CREATE TABLE tickets (id bigint PRIMARY KEY, customer_id bigint NOT NULL, title varchar(200), FOREIGN KEY (customer_id) REFERENCES customers (id))",
		"CREATE TABLE notes (id bigint PRIMARY KEY, customer_id bigint NOT NULL, body varchar(200), FOREIGN KEY (customer_id) REFERENCES customers (id))",
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

// database is its name.
func (w *target) database() string {
	return w.url[strings.LastIndex(w.url, "lethe_"):][:len("lethe_")+12]
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

func (h *house) activate(t *testing.T, yaml []byte) int {
	t.Helper()
	version, err := h.engine.ActivateMap(t.Context(), bob, yaml)
	require.NoError(t, err)
	return version
}

func (h *house) file(t *testing.T, kind dsr.Kind, subject int) *dsr.Request {
	t.Helper()
	r, err := h.engine.File(t.Context(), alice, engine.NewRequest{
		Kind: kind, Verified: true, Method: "session", Identifiers: []engine.RawIdentifier{
			{Name: "email", Value: dsr.NewSecret(fmt.Sprintf("subject-%d@example.com", subject))},
		},
	})
	require.NoError(t, err)
	return r
}

func (h *house) get(t *testing.T, id string) *dsr.Request {
	t.Helper()
	r, err := h.engine.Get(t.Context(), bob, id)
	require.NoError(t, err)
	return r
}

// await waits until a Request is in one of the states, and fails when it ends in another or needs attention.
func (h *house) await(t *testing.T, id string, states ...dsr.State) *dsr.Request {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		r, err := h.engine.Get(t.Context(), bob, id)
		for _, s := range states {
			if err == nil && r.State == s {
				return r
			}
		}
		if err == nil && (r.State.Final() || r.State == dsr.NeedsAttention || time.Now().After(end)) {
			h.tell(t, id)
			require.Failf(t, "unexpected state", "%s: %s: %s", r.State, r.Reason, r.Hint)
		}
		require.True(t, time.Now().Before(end), "the control database does not answer: %v", err)
		select {
		case <-t.Context().Done():
			t.FailNow()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *house) tell(t *testing.T, id string) {
	t.Helper()
	events, _ := h.engine.Events(t.Context(), bob, id, 0, 100)
	for _, e := range events {
		t.Logf("%s %s %s %v", e.At.Format(time.TimeOnly), e.Type, e.To, e.Detail)
	}
	tasks, _ := h.engine.Tasks(t.Context(), bob, id)
	for _, task := range tasks {
		t.Logf("task %s %s %s run %s not before %s: %s", task.System, task.Phase, task.State, task.Run, task.NotBefore, task.Reason)
	}
}

func (h *house) approve(t *testing.T, r *dsr.Request) {
	t.Helper()
	r = h.await(t, r.ID, dsr.AwaitingReview)
	_, err := h.engine.Approve(t.Context(), bob, r.ID, r.Version, r.PlanHash)
	require.NoError(t, err)
}

func (h *house) retry(t *testing.T, id string) {
	t.Helper()
	_, err := h.engine.Retry(t.Context(), bob, id, h.get(t, id).Version)
	require.NoError(t, err)
}

// attention waits until a Request needs a person, and requires that it says why and what to do.
func (h *house) attention(t *testing.T, id, reason string) *dsr.Request {
	t.Helper()
	r := h.await(t, id, dsr.NeedsAttention)
	require.Equal(t, reason, r.Reason, r.Hint)
	require.NotEmpty(t, r.Hint)
	require.NotContains(t, r.Hint, "@example.com")
	return r
}

// receipt adds up what the Tasks of a Request say that they did.
func (h *house) receipt(t *testing.T, id string) map[string]int64 {
	t.Helper()
	tasks, err := h.engine.Tasks(t.Context(), bob, id)
	require.NoError(t, err)
	got := map[string]int64{}
	for _, task := range tasks {
		if task.Receipt == nil {
			continue
		}
		for _, l := range task.Receipt.Lines {
			got[l.Entity+"/"+string(l.Method)] += l.Count
		}
	}
	return got
}

// heavyReceipt is what the erasure of subject 0 does.
var heavyReceipt = map[string]int64{"customers/delete": 1, "tickets/delete": heavyTickets, "notes/delete": 1}

// erased requires that subject 0 is gone, that nobody else lost anything, and that the receipt says so to the row.
func (h *house) erased(t *testing.T, w *target, id string) {
	t.Helper()
	h.await(t, id, dsr.Completed)
	require.Equal(t, heavyReceipt, h.receipt(t, id))
	require.Zero(t, w.count(t, "SELECT count(*) FROM customers WHERE id = 0"))
	require.Zero(t, w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0"))
	require.EqualValues(t, others-1, w.count(t, "SELECT count(*) FROM customers"))
	require.EqualValues(t, 2*(others-1), w.count(t, "SELECT count(*) FROM tickets"))
	require.EqualValues(t, others-1, w.count(t, "SELECT count(*) FROM notes"))
}
