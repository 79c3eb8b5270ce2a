package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
)

// MariaDB cannot close a partition to writers, and its ALTER TABLE is a transaction of its own. Rows are counted without
// a lock; then the whole table is locked, InnoDB is asked whether the partition was written to since the count began,
// and if it was not the partition is dropped. Whoever wrote to it and has not committed keeps the lock from being given.

// partitionQuiet is the pause after a failed attempt. InnoDB tells to the second when a partition was written to.
const partitionQuiet = 250 * time.Millisecond

// dueMariaDB lists partitions whose upper bound is no later than the cut-off.
func (u *sweepRule) dueMariaDB(ctx context.Context, r session) ([]string, error) {
	local := u.start.before.In(u.start.zone).Format(time.DateOnly)
	if strings.HasPrefix(u.start.field.Type, "timestamp") {
		local = u.start.before.UTC().Format(time.DateTime)
	}
	type bounded struct{ name, expression, bound string }
	var all []bounded
	q := u.partitionsOf(u.m.d.dialect.statement("SELECT partition_name, partition_expression, partition_description")).
		add(" AND subpartition_name IS NULL AND partition_method LIKE 'RANGE%' AND partition_description <> 'MAXVALUE' ORDER BY partition_ordinal_position")
	err := r.run(ctx, q.call(func(v [][]byte) error {
		expression := strings.NewReplacer("`", "", " ", "").Replace(strings.ToLower(string(v[1])))
		all = append(all, bounded{string(v[0]), expression, string(v[2])})
		return nil
	}))
	if err != nil {
		return nil, err
	}
	var out []string
	column := strings.ToLower(u.start.field.Name)
	for _, b := range all {
		q := u.m.d.dialect.statement("SELECT 1 FROM (SELECT 1 AS x) AS t WHERE ")
		value := func() *statement { return q.arg(local) }
		if u.start.field.class == connectors.ClassInteger {
			value = func() *statement { return q.arg(u.start.before.Unix()) }
		}
		switch b.expression {
		case column:
			if u.start.field.class == connectors.ClassInteger {
				q.add(unquotedBound(b.bound))
			} else {
				q.add("CAST(").arg(unquotedBound(b.bound)).add(" AS DATETIME)")
			}
			q.add(" <= ")
			value()
		case "to_days(" + column + ")", "to_seconds(" + column + ")", "year(" + column + ")", "unix_timestamp(" + column + ")":
			if _, err := strconv.ParseInt(b.bound, 10, 64); err != nil {
				continue
			}
			fn, _, _ := strings.Cut(b.expression, "(")
			q.add(b.bound, " <= ", fn, "(")
			value().add(")")
		default:
			continue
		}
		if err := r.run(ctx, q.call(func([][]byte) error { out = append(out, u.m.d.dialect.quote(b.name)); return nil })); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// partitionsOf appends that it is read from the catalogue of the table's partitions.
func (u *sweepRule) partitionsOf(q *statement) *statement {
	schema, table, ok := strings.Cut(u.e.table.Name, ".")
	q.add(" FROM information_schema.partitions WHERE table_schema = ")
	if ok {
		q.arg(schema)
	} else {
		q.add("DATABASE()")
		table = u.e.table.Name
	}
	return q.add(" AND table_name = ").arg(table)
}

// dropMariaDB counts and drops one partition.
func (s *sweep) dropMariaDB(ctx context.Context, name string) error {
	conn, err := s.d.SQL.Conn(ctx)
	if err != nil {
		return classify(s.d.dialect, err)
	}
	// It has settings of its own, and perhaps a lock, which ends with it.
	defer func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	r := &mariaSession{d: s.d, conn: conn}
	err = r.run(ctx, &call{text: "SET SESSION wait_timeout = " + strconv.Itoa(int(partitionIdle.Seconds()))},
		&call{text: "SET SESSION lock_wait_timeout = 1"}) // where NOWAIT is not known
	if err != nil {
		return err
	}
	for range partitionAttempts {
		dropped, err := s.tryMariaDB(ctx, conn, r, name)
		if err == nil && dropped || err != nil && (s.broken || !retryable(err)) {
			return err
		}
		s.cp.Partition = nil
		if err := s.pacer.over(); err != nil {
			return err
		}
		if d := s.job.Deadline; !d.IsZero() && !s.d.now().Before(d) {
			break
		}
		if err := rest(ctx, partitionQuiet); err != nil {
			return err
		}
		if err := conn.PingContext(ctx); err != nil {
			return classify(s.d.dialect, err)
		}
	}
	return errRowByRow
}

// tryMariaDB is one attempt. It fails when the partition was written to, or the table cannot be locked at once.
func (s *sweep) tryMariaDB(ctx context.Context, conn *sql.Conn, r session, name string) (bool, error) {
	from := s.u.e.from + " PARTITION (" + name + ")"
	since, changed := "", false
	err := r.run(ctx, &call{text: "SELECT NOW() - INTERVAL 1 SECOND", row: func(v [][]byte) error { since = string(v[0]); return nil }})
	if err != nil {
		return false, err
	}
	written := func() *call {
		return s.u.partitionsOf(s.d.dialect.statement("SELECT 1")).add(" AND partition_name = ").arg(strings.Trim(name, "`")).
			add(" AND update_time >= ").arg(since).call(func([][]byte) error { changed = true; return nil })
	}
	if err := r.run(ctx, written()); err != nil || changed { // to the second: what was written just now may not be told apart
		return false, err
	}
	if held, err := s.holdsHeld(ctx, r, from); err != nil {
		return false, err
	} else if held {
		return false, errRowByRow
	}
	stays := false
	p := &partition{Name: name}
	q := s.d.dialect.statement("SELECT 1 FROM ", from, " AS r1 WHERE ")
	s.u.staying(q).add(" LIMIT 1")
	err = r.run(ctx, q.call(func([][]byte) error { stays = true; return nil }),
		&call{text: "SELECT count(*) FROM " + from, row: func(v [][]byte) error { p.Rows = parseInt(v[0]); return nil }})
	if err != nil {
		return false, err
	}
	if stays {
		return false, errRowByRow
	}
	if err := s.intendPartition(ctx, p); err != nil {
		return false, err
	}
	at := time.Now()
	nowait := " NOWAIT"
	if s.d.System.Connector == "mysql" { // which waits for a second
		nowait = ""
	}
	err = r.run(ctx, &call{text: "LOCK TABLES " + s.u.e.from + " WRITE" + nowait}, written())
	if err == nil && !changed {
		err = r.run(ctx, &call{text: "ALTER TABLE " + s.u.e.from + " DROP PARTITION " + name})
		if err == nil {
			s.job.Journal.Step(StepChanged)
		}
	}
	if unlock := r.run(ctx, &call{text: "UNLOCK TABLES"}); unlock != nil && err == nil {
		err = unlock
	}
	if err != nil {
		return false, s.uncertain(err)
	}
	if !changed {
		s.dropped(p, time.Since(at))
	}
	return !changed, nil
}

// uncertain marks an error after which nobody knows whether the server did what it was told: the intent in the journal
// resolves it. What the server itself refused it has not done.
func (s *sweep) uncertain(err error) error {
	var refused number
	if errors.As(err, &refused) && refused.system == "error" {
		return err
	}
	s.broken = true
	return &uncertainError{err}
}
