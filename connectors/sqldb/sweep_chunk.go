package sqldb

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// chunkResult is what a chunk did.
type chunkResult struct {
	tallies []connectors.Tally
	changed bool // there was a transaction
	took    time.Duration
	rested  time.Duration // of it, in rests of the duty cycle
}

// chunkTx is one chunk's transaction.
type chunkTx struct {
	s      *sweep
	tx     transaction
	held   map[*entity]map[string]bool
	counts map[tallyKey]int64
	xid    string
	rested time.Duration
}

// errStale says that a row is no longer due or free since its key was read.
var errStale = errors.New("a row has changed since its key was read")

// chunk works one chunk. ready makes its intent durable; it is called before the commit and not at all when nothing
// changes.
func (s *sweep) chunk(ctx context.Context, c *chunk, ready func(*sweepIntent) error) (chunkResult, error) {
	keys := make([]key, len(c.rows))
	for i, r := range c.rows {
		keys[i] = r[len(r)-len(s.u.e.key):]
	}
	order := func(a, b key) int { return compareKeys(&node{e: s.u.e, cells: a}, &node{e: s.u.e, cells: b}) }
	if !slices.IsSortedFunc(keys, order) {
		slices.SortFunc(keys, order)
	}
	if s.direct {
		out, err := s.change(ctx, (*chunkTx).direct, keys, ready)
		if !errors.Is(err, errStale) {
			return out, err
		}
	}
	return s.change(ctx, (*chunkTx).all, keys, ready)
}

// change carries out a chunk's transaction.
func (s *sweep) change(
	ctx context.Context, how func(*chunkTx, context.Context, []key) (key, error), keys []key, ready func(*sweepIntent) error,
) (chunkResult, error) {
	tx, err := s.d.begin(ctx)
	if err != nil {
		return chunkResult{}, err
	}
	defer tx.rollback()
	began := time.Now()
	w := &chunkTx{s: s, tx: tx, counts: map[tallyKey]int64{}}
	probe, err := how(w, ctx, keys)
	if err != nil {
		return chunkResult{}, err
	}
	out := chunkResult{tallies: w.tallies()}
	if probe == nil {
		return out, tx.commit(ctx)
	}
	if err := ready(&sweepIntent{Tallies: out.tallies, XID: w.xid, Probe: spoolKey(probe)}); err != nil {
		return chunkResult{}, err
	}
	if err := tx.commit(ctx); refused(err) { // by a constraint that is checked at the end
		return chunkResult{}, err
	} else if err != nil {
		return chunkResult{}, &uncertainError{err}
	}
	out.changed, out.took, out.rested = true, time.Since(began), w.rested
	return out, nil
}

func (w *chunkTx) count(e *entity, m dsr.Method, n int64) {
	if n > 0 {
		w.counts[tallyKey{entity: e.Name, method: m}] += n
	}
}

func (w *chunkTx) tallies() []connectors.Tally {
	var out []connectors.Tally
	for k, n := range w.counts {
		out = append(out, connectors.Tally{Entity: k.entity, Method: k.method, Rows: n})
	}
	slices.SortFunc(out, func(a, b connectors.Tally) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Method, b.Method))
	})
	return out
}

// direct deletes the rows with their children, without having read more of them than their keys. Where the duty cycle
// asks for rests it works in short bursts: see [bursts].
func (w *chunkTx) direct(ctx context.Context, keys []key) (key, error) {
	probe, b := keys[0], &w.s.bursts
	var worked time.Duration
	for {
		n := b.rows(len(keys))
		began := time.Now()
		if err := w.burst(ctx, keys[:n]); err != nil {
			return nil, err
		}
		if keys = keys[n:]; len(keys) == 0 {
			return probe, nil
		}
		took := time.Since(began)
		worked += took
		b.adapt(n, took)
		rested, err := b.rest(ctx, b.pace.Rest(worked)-w.rested)
		if err != nil {
			return nil, err
		}
		w.rested += rested
	}
}

// burst locks the rows, counts those that are still due and free, and deletes all with their children, in one round
// trip. When the count shows that one of them must not go it returns errStale: the transaction must not be committed.
func (w *chunkTx) burst(ctx context.Context, keys []key) error {
	u := w.s.u
	var calls []*call
	for part := range slices.Chunk(keys, statementKeys(u.m.d, u.e.key, keys)) {
		calls = append(calls, u.lock(part).call(func(values [][]byte) error {
			if parseInt(values[0]) != int64(len(part)) {
				return errStale
			}
			return nil
		}))
	}
	rows := make([]sweptRow, len(keys))
	for i, k := range keys {
		rows[i] = sweptRow{cells: k}
	}
	_, err := w.remove(ctx, everyTenant, rows, calls...)
	return err
}

// lock counts the keys' rows that are due and free, and locks them in the order of their keys.
func (u *sweepRule) lock(keys []key) *statement {
	d := u.m.d.dialect
	if d.name != postgres { // PostgreSQL locks no rows that it has aggregated
		q := d.statement("SELECT count(*) FROM ", u.e.from, " WHERE ").in("", u.e.key, keys).add(" AND ")
		return u.free(q).add(d.forUpdate(true))
	}
	q := d.statement("SELECT count(*) FROM (SELECT 1 FROM ", u.e.from, " WHERE ").in("", u.e.key, keys).add(" AND ")
	return u.free(q).add(" ORDER BY ").names("", u.e.key).add(d.forUpdate(true), ") AS t")
}

// all changes the rows that are still due and free. It returns the key of a row that changes, nil when none does.
func (w *chunkTx) all(ctx context.Context, keys []key) (key, error) {
	s := w.s
	rows, err := s.u.rows(ctx, w.tx, keys, nil, true)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	if len(s.job.Held.Subjects) > 0 { // after the lock, so that it is what holds when they go
		if w.held, err = s.m.heldRows(ctx, w.tx, s.job.Held, everyTenant, s.u.e); err != nil {
			return nil, err
		}
		held := w.held[s.u.e]
		rows = slices.DeleteFunc(rows, func(r sweptRow) bool { return held[key(r.cells[:len(s.u.e.key)]).id()] })
	}
	var probe key
	for tenant, part := range groupByTenant(rows) {
		var changed key
		switch {
		case len(s.u.masks) > 0:
			changed, err = w.mask(ctx, tenant, part)
		case s.simple:
			changed, err = w.remove(ctx, tenant, part)
		default:
			changed, err = w.family(ctx, tenant, part)
		}
		if err != nil {
			return nil, err
		}
		if probe == nil {
			probe = changed
		}
	}
	if probe != nil && w.xid == "" && s.d.dialect.name == postgres {
		err = w.tx.run(ctx, w.number())
	}
	return probe, err
}

// number asks for the transaction's own number.
func (w *chunkTx) number() *call {
	return &call{text: "SELECT pg_current_xact_id()::text", row: func(values [][]byte) error {
		w.xid = string(values[0])
		return nil
	}}
}

// sweptRow is a locked row: its loaded columns, as a closure reads them, and its tenant.
type sweptRow struct {
	cells  []cell // marks included
	tenant string
}

func groupByTenant(rows []sweptRow) map[string][]sweptRow {
	out := map[string][]sweptRow{}
	for _, r := range rows {
		out[r.tenant] = append(out[r.tenant], r)
	}
	return out
}

// rows reads those of the keys' rows that are due and free, in the order of their keys; locked they stay so until the
// transaction ends.
func (u *sweepRule) rows(ctx context.Context, s session, keys []key, held map[*entity]map[string]bool, lock bool) ([]sweptRow, error) {
	d, e := u.m.d, u.e
	var rows []sweptRow
	var calls []*call
	c := &closure{m: u.m, marks: u.marks}
	for part := range slices.Chunk(keys, statementKeys(d, e.key, keys)) {
		q := c.columns(d.dialect.statement("SELECT "), e)
		if e.tenant != nil {
			q.add(", ", e.tenant.quoted)
		}
		q.add(" FROM ", e.from, " WHERE ").in("", e.key, part).add(" AND ")
		u.free(q).add(" ORDER BY ").names("", e.key).add(d.dialect.forUpdate(lock))
		calls = append(calls, q.call(func(values [][]byte) error {
			r := sweptRow{tenant: everyTenant}
			if e.tenant != nil {
				r.tenant = string(values[len(values)-1])
				values = values[:len(values)-1]
			}
			if r.cells = cells(values); !held[e][key(r.cells[:len(e.key)]).id()] {
				rows = append(rows, r)
			}
			return nil
		}))
	}
	return rows, s.run(ctx, calls...)
}

// statementKeys is how many keys go into one statement: all where they are few runs of whole numbers.
func statementKeys(d *DB, cols []*column, keys []key) int {
	if len(cols) == 1 {
		if n := len(runsOf(cols[0], keys)); n > 0 && n <= d.dialect.keysPerStatement/2 {
			return len(keys)
		}
	}
	return d.dialect.keysPerStatement
}

// remove deletes rows and their children, of which nothing can keep them, after other calls.
func (w *chunkTx) remove(ctx context.Context, tenant string, rows []sweptRow, calls ...*call) (key, error) {
	e, d := w.s.u.e, w.s.d
	keys := make([]key, len(rows))
	for i, r := range rows {
		keys[i] = r.cells[:len(e.key)]
	}
	var counted []func()
	add := func(of *entity, where keyed) error {
		cl, err := d.change(change{e: of, tenant: tenant, where: where})
		if err != nil {
			return err
		}
		calls = append(calls, cl)
		counted = append(counted, func() { w.count(of, dsr.Delete, cl.affected) })
		return nil
	}
	for _, t := range e.children {
		parents := keys
		if !slices.Equal(t.refs, e.key) {
			parents = parents[:0:0]
			for _, r := range rows {
				if k := (&node{cells: r.cells}).at(t.parentPos); k.complete() {
					parents = append(parents, k)
				}
			}
		}
		if len(parents) == 0 {
			continue
		}
		parts, err := w.childParts(ctx, t, tenant, parents)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if err := add(t.child, part); err != nil {
				return nil, err
			}
		}
	}
	for part := range slices.Chunk(keys, statementKeys(d, e.key, keys)) {
		if err := add(e, keysOf(e, part)); err != nil {
			return nil, err
		}
	}
	if d.dialect.name == postgres && w.xid == "" {
		calls = append(calls, w.number())
	}
	if err := w.tx.run(ctx, calls...); err != nil {
		return nil, err
	}
	for _, fn := range counted {
		fn()
	}
	return keys[0], nil
}

// childParts divides parents' children among statements. Ranges are quicker than one key after the other, but MariaDB must
// not find their end by somebody else's row: see [statement.each]. So they end at parents that have children now; those of
// the others, which may have got some since, are looked for key by key.
func (w *chunkTx) childParts(ctx context.Context, t *tie, tenant string, parents []key) ([]keyed, error) {
	d := w.s.d
	var out []keyed
	if d.dialect.name != mariadb {
		for part := range slices.Chunk(parents, statementKeys(d, t.cols, parents)) {
			out = append(out, childrenOf(t, part))
		}
		return out, nil
	}
	if t.disc == nil && len(t.cols) == 1 {
		if runs := runsOf(t.cols[0], parents); runs != nil && len(runs) <= childRuns {
			last, err := w.lastParents(ctx, t, tenant, runs)
			if err != nil {
				return nil, err
			}
			var up, rest []key
			for _, r := range runs {
				n := last[r] // the run lacks no number
				up, rest = append(up, parents[:n]...), append(rest, parents[n:r[1]-r[0]+1]...)
				parents = parents[r[1]-r[0]+1:]
			}
			if len(up) > 0 {
				out = append(out, childrenUpTo(t, up))
			}
			parents = rest
		}
	}
	for part := range slices.Chunk(parents, d.dialect.keysPerStatement) {
		out = append(out, childrenOf(t, part))
	}
	return out, nil
}

// childRuns is how many ranges of parents are asked for their children.
const childRuns = 16

// lastParents is how many parents of each run come up to its last one that has children. Nothing is locked.
func (w *chunkTx) lastParents(ctx context.Context, t *tie, tenant string, runs [][2]int64) (map[[2]int64]int64, error) {
	q := w.s.d.dialect.statement()
	c := t.cols[0].quoted
	for i, r := range runs {
		if i > 0 {
			q.add(" UNION ALL ")
		}
		q.add("SELECT max(", c, ") FROM ", t.child.from, " WHERE ", c, " BETWEEN ").arg(r[0]).add(" AND ").arg(r[1])
		t.child.whereTenant(q, "", tenant)
	}
	out := map[[2]int64]int64{}
	err := w.tx.run(ctx, q.call(func(values [][]byte) error {
		if values[0] == nil {
			return nil
		}
		last, err := strconv.ParseInt(string(values[0]), 10, 64)
		for _, r := range runs {
			if r[0] <= last && last <= r[1] {
				out[r] = last - r[0] + 1
			}
		}
		return err
	}))
	return out, err
}

// mask pseudonymises rows.
func (w *chunkTx) mask(ctx context.Context, tenant string, rows []sweptRow) (key, error) {
	e := w.s.u.e
	specs := map[string]mask.Spec{}
	for _, k := range w.s.u.masks {
		specs[k.col.Name] = k.spec
	}
	list := make([]masked, len(rows))
	for i, r := range rows {
		list[i] = masked{n: &node{e: e, cells: r.cells[:len(e.load)]}, masks: []map[string]mask.Spec{specs}}
	}
	calls, err := w.s.d.updates(ctx, w.tx, e, list, tenant, nil)
	if err != nil {
		return nil, err
	}
	if err := w.tx.run(ctx, calls...); err != nil {
		return nil, err
	}
	w.count(e, dsr.Mask, int64(len(rows)))
	return rows[0].cells[:len(e.key)], nil
}

// family deletes rows with what they own. Rows that something keeps stay, and everything of theirs.
func (w *chunkTx) family(ctx context.Context, tenant string, rows []sweptRow) (key, error) {
	f := &familyOf{u: w.s.u, s: w.tx, lock: true, held: w.held, tenant: tenant}
	if err := f.decide(ctx, rows); err != nil {
		return nil, err
	}
	w.count(w.s.u.e, dsr.Blocked, f.blocked)
	if len(f.going) == 0 {
		return nil, nil
	}
	do := &work{d: w.s.d, c: f.c, tx: w.tx, tenant: tenant}
	if err := do.all(ctx); err != nil {
		return nil, err
	}
	for k, n := range do.counts {
		w.counts[tallyKey{entity: k.entity, method: k.method}] += n
	}
	if do.xid != "" {
		w.xid = do.xid
	}
	return f.going[0].cells[:len(w.s.u.e.key)], nil
}
