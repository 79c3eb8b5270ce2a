package logfiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Steps that Erase, Sweep and Export tell their Journal. A process that is killed at any of them and called again ends
// in the same state.
const (
	StepBegun     = "logfiles.begun"     // the lock is asked for; nothing was read yet
	StepRewritten = "logfiles.rewritten" // the new file stands beside the old one
	StepIntent    = "logfiles.intent"    // what the exchange does is in the journal
	StepReplaced  = "logfiles.replaced"  // it is done; its tallies are not saved yet
	StepSaved     = "logfiles.saved"     // a checkpoint without an intent is saved
	StepExported  = "logfiles.exported"  // a file's records are written; their checkpoint is not saved yet
)

// saveEvery bounds the work that a kill makes be done again, where files do not change and no intent is saved.
const saveEvery = 100

// checkpoint is what Erase and Sweep resume from. It has names of files in it: it goes nowhere but the journal.
type checkpoint struct {
	progress
	Intent *intent `json:"intent,omitempty"`
	Faults faults  `json:"faults,omitempty"`
	// Left is what a Sweep cannot work, and Went how many rows it has deleted or masked.
	Left connectors.Failures `json:"left,omitempty"`
	Went int64               `json:"went,omitempty"`
}

// intent is the exchange or removal that is about to happen. After an interruption what stands under the temporary name
// tells whether it did; when nothing does, whether the old inode is still somewhere.
type intent struct {
	Entity  string             `json:"entity"`
	Name    string             `json:"name"`
	Real    string             `json:"real"`
	Temp    string             `json:"temp"`
	Old     inode              `json:"old"`
	New     inode              `json:"new"` // zero: the file goes as a whole
	Key     uint64             `json:"key"` // of the new file, for progress
	Tallies []connectors.Tally `json:"tallies"`
}

// worker is one call of Erase or Sweep. It holds the lock.
type worker struct {
	*reader
	journal  connectors.Journal
	over     func() bool // the slice is
	cp       checkpoint
	done     []connectors.Tally // of what happened and is not saved
	sweeps   bool
	most     int64 // rows that a Sweep may take; 0 is any number
	worked   int   // files, in this call
	unsaved  int   // files since the last Save
	unlock   func()
	measures connectors.SweepMeasures
}

// begin takes the lock, loads the checkpoint and settles what an interruption left. fresh reports that there is none.
func (r *reader) begin(ctx context.Context, j connectors.Journal, over func() bool) (w *worker, fresh bool, err error) {
	w = &worker{reader: r, journal: j, over: over}
	j.Step(StepBegun)
	if w.unlock, err = r.disk.lock(ctx, over); err != nil {
		return nil, false, err
	}
	raw, err := j.Load(ctx)
	if err == nil && raw != nil && json.Unmarshal(raw, &w.cp) != nil {
		err = connectors.Permanent(CodeCheckpoint, "the checkpoint cannot be read", "It was written by another version of Lethe: retry the request.", nil)
	}
	if err == nil {
		err = w.settle(ctx)
	}
	if err == nil {
		err = r.disk.clean(ctx)
	}
	if err != nil {
		w.unlock()
		return nil, false, err
	}
	r.faults = w.cp.Faults
	return w, raw == nil, nil
}

// settle finds out whether the exchange in the checkpoint happened.
func (w *worker) settle(ctx context.Context) error {
	in := w.cp.Intent
	if in == nil {
		return nil
	}
	happened, err := w.happened(ctx, in)
	if err != nil {
		return err
	}
	w.cp.Intent = nil
	if !happened {
		return nil
	}
	for _, t := range in.Tallies {
		t.Resolved = true
		w.done = append(w.done, t)
	}
	w.cp.After = in.Name
	w.cp.done(in.Key)
	return w.save(ctx)
}

func (w *worker) happened(ctx context.Context, in *intent) (bool, error) {
	dir, err := w.disk.root.Open(path.Dir(in.Real))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // the whole folder is gone
	} else if err != nil {
		return false, unreachable(err)
	}
	defer dir.Close()
	s, err := stat(dir, in.Temp)
	switch {
	case errors.Is(err, os.ErrNotExist):
		names, err := w.disk.names(ctx, in.Old)
		return len(names) == 0, err
	case err != nil:
		return false, unreachable(err)
	case s.inode == in.New, s.inode == in.Old:
		err := w.disk.root.Remove(path.Join(path.Dir(in.Real), in.Temp))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, unreachable(err)
		}
		return s.inode == in.Old, dir.Sync()
	}
	// a rotation came in between: what was taken is somebody else's
	r := &draft{at: dir, base: path.Base(in.Real), temp: in.Temp, new: status{inode: in.New}, removes: in.New == inode{}}
	return false, r.putBack(ctx, w.disk)
}

func (w *worker) save(ctx context.Context) error {
	w.cp.Faults = w.faults
	w.cp.Went += connectors.Taken(w.done)
	b, err := json.Marshal(w.cp)
	if err != nil {
		return err
	}
	if err := w.journal.Save(ctx, b, w.done); err != nil {
		return err
	}
	w.done, w.unsaved = nil, 0
	w.journal.Step(StepSaved)
	return nil
}

// next is called before each file: it ends the slice, and saves now and then.
func (w *worker) next(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.worked > 0 && w.over() {
		if err := w.save(ctx); err != nil {
			return err
		}
		return connectors.ErrYield
	}
	if w.unsaved >= saveEvery {
		return w.save(ctx)
	}
	return nil
}

// Erase carries out the approved Plan in one pass over the files, whatever the size of the batch. See
// [connectors.Eraser].
func (f *Folder) Erase(ctx context.Context, j connectors.Job) error {
	r, err := f.reader(j.Batch, j.Held)
	if err != nil {
		return err
	}
	defer r.close()
	w, fresh, err := r.begin(ctx, j.Journal, overAt(f.now, j.Deadline))
	if err != nil {
		return err
	}
	defer w.unlock()
	if fresh {
		if err := w.limit(ctx, j.Limits); err != nil {
			return err
		}
	}
	w.search(slices.DeleteFunc(slices.Clone(j.Batch), func(s connectors.Subject) bool {
		return slices.ContainsFunc(w.faults, func(f fault) bool { return f.Ref == s.Ref })
	}))
	if len(w.batch) > 0 {
		if err := w.each(ctx, f.entities, w.erase); err != nil {
			return err
		}
	}
	if err := w.save(ctx); err != nil {
		return err
	}
	return w.faults.errors(j.Batch)
}

func overAt(now func() time.Time, deadline time.Time) func() bool {
	return func() bool { return !deadline.IsZero() && !now().Before(deadline) }
}

// each works the files of entities in turn.
func (w *worker) each(ctx context.Context, entities []*entity, fn func(context.Context, *match) error) error {
	l := &listing{disk: w.disk, entities: entities, at: &w.cp.progress, changing: true}
	return l.each(ctx, func(m *match) error {
		if err := w.next(ctx); err != nil {
			return err
		}
		w.worked++
		w.unsaved++
		return w.note(m, fn(ctx, m))
	}, func(m *match) error { return w.note(m, w.refused(m)) })
}

// note takes a permanent fault of one file, and returns any other error, and one that is of a whole Sweep.
func (w *worker) note(m *match, err error) error {
	switch {
	case !w.sweeps:
		return w.faults.note(m.e, err)
	case !connectors.IsPermanent(err), dsr.CodeOf(err) == dsr.CodeOverCap:
		return err
	}
	w.done = append(w.done, connectors.Tally{Entity: m.e.Name, Method: dsr.Failed, Rows: 1})
	return w.cp.Left.Note(err)
}

// limit sets aside subjects of whom more was found than a request may change.
func (w *worker) limit(ctx context.Context, l connectors.Limits) error {
	if l.RowsPerRequest == 0 && l.ShareOfTable == 0 {
		return nil
	}
	found, err := w.locate(ctx, connectors.Query{Batch: w.batch})
	if err != nil && len(w.faults) == 0 {
		return err
	}
	rows := map[string]int64{}
	for _, c := range found.Counts {
		rows[c.Subject] += c.Rows
		if l.ShareOfTable > 0 && c.TableRows >= 1000 && float64(c.Rows) > l.ShareOfTable*float64(c.TableRows) {
			rows[c.Subject] = -1 << 40
		}
	}
	for _, s := range w.batch {
		if n := rows[s.Ref]; n < 0 || l.RowsPerRequest > 0 && n > l.RowsPerRequest {
			w.faults = append(w.faults, fault{
				Ref: s.Ref, Code: dsr.CodeOverCap, Msg: "more records than a request may change; nothing was changed",
				Hint: "Look at the plan; raise rows_per_request or share_of_table if it is right.",
			})
		}
	}
	return nil
}

// erase works one file.
func (w *worker) erase(ctx context.Context, m *match) error {
	owners := w.owners(m.e, m.values, w.batch)
	finder := w.finder(m)
	if finder == nil && len(owners) == 0 {
		return nil
	}
	h, err := w.open(m)
	if err != nil {
		return err
	}
	defer h.Close()
	if m.live {
		return nil // it waits for its rotation
	}
	if len(owners) > 0 {
		method := m.e.method()
		tally := connectors.Tally{Subject: owners[0], Entity: m.e.Name, Method: method, Rows: 1}
		held := false
		if method == dsr.Delete {
			if held, err = w.isHeld(ctx, m, h); err != nil {
				return err
			}
		}
		switch {
		case held:
		case method == dsr.Keep:
			w.done = append(w.done, tally)
		default:
			return w.remove(ctx, m, h, []connectors.Tally{tally})
		}
	}
	if finder == nil {
		return nil
	}
	return w.rewrite(ctx, m, h, finder)
}

// rewrite writes a file anew if anything in it changes.
func (w *worker) rewrite(ctx context.Context, m *match, h *os.File, f *records.Finder) error {
	t, err := w.scan(ctx, m, h, f, func(hit *records.Hit) error {
		if hit.Method != dsr.Held && (w.sweeps || hit.Method == dsr.Delete || len(hit.Residue) > 0) {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
	case err != nil:
		return err
	case !t.Changed:
		w.left(m, t)
		w.done = append(w.done, w.tallies(t)...)
		return nil
	}
	return w.replace(ctx, m, h, func(r *draft) ([]connectors.Tally, error) {
		if err := r.create(); err != nil {
			return nil, err
		}
		src, err := content(h, m)
		if err != nil {
			return nil, err
		}
		t, err := f.Rewrite(ctx, m.name, src, r.out)
		if err != nil {
			return nil, w.unread(m, h, err)
		}
		w.left(m, t)
		if w.sweeps && t.Left == 0 {
			r.abandon()
			r.remove()
			return t.Tallies, nil
		}
		return w.tallies(t), r.finish(h)
	})
}

// left notes what a rule leaves because nobody can read its start.
func (w *worker) left(m *match, t records.Totals) {
	if t.Unread > 0 {
		w.cp.Left.Add(records.UnreadStart(fmt.Sprintf("%s at offset %d", w.where(m), t.UnreadAt), t.Unread))
	}
}

// tallies are what counts of a pass over one file: what a hold keeps is counted in Sweeps only.
func (w *worker) tallies(t records.Totals) []connectors.Tally {
	return slices.DeleteFunc(t.Tallies, func(t connectors.Tally) bool { return t.Method == dsr.Held && !w.sweeps })
}

// remove deletes a file.
func (w *worker) remove(ctx context.Context, m *match, h *os.File, tallies []connectors.Tally) error {
	return w.replace(ctx, m, h, func(r *draft) ([]connectors.Tally, error) {
		r.remove()
		return tallies, nil
	})
}

// replace makes a draft, saves what it is going to do, and does it, under every name that the file has.
func (w *worker) replace(ctx context.Context, m *match, h *os.File, make func(*draft) ([]connectors.Tally, error)) error {
	others, err := w.others(ctx, m)
	if err != nil {
		return err
	}
	start := time.Now()
	r, err := w.disk.draft(m.file)
	if err != nil {
		return w.fault(m, err)
	}
	defer r.discard()
	tallies, err := make(r)
	if err != nil {
		return w.fault(m, err)
	}
	if w.most > 0 && w.cp.Went+connectors.Taken(w.done)+connectors.Taken(tallies) > w.most {
		if err := w.save(ctx); err != nil { // what went before is not settled by a later call
			return err
		}
		return connectors.OverMost(m.e.Name)
	}
	w.journal.Step(StepRewritten)
	fresh := *m
	fresh.file = &file{status: r.new}
	w.cp.Intent = &intent{
		Entity: m.e.Name, Name: m.name, Real: m.real, Temp: r.temp, Old: m.inode, New: r.new.inode,
		Key: fresh.key(true), Tallies: tallies,
	}
	err = w.save(ctx)
	w.cp.Intent = nil
	if err != nil {
		return err
	}
	w.journal.Step(StepIntent)
	if err := ctx.Err(); err != nil {
		return err
	}
	err = r.commit(ctx, w.disk, h)
	if errors.Is(err, errWritten) {
		m.live = true // somebody began to write to it: it waits
		return nil
	} else if err != nil {
		return w.fault(m, err)
	}
	w.done = append(w.done, tallies...)
	w.journal.Step(StepReplaced)
	w.measures.Bytes += m.Size - r.new.Size
	w.measures.Transactions++
	w.measures.Longest = max(w.measures.Longest, time.Since(start))
	for _, name := range others {
		if err := w.again(ctx, m, h, name, r); err != nil {
			return w.fault(m, err)
		}
	}
	m.status = r.new
	return nil
}

// others are the further names of a file with hard links, which must all be below the root: the old content would live
// on under the others.
func (w *worker) others(ctx context.Context, m *match) ([]string, error) {
	if m.nlinks < 2 {
		return nil, nil
	}
	names, err := w.disk.names(ctx, m.inode)
	if err != nil {
		return nil, err
	}
	if len(names) != int(m.nlinks) {
		return nil, connectors.Permanent(CodeLink, w.where(m)+" has names (hard links) outside of the root, where the old content would stay",
			"Remove the other names.", nil)
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == m.real }), nil
}

// again does to a further name of a file what was done to the first.
func (w *worker) again(ctx context.Context, m *match, h *os.File, name string, first *draft) error {
	other := &file{status: m.status, name: name, real: name}
	r, err := w.disk.draft(other)
	if err != nil {
		return err
	}
	defer r.discard()
	if first.removes {
		r.remove()
	} else if err := r.link(w.disk, path.Dir(name), m.real, first.new); err != nil {
		return err
	}
	return r.commit(ctx, w.disk, h)
}
