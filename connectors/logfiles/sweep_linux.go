package logfiles

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// A rule that deletes by the object's age and has no condition is about files: one is one row, its age is that of its
// last line, and it goes without being read. Any other rule is about records, by their time field; a file of which
// nothing is left goes too. What is due in a live file is blocked until its rotation.

// Due counts what a rule makes due. See [connectors.Sweeper].
func (f *Folder) Due(ctx context.Context, q connectors.DueQuery) ([]connectors.Due, error) {
	e, r, err := f.sweeping(q.Entity, q.Rule, q.Held)
	if err != nil {
		return nil, err
	}
	defer r.close()
	out := make([]connectors.Due, len(q.Cuts))
	rules := make([]*due, len(q.Cuts))
	for i, cut := range q.Cuts {
		if rules[i], err = newDue(e, q.Rule, cut, q.Held); err != nil {
			return nil, err
		}
	}
	l := &listing{disk: r.disk, entities: []*entity{e}, at: &progress{}}
	err = l.each(ctx, func(m *match) error {
		var h *os.File
		defer func() { _ = h.Close() }()
		for i, d := range rules {
			var err error
			if h == nil && d.reads(m) {
				h, err = r.open(m)
			}
			if err == nil {
				err = r.count(ctx, m, h, d, &out[i])
			}
			if err := unreadable(&out[i], err); err != nil {
				return err
			}
		}
		return nil
	}, func(m *match) error {
		for i := range out {
			if err := unreadable(&out[i], r.refused(m)); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// unreadable counts a file that cannot be read for good, and returns any other error.
func unreadable(to *connectors.Due, err error) error {
	if !connectors.IsPermanent(err) {
		return err
	}
	if to.Unreadable == nil {
		to.Unreadable = map[dsr.Code]int64{}
	}
	to.Unreadable[dsr.CodeOf(err)]++
	return nil
}

// sweeping opens the root for one rule.
func (f *Folder) sweeping(name string, rule connectors.Rule, held connectors.Holds) (*entity, *reader, error) {
	e, err := f.entity(name)
	if err != nil {
		return nil, nil, err
	}
	if err := e.canSweep(rule); err != nil {
		return nil, nil, refused(rule, err)
	}
	r, err := f.reader(nil, held)
	return e, r, err
}

// due is a rule at one cut-off.
type due struct {
	cut    connectors.Cut
	finder *records.Finder // nil: the rule is about files
}

func newDue(e *entity, rule connectors.Rule, cut connectors.Cut, held connectors.Holds) (*due, error) {
	d := &due{cut: cut}
	bounds := append(slices.Clone(cut.After), connectors.Bound{Rule: rule, Before: cut.Before})
	if rule.Action == retention.Delete && !slices.ContainsFunc(bounds, func(b connectors.Bound) bool {
		return b.Rule.Start.Kind != retention.StartObject || len(b.Rule.When) > 0
	}) {
		return d, nil
	}
	if e.layout == nil {
		return nil, connectors.Permanent(dsr.CodeInvalid, "an earlier rule of "+e.Name+" reads records, and the map says no format", "", nil)
	}
	cut.After = slices.Clone(cut.After)
	for i := range cut.After {
		cut.After[i].Rule = e.byField(cut.After[i].Rule)
	}
	var err error
	if d.finder, err = e.layout.Due(e.byField(rule), cut, held); err != nil {
		return nil, refused(rule, err)
	}
	return d, nil
}

func refused(rule connectors.Rule, err error) error {
	var de *dsr.Error
	if !errors.As(err, &de) {
		return err
	}
	return connectors.Permanent(dsr.CodeInvalid, rule.Name+" "+de.Msg, de.Hint, nil)
}

// byField is a rule by the event's own time as one by the field that the map calls the time.
func (e *entity) byField(r connectors.Rule) connectors.Rule {
	if r.Start.Kind == retention.StartEvent {
		r.Start.Kind, r.Start.Field = retention.StartField, text(e.Settings, "time")
	}
	return r
}

// isDue reports whether a file's time has come by a rule about files.
func (d *due) isDue(m *match) bool {
	return m.modified().Before(d.cut.Before) && !slices.ContainsFunc(d.cut.After, func(b connectors.Bound) bool {
		return !m.modified().Before(b.Before)
	})
}

// reads tells whether a file has to be opened to know what is due in it.
func (d *due) reads(m *match) bool { return d.finder != nil || d.isDue(m) }

// count adds what one file has due. h is nil where it need not be opened.
func (r *reader) count(ctx context.Context, m *match, h *os.File, d *due, to *connectors.Due) error {
	rows, held, bytes := int64(0), int64(0), m.Size
	if d.finder == nil {
		to.Total++
		if !d.isDue(m) {
			return nil
		}
		rows = 1
		keep, err := r.isHeld(ctx, m, h)
		if err != nil {
			return err
		}
		if keep {
			held = 1
		}
	} else {
		t, err := r.scan(ctx, m, h, d.finder.Stored(m.modified()), nil)
		if err != nil {
			return err
		}
		for _, tally := range t.Tallies {
			rows += tally.Rows
			if tally.Method == dsr.Held {
				held += tally.Rows
			}
		}
		to.Total += t.Records
		bytes = m.Size * rows / max(1, t.Records)
	}
	to.Rows += rows
	to.Held += held
	if m.live && rows > held {
		to.Blocked += rows - held
		to.BlockedBy = []string{m.e.Name}
	}
	if rows > 0 {
		to.Bytes += bytes
	}
	return nil
}

// Sweep deletes or masks what a rule makes due. See [connectors.Sweeper].
func (f *Folder) Sweep(ctx context.Context, j connectors.SweepJob) (connectors.SweepMeasures, error) {
	e, r, err := f.sweeping(j.Entity, j.Rule, j.Held)
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	defer r.close()
	d, err := newDue(e, j.Rule, j.Cut, j.Held)
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	w, _, err := r.begin(ctx, j.Journal, overAt(f.now, j.Deadline))
	if err != nil {
		return connectors.SweepMeasures{}, err
	}
	defer w.unlock()
	w.sweeps, w.most = true, j.Most
	err = w.each(ctx, []*entity{e}, func(ctx context.Context, m *match) error {
		if j.Pace.Stop != nil && j.Pace.Stop() {
			return errStopped
		}
		start := time.Now()
		if err := w.sweep(ctx, m, d); err != nil {
			return err
		}
		return w.measures.Pauses.Rest(ctx, j.Pace, time.Since(start))
	})
	if errors.Is(err, errStopped) {
		err = connectors.ErrYield
		if w.worked > 1 {
			err = errors.Join(w.save(ctx), err)
		}
	}
	if err != nil {
		return w.measures, err
	}
	if err := w.save(ctx); err != nil {
		return w.measures, err
	}
	return w.measures, w.cp.Left.Err(e.Name)
}

// errStopped says that the engine wants the Sweep to stop at once.
var errStopped = errors.New("stopped")

// sweep works one file.
func (w *worker) sweep(ctx context.Context, m *match, d *due) error {
	if !d.reads(m) {
		return nil
	}
	h, err := w.open(m)
	if err != nil {
		return err
	}
	defer h.Close()
	tally := func(method dsr.Method, rows int64) []connectors.Tally {
		return []connectors.Tally{{Entity: m.e.Name, Method: method, Rows: rows}}
	}
	if d.finder != nil && !m.live {
		return w.rewrite(ctx, m, h, d.finder.Stored(m.modified()))
	}
	var sum connectors.Due
	if err := w.count(ctx, m, h, d, &sum); err != nil {
		return err
	}
	if sum.Held > 0 {
		w.done = append(w.done, tally(dsr.Held, sum.Held)...)
	}
	if sum.Blocked > 0 {
		w.done = append(w.done, tally(dsr.Blocked, sum.Blocked)...)
	}
	if d.finder == nil && sum.Held == 0 && sum.Blocked == 0 {
		return w.remove(ctx, m, h, tally(dsr.Delete, 1))
	}
	return nil
}
