package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/mask"
)

// fixture is a fresh database with a raw connection beside the connector: what it reads is the truth, whatever the
// connector says.
type fixture struct {
	t    testing.TB
	kind string
	url  string
	raw  *sql.DB
}

var kinds = []string{"postgres", "mariadb", "sqlite"}

// onEach runs a test on the three databases.
func onEach(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fn(t, newFixture(t, kind))
		})
	}
}

func newFixture(t testing.TB, kind string) *fixture {
	t.Helper()
	f := &fixture{t: t, kind: kind}
	var err error
	switch kind {
	case "postgres":
		f.url = dbtest.Postgres(t)
		f.raw, err = sql.Open("pgx", f.url)
	case "mariadb":
		f.url = dbtest.MariaDB(t)
		f.raw, err = sql.Open("mysql", dbtest.MySQLDSN(f.url))
	default:
		f.url = dbtest.SQLite(t)
		f.raw, err = sql.Open("sqlite", "file:"+strings.TrimPrefix(f.url, "sqlite://")+"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)")
	}
	require.NoError(t, err)
	f.raw.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = f.raw.Close() })
	return f
}

// exec runs statements separated by semicolons at line ends.
func (f *fixture) exec(script string) {
	f.t.Helper()
	for _, stmt := range strings.Split(script, ";\n") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		_, err := f.raw.Exec(stmt)
		require.NoError(f.t, err, stmt)
	}
}

// rows returns a query's rows, each as its values joined by "|".
func (f *fixture) rows(query string) []string {
	f.t.Helper()
	rs, err := f.raw.Query(query)
	require.NoError(f.t, err, query)
	defer rs.Close()
	cols, err := rs.Columns()
	require.NoError(f.t, err)
	out := []string{}
	for rs.Next() {
		vals, ptrs := make([]sql.NullString, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		require.NoError(f.t, rs.Scan(ptrs...))
		parts := make([]string, len(cols))
		for i, v := range vals {
			parts[i] = "NULL"
			if v.Valid {
				parts[i] = v.String
			}
		}
		out = append(out, strings.Join(parts, "|"))
	}
	require.NoError(f.t, rs.Err())
	return out
}

// open opens the connector on a map of the entities.
func (f *fixture) open(entities ...connectors.Entity) *sqldb.DB {
	f.t.Helper()
	slices.SortFunc(entities, func(a, b connectors.Entity) int { return strings.Compare(a.Name, b.Name) })
	return f.openSystem(&connectors.System{Entities: entities})
}

// openAt opens the connector with a clock of its own. The caller closes it.
func (f *fixture) openAt(now func() time.Time, entities ...connectors.Entity) *sqldb.DB {
	f.t.Helper()
	s := f.system(&connectors.System{Entities: entities})
	db, err := sqldb.Open(context.Background(), s, connectors.Options{Pseudonyms: keyring{}, Now: now})
	require.NoError(f.t, err)
	return db
}

func (f *fixture) openSystem(s *connectors.System) *sqldb.DB {
	f.t.Helper()
	db, err := sqldb.Open(context.Background(), f.system(s), connectors.Options{Pseudonyms: keyring{}})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

// system completes a map for this database.
func (f *fixture) system(s *connectors.System) *connectors.System {
	s.Name, s.Connector, s.Settings = "shop", f.kind, map[string]any{"dsn": f.url}
	if s.Identifiers == nil {
		s.Identifiers = map[string]dsr.IdentifierKind{
			"email": dsr.KindEmail, "user_id": dsr.KindOpaque, "uid": dsr.KindUUID, "phone": dsr.KindPhone, "ip": dsr.KindIP,
		}
	}
	return s
}

type keyring struct{}

func (keyring) Active(string) (string, []byte, error) {
	return "k1", []byte("0123456789abcdef0123456789abcdef"), nil
}

func (k keyring) Live(domain string) ([][]byte, error) {
	_, key, err := k.Active(domain)
	return [][]byte{key, []byte("fedcba9876543210fedcba9876543210")}, err
}

// subject is a person with identifiers given as name, value, name, value …
func subject(ref string, pairs ...string) connectors.Subject {
	s := connectors.Subject{Ref: ref}
	for i := 0; i < len(pairs); i += 2 {
		s.Identifiers = append(s.Identifiers, dsr.Identifier{Name: pairs[i], Value: dsr.NewSecret(pairs[i+1]), Origin: dsr.Known})
	}
	return s
}

// journal is a Journal in memory that can be interrupted at a step.
type journal struct {
	checkpoint []byte
	tallies    []connectors.Tally
	spool      map[string][]spooled
	steps      []string
	// stopAt panics at the n-th step (1-based); 0 never.
	stopAt int
	fenced bool
}

type spooled struct {
	subject string
	keys    []connectors.Key
}

type interrupted struct{ step string }

func (j *journal) Load(context.Context) ([]byte, error) {
	if j.fenced {
		return nil, connectors.ErrFenced
	}
	return slices.Clone(j.checkpoint), nil
}

func (j *journal) Save(_ context.Context, cp []byte, done []connectors.Tally) error {
	if j.fenced {
		return connectors.ErrFenced
	}
	j.checkpoint = slices.Clone(cp)
	j.tallies = append(j.tallies, done...)
	return nil
}

func (j *journal) Spool(_ context.Context, subject, entity string, keys []connectors.Key) error {
	if j.fenced {
		return connectors.ErrFenced
	}
	if j.spool == nil {
		j.spool = map[string][]spooled{}
	}
	j.spool[entity] = append(j.spool[entity], spooled{subject, slices.Clone(keys)})
	return nil
}

func (j *journal) Step(name string) {
	j.steps = append(j.steps, name)
	if j.stopAt > 0 && len(j.steps) == j.stopAt {
		panic(interrupted{name})
	}
}

func (j *journal) Each(_ context.Context, entity string, fn func(string, []connectors.Key) error) error {
	for _, s := range j.spool[entity] {
		if err := fn(s.subject, s.keys); err != nil {
			return err
		}
	}
	return nil
}

// sum adds the tallies up: "entity method" to rows.
func (j *journal) sum() map[string]int64 {
	out := map[string]int64{}
	for _, t := range j.tallies {
		out[t.Entity+" "+string(t.Method)] += t.Rows
	}
	return out
}

// erase runs Erase to its end and Verify after it.
func (f *fixture) erase(db *sqldb.DB, batch ...connectors.Subject) *journal {
	f.t.Helper()
	j := &journal{}
	require.NoError(f.t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}))
	residue, err := db.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
	require.NoError(f.t, err)
	require.Empty(f.t, residue)
	return j
}

// residue is what Verify finds, as "subject entity" and whether it waits for a hold.
func (f *fixture) residue(db *sqldb.DB, j connectors.Job) []string {
	f.t.Helper()
	found, err := db.Verify(context.Background(), connectors.Search{Batch: j.Batch, Held: j.Held, Keys: j.Journal})
	require.NoError(f.t, err)
	out := []string{}
	for _, r := range found {
		line := r.Subject + " " + r.Entity
		if r.Waits != nil {
			require.Equal(f.t, dsr.CauseHold, r.Waits.Cause)
			line += " waits"
		}
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// located is Locate's counts as "subject entity method rows".
func (f *fixture) located(db *sqldb.DB, q connectors.Query) []string {
	f.t.Helper()
	l, err := db.Locate(context.Background(), q)
	require.NoError(f.t, err)
	out := []string{}
	for _, c := range l.Counts {
		out = append(out, fmt.Sprintf("%s %s %s %d", c.Subject, c.Entity, c.Method, c.Rows))
	}
	return out
}

// sink collects records as "entity: name=value, …".
type sink struct{ records []string }

func (s *sink) Record(entity string, names []string, values []any) error {
	var sb strings.Builder
	for i, n := range names {
		if i > 0 {
			sb.WriteString(", ")
		}
		v := values[i]
		if raw, ok := v.([]byte); ok {
			v = string(raw)
		}
		if raw, ok := v.(fmt.Stringer); ok {
			v = raw.String()
		}
		fmt.Fprintf(&sb, "%s=%v", n, v)
	}
	s.records = append(s.records, entity+": "+sb.String())
	return nil
}

func (s *sink) File(string, string, io.Reader) error        { return nil }
func (s *sink) Withheld(string, int64, dsr.Exception) error { return nil }

func (f *fixture) export(db *sqldb.DB, batch ...connectors.Subject) map[string][]string {
	f.t.Helper()
	sinks := map[string]*sink{}
	err := db.Export(context.Background(), connectors.Job{Batch: batch, Journal: &journal{}}, func(s string) (connectors.Sink, error) {
		sinks[s] = &sink{}
		return sinks[s], nil
	})
	require.NoError(f.t, err)
	out := map[string][]string{}
	for s, k := range sinks {
		out[s] = k.records
	}
	return out
}

// owner is a tie by one column.
func owner(column, entity string) connectors.Owner {
	return connectors.Owner{Columns: []string{column}, Entity: entity}
}

func idField(name, identifier string) connectors.Field {
	return connectors.Field{Name: name, Identifier: identifier}
}

var (
	null   = mask.Spec{Kind: mask.Null}
	random = mask.Spec{Kind: mask.Random}
	redact = mask.Spec{Kind: mask.Redact}
)

func constant(v string) mask.Spec { return mask.Spec{Kind: mask.Constant, Value: v} }
