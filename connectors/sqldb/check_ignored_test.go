package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/keys"
	"github.com/lethe-gdpr/lethe/internal/store"
	"github.com/lethe-gdpr/lethe/mask"
)

// cleanRows are a subject with rows in every table of cleanSchema, and somebody else.
const cleanRows = `
INSERT INTO customers (id, email, name, phone, age) VALUES (1, 'ada@example.com', 'Ada Example', '+46700000001', 40);
INSERT INTO customers (id, email, name, phone, age) VALUES (2, 'bob@example.com', 'Bob Example', NULL, 50);
INSERT INTO orders (id, customer_id, note, total, status) VALUES (11, 1, 'ring ada@example.com first', 10.50, 'paid');
INSERT INTO orders (id, customer_id, note, total, status) VALUES (12, 2, NULL, 7, 'paid');
INSERT INTO messages (id, sender_id, recipient_id, body) VALUES (21, 1, NULL, 'from ada@example.com');
INSERT INTO messages (id, sender_id, recipient_id, body) VALUES (22, 2, 1, 'to Ada');
INSERT INTO comments (id, target_type, target_id, text_) VALUES (31, 'customer', 1, 'kind');
INSERT INTO comments (id, target_type, target_id, text_) VALUES (32, 'order', 11, 'late')
`

// office is a control plane in which one Request after another meets a defect.
type office struct {
	store *store.Store
	keys  *keys.Keys
}

func newOffice(t *testing.T) *office {
	t.Helper()
	s, err := store.Open(t.Context(), dbtest.SQLite(t), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	k, err := keys.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	return &office{store: s, keys: k}
}

// nudgeless is a store that drops the jobs: the test gathers by itself.
type nudgeless struct{ engine.Store }

type nudgelessTx struct{ engine.Tx }

func (s nudgeless) InTx(ctx context.Context, fn func(engine.Tx) error) error {
	return s.Store.InTx(ctx, func(tx engine.Tx) error { return fn(nudgelessTx{tx}) })
}

func (nudgelessTx) Enqueue(engine.Work, time.Time) error { return nil }

// ticking is a clock that moves with every look, so that what waits for a moment need not be waited for.
type ticking struct {
	mu sync.Mutex
	at time.Time
}

func (c *ticking) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Millisecond)
	return c.at
}

func (c *ticking) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// ignoring is one engine at work on one database under one map. Its connector reads the System as the case has it, because
// the loader of maps refuses some of the defects before they can be ignored.
type ignoring struct {
	*engine.Engine
	t     *testing.T
	clock *ticking
	log   bytes.Buffer
}

var (
	ignorer  = dsr.Actor{ID: "operator", Roles: []string{dsr.RoleOperator}}
	observer = dsr.Actor{ID: "officer", Roles: []string{dsr.RoleDPO}}
)

func (o *office) open(t *testing.T, s *connectors.System) *ignoring {
	t.Helper()
	w := &ignoring{t: t, clock: &ticking{at: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)}}
	kinds := Kinds()
	getenv := func(string) (string, bool) { return s.Settings["dsn"].(string), true }
	text := mapOf(t, s)
	if _, err := datamap.Load(text, getenv, kinds); err != nil {
		// The loader refuses this map, so it could not even be put in force: the defect comes in behind the loader's back.
		var faults datamap.Faults
		require.ErrorAs(t, err, &faults)
		clean := cleanSystem()
		clean.Connector, clean.Settings = s.Connector, s.Settings
		text = mapOf(t, clean)
		for i := range kinds {
			open := kinds[i].Open
			kinds[i].Open = func(ctx context.Context, _ *connectors.System, o connectors.Options) (connectors.Connector, error) {
				return open(ctx, s, o)
			}
		}
	}
	var err error
	w.Engine, err = engine.New(engine.Config{
		Store: nudgeless{o.store}, Cipher: o.keys, Committer: o.keys, Pseudonyms: o.keys, Kinds: kinds, Getenv: getenv,
		Time: w.clock, Logger: slog.New(slog.NewJSONHandler(&w.log, nil)),
		Policy: engine.Policy{AutoApprove: []engine.AutoApproval{{Name: "all", Kinds: dsr.Kinds(), Verified: true}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	_, err = w.ActivateMap(t.Context(), ignorer, text)
	require.NoError(t, err)
	return w
}

// erase files an erasure of the subject of cleanRows. The rest of the office's Requests are about her too.
func (w *ignoring) erase() *dsr.Request {
	w.t.Helper()
	r, err := w.File(w.t.Context(), ignorer, engine.NewRequest{
		Kind: dsr.Erasure, Identifiers: []engine.RawIdentifier{{Name: "email", Value: dsr.NewSecret("ada@example.com")}},
		Verified: true, Method: "session", Duplicate: true,
	})
	require.NoError(w.t, err)
	return w.work(r.ID)
}

// work gathers every phase until the Request rests.
func (w *ignoring) work(id string) *dsr.Request {
	w.t.Helper()
	for range 10 {
		for _, phase := range []dsr.Phase{dsr.PhaseLocate, dsr.PhaseErase, dsr.PhaseVerify} {
			require.NoError(w.t, w.Gather(w.t.Context(), engine.Gather{System: "shop", Phase: phase}))
		}
		r, err := w.Get(w.t.Context(), observer, id)
		require.NoError(w.t, err)
		if r.State == dsr.NeedsAttention || r.State.Final() {
			return r
		}
		w.clock.forward(time.Minute)
	}
	require.FailNow(w.t, "the request does not come to rest", w.log.String())
	return nil
}

// timeline are the types and details of a Request's Events as one text.
func (w *ignoring) timeline(id string) string {
	w.t.Helper()
	es, err := w.Events(w.t.Context(), observer, id, 0, 0)
	require.NoError(w.t, err)
	var sb strings.Builder
	for _, e := range es {
		fmt.Fprintf(&sb, "%s %v\n", e.Type, e.Detail)
	}
	return sb.String()
}

// site is where targets stand. On PostgreSQL they share a database one after another, because a schema is made anew in
// a fraction of a database's time.
type site struct {
	backend string
	url     string
}

func newSite(t *testing.T, backend string) *site {
	t.Helper()
	p := &site{backend: backend}
	if backend == postgres {
		p.url = dbtest.Postgres(t)
	}
	return p
}

// defective is a database with the rows of cleanRows and a System, each with a defect of its own when it has one.
func (p *site) defective(t *testing.T, statements, rows string, edit func(*connectors.System)) (*connectors.System, *sql.DB) {
	t.Helper()
	url, reset := p.url, "DROP SCHEMA public CASCADE;\nCREATE SCHEMA public"
	if url == "" {
		url, reset = backends[p.backend](t), ""
	}
	raw := openRaw(t, url)
	tx, err := raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, statement := range strings.Split(strings.Join([]string{reset, cleanSchema, statements, cleanRows, rows}, ";\n"), ";\n") {
		if strings.TrimSpace(statement) != "" {
			_, err := tx.ExecContext(t.Context(), statement)
			require.NoError(t, err, statement)
		}
	}
	require.NoError(t, tx.Commit())
	s := cleanSystem()
	if edit != nil {
		edit(s)
	}
	s.Connector, s.Settings = p.backend, map[string]any{"dsn": url}
	return s, raw
}

// content is all that the tables of cleanSchema hold.
func content(t *testing.T, db *sql.DB) []string {
	t.Helper()
	var all []string
	for _, table := range []string{"comments", "customers", "messages", "orders", "products"} {
		rs, err := db.QueryContext(t.Context(), "SELECT * FROM "+table+" ORDER BY 1")
		require.NoError(t, err)
		names, err := rs.Columns()
		require.NoError(t, err)
		for rs.Next() {
			values, at := make([]sql.NullString, len(names)), make([]any, len(names))
			for i := range values {
				at[i] = &values[i]
			}
			require.NoError(t, rs.Scan(at...))
			all = append(all, fmt.Sprint(table, values))
		}
		require.NoError(t, errors.Join(rs.Err(), rs.Close())) //nolint:sqlclosecheck // a failed test leaves nothing to serve
	}
	return all
}

// TestDefectsIgnoredNeedAttention is the other half of TestDefectsAreReported: who files a Request in spite of an error
// gets needs_attention with the finding and what to do, however often they retry, and no row has changed. A warning
// does not stop a Request before it comes true.
func TestDefectsIgnoredNeedAttention(t *testing.T) {
	t.Parallel()
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			o, site := newOffice(t), newSite(t, backend)
			for i, d := range defects {
				if d.on != "" && !slices.Contains(strings.Fields(d.on), backend) {
					continue
				}
				t.Run(strconv.Itoa(i)+"/"+d.code, func(t *testing.T) {
					s, raw := site.defective(t, d.sql, d.rows, d.edit)
					before := content(t, raw)
					w := o.open(t, s)
					switch {
					case d.bites != "":
						r := w.erase()
						require.Equal(t, dsr.NeedsAttention, r.State)
						require.Equal(t, d.bites, r.Reason)
						require.NotEmpty(t, r.Hint)
					case d.warn:
						requireErased(t, w.erase(), raw)
					default:
						w.requireIgnored(d.code)
						require.Equal(t, before, content(t, raw))
					}
				})
			}
		})
	}
}

// Without a defect the same Request on the same rows completes: what stops the others is the finding.
func TestCleanMapErases(t *testing.T) {
	t.Parallel()
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			s, raw := newSite(t, backend).defective(t, "", "", nil)
			requireErased(t, newOffice(t).open(t, s).erase(), raw)
		})
	}
}

func requireErased(t *testing.T, r *dsr.Request, raw *sql.DB) {
	t.Helper()
	require.Contains(t, []dsr.State{dsr.Completed, dsr.CompletedWithExceptions}, r.State, "%s %s", r.Reason, r.Hint)
	left := strings.Join(content(t, raw), "\n")
	require.NotContains(t, left, "ada@example.com")
	require.Contains(t, left, "bob@example.com")
}

// requireIgnored files a Request in spite of a defect, and retries it with nothing settled.
func (w *ignoring) requireIgnored(code string) {
	w.t.Helper()
	r := w.erase()
	w.requireStopped(r, code)
	r, err := w.Retry(w.t.Context(), ignorer, r.ID, r.Version)
	require.NoError(w.t, err)
	w.requireStopped(w.work(r.ID), code)
}

func (w *ignoring) requireStopped(r *dsr.Request, code string) {
	w.t.Helper()
	require.Equal(w.t, dsr.NeedsAttention, r.State, "%s %s\n%s", r.Reason, r.Hint, w.timeline(r.ID))
	require.True(w.t, strings.HasPrefix(r.Reason, "check-"), r.Reason)
	require.NotEmpty(w.t, r.Hint)
	require.Contains(w.t, r.Reason+"\n"+r.Hint+"\n"+w.timeline(r.ID), code)
}

// mapOf writes a System as a data map.
func mapOf(t *testing.T, s *connectors.System) []byte {
	t.Helper()
	entities := map[string]any{}
	for i := range s.Entities {
		entities[s.Entities[i].Name] = entityMap(&s.Entities[i])
	}
	identifiers := map[string]any{}
	for name, kind := range s.Identifiers {
		identifiers[name] = map[string]any{"kind": string(kind)}
	}
	m := map[string]any{
		"version":     1,
		"controller":  map[string]any{"name": "Example AB", "country": "SE", "time_zone": "Europe/Stockholm"},
		"identifiers": identifiers,
		"deletion_classes": map[string]any{
			"accounting": map[string]any{"period": "P7Y", "from": "end_of_calendar_year_of_fiscal_year"},
			"short":      map[string]any{"period": "P30D", "from": "collection"},
		},
		"systems": map[string]any{s.Name: map[string]any{
			"connector": s.Connector, "dsn": "${SHOP}", "ignore": s.Ignored, "entities": entities,
		}},
	}
	if s.TenantName != "" {
		identifiers[s.TenantName] = map[string]any{"kind": "opaque"}
		m["tenants"] = map[string]any{"identifier": s.TenantName}
	}
	text, err := yaml.Marshal(m)
	require.NoError(t, err)
	return text
}

func entityMap(e *connectors.Entity) map[string]any {
	m, fields := map[string]any{}, map[string]any{}
	for _, f := range e.Fields {
		field := map[string]any{}
		for key, value := range map[string]string{"identifier": f.Identifier, "category": f.Category} {
			if value != "" {
				field[key] = value
			}
		}
		fields[f.Name] = field
	}
	set := func(key string, value any, given bool) {
		if given {
			m[key] = value
		}
	}
	set("table", e.Source, e.Source != "")
	set("subject", true, e.Subject)
	set("teaches", true, e.Teaches)
	set("shared", true, e.Shared)
	set("fields", fields, len(fields) > 0)
	set("not_personal", e.NotPersonal, len(e.NotPersonal) > 0)
	set("mentions", e.Mentions, len(e.Mentions) > 0)
	set("owned_by", ownersMap(e.OwnedBy), len(e.OwnedBy) > 0)
	set("accessed_by", ownersMap(e.AccessedBy), len(e.AccessedBy) > 0)
	set("mask", masksMap(e.Masks), len(e.Masks) > 0)
	set("anchor", masksMap(e.Anchor), len(e.Anchor) > 0)
	set("retention", rulesMap(e.Rules), len(e.Rules) > 0)
	changes := map[string]any{}
	for column, masks := range e.OnOwnerErased {
		changes[column] = masksMap(masks)
	}
	set("on_owner_erased", changes, len(changes) > 0)
	if e.Keep != nil {
		m["keep"] = map[string]any{"article": e.Keep.Article, "statute": e.Keep.Statute, "class": "accounting"}
	} else {
		m["erase"] = string(e.Erase)
	}
	return m
}

func ownersMap(owners []connectors.Owner) any {
	typed := map[string]any{}
	var plain []any
	for _, o := range owners {
		if o.When == nil {
			plain = append(plain, map[string]any{"columns": o.Columns, "entity": o.Entity, "references": o.References})
			continue
		}
		at, ok := typed[o.Columns[0]].(map[string]any)
		if !ok {
			at = map[string]any{"by": o.When.Column}
			typed[o.Columns[0]] = at
		}
		at[o.When.Value] = o.Entity
	}
	if len(typed) > 0 {
		return typed
	}
	return plain
}

func masksMap(masks map[string]mask.Spec) map[string]any {
	m := map[string]any{}
	for field, s := range masks {
		switch s.Kind {
		case mask.Null:
			m[field] = nil
		case mask.Constant:
			m[field] = s.Value
		case mask.Generalise:
			m[field] = map[string]any{"generalise": s.Step}
		default:
			m[field] = string(s.Kind)
		}
	}
	return m
}

// serverDefects are what the table of defects cannot hold: settings of a database, and a user who may not do all.
var serverDefects = []struct {
	code, on string
	// ail breaks the site and returns the URL that Lethe is given.
	ail func(t *testing.T, url string, raw *sql.DB) string
}{
	{FindLogsBindValues, postgres, databaseSetting("log_statement = 'all'")},
	{FindReplica, postgres, databaseSetting("default_transaction_read_only = on")},
	{connectors.FindPrivilege, postgres, func(t *testing.T, url string, raw *sql.DB) string {
		return limitedUser(t, url, raw, "REVOKE DELETE ON TABLE %[2]s FROM %[1]s")
	}},
	{FindRowSecurity, postgres, func(t *testing.T, url string, raw *sql.DB) string {
		return limitedUser(t, url, raw, "ALTER TABLE %[2]s ENABLE ROW LEVEL SECURITY")
	}},
	{connectors.FindUnreachable, postgres, func(t *testing.T, url string, _ *sql.DB) string {
		missing := mustURL(t, url)
		missing.Path += "_is_gone"
		return missing.String()
	}},
	{connectors.FindPrivilege, mariadb, func(t *testing.T, url string, raw *sql.DB) string {
		user := "i" + url[strings.LastIndex(url, "_")+1:]
		execAll(t, raw, "CREATE USER '"+user+"'@'%' IDENTIFIED BY 'secret'")
		t.Cleanup(func() { execAll(t, raw, "DROP USER '"+user+"'@'%'") })
		for _, table := range []string{"comments", "customers", "messages", "orders"} {
			execAll(t, raw, "GRANT SELECT ON "+table+" TO '"+user+"'@'%'")
		}
		return as(t, url, user)
	}},
}

func databaseSetting(set string) func(*testing.T, string, *sql.DB) string {
	return func(t *testing.T, url string, raw *sql.DB) string {
		t.Helper()
		execAll(t, raw, "ALTER DATABASE "+strings.TrimPrefix(mustURL(t, url).Path, "/")+" SET "+set)
		return url
	}
}

// limitedUser is a user with what Grants prints, but for one statement about the user and the table messages.
func limitedUser(t *testing.T, url string, raw *sql.DB, but string) string {
	t.Helper()
	user := "i_" + strings.TrimPrefix(mustURL(t, url).Path, "/lethe_")
	execAll(t, raw, "CREATE ROLE "+user+" LOGIN PASSWORD 'secret'")
	t.Cleanup(func() { execAll(t, raw, "DROP OWNED BY "+user+";\nDROP ROLE "+user) })
	run(t, raw, grantsFor(t, postgres, url, user))
	w := as(t, url, user)
	require.Empty(t, checkURL(t, postgres, w, cleanSystem()))
	execAll(t, raw, strings.NewReplacer("%[1]s", user, "%[2]s", "messages").Replace(but))
	return w
}

// The settings of a MariaDB server are everybody's, so they are judged without one; see TestServerSettingsMariaDB.
func TestServerDefectsIgnoredNeedAttention(t *testing.T) {
	t.Parallel()
	for _, d := range serverDefects {
		t.Run(d.code+"/"+d.on, func(t *testing.T) {
			t.Parallel()
			s, raw := newSite(t, d.on).defective(t, "", "", nil)
			before := content(t, raw)
			s.Settings["dsn"] = d.ail(t, s.Settings["dsn"].(string), raw)
			newOffice(t).open(t, s).requireIgnored(d.code)
			require.Equal(t, before, content(t, raw))
		})
	}
}
