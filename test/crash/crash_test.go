// Package crash kills Lethe, as `kill -9` does, at every step it names, and asks the target database afterwards
// whether everything that was requested happened, once, and nothing else did. It never takes Lethe's word for it.
package crash

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

func TestMain(m *testing.M) {
	if os.Getenv(envControl) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	subjects    = 700
	perKill     = 4 // requests filed for each kill: three erasures and one copy
	killsPerOne = 6 // kills at each named step; the least that counts is three
)

var steps = []string{
	sqldb.StepSpooled, sqldb.StepChanged, sqldb.StepIntent, sqldb.StepCommitted, sqldb.StepSaved, sqldb.StepMentions,
	sqldb.StepExported, stepBeforeCommit, stepAfterCommit,
}

const dataMap = `version: 1
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
  user_id: {kind: opaque}
deletion_classes:
  accounting: {period: P7Y, from: end_of_calendar_year}
systems:
  desk:
    connector: postgres
    dsn: ${TARGET}
    entities:
      customers:
        subject: true
        teaches: true
        fields: {id: {identifier: user_id}, email: {identifier: email}, name: {category: user.name}}
        erase: delete
        anchor: {email: random, name: "Former customer"}
      tickets: {owned_by: {customer_id: customers}, fields: {title: {category: user.content}}, erase: delete}
      invoices:
        owned_by: {customer_id: customers}
        fields: {total: {category: user.financial}}
        keep: {article: "17(3)(b)", class: accounting}
      messages:
        owned_by: {sender_id: customers, recipient_id: customers}
        on_owner_erased: {sender_id: {sender_id: null}, recipient_id: {recipient_id: null}}
        mentions: [body]
        erase: delete
`

func email(i int) string { return fmt.Sprintf("subject-%d@example.com", i) }

// world fills the target: every third subject has an invoice; message i goes from subject i to the next one and
// mentions the one after that.
func world(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	for _, q := range []string{
		`CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL)`,
		`CREATE TABLE tickets (id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, title text)`,
		`CREATE TABLE invoices (id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, total bigint)`,
		`CREATE TABLE messages (id bigint PRIMARY KEY, sender_id bigint REFERENCES customers,
			recipient_id bigint REFERENCES customers, body text NOT NULL)`,
		`CREATE INDEX ON tickets (customer_id)`, `CREATE INDEX ON invoices (customer_id)`,
		`CREATE INDEX ON messages (sender_id)`, `CREATE INDEX ON messages (recipient_id)`,
		`INSERT INTO customers SELECT i, 'subject-' || i || '@example.com', 'Subject ' || i FROM generate_series(0, $1::bigint - 1) i`,
		`INSERT INTO tickets SELECT i, i / 2, 'Ticket ' || i FROM generate_series(0, 2 * $1::bigint - 1) i`,
		`INSERT INTO invoices SELECT i, i, 100 FROM generate_series(0, $1::bigint - 1, 3) i`,
		`INSERT INTO messages SELECT i, i, (i + 1) % $1::bigint, 'ask subject-' || (i + 2) % $1::bigint || '@example.com'
			FROM generate_series(0, $1::bigint - 1) i`,
	} {
		args := []any{}
		if q[:6] == "INSERT" {
			args = append(args, subjects)
		}
		_, err := db.Exec(q, args...)
		require.NoError(t, err)
	}
	_, err = db.Exec("ANALYZE")
	require.NoError(t, err)
	return db
}

// victim is a running child.
type victim struct {
	cmd   *exec.Cmd
	stdin io.Closer
	died  chan error
}

func start(t *testing.T, control, target, dir, step string, count int, more ...string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envControl+"="+control, envTarget+"="+target, envDir+"="+dir, envStep+"="+step,
		envCount+"="+strconv.Itoa(count))
	cmd.Env = append(cmd.Env, more...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	v := &victim{cmd: cmd, stdin: in, died: make(chan error, 1)}
	go func() { v.died <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
	return v
}

func (v *victim) stop(t *testing.T) {
	t.Helper()
	_ = v.stdin.Close()
	require.NoError(t, <-v.died)
}

// scene is one run of the test.
type scene struct {
	*house
	control, target, dir string
	next                 int // the next subject that has no request
	erased               map[int]bool
	requests             []string
}

var actor = dsr.Actor{ID: "tester", Roles: []string{dsr.RoleDPO, dsr.RoleOperator}}

func (s *scene) file(t *testing.T, kind dsr.Kind, subject int) {
	t.Helper()
	r, err := s.engine.File(t.Context(), actor, engine.NewRequest{
		Kind: kind, Verified: true, Method: "session",
		Identifiers: []engine.RawIdentifier{{Name: "email", Value: dsr.NewSecret(email(subject))}},
	})
	require.NoError(t, err)
	s.requests = append(s.requests, r.ID)
	if kind == dsr.Erasure {
		s.erased[subject] = true
	}
}

// order files the requests of one kill. The copy is of the last subject, which is never erased.
func (s *scene) order(t *testing.T) {
	t.Helper()
	require.Less(t, s.next+perKill, subjects-2, "the test needs a larger world")
	for i := range perKill - 1 {
		s.file(t, dsr.Erasure, s.next+i)
	}
	s.file(t, dsr.Access, s.next+perKill-1)
	s.next += perKill
}

// settled reports whether every Request has ended, and fails when one needs attention.
func (s *scene) settled(t *testing.T) bool {
	t.Helper()
	all := true
	for _, id := range s.requests {
		r, err := s.engine.Get(t.Context(), actor, id)
		require.NoError(t, err)
		require.NotEqual(t, dsr.NeedsAttention, r.State, "%s: %s: %s", id, r.Reason, r.Hint)
		all = all && r.State.Final()
	}
	return all
}

// await waits for an event of the victim or for the work to be done; it returns true when the victim died by its step.
// What goes on is told before the test gives up.
func (v *victim) await(t *testing.T, settled func() bool, tell func()) bool {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case err := <-v.died:
			require.ErrorContains(t, err, "killed")
			return true
		case <-deadline:
			tell()
			t.Fatal("the work neither ends nor dies")
		case <-time.After(50 * time.Millisecond):
			if settled() {
				return false
			}
		}
	}
}

func (s *scene) await(t *testing.T, v *victim) bool {
	t.Helper()
	return v.await(t, func() bool { return s.settled(t) }, func() {
		for _, id := range s.requests {
			s.tell(t, id)
		}
	})
}

// tell logs how far a Request came that has not ended.
func (s *scene) tell(t *testing.T, id string) {
	t.Helper()
	r, err := s.engine.Get(t.Context(), actor, id)
	if err != nil || r.State.Final() {
		return
	}
	t.Logf("%s %s is %s: %s", r.ID, r.Kind, r.State, r.Reason)
	events, _ := s.engine.Events(t.Context(), actor, id, 0, 100)
	for _, e := range events {
		t.Logf("  %s %s %v", e.At.Format(time.TimeOnly), e.Type, e.Detail)
	}
	tasks, _ := s.engine.Tasks(t.Context(), actor, id)
	for _, task := range tasks {
		t.Logf("  task %s %s %s run %s: %s", task.System, task.Phase, task.State, task.Run, task.Reason)
	}
}

func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	s := newScene(t, dbtest.Postgres(t))
	rng := rand.New(rand.NewPCG(1, 2))
	hits := map[string]int{}
	for range killsPerOne {
		for _, step := range steps {
			s.order(t)
			v := start(t, s.control, s.target, s.dir, step, 1+rng.IntN(2))
			for !s.await(t, v) {
				s.order(t) // the work ended before the step was passed often enough
			}
			hits[step]++
			// what was interrupted stays for the next victim: an interruption of an interruption is the common case
		}
	}
	v := start(t, s.control, s.target, s.dir, "", 0)
	require.False(t, s.await(t, v))
	v.stop(t)
	total := 0
	for _, step := range steps {
		require.GreaterOrEqual(t, hits[step], 3, step)
		total += hits[step]
	}
	require.GreaterOrEqual(t, total, 50)
	t.Logf("%d kills: %v; %d requests", total, hits, len(s.requests))
	s.judge(t)
}

// The embedded control database is killed the same way, a little less often.
func TestKilledOnTheEmbeddedDatabase(t *testing.T) {
	t.Parallel()
	s := newScene(t, dbtest.SQLite(t))
	for _, step := range []string{sqldb.StepIntent, sqldb.StepCommitted, sqldb.StepExported, stepBeforeCommit, stepAfterCommit} {
		s.order(t)
		v := start(t, s.control, s.target, s.dir, step, 1)
		for !s.await(t, v) {
			s.order(t)
		}
	}
	v := start(t, s.control, s.target, s.dir, "", 0)
	require.False(t, s.await(t, v))
	v.stop(t)
	s.judge(t)
}

func newScene(t *testing.T, control string) *scene {
	t.Helper()
	s := &scene{control: control, target: dbtest.Postgres(t), dir: t.TempDir(), erased: map[int]bool{}}
	world(t, s.target)
	s.house = furnish(t, s.control, s.target, s.dir, dataMap, 0)
	return s
}

// furnish builds the test's own house, which files and looks and does not work, on a fresh control database.
func furnish(t *testing.T, control, target, dir, dataMap string, behind time.Duration) *house {
	t.Helper()
	h, err := build(context.Background(), control, target, dir, behind, func(string) {})
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.store.Close() })
	require.NoError(t, h.store.Migrate(t.Context()))
	_, err = h.engine.ActivateMap(t.Context(), actor, []byte(dataMap))
	require.NoError(t, err)
	return h
}

// judge compares the target with what the requests ask for, row by row, and the receipts with the rows that went.
func (s *scene) judge(t *testing.T) {
	t.Helper()
	db, err := sql.Open("pgx", s.target)
	require.NoError(t, err)
	defer db.Close()
	want := map[string]int64{}
	text := func(q string, args ...any) string {
		t.Helper()
		var v sql.NullString
		require.NoError(t, db.QueryRow(q, args...).Scan(&v))
		return v.String
	}
	for i := range subjects {
		kept := i%3 == 0
		row := text("SELECT coalesce((SELECT email || '/' || name FROM customers WHERE id = $1), 'gone')", i)
		switch {
		case !s.erased[i]:
			require.Equal(t, email(i)+"/Subject "+strconv.Itoa(i), row)
		case kept:
			require.Contains(t, row, "/Former customer")
			require.NotContains(t, row, email(i))
			want["customers/anchor"]++
			want["invoices/keep"]++
		default:
			require.Equal(t, "gone", row, i)
			want["customers/delete"]++
		}
		tickets := "2"
		if s.erased[i] {
			tickets = "0"
			want["tickets/delete"] += 2
		}
		require.Equal(t, tickets, text("SELECT count(*) FROM tickets WHERE customer_id = $1", i))
		if kept {
			require.Equal(t, "100", text("SELECT total FROM invoices WHERE customer_id = $1", i))
		}
		to, about := (i+1)%subjects, (i+2)%subjects
		message := text(`SELECT coalesce((SELECT coalesce(sender_id, -1) || '/' || coalesce(recipient_id, -1) || '/' || body
			FROM messages WHERE id = $1), 'gone')`, i)
		from, at, body := i, to, "ask "+email(about)
		if s.erased[i] {
			from = -1
		}
		if s.erased[to] {
			at = -1
		}
		if s.erased[about] {
			body = "ask [redacted]"
		}
		if from == -1 && at == -1 {
			require.Equal(t, "gone", message, i)
			want["messages/delete"]++
		} else {
			require.Equal(t, fmt.Sprintf("%d/%d/%s", from, at, body), message, i)
		}
	}
	got := map[string]int64{}
	for _, id := range s.requests {
		r, err := s.engine.Get(t.Context(), actor, id)
		require.NoError(t, err)
		if r.Kind == dsr.Access {
			p, err := s.engine.PackageInfo(t.Context(), actor, id)
			require.NoError(t, err)
			require.Positive(t, p.Records)
			continue
		}
		tasks, err := s.engine.Tasks(t.Context(), actor, id)
		require.NoError(t, err)
		for _, task := range tasks {
			require.NotNil(t, task.Receipt, id)
			for _, l := range task.Receipt.Lines {
				if k := l.Entity + "/" + string(l.Method); want[k] != 0 || l.Method == dsr.Delete {
					got[k] += l.Count
				}
			}
		}
	}
	require.Equal(t, want, got, "every row is in exactly one receipt")
}
