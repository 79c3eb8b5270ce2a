package sqldb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Steps that Erase and Export tell their Journal, in the order in which a transaction passes them. A process that is
// killed at any of them and called again ends in the same state.
const (
	StepSpooled   = "sqldb.spooled"   // keys that others refer to are in the journal; nothing is deleted yet
	StepChanged   = "sqldb.changed"   // rows are changed in an open transaction
	StepIntent    = "sqldb.intent"    // what the open transaction does is in the journal
	StepCommitted = "sqldb.committed" // the transaction is committed; its tallies are not saved yet
	StepSaved     = "sqldb.saved"     // a checkpoint without an intent is saved
	StepMentions  = "sqldb.mentions"  // the subjects' rows are done; free text of others is next
	StepExported  = "sqldb.exported"  // records were written and their checkpoint saved
)

// Sizes of the work. A transaction of about 1,000 to 5,000 rows costs little more than one of any size, and blocks
// others for some 20 ms only; 10 to 25 subjects share one when they are small.
const (
	defaultTxRows     = 5000
	subjectsPerTx     = 25
	subjectsPerSearch = 50 // of free text, in one pass
	mentionPage       = 500
	leafPageTime      = 80 * time.Millisecond // what a page of a leaf's rows aims at
	attempts          = 5                     // of one transaction that loses races
)

// checkpoint is what Erase resumes from. Subjects are worked in the order of their tenant and Ref.
type checkpoint struct {
	Next     int      `json:"next"`            // subjects before it are done
	Heavy    bool     `json:"heavy,omitempty"` // the subject at Next was begun in several transactions
	Intent   *intent  `json:"intent,omitempty"`
	Mentions bool     `json:"mentions,omitempty"`
	Entity   string   `json:"entity,omitempty"` // of free text, and where in it
	Batch    int      `json:"batch,omitempty"`
	After    []string `json:"after,omitempty"`
	Done     bool     `json:"done,omitempty"`
	Failed   []failed `json:"failed,omitempty"`
	Chunks   int      `json:"chunks"`         // committed so far
	Gone     bool     `json:"gone,omitempty"` // the journal has every row that the Run erases and others refer to
}

// failed is a subject that a permanent fault stopped; the others went on.
type failed struct {
	Subject string   `json:"subject"`
	Entity  string   `json:"entity,omitempty"`
	Code    dsr.Code `json:"code"`
	Msg     string   `json:"msg"`
	Hint    string   `json:"hint,omitempty"`
}

// intent is what the transaction about to commit does. After an interruption the transaction's own number tells
// whether it was committed (PostgreSQL); elsewhere one of its rows does.
type intent struct {
	Tallies []connectors.Tally `json:"tallies"`
	XID     string             `json:"xid,omitempty"`
	Probe   *probe             `json:"probe,omitempty"`
	Then    checkpointPosition `json:"then"` // where the work stands when it was committed
}

type checkpointPosition struct {
	Next     int      `json:"next"`
	Heavy    bool     `json:"heavy,omitempty"`
	Mentions bool     `json:"mentions,omitempty"`
	Entity   string   `json:"entity,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	After    []string `json:"after,omitempty"`
}

// probe names a row that the transaction deletes or changes: while it is there as it was, nothing was committed.
type probe struct {
	Entity  string         `json:"entity"`
	Key     connectors.Key `json:"key"`
	Column  string         `json:"column,omitempty"` // the row is as it was while this column has Value
	Value   string         `json:"value,omitempty"`
	Mention bool           `json:"mention,omitempty"` // … while its free text still mentions a subject
}

// erasure is one call of Erase.
type erasure struct {
	d       *DB
	m       *model
	job     connectors.Job
	batch   connectors.Batch // ordered
	marks   marks            // holds on entities, and statutory minima
	cp      checkpoint
	done    []connectors.Tally // committed, not saved
	dirty   bool               // cp is ahead of the journal
	broken  bool               // the journal failed
	moved   bool               // something was done in this call: a slice that is over before it began does one chunk
	gone    map[string]map[refset]map[string]int
	matcher map[string]*mask.Matcher // by tenant: all its subjects
	anchors map[*entity]map[string][]key
}

// Erase carries out the approved Plan for the batch. See [connectors.Eraser].
func (d *DB) Erase(ctx context.Context, j connectors.Job) error {
	m, err := d.modelOf(ctx)
	if err != nil {
		return err
	}
	if err := d.checkTenants(j.Batch); err != nil {
		return err
	}
	e := &erasure{d: d, m: m, job: j, batch: slices.Clone(j.Batch), gone: map[string]map[refset]map[string]int{}, matcher: map[string]*mask.Matcher{}}
	slices.SortFunc(e.batch, func(a, b connectors.Subject) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Ref, b.Ref))
	})
	if e.marks, err = m.erasureMarks(j.Held); err != nil {
		return err
	}
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return err
	}
	if raw == nil {
		if err := e.checkLimits(ctx); err != nil {
			return err
		}
	} else {
		if err := json.Unmarshal(raw, &e.cp); err != nil {
			return connectors.Permanent(CodeDatabase, "the checkpoint cannot be read", "It was written by another version of Lethe: retry the request.", nil)
		}
		if err := e.resolve(ctx); err != nil {
			return err
		}
	}
	if e.cp.Done {
		return e.failures()
	}
	if err := e.loadAnchors(ctx); err != nil {
		return err
	}
	if err := e.subjects(ctx); err != nil {
		return e.stop(ctx, err)
	}
	if err := e.mentions(ctx); err != nil {
		return e.stop(ctx, err)
	}
	e.cp = checkpoint{Done: true, Failed: e.cp.Failed, Next: len(e.batch), Chunks: e.cp.Chunks, Gone: e.cp.Gone}
	if err := e.save(ctx); err != nil {
		return err
	}
	return e.failures()
}

// stop saves what is committed before an error or the end of the slice is handed up.
func (e *erasure) stop(ctx context.Context, err error) error {
	var uncertain *uncertainError
	if e.broken || errors.Is(err, connectors.ErrFenced) || ctx.Err() != nil || errors.As(err, &uncertain) && !connectors.IsPermanent(err) {
		return err
	}
	if e.dirty || len(e.done) > 0 {
		if serr := e.save(ctx); serr != nil {
			return serr
		}
	}
	return err
}

func (e *erasure) save(ctx context.Context) error {
	e.cp.Intent = nil
	b, err := json.Marshal(e.cp)
	if err != nil {
		return err
	}
	if err := e.journal(ctx, b); err != nil {
		return err
	}
	e.dirty = false
	e.job.Journal.Step(StepSaved)
	return nil
}

// journal saves. A Save that fails may be durable all the same, so nothing is saved after it in this call.
func (e *erasure) journal(ctx context.Context, cp []byte) error {
	if err := e.job.Journal.Save(ctx, cp, e.done); err != nil {
		e.broken = true
		return err
	}
	e.done = nil
	return nil
}

func (e *erasure) yield() error {
	if e.moved && !e.job.Deadline.IsZero() && !e.d.now().Before(e.job.Deadline) {
		return connectors.ErrYield
	}
	return nil
}

func (e *erasure) failures() error {
	var errs []error
	for _, f := range e.cp.Failed {
		errs = append(errs, &connectors.SubjectError{
			Subject: f.Subject, Entity: f.Entity, Err: connectors.Permanent(f.Code, f.Msg, f.Hint, nil),
		})
	}
	return errors.Join(errs...)
}

func (e *erasure) hasFailed(ref string) bool {
	return slices.ContainsFunc(e.cp.Failed, func(f failed) bool { return f.Subject == ref })
}

// fail records that a permanent fault stopped one subject.
func (e *erasure) fail(s connectors.Subject, err error) {
	f := failed{Subject: s.Ref, Code: CodeDatabase, Msg: "the erasure failed"}
	var se *connectors.SubjectError
	if errors.As(err, &se) {
		f.Entity = se.Entity
	}
	var de *dsr.Error
	if errors.As(err, &de) {
		f.Code, f.Msg, f.Hint = de.Code, de.Msg, de.Hint
		var n number
		if errors.As(err, &n) {
			f.Msg += " (" + n.Error() + ")"
		}
	}
	e.cp.Failed = append(e.cp.Failed, f)
	e.dirty = true
}

func (d *DB) checkTenants(batch connectors.Batch) error {
	if d.System.TenantName == "" {
		return nil
	}
	for _, s := range batch {
		if s.Tenant == "" {
			return connectors.Permanent(dsr.CodeInvalid, errNoTenant.Error(), "File the request for a tenant.", nil)
		}
	}
	return nil
}

// checkLimits stops subjects above their caps before anything is changed.
func (e *erasure) checkLimits(ctx context.Context) error {
	l := e.job.Limits
	if l.RowsPerRequest == 0 && l.ShareOfTable == 0 {
		return nil
	}
	located, err := e.d.Locate(ctx, connectors.Query{Batch: e.batch})
	if err != nil {
		return err
	}
	rows := map[string]int64{}
	over := map[string]string{}
	for _, c := range located.Counts {
		if c.Method == dsr.Wait {
			continue
		}
		rows[c.Subject] += c.Rows
		if l.ShareOfTable > 0 && c.TableRows >= 1000 && float64(c.Rows) > l.ShareOfTable*float64(c.TableRows) {
			over[c.Subject] = "more than the allowed share of " + c.Entity
		}
	}
	for _, s := range e.batch {
		why := over[s.Ref]
		if l.RowsPerRequest > 0 && rows[s.Ref] > l.RowsPerRequest {
			why = "more rows than a request may change"
		}
		if why != "" {
			e.fail(s, connectors.Permanent(dsr.CodeOverCap, why+"; nothing was changed",
				"Look at the plan; raise rows_per_request or share_of_table if it is right.", nil))
		}
	}
	return nil
}

// subjects works the batch in transactions of several small subjects or, for a large one, of its own.
func (e *erasure) subjects(ctx context.Context) error {
	single := 0 // subjects before it are worked one by one: together they failed
	for e.cp.Next < len(e.batch) && !e.cp.Mentions {
		if err := e.yield(); err != nil {
			return err
		}
		start := e.cp.Next
		if e.hasFailed(e.batch[start].Ref) {
			e.position(checkpointPosition{Next: start + 1})
			continue
		}
		end := start + 1
		for end < len(e.batch) && end-start < e.d.perTx && start >= single && !e.cp.Heavy &&
			e.batch[end].Tenant == e.batch[start].Tenant && !e.hasFailed(e.batch[end].Ref) {
			end++
		}
		err := e.retry(ctx, func() error { return e.group(ctx, start, end) })
		var tooLarge *tooLargeError
		var split *connectors.SubjectError
		switch {
		case err == nil:
			continue
		case errors.As(err, &tooLarge) && end-start > 1:
			single = end
		case errors.As(err, &tooLarge):
			if err := e.retry(ctx, func() error { return e.heavy(ctx, start) }); err != nil {
				if !connectors.IsPermanent(err) || everyones(err) {
					return err
				}
				e.fail(e.batch[start], err)
				e.position(checkpointPosition{Next: start + 1})
			}
		case everyones(err):
			return err
		case (connectors.IsPermanent(err) || errors.As(err, &split)) && end-start > 1:
			single = end
		case connectors.IsPermanent(err):
			e.fail(e.batch[start], err)
			e.position(checkpointPosition{Next: start + 1})
		default:
			return err
		}
	}
	return nil
}

// everyones reports whether a permanent fault is the system's and not one subject's: mended, the same Run goes on.
func everyones(err error) bool {
	switch dsr.CodeOf(err) {
	case CodePermission, CodeSchema, CodeSignIn:
		return connectors.IsPermanent(err)
	}
	return false
}

// retry runs a transaction again that lost a deadlock or a race.
func (e *erasure) retry(ctx context.Context, fn func() error) error {
	var err error
	for i := range attempts {
		if err = fn(); err == nil || !retryable(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(i+1) * 5 * time.Millisecond):
		}
	}
	return err
}

type tooLargeError struct{}

func (*tooLargeError) Error() string { return "too many rows for one transaction" }

// newClosure prepares the closure of some subjects of the batch in one world.
func (e *erasure) newClosure(ctx context.Context, s session, start, end int, lock bool) (*closure, error) {
	batch := e.batch[start:end]
	tenant := batch[0].Tenant
	c := &closure{
		m: e.m, s: s, lock: lock, merged: true, tenant: tenant, batch: batch,
		terms: newTerms(batch, e.d.System.Identifiers, e.d.pseudonyms), limit: int64(e.d.txRows), anchors: e.anchors,
	}
	var err error
	if c.held, err = e.m.heldRows(ctx, s, e.job.Held, tenant, nil); err != nil {
		return nil, err
	}
	c.marks, c.minima = e.marks, true
	if e.m.shared && (start > 0 || end < len(e.batch)) {
		if err := e.findGone(ctx, s); err != nil {
			return nil, err
		}
		c.gone, c.base = e.gone[tenant], start
	}
	return c, nil
}

func (e *erasure) matcherOf(tenant string) *mask.Matcher {
	if m := e.matcher[tenant]; m != nil {
		return m
	}
	var ids []dsr.Identifier
	for _, s := range e.batch {
		if s.Tenant == tenant {
			ids = append(ids, s.Identifiers...)
		}
	}
	m := mask.NewMatcher(ids, e.d.System.Identifiers)
	e.matcher[tenant] = m
	return m
}

// group erases some subjects in one transaction.
func (e *erasure) group(ctx context.Context, start, end int) error {
	if e.cp.Heavy {
		return &tooLargeError{}
	}
	tx, err := e.d.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	c, err := e.newClosure(ctx, tx, start, end, true)
	if err != nil {
		return err
	}
	c.counting = leavesTotal
	if end-start > 1 && e.d.dialect.name != postgres { // PostgreSQL's DELETE says how many rows each parent had
		c.counting = leavesByParent
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	if c.size() > int64(e.d.txRows) {
		return &tooLargeError{}
	}
	if err := c.actions(); err != nil {
		return err
	}
	if len(c.nodes) == 0 {
		e.position(checkpointPosition{Next: end})
		return nil
	}
	if err := e.spool(ctx, c); err != nil {
		return err
	}
	w := &work{d: e.d, c: c, tx: tx, tenant: c.tenant, matcher: e.matcherOf(c.tenant)}
	if err := w.all(ctx); err != nil {
		return err
	}
	return e.commit(ctx, tx, w, checkpointPosition{Next: end})
}

// size is how many rows the closure would change.
func (c *closure) size() int64 {
	var n int64
	for _, nodes := range c.nodes {
		n += int64(len(nodes))
	}
	for _, counts := range c.leafRows {
		for _, k := range counts {
			n += k
		}
	}
	return n
}

// spool writes keys that other entities refer to into the journal, before the first delete.
func (e *erasure) spool(ctx context.Context, c *closure) error {
	for _, en := range c.m.entities {
		if len(en.children)+len(en.accessed)+len(en.members)+len(en.owns) == 0 && !en.Subject {
			continue
		}
		bySubject := map[int][]connectors.Key{}
		for _, n := range c.nodes[en] {
			if n.doomed {
				bySubject[n.credit] = append(bySubject[n.credit], spoolKey(n.key()))
			}
		}
		for i, s := range c.batch {
			keys := bySubject[i]
			slices.Sort(keys)
			for page := range slices.Chunk(keys, 1000) {
				if err := e.job.Journal.Spool(ctx, s.Ref, en.Name, page); err != nil {
					return err
				}
			}
		}
	}
	e.job.Journal.Step(StepSpooled)
	return nil
}

func tenantsOf(batch connectors.Batch) map[string]bool {
	out := map[string]bool{}
	for _, s := range batch {
		out[s.Tenant] = true
	}
	return out
}
