package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// journal implements [connectors.Journal] over the Store. Checkpoints are sealed under a data key of the Run's own,
// spooled keys under the data key of the Request that they belong to, so that forgetting a Request makes its keys
// unreadable.
type journal struct {
	e       *Engine
	w       *workload
	members map[string]*member // by Task
	sealer  *sealer
	holds   map[string]bool // that the slice knows of, by id; nil when none matters to its phase
	state   journalState
	buffer  []SpoolPage // spooled since the last Save
	parts   map[string]*stagedPart
}

// journalState is what a checkpoint holds: the connector's own, and how far each staged part is durable.
type journalState struct {
	Checkpoint []byte            `json:"checkpoint"`
	Marks      map[string]string `json:"marks,omitempty"` // by Task
}

var _ connectors.Journal = (*journal)(nil)

func (e *Engine) journal(ctx context.Context, w *workload) (*journal, error) {
	j := &journal{e: e, w: w, members: map[string]*member{}, parts: map[string]*stagedPart{}}
	for _, m := range w.members {
		j.members[m.task.ID] = m
	}
	var plain []byte
	var err error
	j.sealer, plain, err = e.openCheckpoint(ctx, w.run.ID, w.checkpoint)
	if err != nil || plain == nil {
		return j, err
	}
	if json.Unmarshal(plain, &j.state) != nil {
		return nil, errUnreadable
	}
	return j, nil
}

func spoolPlace(task, entity string) []byte { return []byte("spool\x00" + task + "\x00" + entity) }

// Load implements [connectors.Journal].
func (j *journal) Load(context.Context) ([]byte, error) { return j.state.Checkpoint, nil }

// Save implements [connectors.Journal]: staged parts first, then one transaction for checkpoint, tallies and spool. The
// same transaction looks for a Hold that the slice does not know of.
func (j *journal) Save(ctx context.Context, checkpoint []byte, done []connectors.Tally) error {
	next := journalState{Checkpoint: checkpoint, Marks: maps.Clone(j.state.Marks)}
	for task, p := range j.parts {
		if !p.dirty {
			continue
		}
		mark, err := p.Mark()
		if err != nil {
			return staging(err)
		}
		if next.Marks == nil {
			next.Marks = map[string]string{}
		}
		next.Marks[task] = mark
		p.dirty = false
	}
	plain, err := json.Marshal(next)
	if err != nil {
		return err
	}
	sealed, err := j.sealer.seal(ctx, plain)
	if err != nil {
		return err
	}
	w := j.w
	var held bool
	err = j.e.c.Store.InTx(ctx, func(tx Tx) error {
		if held, err = j.newlyHeld(tx); err != nil {
			return err
		}
		if err := tx.SaveRun(w.run.ID, w.run.Fence, j.e.now().Add(j.e.c.Policy.Lease), sealed, done); err != nil {
			return err
		}
		return skipEmpty(j.buffer, tx.AppendSpools)
	})
	if err != nil {
		return err
	}
	j.buffer = nil
	j.state, w.checkpoint = next, sealed
	if held {
		return connectors.ErrYield
	}
	return nil
}

// know remembers the Holds that last. What is held must be resolved afterwards.
func (j *journal) know(ctx context.Context) error {
	return j.e.c.Store.InTx(ctx, func(tx Tx) error {
		ids, err := tx.LastingHolds()
		j.holds = make(map[string]bool, len(ids))
		for _, id := range ids {
			j.holds[id] = true
		}
		return err
	})
}

func (j *journal) newlyHeld(tx Tx) (bool, error) {
	if j.holds == nil {
		return false, nil
	}
	ids, err := tx.LastingHolds()
	return slices.ContainsFunc(ids, func(id string) bool { return !j.holds[id] }), err
}

// flush saves what the verb left unsaved: spooled keys, staged parts.
func (j *journal) flush(ctx context.Context) error {
	if len(j.buffer) == 0 {
		return nil
	}
	return j.Save(ctx, j.state.Checkpoint, nil)
}

// Spool implements [connectors.Journal]. Keys are durable with the next Save, which comes before any delete.
func (j *journal) Spool(_ context.Context, subject, entity string, keys []connectors.Key) error {
	m := j.members[subject]
	if m == nil || len(keys) == 0 {
		return nil
	}
	plain, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	page, err := m.key.Seal(plain, spoolPlace(subject, entity))
	if err != nil {
		return err
	}
	j.buffer = append(j.buffer, SpoolPage{Task: subject, Entity: entity, Page: page})
	return nil
}

// Each implements [connectors.Keys]. Pages are read first and handed out afterwards, so that fn may save.
func (j *journal) Each(ctx context.Context, entity string, fn func(subject string, keys []connectors.Key) error) error {
	var pages []SpoolPage
	err := j.e.c.Store.InTx(ctx, func(tx Tx) error {
		pages = pages[:0]
		return tx.EachSpool(slices.Sorted(maps.Keys(j.members)), entity, func(task string, page []byte) error {
			pages = append(pages, SpoolPage{Task: task, Entity: entity, Page: page})
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, p := range j.buffer {
		if p.Entity == entity {
			pages = append(pages, p)
		}
	}
	for _, p := range pages {
		plain, err := j.members[p.Task].key.Open(p.Page, spoolPlace(p.Task, entity))
		if err != nil {
			return connectors.Permanent("spool-unreadable", "the spooled keys cannot be decrypted", "", nil)
		}
		var keys []connectors.Key
		if err := json.Unmarshal(plain, &keys); err != nil {
			return connectors.Permanent("spool-unreadable", "the spooled keys cannot be read", "", nil)
		}
		if err := fn(p.Task, keys); err != nil {
			return err
		}
	}
	return nil
}

// Step implements [connectors.Journal].
func (j *journal) Step(name string) {
	if j.e.c.Step != nil {
		j.e.c.Step(j.w.run.ID, name)
	}
}

// stagedPart is one subject's part that this slice has open. It knows whether it was written to since its last mark.
type stagedPart struct {
	Part
	dirty bool
}

func (p *stagedPart) Record(entity string, names []string, values []any) error {
	p.dirty = true
	return p.Part.Record(entity, names, values)
}

func (p *stagedPart) File(entity, name string, r io.Reader) error {
	p.dirty = true
	return p.Part.File(entity, name, r)
}

func (p *stagedPart) Withheld(entity string, n int64, why dsr.Exception) error {
	p.dirty = true
	return p.Part.Withheld(entity, n, why)
}

// sink implements [connectors.SinkFor]: the part as it was at the last Save.
func (j *journal) sink(subject string) (connectors.Sink, error) {
	if p := j.parts[subject]; p != nil {
		return p, nil
	}
	m := j.members[subject]
	if m == nil {
		return nil, errors.New("engine: a sink was asked for a subject that is not in the batch")
	}
	part, err := j.e.c.Packager.OpenPart(m.request.ID, j.w.run.System, m.key)
	if err != nil {
		return nil, staging(err)
	}
	p := &stagedPart{Part: part}
	j.parts[subject] = p
	if err := part.Rewind(j.state.Marks[subject]); err != nil {
		return nil, staging(err)
	}
	return p, nil
}

// close closes the parts; what was not saved is taken back by the next slice.
func (j *journal) close() {
	for _, p := range j.parts {
		_ = p.Close()
	}
	j.parts = nil
}

// staging types a fault of the staging area; a file's path carries ids only, but an error's text is not ours.
func staging(err error) error {
	if dsr.CodeOf(err) != "" {
		return err
	}
	return &dsr.Error{
		Code: dsr.CodeUnavailable, Msg: "the staging area of access packages failed",
		Hint: "see whether its disk is full or read-only", Err: err,
	}
}
