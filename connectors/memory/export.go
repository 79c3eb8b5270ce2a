package memory

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// position is what Export resumes from: the subject's place in the batch, and the last record that was written.
type position struct {
	Subject int
	Entity  string
	Key     connectors.Key
	Begun   bool
}

// Export copies every record of each subject. See [connectors.Exporter].
func (db *DB) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	if err := db.checkTenants(j.Batch); err != nil {
		return err
	}
	raw, err := j.Journal.Load(ctx)
	if err != nil {
		return err
	}
	var at position
	if raw != nil {
		if err := json.Unmarshal(raw, &at); err != nil {
			return connectors.Permanent(dsr.CodeInvalid, "the checkpoint cannot be read", "Retry the request.", nil)
		}
	}
	for at.Subject < len(j.Batch) {
		s := j.Batch[at.Subject]
		records, err := db.records(s)
		if err != nil {
			return err
		}
		if at.Begun { // the records are in a stable order
			last := slices.IndexFunc(records, func(r record) bool { return r.entity == at.Entity && r.key == at.Key })
			records = records[last+1:]
		}
		page := records[:min(db.ChunkRows, len(records))]
		var done []connectors.Tally
		if len(page) > 0 {
			sink, err := sinks(s.Ref)
			if err != nil {
				return err
			}
			for _, r := range page {
				if err := sink.Record(r.entity, r.names, r.values); err != nil {
					return err
				}
				done = add(done, connectors.Tally{Subject: s.Ref, Entity: r.entity, Method: dsr.Export, Rows: 1})
				at.Entity, at.Key, at.Begun = r.entity, r.key, true
			}
			j.Journal.Step(StepExported)
		}
		if len(page) == len(records) {
			at = position{Subject: at.Subject + 1}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := json.Marshal(at)
		if err != nil {
			return err
		}
		if err := j.Journal.Save(ctx, b, done); err != nil {
			return err
		}
		if at.Subject < len(j.Batch) && !j.Deadline.IsZero() && !db.now().Before(j.Deadline) {
			return connectors.ErrYield
		}
	}
	return nil
}

type record struct {
	entity string
	key    connectors.Key
	names  []string
	values []any
}

// records are a subject's rows by entity and key. Fields of others in a row that is not the subject's alone are masked
// as the map says (Art. 15(4)).
func (db *DB) records(s connectors.Subject) ([]record, error) {
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	c, err := db.close(connectors.Batch{s}, nil, nil, true)
	if err != nil {
		return nil, err
	}
	var out []record
	for _, i := range c.shown(s) {
		r := record{entity: i.e.Name, key: i.key}
		shared := !i.touched || i.accessed || !i.seed && c.hasLivingOwner(i)
		for _, col := range i.t.Columns {
			v := i.row[col.Name]
			if spec, ok := i.e.ExportMask[col.Name]; ok && shared {
				if v, err = db.masked(i.e, i.t, col.Name, v, spec, nil); err != nil {
					return nil, err
				}
			}
			r.names, r.values = append(r.names, col.Name), append(r.values, v)
		}
		out = append(out, r)
	}
	return out, nil
}

// shown are the rows that a copy has: a subject's own, and those of others that mention them in free text, which an erasure
// would redact.
func (c *closure) shown(s connectors.Subject) []*item {
	matcher := mask.NewMatcher(s.Identifiers, c.db.sys.Identifiers)
	return slices.DeleteFunc(slices.Clone(c.items), func(i *item) bool {
		if _, ok := c.allowed(i); ok && i.touched {
			return false
		}
		return s.Entities != nil && !s.Entities[i.e.Name] || len(mentions(i.e, i.t, i.row, matcher)) == 0
	})
}
