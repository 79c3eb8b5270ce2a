package sqldb

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Due rows are read in one of these orders, always from behind the last one. Rows that stay, held or blocked, are
// passed once.
const (
	byKey   = "key"   // along the primary key up to a bound: where keys grow with time, nearly every row is due
	byStart = "start" // along the starting point, then the key
	byNull  = "null"  // rows without a start of their own, along the key
	byScan  = "scan"  // every row, along the key: the start is in related rows only
)

// phase is one pass over the entity.
type phase struct {
	Order string `json:"order"`
	// Bound is the key up to which an earlier byKey pass went (or, of that pass itself, goes).
	Bound []string `json:"bound,omitempty"`
}

// feedRows is how many keys are read at once: reading ahead makes a long run of equal starts affordable.
const (
	feedRows   = 20_000
	restedFeed = 500 // where the pace has rests
)

// samples are how many places along the key are looked at to see whether keys grow with time.
const samples = 16

// phases decides how the due rows are read.
func (u *sweepRule) phases(ctx context.Context, s session) ([]phase, error) {
	if u.start.field == nil {
		return []phase{{Order: byScan}}, nil
	}
	var out []phase
	bound, err := u.growing(ctx, s)
	if err != nil {
		return nil, err
	}
	if bound != nil {
		out = append(out, phase{Order: byKey, Bound: texts(bound)})
	}
	out = append(out, phase{Order: byStart, Bound: texts(bound)})
	if u.start.mayBeNull() {
		out = append(out, phase{Order: byNull})
	}
	return out, nil
}

// growing returns the key of the latest due row when keys grow with time as far as samples tell, nil otherwise. Rows
// that do not fit the picture are found in the next pass, by their start.
func (u *sweepRule) growing(ctx context.Context, s session) (key, error) {
	e := u.e
	if len(e.key) != 1 || e.key[0].class != connectors.ClassInteger || e.key[0] == u.start.field {
		return nil, nil
	}
	name := e.key[0].quoted
	var bound, first key
	q := u.m.d.dialect.statement("SELECT ", name, " FROM ", e.from, " WHERE ").meets("", e, u.rule.When).add(" AND ")
	u.start.earlier(q, "", u.start.field)
	q.add(" ORDER BY ", u.start.field.quoted, " DESC, ", name, " DESC LIMIT 1")
	low := u.m.d.dialect.statement("SELECT ", name, " FROM ", e.from, " ORDER BY ", name, " LIMIT 1")
	err := s.run(ctx,
		q.call(func(v [][]byte) error { bound = cells(v); return nil }),
		low.call(func(v [][]byte) error { first = cells(v); return nil }))
	if err != nil || bound == nil || first == nil {
		return nil, err
	}
	from, err1 := strconv.ParseInt(first[0].s, 10, 64)
	to, err2 := strconv.ParseInt(bound[0].s, 10, 64)
	if err1 != nil || err2 != nil || to-from < feedRows {
		return nil, nil //nolint:nilerr // no numbers, or few rows: their order does not matter
	}
	var last string
	grows := true
	var calls []*call
	for i := range int64(samples) {
		at := from + (to-from)/samples*i
		q := u.m.d.dialect.statement("SELECT ").selected("", u.start.field).add(" FROM ", e.from, " WHERE ", name, " >= ").
			value(e.key[0], cell{strconv.FormatInt(at, 10), true}).add(" AND ", u.start.field.quoted, " IS NOT NULL ORDER BY ", name, " LIMIT 1")
		calls = append(calls, q.call(func(v [][]byte) error {
			now := string(v[0])
			shorter := u.start.field.class == connectors.ClassInteger && len(now) < len(last)
			grows = grows && !shorter && (now >= last || len(now) > len(last))
			last = now
			return nil
		}))
	}
	if err := s.run(ctx, calls...); err != nil || !grows {
		return nil, err
	}
	return bound, nil
}

// order are the columns that a phase is read along.
func (u *sweepRule) order(p phase) []*column {
	if p.Order == byStart {
		return append([]*column{u.start.field}, u.e.key...)
	}
	return u.e.key
}

// feed reads the next keys of a phase behind from, up to to where that is given.
func (u *sweepRule) feed(ctx context.Context, s session, p phase, from, to []string, limit int) ([]key, error) {
	e, cols := u.e, u.order(p)
	q := u.m.d.dialect.statement("SELECT ").list("", cols).add(" FROM ", e.from, " WHERE ")
	switch p.Order {
	case byKey:
		u.start.earlier(q, "", u.start.field)
		q.add(" AND ", e.key[0].quoted, " <= ").value(e.key[0], keyOf(p.Bound)[0])
	case byStart:
		u.start.earlier(q, "", u.start.field)
		if p.Bound != nil {
			q.add(" AND ", e.key[0].quoted, " > ").value(e.key[0], keyOf(p.Bound)[0])
		}
	case byNull:
		q.add(u.start.field.quoted, " IS NULL")
	default:
		q.add("1 = 1")
	}
	if from != nil {
		q.add(" AND ").after(cols, keyOf(from))
	}
	if to != nil {
		q.add(" AND ", cols[0].quoted, " <= ").value(cols[0], keyOf(to)[0]).add(" AND NOT ").after(cols, keyOf(to))
	}
	q.add(" AND ")
	u.free(q)
	q.add(" ORDER BY ").names("", cols)
	if to == nil {
		q.add(" LIMIT ").arg(limit)
	}
	var out []key
	err := s.run(ctx, q.call(func(values [][]byte) error {
		out = append(out, cells(values))
		return nil
	}))
	return out, err
}

// next returns the next chunk, nil when there is none or its keys are still being read.
func (s *sweep) next(ctx context.Context, readers *sync.WaitGroup) (*chunk, error) {
	if len(s.again) > 0 {
		c := s.again[0]
		s.again = s.again[1:]
		return c, nil
	}
	for len(s.resumed) > 0 {
		o := s.resumed[0]
		s.resumed = s.resumed[1:]
		rows, err := s.feed(ctx, s.cp.Phases[o.Phase], o.From, o.To, 0)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			return &chunk{span: o, rows: rows}, nil
		}
		s.cp.Open = slices.DeleteFunc(s.cp.Open, func(other *span) bool { return o == other })
		s.dirty = true
	}
	if len(s.read) == 0 && s.readEnd {
		s.cp.Phase, s.cp.After, s.readEnd, s.dirty = s.cp.Phase+1, nil, false, true
	}
	if s.cp.Phase < len(s.cp.Phases) {
		s.readAhead(ctx, readers)
	}
	if len(s.read) == 0 {
		return nil, nil
	}
	n := min(s.cp.Size, len(s.read))
	c := &chunk{span: &span{Phase: s.cp.Phase, From: s.cp.After, To: texts(s.read[n-1])}, rows: s.read[:n]}
	s.read, s.cp.After = s.read[n:], c.To
	s.cp.Open = append(s.cp.Open, c.span)
	return c, nil
}

// page is keys that were read behind those that the sweep has.
type page struct {
	rows []key
	end  bool // nothing comes after them in the phase
	err  error
}

// readAhead begins to read the next keys of the phase while those that are there are worked.
func (s *sweep) readAhead(ctx context.Context, readers *sync.WaitGroup) {
	limit := min(max(s.cp.Size*8, sweepChunk), feedRows)
	if s.job.Pace.Rests() && s.cp.Phases[s.cp.Phase].Order == byKey { // reading works at a stretch, too
		limit = min(limit, restedFeed)
	}
	if s.reading || s.readEnd || len(s.read) > limit/2 {
		return
	}
	s.reading = true
	phase, after := s.cp.Phases[s.cp.Phase], s.cp.After
	if len(s.read) > 0 {
		after = texts(s.read[len(s.read)-1])
	}
	readers.Go(func() {
		rows, err := s.feed(ctx, phase, after, nil, limit)
		s.pages <- page{rows, len(rows) < limit, err}
	})
}

func (s *sweep) take(p page) error {
	s.reading = false
	s.read, s.readEnd = append(s.read, p.rows...), p.end
	return p.err
}

func (s *sweep) feed(ctx context.Context, p phase, from, to []string, limit int) ([]key, error) {
	r, release, err := s.d.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.u.feed(ctx, r, p, from, to, limit)
}

// countHeld counts due rows that a hold covers.
func (u *sweepRule) countHeld(ctx context.Context, s session, held connectors.Holds) (int64, error) {
	var n int64
	var calls []*call
	add := func(values [][]byte) error { n += parseInt(values[0]); return nil }
	if len(u.frozen) > 0 {
		q := u.m.d.dialect.statement("SELECT count(*) FROM ", u.e.from, " WHERE ")
		u.where(q).add(" AND ").isFrozen("", u.e, u.frozen)
		calls = append(calls, q.call(add))
	}
	rows, err := u.m.heldRows(ctx, s, held, everyTenant, u.e)
	if err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(heldKeys(u.e, rows), u.m.d.dialect.keysPerStatement) {
		q := u.m.d.dialect.statement("SELECT count(*) FROM ", u.e.from, " WHERE ").in("", u.e.key, chunk).add(" AND ")
		u.free(q)
		calls = append(calls, q.call(add))
	}
	return n, s.run(ctx, calls...)
}
