package memory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Steps of Erase and Export.
const (
	StepSpooled   = "memory.spooled"   // keys are in the journal, nothing is changed yet
	StepPlanned   = "memory.planned"   // what will be done is in the journal
	StepIntent    = "memory.intent"    // what the next transaction does is in the journal
	StepCommitted = "memory.committed" // it did; its tallies are not saved yet
	StepExported  = "memory.exported"  // records are written; their checkpoint is not saved yet
)

// checkpoint is what Erase resumes from.
type checkpoint struct {
	Todo   []task
	Next   int   // Todo before it is done
	Size   int   // of the transaction that is about to commit, 0 when none is
	Tx     int64 // its number
	Passes int
	Doomed map[string]bool // rows that nobody else owns, by entity and key
	// Shared are rows that somebody else owned too when it was decided, and whose they are: by now nothing may lead to them.
	Shared map[string]string
	Failed []failure
}

// failure is a subject that a permanent fault stopped before anything of theirs was changed; the others go on.
type failure struct {
	Subject, Entity string
	Code            dsr.Code
	Msg, Hint       string
}

// fail records a subject's permanent fault; it returns any other error.
func (cp *checkpoint) fail(err error) error {
	var se *connectors.SubjectError
	var de *dsr.Error
	if !errors.As(err, &se) || !connectors.IsPermanent(err) || !errors.As(err, &de) || cp.failed(se.Subject) {
		return err
	}
	cp.Failed = append(cp.Failed, failure{se.Subject, se.Entity, de.Code, de.Msg, de.Hint})
	return nil
}

func (cp *checkpoint) failed(ref string) bool {
	return slices.ContainsFunc(cp.Failed, func(f failure) bool { return f.Subject == ref })
}

// failures is the result of a call that carried everybody else's erasure out.
func (cp *checkpoint) failures() error {
	var errs []error
	for _, f := range cp.Failed {
		errs = append(errs, &connectors.SubjectError{
			Subject: f.Subject, Entity: f.Entity, Err: connectors.Permanent(f.Code, f.Msg, f.Hint, nil),
		})
	}
	return errors.Join(errs...)
}

// task is what happens to one row. It is decided once, while everything that decides is still there.
type task struct {
	Entity  string
	Key     connectors.Key
	Method  dsr.Method
	Subject string                 // whom it is credited to
	Seed    bool                   `json:",omitempty"` // goes whoever else owns it
	Masks   []map[string]mask.Spec `json:",omitempty"`
	Nulls   []string               `json:",omitempty"`
}

// maxPasses bounds how often Erase looks for rows that were added while it worked; Verify reports what comes later.
const maxPasses = 3

// Erase carries out the Plan. See [connectors.Eraser].
func (db *DB) Erase(ctx context.Context, j connectors.Job) error {
	if err := db.checkTenants(j.Batch); err != nil {
		return err
	}
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return err
	}
	var cp checkpoint
	var done []connectors.Tally // committed, not saved
	if raw != nil {
		if err := json.Unmarshal(raw, &cp); err != nil {
			return connectors.Permanent(dsr.CodeInvalid, "the checkpoint cannot be read", "Retry the request.", nil)
		}
		done = db.resolve(&cp)
	} else {
		if err := db.limits(j, &cp); err != nil {
			return err
		}
		if cp.Todo, err = db.plan(ctx, j, &cp); err != nil {
			return err
		}
		j.Journal.Step(StepSpooled)
		if err := save(ctx, j, &cp, nil); err != nil {
			return err
		}
		j.Journal.Step(StepPlanned)
	}
	for {
		if cp.Next == len(cp.Todo) {
			more, err := db.late(ctx, j, &cp)
			if err != nil {
				return err
			}
			if len(more) == 0 {
				if err := save(ctx, j, &cp, done); err != nil {
					return err
				}
				return cp.failures()
			}
			cp.Todo = append(cp.Todo, more...)
		}
		cp.Size, cp.Tx = min(db.ChunkRows, len(cp.Todo)-cp.Next), db.begin()
		if err := save(ctx, j, &cp, done); err != nil {
			return err
		}
		j.Journal.Step(StepIntent)
		if err := ctx.Err(); err != nil {
			return err
		}
		if done, err = db.commit(j, &cp); err != nil {
			return err
		}
		j.Journal.Step(StepCommitted)
		cp.Next, cp.Size = cp.Next+cp.Size, 0
		if !j.Deadline.IsZero() && !db.now().Before(j.Deadline) {
			if err := save(ctx, j, &cp, done); err != nil {
				return err
			}
			return connectors.ErrYield
		}
	}
}

func save(ctx context.Context, j connectors.Job, cp *checkpoint, done []connectors.Tally) error {
	b, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	return j.Journal.Save(ctx, b, done)
}

// resolve settles the transaction that an interruption left open: it was committed with its tallies, or it was not.
func (db *DB) resolve(cp *checkpoint) []connectors.Tally {
	if cp.Size == 0 {
		return nil
	}
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	tallies, committed := db.store.committed[cp.Tx]
	if committed {
		cp.Next += cp.Size
	}
	cp.Size = 0
	out := slices.Clone(tallies)
	for i := range out {
		out[i].Resolved = true
	}
	return out
}

// limits stops subjects above their caps before anything is changed.
func (db *DB) limits(j connectors.Job, cp *checkpoint) error {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	for _, s := range j.Batch {
		var found connectors.Located
		if err := db.locate(&found, s, connectors.Query{}); err != nil {
			if err := cp.fail(err); err != nil {
				return err
			}
			continue
		}
		total, share := int64(0), false
		for _, c := range found.Counts {
			if c.Method == dsr.Wait {
				continue
			}
			total += c.Rows
			share = share || j.Limits.ShareOfTable > 0 && c.TableRows >= 1000 &&
				float64(c.Rows) > j.Limits.ShareOfTable*float64(c.TableRows)
		}
		if share || j.Limits.RowsPerRequest > 0 && total > j.Limits.RowsPerRequest {
			err := cp.fail(&connectors.SubjectError{Subject: s.Ref, Err: connectors.Permanent(dsr.CodeOverCap,
				"more rows than a request may change; nothing was changed", "Look at the plan; raise the limit if it is right.", nil)})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// plan decides what happens to every row of the batch, and spools the keys that others refer to. A subject who cannot
// be erased whole leaves the batch.
func (db *DB) plan(ctx context.Context, j connectors.Job, cp *checkpoint) ([]task, error) {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	var out []task
	if cp.Doomed == nil {
		cp.Doomed, cp.Shared = map[string]bool{}, map[string]string{}
	}
	for _, batch := range byTenant(j.Batch) {
		held, err := db.held(j.Held, batch[0].Tenant)
		if err != nil {
			return nil, err
		}
		anchors, err := db.anchors(ctx, j.Journal)
		if err != nil {
			return nil, err
		}
		c, err := db.decided(batch, held, cp, anchors)
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		for _, i := range c.items {
			if i.doomed {
				cp.Doomed[i.e.Name+string(i.key)] = true
			}
			ref, ok := c.allowed(i)
			if ok && i.touched && !i.doomed {
				cp.Shared[i.e.Name+string(i.key)] = ref
			}
			if ok && i.doomed {
				if err := j.Journal.Spool(ctx, ref, i.e.Name, []connectors.Key{i.key}); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, c.tasks()...)
	}
	return out, nil
}

// anchors are the rows that this Run or an earlier one of the same subjects may have anchored, by entity and key, and whose
// they are. Nothing else leads to them: they have lost what their person was known by.
func (db *DB) anchors(ctx context.Context, keys connectors.Keys) (map[string]string, error) {
	out := map[string]string{}
	for _, e := range db.sys.Entities {
		if len(e.Anchor) == 0 {
			continue
		}
		err := keys.Each(ctx, e.Name, func(subject string, page []connectors.Key) error {
			for _, k := range page {
				out[e.Name+string(k)] = subject
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// findAnchors begins with the noted rows that are anchored, beside those that hold an identifier.
func (c *closure) findAnchors(batch connectors.Batch, anchors map[string]string) {
	for _, i := range c.items {
		for _, s := range batch {
			if ref, ok := anchors[i.e.Name+string(i.key)]; ok && ref == s.Ref && c.db.anchored(i.e, i.t, i.row, nil) {
				i.touched, i.seed, i.subjects[ref] = true, true, true
			}
		}
	}
}

// decided is the closure of those of one tenant who have not failed; nil when nobody is left.
func (db *DB) decided(batch connectors.Batch, held map[string]bool, cp *checkpoint, anchors map[string]string) (*closure, error) {
	for {
		batch = slices.DeleteFunc(slices.Clone(batch), func(s connectors.Subject) bool { return cp.failed(s.Ref) })
		if len(batch) == 0 {
			return nil, nil
		}
		c, err := db.load(nil, held, batch[0].Tenant)
		if err != nil {
			return nil, err
		}
		for _, i := range c.items {
			ref := cp.Shared[i.e.Name+string(i.key)]
			if slices.ContainsFunc(batch, func(s connectors.Subject) bool { return s.Ref == ref }) {
				i.touched, i.subjects[ref] = true, true
			}
		}
		if err := c.minima(true); err != nil {
			return nil, err
		}
		c.findAnchors(batch, anchors)
		c.spread(batch)
		err = c.decide()
		if err == nil {
			return c, nil
		}
		if err := cp.fail(err); err != nil {
			return nil, err
		}
	}
}

// tasks are what is done in order: fields first, then rows, each after all rows that refer to it. Rows that refer to
// each other in a circle are broken at a reference that may be empty.
func (c *closure) tasks() []task {
	var out []task
	add := func(i *item, m dsr.Method) {
		ref, _ := c.allowed(i)
		out = append(out, task{Entity: i.e.Name, Key: i.key, Method: m, Subject: ref, Seed: i.seed, Masks: c.masks(i), Nulls: i.nulls})
	}
	going := map[*item]bool{}
	for _, i := range c.items {
		switch i.action {
		case "", dsr.Expire:
		case dsr.Delete:
			going[i] = true
		default:
			add(i, i.action)
		}
	}
	referred := func(p *item) bool {
		for i := range going {
			for _, tie := range slices.Concat(i.e.OwnedBy, i.e.Owns, i.e.AccessedBy) {
				if i != p && slices.Contains(c.parents(i, tie), p) && !c.rewrites(i, tie) {
					return true
				}
			}
		}
		return false
	}
	for len(going) > 0 {
		before := len(going)
		for _, i := range c.items {
			if going[i] && !referred(i) {
				add(i, dsr.Delete)
				delete(going, i)
			}
		}
		if len(going) == before {
			c.breakCircle(going, add)
		}
	}
	return out
}

// breakCircle empties one reference among rows that go. It is no row's method, so it is not tallied.
func (c *closure) breakCircle(going map[*item]bool, add func(*item, dsr.Method)) {
	for _, i := range c.items {
		for _, tie := range slices.Concat(i.e.OwnedBy, i.e.Owns, i.e.AccessedBy) {
			for _, name := range tie.Columns {
				if going[i] && i.t.column(name).Nullable && !slices.Contains(i.nulls, name) && slices.ContainsFunc(c.parents(i, tie),
					func(p *item) bool { return p != i && going[p] }) {
					i.nulls = append(i.nulls, name)
					add(i, "")
					return
				}
			}
		}
	}
	for _, i := range c.items { // no such reference: they all go, one after the other
		if going[i] {
			add(i, dsr.Delete)
			delete(going, i)
		}
	}
}

// late returns what rows that were added meanwhile need.
func (db *DB) late(ctx context.Context, j connectors.Job, cp *checkpoint) ([]task, error) {
	if cp.Passes++; cp.Passes > maxPasses {
		return nil, nil
	}
	all, err := db.plan(ctx, j, cp)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n task) bool {
		return n.Method != dsr.Delete && slices.ContainsFunc(cp.Todo, func(old task) bool {
			return old.Entity == n.Entity && old.Key == n.Key && old.Method != dsr.Delete // which a hold may have stopped
		})
	}), nil
}

func byTenant(b connectors.Batch) []connectors.Batch {
	var out []connectors.Batch
	at := map[string]int{}
	for _, s := range b {
		if i, ok := at[s.Tenant]; ok {
			out[i] = append(out[i], s)
			continue
		}
		at[s.Tenant] = len(out)
		out = append(out, connectors.Batch{s})
	}
	return out
}

func (db *DB) begin() int64 {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	db.store.next++
	return db.store.next
}
