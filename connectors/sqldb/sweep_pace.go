package sqldb

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
)

const (
	lookEvery = 200 * time.Millisecond // at the server's load
	stopEvery = 100 * time.Millisecond // in a pause
)

// pacer decides whether the next chunk may start. Between chunks that is asked with others still under way; a pause
// waits for them first.
type pacer struct {
	s       *sweep
	resting time.Time     // end of the last rest of the duty cycle
	rested  time.Duration // since then, by chunks that rest between their bursts
	looked  time.Time
	lag     lagging
}

func newPacer(s *sweep) pacer {
	return pacer{s: s, lag: lagging{d: s.d}}
}

// before returns ErrYield when the slice is over, or that the chunks under way must end first so that it can pause.
func (p *pacer) before(ctx context.Context, busy int) (wait bool, err error) {
	if err := p.over(); err != nil {
		return false, err
	}
	pace := p.s.job.Pace
	if pace.Rests() {
		now := time.Now()
		if p.resting.IsZero() {
			p.resting = now
		} else if rest := pace.Rest(now.Sub(p.resting)-p.rested) - p.rested; p.s.moved && rest > 0 {
			if busy > 0 {
				return true, nil
			}
			err := p.sleep(ctx, rest, connectors.PauseDuty)
			p.resting, p.rested = time.Now(), 0
			if err != nil {
				return false, err
			}
		}
	}
	if pace.Lag == 0 && pace.Sessions == 0 && pace.LockWaits == 0 || time.Since(p.looked) < lookEvery {
		return false, nil
	}
	for {
		why, err := p.look(ctx, busy)
		if err != nil || why == "" {
			p.looked = time.Now()
			return false, err
		}
		if busy > 0 {
			return true, nil
		}
		if err := p.sleep(ctx, lookEvery, why); err != nil {
			return false, err
		}
		p.resting, p.rested = time.Now(), 0
	}
}

// chunkRested takes what a chunk has rested between its bursts.
func (p *pacer) chunkRested(rest time.Duration) {
	p.rested += rest
	if rest > 0 {
		p.s.measures.Pauses.Add(connectors.PauseDuty, rest)
	}
}

const (
	burstTime = 300 * time.Microsecond
	leastRows = 25                   // of a burst: fewer cost more in round trips than in work
	burstRest = 5 * time.Millisecond // at most, inside a transaction; what is owed beyond it is rested after it
)

// bursts divide a chunk's transaction where the pace has a duty cycle. Whoever waits for a core that a sweep has waits
// until the sweep's backend gives it up: what the database's users feel is how long it works at a stretch, not how much
// in all. So it rests within the transaction, several times a millisecond, and what is made durable around each
// transaction stays as rare as at full speed. SQLite has one writer, for whom others would wait.
type bursts struct {
	pace connectors.Pace
	size atomic.Int64 // rows; 0 is whole chunks
}

func (b *bursts) begin(d *dialect, pace connectors.Pace) {
	if b.pace = pace; pace.Rests() && d.name != sqlite {
		b.size.Store(100)
	}
}

// rows is how many of n rows the next burst takes.
func (b *bursts) rows(n int) int {
	if size := int(b.size.Load()); size > 0 {
		return min(n, size)
	}
	return n
}

// adapt brings the time of the next burst near burstTime.
func (b *bursts) adapt(n int, took time.Duration) {
	fit := int64(float64(n) * float64(burstTime) / float64(max(took, time.Microsecond)))
	b.size.Store(max(min(fit, int64(n)*5/4+1), int64(n)/2, leastRows))
}

// rest rests between two bursts, and returns how long it was: timers are late.
func (b *bursts) rest(ctx context.Context, owed time.Duration) (time.Duration, error) {
	if owed <= 0 {
		return 0, nil
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(min(owed, burstRest)):
	}
	return time.Since(began), nil
}

// over reports the end of the slice.
func (p *pacer) over() error {
	j := &p.s.job
	if j.Pace.Stop != nil && j.Pace.Stop() || p.s.moved && !j.Deadline.IsZero() && !p.s.d.now().Before(j.Deadline) {
		return connectors.ErrYield
	}
	return nil
}

// sleep pauses, and ends early with the slice.
func (p *pacer) sleep(ctx context.Context, rest time.Duration, why connectors.Pause) error {
	began := time.Now()
	defer func() { p.s.measures.Pauses.Add(why, time.Since(began)) }()
	for left := rest; left > 0; left = rest - time.Since(began) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(left, stopEvery)):
		}
		if p.s.job.Pace.Stop != nil && p.s.job.Pace.Stop() {
			return connectors.ErrYield
		}
		if d := p.s.job.Deadline; !d.IsZero() && !p.s.d.now().Before(d) {
			return connectors.ErrYield
		}
	}
	return nil
}

// look returns what hurts, empty when nothing does. What the database user may not see does not hurt; Check tells of it.
func (p *pacer) look(ctx context.Context, busy int) (connectors.Pause, error) {
	pace := p.s.job.Pace
	if p.s.d.dialect.name == sqlite {
		return "", nil
	}
	r, release, err := p.s.d.reader(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if pace.Lag > 0 {
		behind, err := p.lag.most(ctx, r)
		if err != nil || behind > pace.Lag {
			return connectors.PauseLag, err
		}
	}
	for _, c := range []struct {
		why   connectors.Pause
		texts []string
		limit int
		ours  int
	}{
		{connectors.PauseLockWaits, p.s.d.dialect.lockWaits(), pace.LockWaits, 0},
		{connectors.PauseSessions, []string{p.s.d.dialect.sessions()}, pace.Sessions, busy},
	} {
		if c.limit == 0 {
			continue
		}
		n := int64(-c.ours)
		for _, text := range c.texts {
			err := r.run(ctx, &call{text: text, row: func(v [][]byte) error { n += parseInt(v[len(v)-1]); return nil }})
			if err != nil && !codeIs(err, CodePermission) {
				return "", err
			}
		}
		if n > int64(c.limit) {
			return c.why, nil
		}
	}
	return "", nil
}

// sessions counts the sessions that are at work, but for the one that asks.
func (d *dialect) sessions() string {
	if d.name == postgres {
		return `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()`
	}
	return `SELECT count(*) FROM information_schema.processlist
WHERE command NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID') AND db = DATABASE() AND id <> CONNECTION_ID()`
}

// lockWaits counts the sessions that wait for a lock, in the last column of each statement's row. MariaDB tells of rows only
// how many of the whole server do, and that without a privilege: information_schema.innodb_trx knows whose database it is,
// but shows everybody the same as long as somebody has asked within the last 100 ms, and sweeps ask all the time.
func (d *dialect) lockWaits() []string {
	if d.name == postgres {
		return []string{`SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND a.datname = current_database()`}
	}
	return []string{
		"SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
		"SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'Waiting for table metadata lock'",
	}
}
