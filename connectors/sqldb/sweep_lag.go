package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// How far replicas are behind is asked in two ways. A PostgreSQL primary knows what each connected standby has replayed.
// A MariaDB primary does not, managed services hide it, and no primary knows of a replica that has lost its connection:
// replicas that the map names are asked themselves.

// neverCatchesUp is how far a replica is behind that has stopped replicating.
const neverCatchesUp = time.Duration(math.MaxInt64)

// openReplicas opens what the setting replicas names. A replica is reached as the database itself is, but for its URL.
func (d *DB) openReplicas(ctx context.Context, o connectors.Options) error {
	urls, _ := d.System.Settings["replicas"].(string)
	for _, u := range strings.Fields(urls) {
		s := *d.System
		s.Settings = maps.Clone(s.Settings)
		s.Settings["dsn"], s.Limits.Connections = u, 1
		delete(s.Settings, "replicas")
		r, err := Open(ctx, &s, o)
		if err != nil {
			var e *dsr.Error
			if errors.As(err, &e) && e.Field == "dsn" {
				return badSetting("replicas", e.Msg, e.Hint)
			}
			return err
		}
		d.replicas = append(d.replicas, r)
	}
	return nil
}

// lagging watches replicas for as long as one Sweep works.
type lagging struct {
	d     *DB
	known walSamples   // to the primary
	named []walSamples // one of each replica that the map names
}

// most is how far the replica that is furthest behind is behind.
func (l *lagging) most(ctx context.Context, primary session) (time.Duration, error) {
	if l.d.dialect.name == mariadb {
		var most time.Duration
		for i, r := range l.d.replicas {
			behind, _, err := r.secondsBehind(ctx)
			if err != nil {
				return 0, ofReplica(i, err)
			}
			most = max(most, behind)
		}
		return most, nil
	}
	var most time.Duration
	var end int64
	err := primary.run(ctx, &call{text: `SELECT (pg_current_wal_lsn() - '0/0')::text, (min(replay_lsn) - '0/0')::text,
  coalesce(extract(epoch FROM max(replay_lag)), 0)::text FROM pg_stat_replication`, row: func(v [][]byte) error {
		if end = parseInt(v[0]); v[1] != nil { // else there is no standby, or the user may not see it
			most = l.known.lag(time.Now(), end, parseInt(v[1]), parseSeconds(v[2]))
		}
		return nil
	}})
	if err != nil {
		return 0, err
	}
	if l.named == nil {
		l.named = make([]walSamples, len(l.d.replicas))
	}
	for i, r := range l.d.replicas {
		at, age, standby, err := r.replayed(ctx)
		if err != nil {
			return 0, ofReplica(i, err)
		}
		if standby {
			most = max(most, l.named[i].lag(time.Now(), end, at, age))
		}
	}
	return most, nil
}

// replayed asks a PostgreSQL server what it has replayed of the write-ahead log, and how old the last transaction of it
// is. It is no standby when it takes writes, after a failover or where an endpoint for readers leads to the primary, or
// replays nothing because it reads the primary's own storage.
func (d *DB) replayed(ctx context.Context) (at int64, age time.Duration, standby bool, err error) {
	r, release, err := d.reader(ctx)
	if err != nil {
		return 0, 0, false, err
	}
	defer release()
	err = r.run(ctx, &call{text: `SELECT (pg_last_wal_replay_lsn() - '0/0')::text,
  coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::text
WHERE pg_is_in_recovery() AND pg_last_wal_replay_lsn() IS NOT NULL`, row: func(v [][]byte) error {
		at, age, standby = parseInt(v[0]), parseSeconds(v[1]), true
		return nil
	}})
	return at, age, standby, err
}

// secondsBehind asks a MariaDB server how far it is behind its primary. It is no replica when it follows none.
func (d *DB) secondsBehind(ctx context.Context) (behind time.Duration, replica bool, err error) {
	err = each(ctx, d.SQL, "SHOW REPLICA STATUS", nil, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		values := make([]sql.RawBytes, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		replica = true
		for i, name := range columns { // …_Master, or …_Source on MySQL
			switch {
			case !strings.HasPrefix(name, "Seconds_Behind_"):
			case values[i] == nil:
				behind = neverCatchesUp
			default:
				behind = max(behind, parseSeconds(values[i]))
			}
		}
		return nil
	})
	return behind, replica, classify(d.dialect, err)
}

func parseSeconds(b []byte) time.Duration {
	n, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// ofReplica says which of the named replicas an error comes from.
func ofReplica(i int, err error) error {
	var e *dsr.Error
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Msg = fmt.Sprintf("replica %d: %s", i+1, e.Msg)
	if connectors.IsPermanent(err) {
		return connectors.Permanent(named.Code, named.Msg, named.Hint, named.Err)
	}
	return &named
}

// walSamples remembers where the write-ahead log stood when. A replica that replays nothing reports no lag of its own:
// it lags since the log was where the replica is.
type walSamples struct {
	at  []time.Time
	lsn []int64
}

// lag takes a sample of the log's end and returns how old the place is that a replica has replayed; told is what the
// server says of it, which counts for places before the first sample.
func (w *walSamples) lag(now time.Time, end, replayed int64, told time.Duration) time.Duration {
	if n := len(w.lsn); n == 0 || w.lsn[n-1] < end {
		w.at, w.lsn = append(w.at, now), append(w.lsn, end)
	} else {
		w.at[n-1] = now // nothing was written since
	}
	for len(w.lsn) > 1 && w.lsn[1] <= replayed { // keep the last sample that was replayed
		w.at, w.lsn = w.at[1:], w.lsn[1:]
	}
	switch {
	case replayed >= end:
		return 0
	case replayed >= w.lsn[0]:
		return now.Sub(w.at[0])
	}
	return max(told, now.Sub(w.at[0]))
}
