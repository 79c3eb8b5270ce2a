package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// pair is a primary and its replica, each with a raw connection.
type pair struct {
	*fixture // of the primary
	replica  *fixture
}

func newPair(t *testing.T, kind string) *pair {
	t.Helper()
	open := func(url string) *fixture {
		f := &fixture{t: t, kind: kind, url: url}
		var err error
		if kind == "postgres" {
			f.raw, err = sql.Open("pgx", url)
		} else {
			f.raw, err = sql.Open("mysql", dbtest.MySQLDSN(url))
		}
		require.NoError(t, err)
		f.raw.SetMaxOpenConns(2)
		t.Cleanup(func() { _ = f.raw.Close() })
		return f
	}
	if kind == "postgres" {
		primary, replica := dbtest.PostgresReplica(t)
		return &pair{open(primary), open(replica)}
	}
	primary, replica := dbtest.MariaDBReplica(t)
	open(primary).exec("CREATE DATABASE shop")
	return &pair{open(primary + "shop"), open(replica + "shop")}
}

// await waits for a query's only row.
func (f *fixture) await(query, want string) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		var got sql.NullString
		return f.raw.QueryRow(query).Scan(&got) == nil && got.String == want
	}, time.Minute, 20*time.Millisecond, "%s is not %s", query, want)
}

// behind holds the replica back, writes, waits until the servers say that it lags by more than limit, and returns what
// lets it go on.
func (p *pair) behind(limit time.Duration) func() {
	p.t.Helper()
	p.exec("INSERT INTO noise VALUES (1)")
	p.replica.await("SELECT count(*) > 0 FROM noise", map[bool]string{true: "true", false: "1"}[p.kind == "postgres"])
	if p.kind == "postgres" {
		p.replica.exec("SELECT pg_wal_replay_pause()")
		p.replica.await("SELECT pg_get_wal_replay_pause_state()", "paused")
		p.exec("INSERT INTO noise VALUES (2)")
		p.await(fmt.Sprintf(`SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby'
AND replay_lag > interval '%d milliseconds' AND replay_lsn < pg_current_wal_lsn()`, limit.Milliseconds()), "1")
		return func() { p.replica.exec("SELECT pg_wal_replay_resume()") }
	}
	conn, err := p.replica.raw.Conn(context.Background())
	require.NoError(p.t, err)
	_, err = conn.ExecContext(context.Background(), "FLUSH TABLES WITH READ LOCK")
	require.NoError(p.t, err)
	p.exec("INSERT INTO noise VALUES (2)")
	require.Eventually(p.t, func() bool { return p.replica.secondsBehind() > limit.Seconds() }, time.Minute, 20*time.Millisecond)
	return func() {
		_, err := conn.ExecContext(context.Background(), "UNLOCK TABLES")
		require.NoError(p.t, err)
		require.NoError(p.t, conn.Close())
	}
}

// apart parts a standby from its primary, writes, and returns what joins them again.
func (p *pair) apart(limit time.Duration) func() {
	p.t.Helper()
	primary := p.replica.rows("SHOW primary_conninfo")[0]
	conninfo := func(to string) {
		p.replica.exec("ALTER SYSTEM SET primary_conninfo = '" + strings.ReplaceAll(to, "'", "''") + "';\nSELECT pg_reload_conf()")
	}
	conninfo("")
	p.await("SELECT count(*) FROM pg_stat_replication", "0")
	p.exec("INSERT INTO noise VALUES (3)")
	p.replica.await(fmt.Sprintf("SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > interval '%d milliseconds'", limit.Milliseconds()), "true")
	return func() { conninfo(primary) }
}

// secondsBehind is what a MariaDB replica says of itself; -1 when it does not replicate.
func (f *fixture) secondsBehind() float64 {
	rows, err := f.raw.Query("SHOW REPLICA STATUS")
	require.NoError(f.t, err)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(f.t, err)
	seconds := sql.NullFloat64{}
	into := make([]any, len(names))
	for i, n := range names {
		into[i] = new(sql.RawBytes)
		if n == "Seconds_Behind_Master" {
			into[i] = &seconds
		}
	}
	require.True(f.t, rows.Next())
	require.NoError(f.t, rows.Scan(into...))
	require.NoError(f.t, rows.Err())
	if !seconds.Valid {
		return -1
	}
	return seconds.Float64
}

// named opens the map of [fixture.events] with the replicas named, as user, or as the tests' own where that is empty.
func (p *pair) named(user, replicas string, pace connectors.Pace) *sqldb.DB {
	p.t.Helper()
	s := p.system(&connectors.System{Entities: []connectors.Entity{
		{Name: "details", Erase: dsr.Delete, OwnedBy: []connectors.Owner{owner("event_id", "events")}}, {Name: "events", Erase: dsr.Delete},
	}})
	if user != "" {
		s.Settings["dsn"] = as(p.t, p.url, user)
	}
	if replicas != "" {
		s.Settings["replicas"] = replicas
	}
	db, err := sqldb.Open(context.Background(), s, connectors.Options{Pseudonyms: keyring{}, Pace: pace})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = db.Close() })
	db.Split(10, 10)
	return db
}

// as replaces the user of a URL.
func as(t testing.TB, dsn, user string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(user, "secret")
	return u.String()
}

// sweepBehind sweeps with the replica held back. When the Sweep has been waiting for a while, goOn lets the replica go
// on; the Sweep must end by itself then. It returns how many rows were left while it waited, empty when it never did,
// and what it waited for.
func (p *pair) sweepBehind(db *sqldb.DB, pace connectors.Pace, goOn func()) (left string, why []string) {
	p.t.Helper()
	asked, all := 0, 0
	j := &journal{}
	job := eventJob(atStep{j, func(name string) {
		if name == sqldb.StepCommitted {
			asked = 0
		}
	}})
	job.Pace = pace
	job.Pace.Stop = func() bool { // asked before every chunk and, in a pause, again and again
		all++
		if asked++; asked == 6 && goOn != nil {
			left = p.rows("SELECT count(*) FROM events")[0]
			goOn()
			goOn = nil
		}
		return all > 5000
	}
	m, err := db.Sweep(context.Background(), job)
	require.NoError(p.t, err)
	if goOn != nil {
		goOn()
	}
	for pause, took := range m.Pauses {
		require.Positive(p.t, took)
		why = append(why, string(pause))
	}
	require.Equal(p.t, map[string]int64{"events delete": 200, "details delete": 200}, j.sum())
	p.exec("DROP TABLE details;\nDROP TABLE events")
	return left, why
}

const noise = "CREATE TABLE noise (id BIGINT)"

// codes are those of findings about the pace.
func codes(t testing.TB, db *sqldb.DB) []string {
	t.Helper()
	found, err := db.Check(context.Background())
	require.NoError(t, err)
	var out []string
	for _, f := range found {
		if f.Code == sqldb.FindLagUnseen || f.Code == sqldb.FindLoadUnseen {
			require.Equal(t, connectors.Warning, f.Severity)
			out = append(out, f.Code)
		}
	}
	return out
}

func TestASweepWaitsForAStandbyThatLags(t *testing.T) {
	t.Parallel()
	p := newPair(t, "postgres")
	p.exec(noise)
	lag := connectors.Pace{Lag: 50 * time.Millisecond}
	load := connectors.Pace{Lag: time.Second, Sessions: 1, LockWaits: 1}

	// The primary's own view.
	p.events(200)
	left, why := p.sweepBehind(p.named("", "", lag), lag, p.behind(lag.Lag))
	require.Equal(t, "200", left, "nothing goes while the standby lags")
	require.Equal(t, []string{"lag"}, why)

	// A user who may not see it does not wait, and Check says so.
	p.events(200)
	p.exec(`CREATE ROLE lethe_plain LOGIN;
GRANT SELECT, UPDATE, DELETE ON events, details TO lethe_plain;
GRANT ALL ON SCHEMA public TO lethe_plain`)
	require.Equal(t, []string{sqldb.FindLagUnseen, sqldb.FindLoadUnseen}, codes(t, p.named("lethe_plain", "", load)))
	require.Empty(t, codes(t, p.named("lethe_plain", "", connectors.Pace{})), "nobody asked")
	require.Empty(t, codes(t, p.named("", "", load)), "a superuser sees everything")
	_, why = p.sweepBehind(p.named("lethe_plain", "", lag), lag, p.behind(lag.Lag))
	require.Empty(t, why)

	// It waits for a standby that the map names and that is asked itself.
	p.events(200)
	p.exec(`GRANT SELECT, UPDATE, DELETE ON events, details TO lethe_plain`)
	require.Equal(t, []string{sqldb.FindLoadUnseen}, codes(t, p.named("lethe_plain", p.replica.url, load)))
	left, why = p.sweepBehind(p.named("lethe_plain", as(t, p.replica.url, "lethe_plain"), lag), lag, p.behind(lag.Lag))
	require.Equal(t, "200", left)
	require.Equal(t, []string{"lag"}, why)
	p.exec("GRANT pg_read_all_stats TO lethe_plain")
	p.events(200)
	require.Empty(t, codes(t, p.named("lethe_plain", "", load)))

	// Nobody but the standby itself knows that it has lost its connection.
	p.exec("GRANT SELECT, UPDATE, DELETE ON events, details TO lethe_plain")
	left, why = p.sweepBehind(p.named("", as(t, p.replica.url, "lethe_plain"), lag), lag, p.apart(lag.Lag))
	require.Equal(t, "200", left)
	require.Equal(t, []string{"lag"}, why)
	p.events(200)

	// The primary is no standby, a dead one cannot be asked: Check says both, and a Sweep does not go on as if it knew.
	require.Equal(t, []string{sqldb.FindLagUnseen}, codes(t, p.named("", p.url, load)))
	dead := p.named("", p.replica.url+" postgres://postgres@127.0.0.1:1/postgres?sslmode=disable", load)
	require.Equal(t, []string{sqldb.FindLagUnseen}, codes(t, dead))
	job := eventJob(&journal{})
	job.Pace = lag
	_, err := dead.Sweep(context.Background(), job)
	require.ErrorContains(t, err, "replica 2")
	require.False(t, connectors.IsPermanent(err))
	require.Equal(t, []string{"200"}, p.rows("SELECT count(*) FROM events"))
}

func TestASweepWaitsForAReplicaOfMariaDBThatLags(t *testing.T) {
	t.Parallel()
	p := newPair(t, "mariadb")
	p.exec(noise)
	lag := connectors.Pace{Lag: 500 * time.Millisecond}
	load := connectors.Pace{Lag: time.Second, Sessions: 1, LockWaits: 1}
	p.events(200)
	require.Equal(t, []string{sqldb.FindLagUnseen}, codes(t, p.named("", "", lag)), "a primary does not know")
	named := p.named("", p.replica.url, lag)
	require.Empty(t, codes(t, named))
	left, why := p.sweepBehind(named, lag, p.behind(lag.Lag))
	require.Equal(t, "200", left, "nothing goes while the replica lags")
	require.Equal(t, []string{"lag"}, why)

	// A replica that has stopped is behind, whatever it says.
	p.events(200)
	p.replica.exec("STOP SLAVE SQL_THREAD")
	left, why = p.sweepBehind(named, lag, func() { p.replica.exec("START SLAVE SQL_THREAD") })
	require.Equal(t, "200", left)
	require.Equal(t, []string{"lag"}, why)

	p.events(200)
	p.exec("CREATE USER plain@127.0.0.1 IDENTIFIED BY 'secret';\nGRANT SELECT, UPDATE, DELETE ON shop.* TO plain@127.0.0.1")
	p.replica.await("SELECT count(*) FROM mysql.user WHERE user = 'plain'", "1")
	mine := as(t, p.replica.url, "plain")
	require.Equal(t, []string{sqldb.FindLagUnseen, sqldb.FindLoadUnseen}, codes(t, p.named("plain", mine, load)))
	job := eventJob(&journal{})
	job.Pace = lag
	_, err := p.named("plain", mine, lag).Sweep(context.Background(), job)
	require.True(t, connectors.IsPermanent(err), "%v", err)
	require.ErrorContains(t, err, "replica 1")
	p.replica.exec("GRANT REPLICA MONITOR ON *.* TO plain@127.0.0.1")
	p.exec("GRANT PROCESS ON *.* TO plain@127.0.0.1")
	require.Empty(t, codes(t, p.named("plain", mine, load)))
	require.Equal(t, []string{sqldb.FindLagUnseen}, codes(t, p.named("plain", strings.Join([]string{mine, p.url}, " "), load)))
}
