package sqldb

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
)

// PostgreSQL detaches and drops a partition in one transaction. DETACH … CONCURRENTLY takes weaker locks, but it needs
// transactions of its own: between them a table of personal data would be outside the map's reach, for good if the Sweep
// never went on, and held rows would be missing from the application's sight. Instead the partition is closed to
// writers, and to nobody else, while its rows are counted page by page; as soon as a writer waits it is let go.

// countPages is how many pages are counted between two looks at who waits: some tens of milliseconds.
const countPages = 2048

// duePostgres lists partitions whose upper bound is no later than the cut-off. Those that a foreign key leads to are
// left out: to detach one, the server reads the tables that refer to it, with everything locked. So are those with a
// trigger, and published ones, whose subscribers would keep the rows. Page ranges are read as such since version 14.
func (u *sweepRule) duePostgres(ctx context.Context, r session) ([]string, error) {
	type bounded struct{ name, bound string }
	var all []bounded
	q := u.m.d.dialect.statement(`SELECT format('%I.%I', n.nspname, c.relname), pg_get_expr(c.relpartbound, c.oid)
FROM pg_partitioned_table t JOIN pg_inherits i ON i.inhparent = t.partrelid JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class parent ON parent.oid = t.partrelid
JOIN pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = t.partattrs[0]
WHERE current_setting('server_version_num')::int >= 140000
AND t.partrelid = `).arg(strconv.FormatUint(uint64(u.m.oids[u.e]), 10)).add(`::text::oid AND t.partstrat = 'r' AND t.partnatts = 1 AND c.relkind = 'r'
AND pg_has_role(parent.relowner, 'USAGE') AND pg_has_role(c.relowner, 'USAGE')
AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid IN (t.partrelid, c.oid))
AND NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)
AND NOT EXISTS (SELECT 1 FROM pg_publication_tables p WHERE p.schemaname = n.nspname AND p.tablename = c.relname
  OR p.schemaname = (SELECT nspname FROM pg_namespace WHERE oid = parent.relnamespace) AND p.tablename = parent.relname)
AND a.attname = `).arg(u.start.field.Name).add("::text ORDER BY c.oid")
	err := r.run(ctx, q.call(func(v [][]byte) error {
		if _, to, ok := strings.Cut(string(v[1]), ") TO ("); ok && to != "MAXVALUE)" {
			all = append(all, bounded{string(v[0]), strings.TrimSuffix(to, ")")})
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range all {
		c := u.start.field
		q := u.m.d.dialect.statement("SELECT 1 FROM (SELECT ").value(c, cell{unquotedBound(b.bound), true}).add(" AS ", c.quoted, ") AS t WHERE ")
		u.start.reaches(q, c)
		if err := r.run(ctx, q.call(func([][]byte) error { out = append(out, b.name); return nil })); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reaches appends that a bound is no later than the cut-off.
func (u *starts) reaches(s *statement, c *column) {
	v := u.before.In(u.zone).Format("2006-01-02 15:04:05-07:00")
	if c.class == connectors.ClassInteger {
		v = strconv.FormatInt(u.before.Unix(), 10)
	}
	s.add(c.quoted, " <= ").value(c, cell{v, true})
}

// dropPostgres counts, detaches and drops one partition. Its intent is durable before the whole table is locked, so that
// no lock lasts longer because the journal is slow.
func (s *sweep) dropPostgres(ctx context.Context, name string) error {
	tx, err := s.d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	limit := min(partitionLock, s.d.lockTimeout())
	p := &partition{Name: name}
	err = tx.run(ctx, &call{text: "SET LOCAL lock_timeout = " + milliseconds(limit)},
		&call{text: "SET LOCAL idle_in_transaction_session_timeout = " + milliseconds(partitionIdle)},
		&call{text: "LOCK TABLE " + name + " IN SHARE MODE"},
		&call{text: "SELECT pg_current_xact_id()::text", row: func(v [][]byte) error { p.XID = string(v[0]); return nil }})
	if err != nil {
		return err
	}
	if held, err := s.holdsHeld(ctx, tx, name); err != nil {
		return err
	} else if held {
		return errRowByRow
	}
	if p.Rows, err = s.countPartition(ctx, tx, name); err != nil {
		return err
	}
	if err := s.intendPartition(ctx, p); err != nil {
		return err
	}
	began, err := s.detach(ctx, tx, name)
	if err != nil {
		return err
	}
	took := time.Since(began) // the server removes files after it has given the locks back
	s.job.Journal.Step(StepChanged)
	if err := tx.commit(ctx); err != nil {
		s.broken = true
		return &uncertainError{err}
	}
	s.dropped(p, took)
	return nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// countPartition counts a partition that is closed to writers. It returns errRowByRow when a row of it stays, when somebody
// waits for it, or when the slice is over before it is counted.
func (s *sweep) countPartition(ctx context.Context, tx transaction, name string) (int64, error) {
	pages := int64(0)
	err := tx.run(ctx, s.d.dialect.statement("SELECT (pg_relation_size(").arg(name).add("::text::regclass) / current_setting('block_size')::bigint)::text").
		call(func(v [][]byte) error { pages = parseInt(v[0]); return nil }))
	if err != nil {
		return 0, err
	}
	var rows int64
	for at := int64(0); at < pages; at += s.d.countPages {
		if err := s.pacer.over(); err != nil {
			return 0, err
		}
		if d := s.job.Deadline; !d.IsZero() && !s.d.now().Before(d) {
			return 0, errRowByRow
		}
		q := s.d.dialect.statement("SELECT count(*)::text, (count(*) FILTER (WHERE ")
		s.u.staying(q).add("))::text FROM ", name, " AS r1 WHERE r1.ctid >= ").arg(tid(at)).add("::text::tid AND r1.ctid < ").arg(tid(at + s.d.countPages)).add("::text::tid")
		var stay int64
		waits := false
		err := tx.run(ctx, q.call(func(v [][]byte) error { rows, stay = rows+parseInt(v[0]), parseInt(v[1]); return nil }), s.waited(name, &waits))
		if err != nil {
			return 0, err
		}
		if stay > 0 || waits {
			return 0, errRowByRow
		}
	}
	return rows, nil
}

func tid(page int64) string { return "(" + strconv.FormatInt(page, 10) + ",0)" }

// waited asks whether somebody waits for the partition.
func (s *sweep) waited(name string, waits *bool) *call {
	q := s.d.dialect.statement("SELECT 1 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND relation = ").
		arg(name).add("::text::regclass LIMIT 1")
	return q.call(func([][]byte) error { *waits = true; return nil })
}

// detach detaches and drops a counted partition in its transaction. Where the lock on the whole table cannot be had at
// once it is tried again, unless somebody has begun to wait for the partition. It returns when that lock was asked for.
func (s *sweep) detach(ctx context.Context, tx transaction, name string) (began time.Time, err error) {
	for range partitionAttempts {
		began = time.Now()
		err = tx.run(ctx, &call{text: "SAVEPOINT lethe"}, &call{text: "ALTER TABLE " + s.u.e.from + " DETACH PARTITION " + name},
			&call{text: "DROP TABLE " + name})
		if err == nil || !retryable(err) {
			return began, err
		}
		waits := false
		if err := tx.run(ctx, &call{text: "ROLLBACK TO SAVEPOINT lethe"}, s.waited(name, &waits)); err != nil {
			return began, err
		}
		if waits {
			return began, errRowByRow
		}
		if err := s.pacer.over(); err != nil {
			return began, err
		}
		if err := rest(ctx, partitionLock); err != nil {
			return began, err
		}
	}
	return began, err
}
