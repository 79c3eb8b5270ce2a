package sqldb

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// A table that is partitioned by range on a rule's starting point loses whole partitions instead of rows, where all that
// is in one is due: its upper bound is no later than the cut-off, nothing in it is held or lacks a start that can be read, and no row
// elsewhere refers to it. Rows are counted first, since evidence counts every one; that reads the partition, and nobody
// waits for it. What others may have to wait for is the same however many rows there are: a lock on the whole table,
// which is waited for only briefly, and dropping files. How a change between the count and the drop is noticed differs:
// see sweep_partitions_postgres.go and sweep_partitions_mariadb.go. Where a partition cannot be had, and for users who
// may not drop it, rows are deleted as everywhere else.

const (
	partitionLock     = 100 * time.Millisecond // how long the lock on the whole table is waited for: others queue behind it
	partitionAttempts = 20                     // at that lock, and at a count that nobody disturbs
	partitionIdle     = 5 * time.Second        // after which the server gives up a session that holds such locks and says nothing
)

// partition is one partition of the swept table.
type partition struct {
	Name string `json:"name"` // quoted and, on PostgreSQL, qualified
	Rows int64  `json:"rows"`
	XID  string `json:"xid,omitempty"`
}

// errRowByRow says that the rows of a partition go one by one: some stay, or the partition cannot be had.
var errRowByRow = errors.New("the partition is not dropped")

// partitionable reports whether the rule's outcome is the same for all rows of a partition, and nothing else would have
// to learn that they go: what they own, or a trigger.
func (u *sweepRule) partitionable() bool {
	return u.rule.Action == retention.Delete && u.start.field != nil && len(u.start.latest) == 0 && len(u.rule.When) == 0 && len(u.after) == 0 &&
		u.start.field.class != connectors.ClassText && u.m.d.dialect.name != sqlite && len(u.e.owns) == 0 && u.e.table.Triggers == 0
}

// dropPartitions drops the partitions that are due. Each is looked at once in a Sweep.
func (s *sweep) dropPartitions(ctx context.Context) error {
	if !s.u.partitionable() {
		return nil
	}
	if err := s.resolvePartition(ctx); err != nil {
		return err
	}
	due, err := s.duePartitions(ctx)
	if err != nil {
		return err
	}
	for _, name := range due {
		if slices.Contains(s.cp.Passed, name) {
			continue
		}
		if _, err := s.pacer.before(ctx, 0); err != nil {
			return err
		}
		err := s.dropPartition(ctx, name)
		switch {
		case s.broken:
			return err
		case errors.Is(err, errRowByRow), retryable(err), tookTooLong(err), connectors.IsPermanent(err): // of this partition
			s.cp.Partition, s.cp.Passed, s.dirty = nil, append(s.cp.Passed, name), true
		case err != nil:
			return err
		}
	}
	return nil
}

func (s *sweep) duePartitions(ctx context.Context) ([]string, error) {
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if s.d.dialect.name == postgres {
		return s.u.duePostgres(ctx, r)
	}
	return s.u.dueMariaDB(ctx, r)
}

func (s *sweep) dropPartition(ctx context.Context, name string) error {
	if s.d.dialect.name == postgres {
		return s.dropPostgres(ctx, name)
	}
	return s.dropMariaDB(ctx, name)
}

// intendPartition makes durable that a partition is about to be dropped.
func (s *sweep) intendPartition(ctx context.Context, p *partition) error {
	s.cp.Partition = p
	if err := s.journal(ctx); err != nil {
		return err
	}
	s.job.Journal.Step(StepIntent)
	return nil
}

// dropped takes a partition's end; took is how long the table was locked.
func (s *sweep) dropped(p *partition, took time.Duration) {
	s.job.Journal.Step(StepCommitted)
	s.cp.Partition, s.dirty, s.moved = nil, true, true
	tallies := []connectors.Tally{}
	if p.Rows > 0 {
		tallies = append(tallies, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Delete, Rows: p.Rows})
	}
	s.done = append(s.done, tallies...)
	s.measure(chunkResult{tallies: tallies, took: took})
}

// staying appends what keeps a row, whose table has the alias r1, from going with its partition.
func (u *sweepRule) staying(q *statement) *statement {
	q.add("CASE WHEN ")
	u.start.earlier(q, "r1.", u.start.field) // no time, or none that can be read: the partition's bounds do not tell
	q.add(" THEN 0 ELSE 1 END = 1")
	if len(u.frozen) > 0 {
		q.add(" OR ").isFrozen("r1.", u.e, u.frozen)
	}
	for _, t := range slices.Concat(u.e.children, u.e.members, u.e.accessed) {
		q.add(" OR EXISTS (SELECT 1 FROM ", t.child.from, " AS r0 WHERE ").joined(t, "r0.", "r1.").add(")")
	}
	return q
}

// holdsHeld reports whether a held person's row is in a partition, which is read from as from.
func (s *sweep) holdsHeld(ctx context.Context, r session, from string) (bool, error) {
	held, err := s.m.heldRows(ctx, r, s.job.Held, everyTenant, s.u.e)
	if err != nil {
		return false, err
	}
	found := false
	var calls []*call
	for chunk := range slices.Chunk(heldKeys(s.u.e, held), s.d.dialect.keysPerStatement) {
		q := s.d.dialect.statement("SELECT 1 FROM ", from, " WHERE ").in("", s.u.e.key, chunk).add(" LIMIT 1")
		calls = append(calls, q.call(func([][]byte) error { found = true; return nil }))
	}
	return found, r.run(ctx, calls...)
}

// rest waits after a failed attempt.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// unquotedBound returns a bound of a partition without its quotes.
func unquotedBound(bound string) string {
	if strings.HasPrefix(bound, "'") {
		return unquoted(bound, 0, endOfQuoted(bound, 0, '\''))
	}
	return bound
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
	if err == nil && !known {
		gone, err = s.u.partitionGone(ctx, r, p)
	}
	if err != nil {
		return err
	}
	s.cp.Partition = nil
	if gone && p.Rows > 0 {
		s.done = append(s.done, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Delete, Rows: p.Rows, Resolved: true})
	}
	return s.save(ctx)
}

// partitionGone reports whether a partition is not there any more. It waits for a session that is still dropping it.
func (u *sweepRule) partitionGone(ctx context.Context, r session, p *partition) (bool, error) {
	gone := true
	found := func([][]byte) error { gone = false; return nil }
	d := u.m.d.dialect
	if d.name == postgres {
		return gone, r.run(ctx, d.statement("SELECT 1 WHERE to_regclass(").arg(p.Name).add("::text) IS NOT NULL").call(found))
	}
	return gone, r.run(ctx, &call{text: "SELECT 1 FROM " + u.e.from + " LIMIT 0", row: func([][]byte) error { return nil }},
		u.partitionsOf(d.statement("SELECT 1")).add(" AND partition_name = ").arg(strings.Trim(p.Name, "`")).call(found))
}
