package cloudwatchlogs

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Locate counts streams, and events with the date on which they are gone. See [connectors.Connector].
func (l *Logs) Locate(ctx context.Context, q connectors.Query) (connectors.Located, error) {
	var out connectors.Located
	if err := l.checkTenants(q.Batch); err != nil {
		return out, err
	}
	for i := range l.entities {
		e := &l.entities[i]
		b := scoped(q.Batch, e)
		if len(b) == 0 || q.Teaching && !e.Teaches {
			continue
		}
		var err error
		if e.pattern != nil {
			err = l.locateStreams(ctx, e, b, q, &out)
		} else {
			err = l.locateEvents(ctx, e, b, q, &out)
		}
		if err != nil {
			return connectors.Located{}, err
		}
	}
	if q.Teaching || q.Export || len(out.Counts) == 0 {
		return out, nil
	}
	for _, name := range l.groups() {
		copies, err := l.copies(ctx, name)
		if err != nil {
			return connectors.Located{}, err
		}
		out.Copies = append(out.Copies, copies...)
	}
	return out, nil
}

func (l *Logs) locateStreams(ctx context.Context, e *entity, b connectors.Batch, q connectors.Query, out *connectors.Located) error {
	who := newPeople(l.sys, b)
	rows, total := map[string]int64{}, int64(0)
	err := l.eachStream(ctx, e, func(page []stream) error {
		total += int64(len(page))
		for i := range page {
			refs := who.of(e, &page[i])
			for _, ref := range refs {
				rows[ref]++
			}
			if e.Teaches && len(refs) == 1 {
				l.learn(out, b, refs[0], l.taught(e, &page[i]))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range b {
		if rows[s.Ref] > 0 {
			out.Counts = append(out.Counts, connectors.Count{
				Subject: s.Ref, Entity: e.Name, Method: method(e, q), Rows: rows[s.Ref], TableRows: total,
			})
		}
	}
	return nil
}

// taught are the identifiers in a stream's name.
func (l *Logs) taught(e *entity, s *stream) []dsr.Identifier {
	var out []dsr.Identifier
	for i, name := range e.pattern.Identifiers() {
		out = append(out, dsr.Identifier{
			Name: name, Value: dsr.NewSecret(s.values[i]), Origin: dsr.Learned, Source: l.sys.Name + "." + e.Name,
		})
	}
	return out
}

func (l *Logs) locateEvents(ctx context.Context, e *entity, b connectors.Batch, q connectors.Query, out *connectors.Located) error {
	g, err := l.group(ctx, e.group)
	if err != nil {
		return err
	}
	rows, latest := map[string]int64{}, map[string]time.Time{}
	matches := map[match]int64{}
	unsearched, err := l.search(ctx, e, g, e.layout.Find(b, connectors.Holds{}), func(ev *event, h *records.Hit) error {
		for _, ref := range h.Subjects {
			rows[ref]++
			if ev.at.After(latest[ref]) {
				latest[ref] = ev.at
			}
		}
		if len(h.Subjects) == 1 && h.Method != dsr.Redact {
			l.learn(out, b, h.Subjects[0], h.Learned())
			for _, name := range e.matched(h) {
				matches[match{h.Subjects[0], name}]++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range b {
		if rows[s.Ref] == 0 {
			continue
		}
		n := connectors.Count{Subject: s.Ref, Entity: e.Name, Method: method(e, q), Rows: rows[s.Ref]}
		if n.Method == dsr.Expire {
			n.Exception = &dsr.Exception{Cause: dsr.CauseRetention, Ends: g.ends(latest[s.Ref])}
		}
		out.Counts = append(out.Counts, n)
	}
	for _, at := range slices.SortedFunc(maps.Keys(matches), match.compare) {
		if matches[at] > 1 {
			out.Ambiguous = append(out.Ambiguous, connectors.Ambiguity{
				Subject: at.subject, Entity: e.Name, Identifier: at.identifier, Rows: matches[at],
			})
		}
	}
	for _, field := range unsearched {
		out.Unsearched = append(out.Unsearched, e.Name+"."+field)
	}
	return nil
}

// match is an identifier by which records of a subject entity were found.
type match struct{ subject, identifier string }

func (m match) compare(o match) int {
	return cmp.Or(cmp.Compare(m.subject, o.subject), cmp.Compare(m.identifier, o.identifier))
}

// matched are the identifiers that a record which is a person has of its subject.
func (e *entity) matched(h *records.Hit) []string {
	var out []string
	for _, f := range e.Fields {
		if e.Subject && f.Identifier != "" && slices.Contains(h.Residue, f.Name) && !slices.Contains(out, f.Identifier) {
			out = append(out, f.Identifier)
		}
	}
	return out
}

// method is what an entity's rows are counted under.
func method(e *entity, q connectors.Query) dsr.Method {
	if q.Export {
		return dsr.Export
	}
	return e.Erase
}

// learn adds what is not known of the subject yet.
func (l *Logs) learn(out *connectors.Located, b connectors.Batch, ref string, ids []dsr.Identifier) {
	for _, id := range ids {
		same := func(o dsr.Identifier) bool {
			kind := l.sys.Identifiers[id.Name]
			return o.Name == id.Name && records.Normalise(kind, o.Value.Reveal()) == records.Normalise(kind, id.Value.Reveal())
		}
		if slices.ContainsFunc(b, func(s connectors.Subject) bool { return s.Ref == ref && slices.ContainsFunc(s.Identifiers, same) }) ||
			slices.ContainsFunc(out.Learned, func(k connectors.Learned) bool { return k.Subject == ref && same(k.Identifier) }) {
			continue
		}
		out.Learned = append(out.Learned, connectors.Learned{Subject: ref, Identifier: id})
	}
}
