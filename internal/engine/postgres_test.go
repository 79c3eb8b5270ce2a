package engine_test

import (
	"context"
	"database/sql"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// serverTarget returns a fresh database of a server with the shop in it.
func serverTarget(t *testing.T, driver, raw, dsn, schema string) *target {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxIdleConns(0) // a connection that is kept may be one that a test has cut
	x := &target{t: t, db: db, url: raw}
	for _, s := range strings.Split(schema, ";\n") {
		if strings.TrimSpace(s) != "" {
			x.exec(s)
		}
	}
	return x
}

const loweredEmail = "CREATE INDEX customers_email_lower ON customers (lower(email));\n"

func TestOnServers(t *testing.T) {
	t.Parallel()
	for kind, fresh := range map[string]func(*testing.T) *target{
		"postgres": func(t *testing.T) *target {
			u := dbtest.Postgres(t)
			return serverTarget(t, "pgx", u, u, shopSchema+loweredEmail+shopRows)
		},
		"mariadb": func(t *testing.T) *target {
			u := dbtest.MariaDB(t)
			return serverTarget(t, "mysql", u, dbtest.MySQLDSN(u), strings.NewReplacer(
				"email TEXT UNIQUE", "email VARCHAR(190) UNIQUE",
			).Replace(shopSchema)+shopRows)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, control string) {
				x := fresh(t)
				h := open(t, control, map[string]string{"SHOP": x.url}, auto)
				h.activate(strings.Replace(shopMap, "connector: sqlite", "connector: "+kind, 1))
				access, erasure := h.file(dsr.Access, "Ada@example.com"), h.file(dsr.Erasure, "Ada@example.com")
				other := h.file(dsr.Erasure, "bob@example.com")
				h.drain()
				h.wants(access.ID, dsr.Completed)
				h.wants(erasure.ID, dsr.Completed)
				h.wants(other.ID, dsr.Completed)
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM customers"))
				require.EqualValues(t, 1, x.count("SELECT count(*) FROM messages"))
				p, err := h.PackageInfo(t.Context(), officer, access.ID)
				require.NoError(t, err)
				require.EqualValues(t, 5, p.Records)
			})
		})
	}
}

// A privilege that is really revoked, between the search and the erasure.
func TestRevokedOnPostgres(t *testing.T) {
	t.Parallel()
	u := dbtest.Postgres(t)
	x := serverTarget(t, "pgx", u, u, shopSchema+loweredEmail+shopRows)
	as, err := url.Parse(u)
	require.NoError(t, err)
	role := strings.TrimPrefix(as.Path, "/") + "_worker"
	x.exec("CREATE ROLE " + role + " LOGIN PASSWORD 'example'")
	t.Cleanup(func() { x.exec("DROP OWNED BY " + role); x.exec("DROP ROLE " + role) })
	x.exec("GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + role)
	as.User = url.UserPassword(role, "example")
	h := open(t, dbtest.SQLite(t), map[string]string{"SHOP": as.String()}, auto)
	h.activate(strings.Replace(shopMap, "connector: sqlite", "connector: postgres", 1))
	h.hooks.before = func(_ context.Context, _, verb string, _ *connectors.Job) error {
		if verb == "erase" {
			x.exec("REVOKE DELETE ON customers FROM " + role)
		}
		return nil
	}
	r := h.file(dsr.Erasure, "ada@example.com")
	h.drain()
	r = h.wants(r.ID, dsr.NeedsAttention)
	require.NotEmpty(t, r.Hint)
	require.EqualValues(t, 3, x.count("SELECT count(*) FROM customers"))
	h.hooks.before = nil
	x.exec("GRANT DELETE ON customers TO " + role)
	_, err = h.Retry(t.Context(), operator, r.ID, r.Version)
	require.NoError(t, err)
	h.drain()
	h.wants(r.ID, dsr.Completed)
	require.EqualValues(t, 1, h.receipts(r.ID)["shop.customers.delete"])
}

// The databases drop every connection at each step of an erasure, as a restart does: the work ends all the same, and
// every row is counted once.
func TestConnectionsLostAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"target", "control"} {
		for _, at := range []string{
			sqldb.StepSpooled, sqldb.StepChanged, sqldb.StepIntent, sqldb.StepCommitted, sqldb.StepSaved,
		} {
			t.Run(which+"/"+at, func(t *testing.T) {
				t.Parallel()
				u, control := dbtest.Postgres(t), dbtest.Postgres(t)
				x := serverTarget(t, "pgx", u, u, shopSchema+loweredEmail+shopRows)
				h := open(t, control, map[string]string{"SHOP": u}, auto)
				h.activate(strings.Replace(shopMap, "connector: sqlite", "connector: postgres", 1))
				lost := map[string]string{"target": u, "control": control}[which]
				done := false
				h.hooks.step = func(_, name string) {
					if name != at || done {
						return
					}
					done = true
					parsed, err := url.Parse(lost)
					require.NoError(t, err)
					killer, err := sql.Open("pgx", strings.Replace(lost, parsed.Path, "/postgres", 1))
					require.NoError(t, err)
					defer killer.Close()
					_, err = killer.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
						strings.TrimPrefix(parsed.Path, "/"))
					require.NoError(t, err)
				}
				r := h.file(dsr.Erasure, "ada@example.com")
				for n := 0; ; n++ {
					require.Less(t, n, 200)
					s, ok := h.store.next()
					if !ok {
						if h.get(r.ID).State.Final() {
							break
						}
						h.time.forward(2 * time.Minute)
						require.NoError(t, h.Tick(t.Context(), engine.Tick{Name: engine.TickLeases}))
						continue
					}
					if wait := s.at.Sub(h.time.Now()); wait > 0 {
						h.time.forward(wait)
					}
					_ = h.do(s.work) // the queue would try a failed job again; upkeep finds its Run as well
				}
				require.True(t, done)
				h.wants(r.ID, dsr.Completed)
				require.EqualValues(t, 2, x.count("SELECT count(*) FROM customers"))
				require.Equal(t, map[string]int64{
					"shop.customers.delete": 1, "shop.carts.delete": 2, "shop.messages.delete": 1, "shop.messages.release": 1,
				}, h.receipts(r.ID))
			})
		}
	}
}
