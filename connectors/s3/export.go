package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// position is what Export resumes from: what lies before is written.
type position struct {
	Entity  string
	After   string // keys of Entity up to it are done
	Key     string // its hits before Hit are done
	Version string
	Hit     int64
}

// exportPage is how many records are written between two saves.
const exportPage = 1000

// What an exported record says of where it stands, before its own fields. Keys are given as [records.Glob.Shown] has them.
const (
	fromObject  = "from_object"
	fromVersion = "from_version" // its id; the ETag in a bucket without versions
	fromLine    = "from_line"    // of the object, uncompressed
)

// Export writes every object and record of each subject; see [connectors.Exporter]. An object is a file under its key,
// an earlier version one under versions/ID/ and its key. Of records that several versions of an object hold alike the
// newest is written.
func (b *Bucket) Export(ctx context.Context, j connectors.Job, sinks connectors.SinkFor) error {
	if err := b.tenants(j.Batch); err != nil {
		return err
	}
	x := &exporting{b: b, j: j, sinks: sinks, open: map[string]connectors.Sink{}}
	if err := load(ctx, j.Journal, &x.at); err != nil {
		return err
	}
	for _, e := range b.entities {
		batch := members(e, j.Batch)
		if e.Name < x.at.Entity || len(batch) == 0 {
			continue
		}
		if e.Name > x.at.Entity {
			x.at = position{Entity: e.Name}
		}
		if err := x.entity(ctx, b.newPass(e, batch, connectors.Holds{}, locks{})); err != nil {
			return err
		}
	}
	return nil
}

type exporting struct {
	b     *Bucket
	j     connectors.Job
	sinks connectors.SinkFor
	open  map[string]connectors.Sink
	at    position
	done  []connectors.Tally
	since int // records since the last save
}

func (x *exporting) sink(ref string) (connectors.Sink, error) {
	if s, ok := x.open[ref]; ok {
		return s, nil
	}
	s, err := x.sinks(ref)
	if err == nil {
		x.open[ref] = s
	}
	return s, err
}

// fileWeight is what a file counts for against exportPage.
const fileWeight = 50

func (x *exporting) save(ctx context.Context) error {
	if x.since > 0 {
		x.j.Journal.Step(StepExported)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := save(ctx, x.j.Journal, x.at, x.done); err != nil {
		return err
	}
	x.done, x.since = nil, 0
	if x.b.over(x.j.Deadline) {
		return connectors.ErrYield
	}
	return nil
}

func (x *exporting) entity(ctx context.Context, p *pass) error {
	n := 0
	err := x.b.walk(ctx, p.e.prefixes(p.people), x.at.After, func(o object) error {
		key, ok := p.e.pattern.Match(o.Key)
		if !ok {
			return nil
		}
		if err := x.object(ctx, p, o, key); err != nil {
			return err
		}
		x.at = position{Entity: p.e.Name, After: o.Key}
		if n++; x.since >= exportPage || n%1000 == 0 || x.since > 0 && x.b.over(x.j.Deadline) {
			return x.save(ctx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if x.at = (position{Entity: p.e.Name, After: "\U0010ffff"}); x.since == 0 {
		return nil
	}
	return x.save(ctx)
}

func (x *exporting) object(ctx context.Context, p *pass, o object, key []string) error {
	owned := false
	for _, v := range o.Versions {
		if v.Marker {
			continue
		}
		props, gone, err := x.b.properties(ctx, p.e, o.Key, v)
		if err != nil {
			return err
		}
		if gone {
			continue
		}
		for _, i := range p.e.owners(p.people, key, props) {
			owned = true
			if err := x.file(ctx, p, o.Key, v, p.people.batch[i]); err != nil {
				return err
			}
		}
	}
	if owned || p.finder == nil {
		return nil
	}
	return x.records(ctx, p, o)
}

// file writes one version as a file of the subject's.
func (x *exporting) file(ctx context.Context, p *pass, key string, v version, s connectors.Subject) error {
	sink, err := x.sink(s.Ref)
	if err != nil {
		return err
	}
	name := p.e.pattern.Shown(key, s, x.b.sys)
	if !v.Latest {
		name = "versions/" + v.ID + "/" + name
	}
	deep, err := x.b.archived(ctx, key, v)
	if err != nil {
		return err
	}
	if deep {
		return sink.Withheld(p.e.Name, 1, dsr.Exception{Cause: dsr.CauseArchived})
	}
	written := false
	err = x.b.read(ctx, key, v, func(_ string, r io.Reader) error {
		if written { // a part of it is in the sink, which is taken back when the verb is called again
			return broken()
		}
		written = true
		return sink.File(p.e.Name, name, r)
	})
	switch {
	case errors.Is(err, errGone), errors.Is(err, errChanged):
		return nil
	case errors.Is(err, errArchived):
		return sink.Withheld(p.e.Name, 1, dsr.Exception{Cause: dsr.CauseArchived})
	case err != nil:
		return err
	}
	x.done = tallied(x.done, connectors.Tally{Subject: s.Ref, Entity: p.e.Name, Method: dsr.Export, Rows: 1})
	x.since += fileWeight
	return nil
}

// records writes the subjects' records of every version of an object, each once.
func (x *exporting) records(ctx context.Context, p *pass, o object) error {
	seen := map[[sha256.Size]byte]bool{}
	several := len(o.Versions) > 1
	resume := x.at.Key == o.Key
	for _, v := range o.Versions {
		if v.Marker {
			continue
		}
		skip := int64(0)
		if resume {
			skip = -1 // all of it is written
			if v.ID == x.at.Version {
				skip, resume = x.at.Hit, false
			}
		}
		if skip < 0 && !several {
			continue
		}
		deep, err := x.b.archived(ctx, o.Key, v)
		if err != nil {
			return err
		}
		if deep {
			if err := x.withhold(p); err != nil {
				return err
			}
			continue
		}
		err = x.b.read(ctx, o.Key, v, func(name string, r io.Reader) error {
			n := int64(0)
			_, err := p.finder.Scan(ctx, name, r, func(h *records.Hit) error {
				n++
				again := skip < 0 || n <= skip
				if err := x.record(ctx, p, o.Key, v, h, seen, several, again); err != nil || again {
					return err
				}
				skip = n
				x.at.Key, x.at.Version, x.at.Hit = o.Key, v.ID, n
				if x.since >= exportPage {
					return x.save(ctx)
				}
				return nil
			})
			return err
		})
		switch {
		case errors.Is(err, errGone), errors.Is(err, errChanged):
		case errors.Is(err, errArchived):
			err = x.withhold(p)
		case err != nil:
			return p.e.damaged(o.Key, v, p.people.batch, err)
		}
		if err != nil && !errors.Is(err, errGone) && !errors.Is(err, errChanged) {
			return err
		}
	}
	return nil
}

func (x *exporting) withhold(p *pass) error {
	for _, s := range p.people.batch {
		sink, err := x.sink(s.Ref)
		if err != nil {
			return err
		}
		if err := sink.Withheld(p.e.Name, 1, dsr.Exception{Cause: dsr.CauseArchived}); err != nil {
			return err
		}
	}
	return nil
}

// record writes one hit to the sinks of its subjects; again is one that is written already and only remembered.
func (x *exporting) record(
	ctx context.Context, p *pass, key string, v version, h *records.Hit, seen map[[sha256.Size]byte]bool, several, again bool,
) error {
	for _, ref := range h.Subjects {
		names, values, err := h.Record(ref)
		if err != nil {
			return err
		}
		if several {
			sum := sha256.Sum256([]byte(fmt.Sprintf("%q %q %q", ref, names, values)))
			if seen[sum] {
				continue
			}
			seen[sum] = true
		}
		if again {
			continue
		}
		sink, err := x.sink(ref)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.people.batch, func(s connectors.Subject) bool { return s.Ref == ref })
		names, values = records.From(names, values,
			records.Origin{Name: fromObject, Value: p.e.pattern.Shown(key, p.people.batch[i], x.b.sys)},
			records.Origin{Name: fromVersion, Value: v.locator()}, records.Origin{Name: fromLine, Value: h.Line})
		if err := sink.Record(p.e.Name, names, values); err != nil {
			return err
		}
		x.done = tallied(x.done, connectors.Tally{Subject: ref, Entity: p.e.Name, Method: dsr.Export, Rows: 1})
		x.since++
	}
	return ctx.Err()
}
