package logfiles

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// What an exported record says of where it stands, before its own fields. Paths are below the root, as
// [records.Glob.Shown] has them.
const (
	fromFile = "from_file"
	fromLine = "from_line" // of the file, uncompressed
)

// position is what Export resumes from. A file that was begun is read again, and its first records are passed over.
type position struct {
	progress
	File   uint64 `json:"file,omitempty"` // that was begun
	Seen   int    `json:"seen,omitempty"` // records in it that are written
	Faults faults `json:"faults,omitempty"`
}

// exporter is one call of Export.
type exporter struct {
	*reader
	job   connectors.Job
	sinks connectors.SinkFor
	at    position
	over  func() bool
	done  []connectors.Tally
	moved bool // something was saved in this call
}

// Export copies every record of each subject, and the files that are theirs as a whole, in one pass. Live files are
// copied as far as they are written. A file that is being compressed or copied by a rotation may be seen twice, never not
// at all. See [connectors.Exporter].
func (f *Folder) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	r, err := f.reader(j.Batch, connectors.Holds{})
	if err != nil {
		return err
	}
	defer r.close()
	x := &exporter{reader: r, job: j, sinks: sinks, over: overAt(f.now, j.Deadline)}
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return err
	}
	if raw != nil && json.Unmarshal(raw, &x.at) != nil {
		return connectors.Permanent(CodeCheckpoint, "the checkpoint cannot be read", "It was written by another version of Lethe: retry the request.", nil)
	}
	r.faults = x.at.Faults
	l := &listing{disk: r.disk, entities: f.entities, at: &x.at.progress}
	err = l.each(ctx, func(m *match) error {
		if x.moved && x.over() {
			return connectors.ErrYield
		}
		return r.faults.note(m.e, x.file(ctx, m))
	}, r.refuse)
	if err != nil {
		return err
	}
	if err := x.save(ctx); err != nil {
		return err
	}
	return r.faults.errors(j.Batch)
}

func (x *exporter) save(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x.at.Faults = x.faults
	b, err := json.Marshal(x.at)
	if err != nil {
		return err
	}
	if err := x.job.Journal.Save(ctx, b, x.done); err != nil {
		return err
	}
	x.done, x.moved = nil, true
	return nil
}

// recordsPerSave bounds what a kill makes be written again.
const recordsPerSave = 1000

// file exports what one file holds of the batch.
func (x *exporter) file(ctx context.Context, m *match) error {
	key, written := m.key(false), 0
	if x.at.File != key {
		x.at.File, x.at.Seen = key, 0
	}
	before, seen := x.at.Seen, 0
	_, err := x.look(ctx, m, func(s sight) error {
		if seen++; seen <= before {
			return nil
		}
		if err := x.write(s); err != nil {
			return err
		}
		x.add(s)
		x.at.Seen, written = seen, written+1
		if written%recordsPerSave != 0 {
			return nil
		}
		x.job.Journal.Step(StepExported)
		if err := x.save(ctx); err != nil {
			return err
		}
		if x.over() {
			return connectors.ErrYield
		}
		return nil
	})
	if errors.Is(err, errMoved) {
		x.at.File, x.at.Seen = 0, 0 // what stands in its place may be shorter
	}
	if err != nil {
		return err
	}
	x.at.File, x.at.Seen = 0, 0
	if written == 0 {
		return ctx.Err()
	}
	// the place in the listing is moved on only after this: until then the file counts as begun and wholly seen
	x.at.File, x.at.Seen = key, seen
	x.job.Journal.Step(StepExported)
	return x.save(ctx)
}

func (x *exporter) add(s sight) {
	for i := range x.done {
		if t := &x.done[i]; t.Subject == s.subject && t.Entity == s.e.Name {
			t.Rows++
			return
		}
	}
	x.done = append(x.done, connectors.Tally{Subject: s.subject, Entity: s.e.Name, Method: dsr.Export, Rows: 1})
}

func (x *exporter) write(s sight) error {
	sink, err := x.sinks(s.subject)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(x.batch, func(b connectors.Subject) bool { return b.Ref == s.subject })
	name := s.e.files.Shown(s.match.name, x.batch[i], x.sys)
	if s.hit != nil {
		names, values, err := s.hit.Record(s.subject)
		if err != nil {
			return err
		}
		names, values = records.From(names, values, records.Origin{Name: fromFile, Value: name}, records.Origin{Name: fromLine, Value: s.hit.Line})
		return sink.Record(s.e.Name, names, values)
	}
	h, err := x.disk.open(s.file)
	if err != nil {
		return x.fault(s.match, err)
	}
	defer h.Close()
	src, err := content(h, s.match)
	if err != nil {
		return x.fault(s.match, err)
	}
	return sink.File(s.e.Name, name, src)
}
