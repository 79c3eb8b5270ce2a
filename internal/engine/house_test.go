package engine_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
)

// house is an engine over the real store, keys, packages and connectors. Its work is driven by the test, so that
// time and order are the test's own.
type house struct {
	*engine.Engine
	t      testing.TB
	store  *recorder
	time   *hands
	keys   *keys.Keys
	config engine.Config
	env    map[string]string
	log    *bytes.Buffer
	hooks  *hooks
}

// hands are the clock of a test.
type hands struct {
	mu sync.Mutex
	at time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hands) forward(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

// recorder is a store that keeps the work which it is given, in memory, once its transaction has committed.
type recorder struct {
	engine.Store
	mu   sync.Mutex
	work []scheduled
	all  []engine.Work
	// clock is what the database's own clock says; it has none when nil.
	clock func() time.Time
}

type scheduled struct {
	work engine.Work
	at   time.Time
}

type recordingTx struct {
	engine.Tx
	work  []scheduled
	clock func() time.Time
}

func (t *recordingTx) Clock() (time.Time, error) {
	if t.clock == nil {
		return time.Time{}, nil
	}
	return t.clock(), nil
}

func (t *recordingTx) Enqueue(w engine.Work, at time.Time) error {
	t.work = append(t.work, scheduled{w, at})
	return nil
}

func (r *recorder) InTx(ctx context.Context, fn func(engine.Tx) error) error {
	var last *recordingTx
	err := r.Store.InTx(ctx, func(tx engine.Tx) error {
		last = &recordingTx{Tx: tx, clock: r.clock}
		return fn(last)
	})
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.work = append(r.work, last.work...)
		for _, w := range last.work {
			r.all = append(r.all, w.work)
		}
	}
	return err
}

// next takes the work that is due first.
func (r *recorder) next() (scheduled, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.work) == 0 {
		return scheduled{}, false
	}
	i := 0
	for j := range r.work {
		if r.work[j].at.Before(r.work[i].at) {
			i = j
		}
	}
	s := r.work[i]
	r.work = slices.Delete(r.work, i, i+1)
	return s, true
}

// hooks let a test come between the engine and a connector.
type hooks struct {
	mu     sync.Mutex
	before func(ctx context.Context, system, verb string, job *connectors.Job) error
	step   func(run, name string)
	// located may change what a system says that it found.
	located func(system string, l *connectors.Located)
	// verified may change what a system says that it still holds.
	verified func(system string, b connectors.Batch, left []dsr.Residue) []dsr.Residue
	// due comes before what is due is counted.
	due func(ctx context.Context, q connectors.DueQuery) error
	// sweep comes before a slice of a Sweep.
	sweep func(ctx context.Context, j *connectors.SweepJob) error
}

func (h *hooks) call(ctx context.Context, system, verb string, job *connectors.Job) error {
	h.mu.Lock()
	fn := h.before
	h.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(ctx, system, verb, job)
}

// hooked is a connector with the test's hooks before its verbs.
type hooked struct {
	connectors.Connector
	system string
	h      *hooks
}

func (c *hooked) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	if err := c.h.call(ctx, c.system, "locate", &connectors.Job{Batch: q.Batch}); err != nil {
		return connectors.Located{}, err
	}
	l, err := c.Connector.Locate(ctx, q)
	c.h.mu.Lock()
	fn := c.h.located
	c.h.mu.Unlock()
	if fn != nil && err == nil {
		fn(c.system, &l)
	}
	return l, err
}

func (c *hooked) Verify(ctx context.Context, q connectors.Search) ([]dsr.Residue, error) {
	if err := c.h.call(ctx, c.system, "verify", &connectors.Job{Batch: q.Batch}); err != nil {
		return nil, err
	}
	left, err := c.Connector.Verify(ctx, q)
	c.h.mu.Lock()
	fn := c.h.verified
	c.h.mu.Unlock()
	if fn != nil && err == nil {
		left = fn(c.system, q.Batch, left)
	}
	return left, err
}

func (c *hooked) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	c.h.mu.Lock()
	fn := c.h.due
	c.h.mu.Unlock()
	if fn != nil {
		if err := fn(ctx, q); err != nil {
			return nil, err
		}
	}
	return c.Connector.(connectors.Sweeper).Due(ctx, q)
}

func (c *hooked) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	c.h.mu.Lock()
	fn := c.h.sweep
	c.h.mu.Unlock()
	if fn != nil {
		if err := fn(ctx, &j); err != nil {
			return connectors.SweepMeasures{}, err
		}
	}
	return c.Connector.(connectors.Sweeper).Sweep(ctx, j)
}

func (c *hooked) Heed(ctx context.Context, j connectors.HeedJob) (connectors.Heeded, error) {
	if h, ok := c.Connector.(connectors.Heeder); ok {
		return h.Heed(ctx, j)
	}
	return connectors.Heeded{}, nil
}

func (c *hooked) Erase(ctx context.Context, j connectors.Job) error {
	if err := c.h.call(ctx, c.system, "erase", &j); err != nil {
		return err
	}
	return c.Connector.(connectors.Eraser).Erase(ctx, j)
}

func (c *hooked) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	if err := c.h.call(ctx, c.system, "export", &j); err != nil {
		return err
	}
	return c.Connector.(connectors.Exporter).Export(ctx, j, sinks)
}

var (
	filer    = dsr.Actor{ID: "shop-backend", Roles: []string{dsr.RolePortal}, System: true}
	officer  = dsr.Actor{ID: "officer", Roles: []string{dsr.RoleDPO}}
	operator = dsr.Actor{ID: "operator", Roles: []string{dsr.RoleOperator}}
)

// autoApprove approves everything.
var autoApprove = []engine.AutoApproval{{Name: "test", Kinds: dsr.Kinds(), Verified: true}}

// open builds a house on a control database. env holds what the data map's ${VARIABLES} are.
func open(t testing.TB, url string, env map[string]string, configure func(*engine.Config)) *house {
	t.Helper()
	s, err := store.Open(t.Context(), url, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	k, err := keys.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	h := &house{
		t: t, store: &recorder{Store: s}, keys: k, env: env, log: &bytes.Buffer{}, hooks: &hooks{},
		time: &hands{at: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)},
	}
	getenv := func(name string) (string, bool) {
		v, ok := h.env[name]
		return v, ok
	}
	packages, err := accesspackage.New(t.TempDir(), func(yaml []byte) (*datamap.Map, error) {
		return datamap.Load(yaml, getenv, h.config.Kinds)
	})
	require.NoError(t, err)
	h.config = engine.Config{
		Store: h.store, Cipher: k, Committer: k, Pseudonyms: k, Packager: packages, Kinds: sqldb.Kinds(), Getenv: getenv,
		Time: h.time, Logger: slog.New(slog.NewJSONHandler(h.log, nil)),
		Decorate: func(s *connectors.System, c connectors.Connector) connectors.Connector {
			return &hooked{Connector: c, system: s.Name, h: h.hooks}
		},
		Step: func(run, name string) {
			h.hooks.mu.Lock()
			fn := h.hooks.step
			h.hooks.mu.Unlock()
			if fn != nil {
				fn(run, name)
			}
		},
	}
	if configure != nil {
		configure(&h.config)
	}
	h.Engine, err = engine.New(h.config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// do carries out one piece of work.
func (h *house) do(w engine.Work) error {
	ctx := h.t.Context()
	switch w := w.(type) {
	case engine.Gather:
		return h.Gather(ctx, w)
	case engine.Slice:
		return h.Slice(ctx, w)
	case engine.Assemble:
		return h.Assemble(ctx, w)
	case engine.Tick:
		return h.Tick(ctx, w)
	case engine.SweepSlice:
		return h.SweepSlice(ctx, w)
	case engine.CountDue:
		return h.CountDue(ctx, w)
	case engine.Heed:
		return h.Heed(ctx, w)
	}
	h.t.Fatalf("unknown work %T", w)
	return nil
}

// drain works until nothing is left, moving the clock to what is scheduled next.
func (h *house) drain() {
	h.t.Helper()
	for n := 0; ; n++ {
		s, ok := h.store.next()
		if !ok {
			return
		}
		require.Less(h.t, n, 2000, "work does not end: %#v", s.work)
		if wait := s.at.Sub(h.time.Now()); wait > 0 {
			h.time.forward(wait)
		}
		require.NoError(h.t, h.do(s.work))
	}
}

// step carries out the one piece of work that is due first.
func (h *house) stepOnce() (engine.Work, bool) {
	s, ok := h.store.next()
	if !ok {
		return nil, false
	}
	if wait := s.at.Sub(h.time.Now()); wait > 0 {
		h.time.forward(wait)
	}
	require.NoError(h.t, h.do(s.work))
	return s.work, true
}

func (h *house) activate(yaml string) {
	h.t.Helper()
	_, err := h.ActivateMap(h.t.Context(), operator, []byte(yaml))
	if err != nil {
		h.t.Fatalf("%v: %v", err, unwrapAll(err))
	}
}

func unwrapAll(err error) string {
	var all []string
	for err != nil {
		all = append(all, err.Error())
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return strings.Join(all, " / ")
}

func email(v string) []engine.RawIdentifier {
	return []engine.RawIdentifier{{Name: "email", Value: dsr.NewSecret(v)}}
}

func (h *house) file(kind dsr.Kind, mail string) *dsr.Request {
	h.t.Helper()
	r, err := h.File(h.t.Context(), filer, engine.NewRequest{
		Kind: kind, Identifiers: email(mail), Verified: true, Method: "session",
	})
	require.NoError(h.t, err)
	return r
}

func (h *house) get(id string) *dsr.Request {
	h.t.Helper()
	r, err := h.Get(h.t.Context(), officer, id)
	require.NoError(h.t, err)
	return r
}

func (h *house) wants(id string, state dsr.State) *dsr.Request {
	h.t.Helper()
	r := h.get(id)
	if r.State != state {
		es, _ := h.Events(h.t.Context(), officer, id, 0, 0)
		for _, e := range es {
			h.t.Logf("%s %s→%s %v", e.Type, e.From, e.To, e.Detail)
		}
		h.t.Logf("log: %s", h.log.String())
	}
	require.Equal(h.t, state, r.State, "reason %q hint %q", r.Reason, r.Hint)
	return r
}

func (h *house) plan(id string) (string, *dsr.Plan) {
	h.t.Helper()
	hash, p, err := h.Plan(h.t.Context(), officer, id)
	require.NoError(h.t, err)
	return hash, p
}

func (h *house) approve(id string) {
	h.t.Helper()
	hash, _ := h.plan(id)
	r := h.get(id)
	_, err := h.Approve(h.t.Context(), officer, id, r.Version, hash)
	require.NoError(h.t, err)
}

// receipts sums what the Tasks' Receipts say by "system.entity.method".
func (h *house) receipts(id string) map[string]int64 {
	h.t.Helper()
	ts, err := h.Tasks(h.t.Context(), officer, id)
	require.NoError(h.t, err)
	out := map[string]int64{}
	for _, k := range ts {
		if k.Receipt == nil {
			continue
		}
		for _, l := range k.Receipt.Lines {
			out[k.System+"."+l.Entity+"."+string(l.Method)] += l.Count
		}
	}
	return out
}

// target is a database that Lethe acts on.
type target struct {
	t  testing.TB
	db *sql.DB
	// url is what the data map's ${SHOP} is.
	url string
}

// sqliteTarget returns a fresh SQLite database with the statements applied.
func sqliteTarget(t testing.TB, statements string) *target {
	t.Helper()
	url := dbtest.SQLite(t)
	db, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite://")+"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	x := &target{t: t, db: db, url: url}
	x.exec(statements)
	return x
}

func (x *target) exec(statement string, args ...any) {
	x.t.Helper()
	_, err := x.db.Exec(statement, args...)
	require.NoError(x.t, err)
}

func (x *target) count(query string, args ...any) int64 {
	x.t.Helper()
	var n int64
	require.NoError(x.t, x.db.QueryRow(query, args...).Scan(&n))
	return n
}

// onBoth runs a test on both control databases.
func onBoth(t *testing.T, test func(t *testing.T, url string)) {
	for name, fresh := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}
