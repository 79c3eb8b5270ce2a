package crash

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/retention"
)

// Rules of these tests: one takes customers with what they own and is blocked by invoices, the other drops partitions.
var sweepRules = []string{"desk.customers.short", "desk.visits.short"}

const sweepMap = `version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers:
  email: {kind: email}
deletion_classes:
  short: {period: P30D, from: collection}
  accounting: {period: P7Y, from: end_of_calendar_year}
systems:
  desk:
    connector: %s
    dsn: ${TARGET}
    entities:
      customers:
        subject: true
        fields: {email: {identifier: email}}
        not_personal: [left_on]
        erase: delete
        anchor: {email: random}
        retention: [{class: short, start: left_on, action: delete, review: never}]
      notes: {owned_by: {customer_id: customers}, erase: delete}
      invoices: {owned_by: {customer_id: customers}, keep: {article: "17(3)(b)", class: accounting}}
      visits:
        owned_by: {customer_id: customers}
        not_personal: [at_day]
        erase: delete
        retention: [{class: short, start: at_day, action: delete, review: never}]
`

// What one order adds: perOrder customers, each with a note. Every third is not due; some of those due have an invoice,
// which blocks them; one of the first order's is held.
const (
	perOrder  = 1500
	perVisits = 400 // due, in a partition of their own; as many again stay
	heldID    = 10_007
)

func notDue(id int) bool  { return id%3 == 2 }
func blocked(id int) bool { return id%100 == 1 && !notDue(id) }

// sweepScene is one run of a test of sweeps.
type sweepScene struct {
	*house
	kind, control, target, dir string
	db                         *sql.DB
	orders                     int
}

func newSweepScene(t *testing.T, kind string, behind time.Duration) *sweepScene {
	t.Helper()
	s := &sweepScene{kind: kind, control: dbtest.Postgres(t), dir: t.TempDir()}
	var err error
	if kind == "postgres" {
		s.target = dbtest.Postgres(t)
		s.db, err = sql.Open("pgx", s.target)
	} else {
		s.target = dbtest.MariaDB(t)
		s.db, err = sql.Open("mysql", dbtest.MySQLDSN(s.target))
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.db.Close() })
	for _, q := range []string{
		`CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(100) NOT NULL UNIQUE, left_on date NOT NULL)`,
		`CREATE INDEX customers_left ON customers (left_on)`,
		`CREATE TABLE notes (id bigint PRIMARY KEY, customer_id bigint NOT NULL, FOREIGN KEY (customer_id) REFERENCES customers (id))`,
		`CREATE INDEX notes_customer ON notes (customer_id)`,
		`CREATE TABLE invoices (id bigint PRIMARY KEY, customer_id bigint NOT NULL, FOREIGN KEY (customer_id) REFERENCES customers (id))`,
		`CREATE INDEX invoices_customer ON invoices (customer_id)`,
		s.per(`CREATE TABLE visits (id bigint, at_day date NOT NULL, customer_id bigint NOT NULL, PRIMARY KEY (id, at_day)) PARTITION BY RANGE (at_day)`,
			`CREATE TABLE visits (id bigint, at_day date NOT NULL, customer_id bigint NOT NULL, PRIMARY KEY (id, at_day))
			PARTITION BY RANGE COLUMNS (at_day) (PARTITION later VALUES LESS THAN (MAXVALUE))`),
		s.per(`CREATE TABLE visits_later PARTITION OF visits FOR VALUES FROM ('2050-01-01') TO (MAXVALUE)`, ``),
		`CREATE INDEX visits_customer ON visits (customer_id)`,
		`CREATE INDEX visits_day ON visits (at_day)`,
	} {
		s.exec(t, q)
	}
	s.house = furnish(t, s.control, s.target, s.dir, fmt.Sprintf(sweepMap, kind), behind)
	s.order(t)
	_, err = s.engine.PlaceHold(t.Context(), actor, engine.NewHold{
		Identifiers: []engine.RawIdentifier{{Name: "email", Value: dsr.NewSecret(email(heldID))}},
		Reference:   "CASE-1", Review: time.Now().AddDate(1, 0, 0),
	})
	require.NoError(t, err)
	return s
}

// per returns what is said on this scene's database.
func (s *sweepScene) per(onPostgres, onMariaDB string) string {
	if s.kind == "postgres" {
		return onPostgres
	}
	return onMariaDB
}

func (s *sweepScene) exec(t *testing.T, q string) {
	t.Helper()
	if q == "" {
		return
	}
	_, err := s.db.Exec(q)
	require.NoError(t, err, q)
}

// order adds rows, due and not.
func (s *sweepScene) order(t *testing.T) {
	t.Helper()
	s.orders++
	base := s.orders * 10_000
	month := time.Date(2000+s.orders/12, time.Month(1+s.orders%12), 1, 0, 0, 0, 0, time.UTC)
	from, to := month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)
	s.exec(t, s.per(fmt.Sprintf("CREATE TABLE visits_%d PARTITION OF visits FOR VALUES FROM ('%s') TO ('%s')", s.orders, from, to),
		fmt.Sprintf(`ALTER TABLE visits REORGANIZE PARTITION later INTO
		(PARTITION visits_%d VALUES LESS THAN ('%s'), PARTITION later VALUES LESS THAN (MAXVALUE))`, s.orders, to)))
	var customers, notes, invoices, visits []string
	for id := base; id < base+perOrder; id++ {
		left := "2015-03-01"
		if notDue(id) {
			left = "2095-03-01"
		}
		customers = append(customers, fmt.Sprintf("(%d, '%s', '%s')", id, email(id), left))
		notes = append(notes, fmt.Sprintf("(%d, %d)", id, id))
		if blocked(id) {
			invoices = append(invoices, fmt.Sprintf("(%d, %d)", id, id))
		}
	}
	visitor := base + 2 - base%3 // who stays
	for id := base; id < base+perVisits; id++ {
		visits = append(visits, fmt.Sprintf("(%d, '%s', %d), (%d, '2095-03-01', %d)", id, from, visitor, id, visitor))
	}
	s.exec(t, "INSERT INTO visits VALUES "+strings.Join(visits, ","))
	tx, err := s.db.Begin() // so that an order is swept whole or not at all
	require.NoError(t, err)
	for _, q := range []string{
		"INSERT INTO customers VALUES " + strings.Join(customers, ","), "INSERT INTO notes VALUES " + strings.Join(notes, ","),
		"INSERT INTO invoices VALUES " + strings.Join(invoices, ","),
	} {
		_, err := tx.Exec(q)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// begin starts Sweeps of rules, where none is under way.
func (s *sweepScene) begin(t *testing.T, rules ...string) {
	t.Helper()
	for _, r := range rules {
		_, err := s.engine.Sweep(t.Context(), actor, r, true)
		require.NoError(t, err)
	}
}

func (s *sweepScene) all(t *testing.T) []*retention.Sweep {
	t.Helper()
	var out []*retention.Sweep
	for cursor := ""; ; {
		page, next, err := s.engine.Sweeps(t.Context(), actor, engine.SweepFilter{Limit: 100, Cursor: cursor})
		require.NoError(t, err)
		out = append(out, page...)
		if cursor = next; next == "" {
			return out
		}
	}
}

// settled reports whether every Sweep has come to its end, and fails when one did not do its work.
func (s *sweepScene) settled(t *testing.T) bool {
	t.Helper()
	for _, w := range s.all(t) {
		if w.State.Open() {
			return false
		}
		require.Equal(t, retention.SweepDone, w.State, "%s: %s: %s", w.Rule, w.Reason, w.Hint)
	}
	return true
}

func (s *sweepScene) await(t *testing.T, v *victim) bool {
	t.Helper()
	return v.await(t, func() bool { return s.settled(t) }, func() {
		for _, w := range s.all(t) {
			t.Logf("%s %s %s fence %d failures %d: %s %s", w.ID, w.Rule, w.State, w.Fence, w.Failures, w.Reason, w.Hint)
		}
	})
}

func (s *sweepScene) count(t *testing.T, q string) int {
	t.Helper()
	var n int
	require.NoError(t, s.db.QueryRow(q).Scan(&n), q)
	return n
}

// judge compares the target with what the rules ask for, the Sweeps' results with the rows that went, and the ledger
// with the Sweeps.
func (s *sweepScene) judge(t *testing.T) {
	t.Helper()
	left := map[int]bool{}
	rows, err := s.db.Query("SELECT id FROM customers")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id int
		require.NoError(t, rows.Scan(&id))
		left[id] = true
	}
	require.NoError(t, rows.Err())
	var gone, stay int64
	for order := 1; order <= s.orders; order++ {
		for id := order * 10_000; id < order*10_000+perOrder; id++ {
			stays := notDue(id) || blocked(id) || id == heldID
			require.Equal(t, stays, left[id], "customer %d", id)
			if stays {
				stay++
			} else {
				gone++
			}
		}
	}
	require.EqualValues(t, stay, len(left))
	require.EqualValues(t, stay, s.count(t, "SELECT count(*) FROM notes JOIN customers ON customers.id = notes.customer_id"))
	require.EqualValues(t, stay, s.count(t, "SELECT count(*) FROM notes"))
	require.Equal(t, s.orders*perVisits, s.count(t, "SELECT count(*) FROM visits WHERE at_day >= '2050-01-01'"))
	require.Equal(t, s.orders*perVisits, s.count(t, "SELECT count(*) FROM visits"))

	visits := int64(s.orders * perVisits)
	want := map[string]int64{"customers/delete": gone, "notes/delete": gone, "visits/delete": visits}
	got := map[string]int64{}
	told := s.leaves(t)
	last := map[string]bool{}
	for _, w := range s.all(t) { // the newest first
		require.Contains(t, told, "sweep.started "+w.ID)
		detail := told["sweep.done "+w.ID]
		require.NotNil(t, detail, "%s has no certificate", w.ID)
		if !last[w.Rule] { // the others may not have met what was added while they worked
			require.Equal(t, "0", detail["left"], "%s", w.Rule)
		}
		last[w.Rule] = true
		for _, l := range w.Results {
			require.Equal(t, strconv.FormatInt(l.Count, 10), detail[l.Entity+"."+string(l.Method)])
			if l.Method == dsr.Delete {
				got[l.Entity+"/delete"] += l.Count
			}
		}
	}
	require.Equal(t, want, got, "every row is in exactly one sweep")
}

// leaves are those of Sweeps in the ledger, by type and Sweep; one of each.
func (s *sweepScene) leaves(t *testing.T) map[string]map[string]string {
	t.Helper()
	rows, err := s.store.Pool().Query(t.Context(), "SELECT leaf FROM leaves ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	out := map[string]map[string]string{}
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		var leaf struct {
			Type   string
			Detail map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(text), &leaf))
		if id := leaf.Detail["sweep"]; id != "" {
			key := leaf.Type + " " + id
			require.NotContains(t, out, key, "told twice")
			out[key] = leaf.Detail
		}
	}
	require.NoError(t, rows.Err())
	return out
}

// finish lets what is left be swept by a process that nobody kills.
func (s *sweepScene) finish(t *testing.T) {
	t.Helper()
	v := start(t, s.control, s.target, s.dir, "", 0)
	require.False(t, s.await(t, v))
	s.begin(t, sweepRules...) // for what was added while a Sweep was past it
	require.False(t, s.await(t, v))
	v.stop(t)
}

func onTargets(t *testing.T, fn func(t *testing.T, kind string)) {
	t.Helper()
	for _, kind := range []string{"postgres", "mariadb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fn(t, kind)
		})
	}
}

var sweepSteps = []string{
	sqldb.StepChanged, sqldb.StepIntent, sqldb.StepCommitted, sqldb.StepSaved, stepBeforeCommit, stepAfterCommit,
}

func TestSweepsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	onTargets(t, func(t *testing.T, kind string) {
		s := newSweepScene(t, kind, 0)
		rng := rand.New(rand.NewPCG(3, 4))
		kills := 0
		for _, rules := range [][]string{sweepRules, sweepRules[:1], sweepRules[1:]} {
			for _, step := range sweepSteps {
				s.begin(t, rules...)
				v := start(t, s.control, s.target, s.dir, step, 1+rng.IntN(3))
				for !s.await(t, v) {
					s.order(t) // the work ended before the step was passed often enough
					s.begin(t, rules...)
				}
				kills++
				s.order(t)
			}
		}
		s.finish(t)
		s.judge(t)
		parts := s.count(t, s.per("SELECT count(*) FROM pg_inherits WHERE inhparent = 'visits'::regclass",
			"SELECT count(*) FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = 'visits'"))
		require.Less(t, parts, s.orders, "partitions are dropped, not only emptied")
		t.Logf("%d kills, %d orders, %d sweeps, %d partitions left", kills, s.orders, len(s.all(t)), parts)
	})
}

// Two processes whose schedules come due at the same moment, for the first time.
func TestTwoSchedulersAtOnce(t *testing.T) {
	t.Parallel()
	onTargets(t, func(t *testing.T, kind string) {
		s := newSweepScene(t, kind, 2*time.Minute)
		for range 5 {
			s.order(t)
		}
		require.NoError(t, s.engine.Tick(t.Context(), engine.Tick{Name: engine.TickSweeps})) // served until two minutes ago
		a := start(t, s.control, s.target, s.dir, "", 0)
		b := start(t, s.control, s.target, s.dir, "", 0)
		done := func() bool {
			of := map[string]bool{}
			for _, w := range s.all(t) {
				of[w.Rule] = true
			}
			return len(of) == len(sweepRules) && s.settled(t)
		}
		require.False(t, a.await(t, done, func() {}))
		a.stop(t)
		b.stop(t)
		minutes := map[string]bool{}
		for _, w := range s.all(t) {
			require.Equal(t, dsr.Engine.ID, w.StartedBy)
			key := w.Rule + w.CreatedAt.Truncate(time.Minute).String()
			require.False(t, minutes[key], "%s began twice", w.Rule)
			minutes[key] = true
		}
		s.judge(t)
	})
}

// A process that stands still for longer than its lease, in the middle of a chunk, and then goes on.
func TestASleeperIsTakenOverAndDoesNoHarm(t *testing.T) {
	t.Parallel()
	onTargets(t, func(t *testing.T, kind string) {
		s := newSweepScene(t, kind, 0)
		for _, step := range []string{sqldb.StepChanged, sqldb.StepIntent, sqldb.StepCommitted} {
			s.order(t)
			s.begin(t, sweepRules...)
			fences := map[string]int64{}
			a := start(t, s.control, s.target, s.dir, step, 1, envSignal+"=STOP")
			require.Eventually(t, func() bool { return stands(a) }, time.Minute, 10*time.Millisecond)
			for _, w := range s.all(t) {
				fences[w.ID] = w.Fence
			}
			b := start(t, s.control, s.target, s.dir, "", 0)
			require.Eventually(t, func() bool {
				for _, w := range s.all(t) {
					if w.Fence > fences[w.ID] && fences[w.ID] > 0 {
						return true
					}
				}
				return false
			}, time.Minute, 50*time.Millisecond, "nobody takes over")
			require.NoError(t, a.cmd.Process.Signal(syscall.SIGCONT))
			require.False(t, s.await(t, b))
			a.stop(t)
			b.stop(t)
		}
		s.finish(t)
		s.judge(t)
	})
}

// stands reports whether a victim is stopped by a signal.
func stands(v *victim) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.cmd.Process.Pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}
