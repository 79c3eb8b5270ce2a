package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// A Sweep reads keys of due rows in order (see sweep_feed.go) and hands them out in chunks. A chunk is one short
// transaction that locks its rows in key order, asks again whether they are due and free, and deletes or masks them
// together with what they own (sweep_chunk.go). One goroutine keeps the journal; workers ask it before they commit.

// Sizes of a Sweep's chunks.
const (
	sweepChunk       = 250 // rows of the first chunk: the database may have to read a page of each index for each of them
	sweepMaxChunk    = 20_000
	sweepTransaction = 50 * time.Millisecond // default of [connectors.Pace.Transaction]
	sweepForget      = 0.95                  // how fast the slowest chunk of late is forgotten: see [dialect]
)

// sweepPoint is what Sweep resumes from.
type sweepPoint struct {
	Phases  []phase  `json:"phases,omitempty"` // in order; decided at the first slice
	Phase   int      `json:"phase"`
	After   []string `json:"after,omitempty"` // of the phase: everything up to it was handed out
	Open    []*span  `json:"open,omitempty"`  // handed out and not known to be committed
	Counted bool     `json:"counted,omitempty"`
	// Partition is the one that is about to be dropped, Passed are those whose rows go one by one.
	Partition *partition `json:"partition,omitempty"`
	Passed    []string   `json:"passed,omitempty"`
	Size      int        `json:"size,omitempty"`
	Refused   int64      `json:"refused,omitempty"` // rows that the database did not let go: see sweep_refused.go
	Done      bool       `json:"done,omitempty"`
}

// span is what one chunk works: rows behind From up to To in the order of a phase.
type span struct {
	Phase  int          `json:"phase"`
	From   []string     `json:"from,omitempty"`
	To     []string     `json:"to"`
	Intent *sweepIntent `json:"intent,omitempty"`
}

// sweepIntent is what a chunk's transaction does: see [intent].
type sweepIntent struct {
	Tallies []connectors.Tally `json:"tallies"`
	XID     string             `json:"xid,omitempty"`
	Probe   connectors.Key     `json:"probe,omitempty"` // a row of the entity that is deleted or masked
}

// chunk is a span on its way, with the keys that were read for it.
type chunk struct {
	*span
	rows  []key // as the phase orders them; the last columns are the row's key
	tries int
}

// sweep is one call of Sweep.
type sweep struct {
	d        *DB
	m        *model
	job      connectors.SweepJob
	u        *sweepRule
	cp       sweepPoint
	done     []connectors.Tally // committed, not saved
	dirty    bool
	broken   bool // the journal failed, or the outcome of a commit is not known
	moved    bool
	simple   bool
	direct   bool
	resumed  []*span
	again    []*chunk // lost a race, in smaller parts
	read     []key    // read and not handed out
	readEnd  bool     // nothing comes after them in the phase
	reading  bool     // a page of keys is on its way through pages
	pages    chan page
	bursts   bursts
	pacer    pacer
	measures connectors.SweepMeasures
	slowest  float64 // nanoseconds a row, of late
}

var _ connectors.Sweeper = (*DB)(nil)

// Sweep carries out a deletion rule. See [connectors.Sweeper].
func (d *DB) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	m, err := d.modelOf(ctx)
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	u, err := m.newSweepRule(j.Entity, j.Rule, j.Cut, j.Held)
	if err != nil || j.Rule.Action == retention.Next {
		return connectors.SweepMeasures{}, err
	}
	s := &sweep{d: d, m: m, job: j, u: u, simple: u.simple(j.Held), direct: u.direct(j.Held), pages: make(chan page, 1)}
	s.pacer = newPacer(s)
	s.bursts.begin(d.dialect, j.Pace)
	err = s.run(ctx)
	return s.measures, err
}

func (s *sweep) run(ctx context.Context) error {
	raw, err := s.job.Journal.Load(ctx)
	if err != nil {
		return err
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &s.cp); err != nil {
			return connectors.Permanent(CodeDatabase, "the checkpoint cannot be read", "It was written by another version of Lethe: start the sweep again.", nil)
		}
		if err := s.resolve(ctx); err != nil {
			return err
		}
	}
	if s.cp.Done {
		return nil
	}
	if !s.cp.Counted {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	s.resumed = slices.Clone(s.cp.Open)
	s.cp.Size = max(s.cp.Size, 1)
	if err := s.dropPartitions(ctx); err != nil {
		return s.stop(ctx, err)
	}
	if err := s.work(ctx); err != nil {
		return s.stop(ctx, err)
	}
	if err := s.allWent(); err != nil {
		return s.stop(ctx, err)
	}
	if err := s.allRead(ctx); err != nil {
		return s.stop(ctx, err)
	}
	s.cp.Done = true
	return s.save(ctx)
}

// begin plans the Sweep and counts what is held, once.
func (s *sweep) begin(ctx context.Context) error {
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s.cp.Phases, err = s.u.phases(ctx, r); err != nil {
		return err
	}
	held, err := s.u.countHeld(ctx, r, s.job.Held)
	if err != nil {
		return err
	}
	if held > 0 {
		s.done = append(s.done, connectors.Tally{Entity: s.u.e.Name, Method: dsr.Held, Rows: held})
	}
	s.cp.Counted, s.cp.Size = true, min(sweepChunk, s.d.txRows)
	return s.save(ctx) // before anything is locked
}

// stop saves what is committed before an error or the end of the slice is handed up.
func (s *sweep) stop(ctx context.Context, err error) error {
	if s.broken || errors.Is(err, connectors.ErrFenced) || ctx.Err() != nil {
		return err
	}
	if s.dirty || len(s.done) > 0 {
		if serr := s.save(ctx); serr != nil {
			return serr
		}
	}
	return err
}

func (s *sweep) save(ctx context.Context) error {
	if err := s.journal(ctx); err != nil {
		return err
	}
	s.job.Journal.Step(StepSaved)
	return nil
}

// journal saves the checkpoint with the intents of open chunks. Nothing is saved after a Save that failed: it may be
// durable all the same.
func (s *sweep) journal(ctx context.Context) error {
	b, err := json.Marshal(s.cp)
	if err != nil {
		return err
	}
	if err := s.job.Journal.Save(ctx, b, s.done); err != nil {
		s.broken = true
		return err
	}
	s.done, s.dirty = nil, false
	return nil
}

// event is what a worker tells the goroutine that keeps the journal: that it is about to commit, or that it is over.
type event struct {
	c      *chunk
	intent *sweepIntent
	ack    chan error // of an intent
	result chunkResult
	err    error
}

// work hands out chunks until nothing is due or the slice is over, and waits for those that are under way.
func (s *sweep) work(ctx context.Context) error {
	var wg sync.WaitGroup
	events, abort := make(chan event), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	defer close(abort) // after a panic of the journal's nobody listens any more
	var stop error
	busy, empty := 0, false
	for {
		for stop == nil && !empty && busy < s.workers() {
			wait, err := s.pacer.before(ctx, busy)
			if err != nil {
				stop = err
				break
			}
			if wait {
				break // until the others are done
			}
			c, err := s.next(ctx, &wg)
			if err != nil {
				stop = err
				break
			}
			if c == nil {
				empty = !s.reading
				break
			}
			busy++
			wg.Go(func() { s.worker(ctx, c, events, abort) })
		}
		if busy == 0 && (stop != nil || !s.reading) {
			return stop
		}
		var ev event
		select {
		case p := <-s.pages:
			if err := s.take(p); err != nil && stop == nil {
				stop = err
			}
			continue
		case ev = <-events:
		}
		if ev.ack != nil {
			ev.ack <- s.intend(ctx, ev, stop)
			continue
		}
		busy--
		if err := s.finish(ev); err != nil && stop == nil {
			stop = err
		}
		empty = empty && len(s.again) == 0
	}
}

func (s *sweep) workers() int {
	if s.d.dialect.name == sqlite { // one writer
		return 1
	}
	return max(1, min(s.job.Pace.Connections, s.d.connections()))
}

// worker works one chunk.
func (s *sweep) worker(ctx context.Context, c *chunk, events chan<- event, abort <-chan struct{}) {
	result, err := s.chunk(ctx, c, func(in *sweepIntent) error {
		ack := make(chan error, 1)
		select {
		case events <- event{c: c, intent: in, ack: ack}:
		case <-abort:
			return context.Canceled
		}
		select {
		case err := <-ack:
			return err
		case <-abort:
			return context.Canceled
		}
	})
	select {
	case events <- event{c: c, result: result, err: err}:
	case <-abort:
	}
}

// intend makes the intent of a chunk durable; then the chunk may commit.
func (s *sweep) intend(ctx context.Context, ev event, stop error) error {
	if s.broken || stop != nil && !errors.Is(stop, connectors.ErrYield) {
		return errAbandoned
	}
	s.job.Journal.Step(StepChanged)
	ev.c.Intent = ev.intent
	if err := s.journal(ctx); err != nil {
		return err
	}
	s.job.Journal.Step(StepIntent)
	return nil
}

// errAbandoned rolls a chunk back because the Sweep stops for another reason.
var errAbandoned = errors.New("the sweep has stopped")

// finish takes a chunk's outcome.
func (s *sweep) finish(ev event) error {
	c := ev.c
	var uncertain *uncertainError
	var large *familyTooLargeError
	switch {
	case errors.Is(ev.err, errAbandoned):
		return nil
	case errors.As(ev.err, &uncertain):
		s.broken = true // the intent in the journal resolves it
		return ev.err
	case ev.err != nil && (retryable(ev.err) || tookTooLong(ev.err) || errors.As(ev.err, &large)) && !s.broken:
		c.Intent = nil
		return s.split(c, ev.err)
	case refused(ev.err) && !s.broken:
		c.Intent = nil
		return s.refuse(c, ev.err)
	case ev.err != nil:
		return ev.err
	}
	s.cp.Open = slices.DeleteFunc(s.cp.Open, func(o *span) bool { return o == c.span })
	s.done = append(s.done, ev.result.tallies...)
	s.dirty, s.moved = true, true
	if ev.result.changed {
		s.job.Journal.Step(StepCommitted)
		s.measure(ev.result)
		s.adapt(len(c.rows), ev.result.took)
		s.pacer.chunkRested(ev.result.rested)
	}
	return nil
}

// split gives a chunk that lost a race back in two parts; one row alone is tried a few times more.
func (s *sweep) split(c *chunk, err error) error {
	s.cp.Size = max(s.cp.Size/2, 10)
	if len(c.rows) == 1 {
		if c.tries++; c.tries >= attempts {
			return err
		}
		s.again = append(s.again, c)
		return nil
	}
	s.halve(c)
	return nil
}

// halve gives a chunk of several rows back in two parts.
func (s *sweep) halve(c *chunk) {
	half := len(c.rows) / 2
	middle := texts(c.rows[half-1])
	rest := &chunk{span: &span{Phase: c.Phase, From: middle, To: c.To}, rows: c.rows[half:]}
	c.To, c.rows = middle, c.rows[:half]
	s.cp.Open = append(s.cp.Open, rest.span)
	s.again = append(s.again, c, rest)
	s.dirty = true
}

func (s *sweep) measure(r chunkResult) {
	s.measures.Transactions++
	s.measures.Longest = max(s.measures.Longest, r.took)
	for _, t := range r.tallies {
		if e := s.m.byName[t.Entity]; t.Method == dsr.Delete {
			s.measures.Bytes += t.Rows * e.rowBytes()
		}
	}
}

// rowBytes is an estimate of what one row takes, its part of the indexes included.
func (e *entity) rowBytes() int64 {
	if e.table.Rows <= 0 {
		return 0
	}
	return e.table.Bytes / e.table.Rows
}

// adapt brings the chunks' time near what they aim at.
func (s *sweep) adapt(rows int, took time.Duration) {
	target := s.job.Pace.Transaction
	if target <= 0 {
		target = sweepTransaction
	}
	aim := time.Duration(float64(target) * s.d.dialect.aim)
	if rows < s.cp.Size/2 && took < aim { // a small one says little
		return
	}
	row := float64(max(took, time.Microsecond)) / float64(rows)
	s.slowest = max(row, s.slowest*sweepForget)
	fit := int(min(float64(aim)/row, float64(target)*s.d.dialect.worst/s.slowest))
	grown := s.cp.Size*5/4 + 1
	if took < aim/2 {
		grown = s.cp.Size * 2
	}
	most := sweepMaxChunk
	if s.d.txRows < defaultTxRows {
		most = s.d.txRows
	}
	s.cp.Size = min(max(fit, s.cp.Size/2, 10), grown, most)
}

// resolve settles the chunks that were interrupted around their commit.
func (s *sweep) resolve(ctx context.Context) error {
	settled := false
	var open []*span
	for _, o := range s.cp.Open {
		if o.Intent == nil {
			open = append(open, o)
			continue
		}
		committed, err := s.wasCommitted(ctx, o.Intent)
		if err != nil {
			return err
		}
		settled = true
		if !committed {
			o.Intent = nil
			open = append(open, o)
			continue
		}
		for _, t := range o.Intent.Tallies {
			t.Resolved = t.Method != dsr.Blocked
			s.done = append(s.done, t)
		}
	}
	if s.cp.Open = open; !settled {
		return nil
	}
	return s.save(ctx)
}

// wasCommitted reports whether an interrupted transaction was: by its number, or by a row that it would have changed.
func (s *sweep) wasCommitted(ctx context.Context, in *sweepIntent) (bool, error) {
	tx, err := s.d.begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.rollback()
	if committed, known, err := s.d.outcome(ctx, tx, in.XID); known || err != nil {
		return committed, err
	}
	k, ok := parseKey(in.Probe)
	if !ok || len(k) != len(s.u.e.key) {
		return false, nil
	}
	q := s.d.dialect.statement("SELECT 1 FROM ", s.u.e.from, " WHERE ").in("", s.u.e.key, []key{k})
	s.u.unmasked(q).add(s.d.dialect.forUpdate(true)) // waits for a transaction that is still committing
	present := false
	err = tx.run(ctx, q.call(func([][]byte) error { present = true; return nil }))
	return !present, err
}

// texts are the columns of a key as the checkpoint has them.
func texts(k key) []string {
	if k == nil {
		return nil
	}
	out := make([]string, len(k))
	for i, c := range k {
		out[i] = c.s
	}
	return out
}

func keyOf(list []string) key {
	if list == nil {
		return nil
	}
	out := make(key, len(list))
	for i, s := range list {
		out[i] = cell{s, true}
	}
	return out
}
