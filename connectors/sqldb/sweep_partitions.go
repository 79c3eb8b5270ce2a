package sqldb

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// A table that is partitioned by range on a rule's starting point loses whole partitions instead of rows, where all that
// is in one is due: its upper bound is no later than the cut-off, nothing in it is held or lacks a start, and no row
// elsewhere refers to it. PostgreSQL detaches and drops it in one transaction: DETACH … CONCURRENTLY would leave a
// table of personal data outside the map's reach if the process were killed between its transactions. The lock on the
// whole table that this takes is waited for only briefly; where it cannot be had, and for users who do not own the
// table, rows are deleted as everywhere else. Rows are counted, since evidence counts every one: that reads the
// partition, without a lock on the table.

// partitionLock is how long the lock on the whole table is waited for: others queue behind it.
const partitionLock = 100 * time.Millisecond

// partition is one partition of the swept table.
type partition struct {
	Name string `json:"name"` // quoted and, on PostgreSQL, qualified
	Rows int64  `json:"rows"`
	XID  string `json:"xid,omitempty"`
}

// partitionable reports whether the rule's outcome is the same for all rows of a partition.
func (u *sweepRule) partitionable() bool {
	return u.rule.Action == retention.Delete && u.start.field != nil && len(u.start.latest) == 0 && len(u.rule.When) == 0 && len(u.after) == 0 &&
		u.start.field.class != connectors.ClassText && u.m.d.dialect.name != sqlite
}

// dropPartitions drops the partitions that are due.
func (s *sweep) dropPartitions(ctx context.Context) error {
	if !s.u.partitionable() {
		return nil
	}
	if err := s.resolvePartition(ctx); err != nil {
		return err
	}
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return err
	}
	due, err := s.u.duePartitions(ctx, r)
	release()
	if err != nil {
		return err
	}
	for _, p := range due {
		if err := s.pacer.over(); err != nil {
			return err
		}
		err := s.dropPartition(ctx, p)
		switch {
		case err == nil:
		case retryable(err), tookTooLong(err), codeIs(err, CodePermission), codeIs(err, CodeConstraint), codeIs(err, CodeDatabase):
			if s.broken {
				return err
			}
			s.cp.Partition = nil // its rows go one by one
		default:
			return err
		}
	}
	return nil
}

// duePartitions lists partitions whose upper bound is no later than the cut-off.
func (u *sweepRule) duePartitions(ctx context.Context, r session) ([]string, error) {
	var out []string
	if u.m.d.dialect.name == postgres {
		oid := u.m.oids[u.e]
		type bounded struct{ name, bound string }
		var all []bounded
		q := u.m.d.dialect.statement(`SELECT format('%I.%I', n.nspname, c.relname), pg_get_expr(c.relpartbound, c.oid)
FROM pg_partitioned_table t JOIN pg_inherits i ON i.inhparent = t.partrelid JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class parent ON parent.oid = t.partrelid
JOIN pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = t.partattrs[0]
WHERE t.partrelid = `).arg(strconv.FormatUint(uint64(oid), 10)).add(`::text::oid AND t.partstrat = 'r' AND t.partnatts = 1 AND c.relkind = 'r'
AND pg_has_role(parent.relowner, 'USAGE') AND pg_has_role(c.relowner, 'USAGE') AND a.attname = `).arg(u.start.field.Name).add("::text ORDER BY c.oid")
		err := r.run(ctx, q.call(func(v [][]byte) error {
			_, to, ok := strings.Cut(string(v[1]), ") TO (")
			if ok {
				all = append(all, bounded{string(v[0]), strings.TrimSuffix(to, ")")})
			}
			return nil
		}))
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			if b.bound == "MAXVALUE" {
				continue
			}
			bound := b.bound
			if strings.HasPrefix(bound, "'") {
				bound = unquoted(bound, 0, endOfQuoted(bound, 0, '\''))
			}
			due := false // the last moment that the partition takes is earlier than the cut-off
			c := u.start.field
			q := u.m.d.dialect.statement("SELECT 1 FROM (SELECT ").value(c, cell{bound, true}).add(" AS ", c.quoted, ") AS t WHERE ")
			u.start.reaches(q, c)
			if err := r.run(ctx, q.call(func([][]byte) error { due = true; return nil })); err != nil {
				return nil, err
			}
			if due {
				out = append(out, b.name)
			}
		}
		return out, nil
	}
	local := u.start.before.In(u.start.zone).Format(time.DateOnly)
	if strings.HasPrefix(u.start.field.Type, "timestamp") {
		local = u.start.before.UTC().Format(time.DateTime)
	}
	type bounded struct{ name, method, expression, bound string }
	var all []bounded
	q := u.m.d.dialect.statement(`SELECT partition_name, partition_method, partition_expression, partition_description
FROM information_schema.partitions WHERE subpartition_name IS NULL AND partition_method LIKE 'RANGE%' AND partition_description <> 'MAXVALUE'
AND table_schema = `)
	schema, table, ok := strings.Cut(u.e.table.Name, ".")
	if !ok {
		schema, table = "", u.e.table.Name
	}
	if schema == "" {
		q.add("DATABASE()")
	} else {
		q.arg(schema)
	}
	q.add(" AND table_name = ").arg(table).add(" ORDER BY partition_ordinal_position")
	err := r.run(ctx, q.call(func(v [][]byte) error {
		all = append(all, bounded{string(v[0]), string(v[1]), strings.ToLower(string(v[2])), string(v[3])})
		return nil
	}))
	if err != nil {
		return nil, err
	}
	column := strings.ToLower(u.start.field.Name)
	for _, b := range all {
		q := u.m.d.dialect.statement("SELECT 1 FROM (SELECT 1 AS x) AS t WHERE ")
		expression := strings.NewReplacer("`", "", " ", "").Replace(b.expression)
		value := func() *statement { return q.arg(local) }
		if u.start.field.class == connectors.ClassInteger {
			value = func() *statement { return q.arg(u.start.before.Unix()) }
		}
		switch expression {
		case column:
			bound := b.bound
			if strings.HasPrefix(bound, "'") {
				bound = unquoted(bound, 0, endOfQuoted(bound, 0, '\''))
			}
			if u.start.field.class == connectors.ClassInteger {
				q.add(bound)
			} else {
				q.add("CAST(").arg(bound).add(" AS DATETIME)")
			}
			q.add(" <= ")
			value()
		case "to_days(" + column + ")", "to_seconds(" + column + ")", "year(" + column + ")", "unix_timestamp(" + column + ")":
			if _, err := strconv.ParseInt(b.bound, 10, 64); err != nil {
				continue
			}
			fn, _, _ := strings.Cut(expression, "(")
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

// reaches appends that a bound is no later than the cut-off.
func (u *starts) reaches(s *statement, c *column) {
	v := u.before.In(u.zone).Format("2006-01-02 15:04:05-07:00")
	if c.class == connectors.ClassInteger {
		v = strconv.FormatInt(u.before.Unix(), 10)
	}
	s.add(c.quoted, " <= ").value(c, cell{v, true})
}

// partitionFrom is the partition as a table to read from.
func (u *sweepRule) partitionFrom(name string) string {
	if u.m.d.dialect.name == postgres {
		return name
	}
	return u.e.from + " PARTITION (" + name + ")"
}

// whole reports whether every row of a partition goes and nothing refers to it, and how many rows there are.
func (u *sweepRule) whole(ctx context.Context, s session, name string, held map[*entity]map[string]bool) (bool, int64, error) {
	d, e, from := u.m.d.dialect, u.e, u.partitionFrom(name)
	stays := false
	found := func([][]byte) error { stays = true; return nil }
	var calls []*call
	q := d.statement("SELECT 1 FROM ", from, " WHERE ")
	if len(u.frozen) > 0 {
		q.isFrozen("", e, u.frozen).add(" OR ")
	}
	q.add(u.start.field.quoted, " IS NULL LIMIT 1")
	if len(u.frozen) > 0 || u.start.field.Nullable {
		calls = append(calls, q.call(found))
	}
	for chunk := range slices.Chunk(heldKeys(e, held), d.keysPerStatement) {
		q := d.statement("SELECT 1 FROM ", from, " WHERE ").in("", e.key, chunk).add(" LIMIT 1")
		calls = append(calls, q.call(found))
	}
	for _, t := range slices.Concat(e.children, e.members, e.accessed) {
		q := d.statement("SELECT 1 FROM ", t.child.from, " AS r0 JOIN ", from, " AS r1 ON ").joined(t, "r0.", "r1.").add(" LIMIT 1")
		calls = append(calls, q.call(found))
	}
	if len(e.owns) > 0 { // what the rows own may go with them
		return false, 0, nil
	}
	var n int64
	calls = append(calls, (&statement{d: d}).add("SELECT count(*) FROM ", from).call(func(v [][]byte) error { n = parseInt(v[0]); return nil }))
	err := s.run(ctx, calls...)
	return !stays, n, err
}

// dropPartition drops one partition.
func (s *sweep) dropPartition(ctx context.Context, name string) error {
	tx, err := s.d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	began := time.Now()
	if s.d.dialect.name == postgres {
		// Nobody writes to the partition any more; the rest of the table is as free as before.
		limit := min(partitionLock, s.d.lockTimeout()).Milliseconds()
		if err := tx.run(ctx, &call{text: "SET LOCAL lock_timeout = " + strconv.FormatInt(limit, 10)}, &call{text: "LOCK TABLE " + name + " IN SHARE MODE"}); err != nil {
			return err
		}
	}
	held, err := s.m.heldRows(ctx, tx, s.job.Held, everyTenant, s.u.e)
	if err != nil {
		return err
	}
	whole, rows, err := s.u.whole(ctx, tx, name, held)
	if err != nil || !whole {
		return cmp.Or(err, tx.commit(ctx))
	}
	p := &partition{Name: name, Rows: rows}
	if s.d.dialect.name == postgres {
		began = time.Now()
		err := tx.run(ctx, &call{text: "ALTER TABLE " + s.u.e.from + " DETACH PARTITION " + name}, &call{text: "DROP TABLE " + name},
			&call{text: "SELECT pg_current_xact_id()::text", row: func(v [][]byte) error { p.XID = string(v[0]); return nil }})
		if err != nil {
			return err
		}
	} else if err := tx.commit(ctx); err != nil { // MariaDB's ALTER TABLE is a transaction of its own
		return err
	}
	s.job.Journal.Step(StepChanged)
	s.cp.Partition = p
	if err := s.journal(ctx); err != nil {
		return err
	}
	s.job.Journal.Step(StepIntent)
	if s.d.dialect.name == postgres {
		if err := tx.commit(ctx); err != nil {
			s.broken = true
			return &uncertainError{err}
		}
	} else if err := s.alter(ctx, name); err != nil {
		return err
	}
	s.job.Journal.Step(StepCommitted)
	s.dropped(p, time.Since(began))
	return nil
}

func (s *sweep) alter(ctx context.Context, name string) error {
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	return r.run(ctx, &call{text: "ALTER TABLE " + s.u.e.from + " DROP PARTITION " + name})
}

func (s *sweep) dropped(p *partition, took time.Duration) {
	s.cp.Partition, s.dirty, s.moved = nil, true, true
	tallies := []connectors.Tally{}
	if p.Rows > 0 {
		tallies = append(tallies, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Delete, Rows: p.Rows})
	}
	s.done = append(s.done, tallies...)
	s.measure(chunkResult{tallies: tallies, took: took})
}

// resolvePartition settles a partition whose end was interrupted.
func (s *sweep) resolvePartition(ctx context.Context) error {
	p := s.cp.Partition
	if p == nil {
		return nil
	}
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	gone, known, err := s.d.outcome(ctx, r, p.XID)
	if err != nil {
		return err
	}
	if !known {
		gone = true
		q := s.d.dialect.statement("SELECT 1 FROM information_schema.partitions WHERE ")
		if s.d.dialect.name == postgres {
			q = s.d.dialect.statement("SELECT 1 WHERE to_regclass(").arg(p.Name).add("::text) IS NOT NULL")
		} else {
			schema, table, ok := strings.Cut(s.u.e.table.Name, ".")
			if ok {
				q.add("table_schema = ").arg(schema)
			} else {
				table = s.u.e.table.Name
				q.add("table_schema = DATABASE()")
			}
			q.add(" AND table_name = ").arg(table).add(" AND partition_name = ").arg(strings.Trim(p.Name, "`"))
		}
		if err := r.run(ctx, q.call(func([][]byte) error { gone = false; return nil })); err != nil {
			return err
		}
	}
	s.cp.Partition = nil
	if gone && p.Rows > 0 {
		s.done = append(s.done, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Delete, Rows: p.Rows, Resolved: true})
	}
	return s.save(ctx)
}
