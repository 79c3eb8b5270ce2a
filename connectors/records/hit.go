package records

import (
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Hit is one record that the Finder found. It is valid until the callback returns. A record of one subject in which
// another is mentioned makes two: what an erasure of each alone would do to it.
type Hit struct {
	Subjects []string   // Refs whose record it is, or who are mentioned; nil in a Sweep
	Method   dsr.Method // Delete, Mask, Keep, Redact; Held where a hold stops it
	Offset   int64      // of its first byte, uncompressed
	Line     int64      // on which it begins, uncompressed; the first is 1
	// Residue names the fields that still hold what the Plan removes, sorted; empty for a kept record whose masks hold.
	Residue []string
	Time    time.Time // by the Entity's time field; zero when it has none
	worker  *worker
	record  *record
}

// Record returns the names and values of the record's fields, for an export; ExportMask is applied for a subject who is
// not its owner, and in a record that names somebody else in the same role.
func (h *Hit) Record(subject string) (names []string, values []any, err error) {
	w, r := h.worker, h.record
	body := r.body
	owner := slices.ContainsFunc(r.owners, func(i int32) bool { return w.people[i].Ref == subject })
	if !owner || !w.single(r) {
		p := plan{}
		for i := range w.fields {
			if w.fields[i].export.Kind != "" {
				p[i] = w.fields[i].export
			}
		}
		if body, _, err = w.rewrite(r.body, r, p, nil); err != nil {
			return nil, nil, damaged(h.Offset, err)
		}
	}
	names, values = w.export(body)
	return names, values, nil
}

// Learned returns the identifiers of a record that is wholly one subject's, where the Entity teaches. A record with two
// values of one identifier, as a sender and a recipient are, may be somebody else's too and teaches nothing.
func (h *Hit) Learned() []dsr.Identifier {
	w, r := h.worker, h.record
	if !w.l.e.Teaches || len(r.owners) != 1 || !w.single(r) {
		return nil
	}
	owner := w.people[r.owners[0]]
	var out []dsr.Identifier
	for _, v := range r.values {
		f := &w.fields[v.field]
		if f.identifier == "" || v.kind != text && v.kind != number {
			continue
		}
		s, _ := only(f.kind, string(w.literal(r.body, v)))
		if made(v.kind, s) {
			continue
		}
		if f.kind != dsr.KindPhone && f.kind != dsr.KindUUID { // their form for comparing is not how they are written
			s = Normalise(f.kind, s)
		}
		id := dsr.Identifier{
			Name: f.identifier, Value: dsr.NewSecret(s), Origin: dsr.Learned, Source: w.l.sys.Name + "." + w.l.e.Name,
		}
		same := func(o dsr.Identifier) bool {
			return o.Name == id.Name &&
				Normalise(f.kind, o.Value.Reveal()) == Normalise(f.kind, s)
		}
		if s != "" && !slices.ContainsFunc(out, same) && !slices.ContainsFunc(owner.Identifiers, same) {
			out = append(out, id)
		}
	}
	return out
}

// Matched returns the names of the identifiers by which the record is a subject's, sorted; none where it only mentions
// them. The Entity of a subject is ambiguous when one identifier matches several records.
func (h *Hit) Matched(subject string) []string {
	w, r := h.worker, h.record
	var out []string
	for _, n := range r.matched {
		f := &w.fields[r.values[n].field]
		for _, i := range w.holders(r.body, f, r.values[n], nil) {
			if w.people[i].Ref == subject && slices.Contains(r.owners, i) && !slices.Contains(out, f.identifier) {
				out = append(out, f.identifier)
			}
		}
	}
	slices.Sort(out)
	return out
}

// single reports whether no identifier has two values in a record.
func (w *worker) single(r *record) bool {
	seen := map[string]string{}
	for _, v := range r.values {
		f := &w.fields[v.field]
		if f.identifier == "" || v.kind == null || v.kind == boolean {
			continue
		}
		if v.kind == composite {
			return false
		}
		s, one := only(f.kind, string(w.literal(r.body, v)))
		if !one {
			return false
		}
		s = Normalise(f.kind, s)
		if was, ok := seen[f.identifier]; s != "" && ok && was != s {
			return false
		}
		if s != "" {
			seen[f.identifier] = s
		}
	}
	return true
}

// act is what becomes of one record.
type act struct {
	tallies []connectors.Tally // one record each
	hits    []*Hit
	deleted bool
	changed []byte // the new record; nil when it stays as it is
}

// decide finds out what becomes of a record that was looked into. hits asks for the Hits.
func (w *worker) decide(rec []byte, r *record, hits bool) (act, error) {
	if w.due != nil {
		return w.sweep(rec, r, hits)
	}
	var a act
	var p plan
	switch {
	case len(r.owners) > 0:
		m := w.l.method()
		masks := w.l.e.Masks
		if m == dsr.Delete {
			masks = nil
		}
		p = w.masked(r, masks)
		if err := w.note(&a, r, r.owners, m, masks, hits); err != nil {
			return a, err
		}
	case len(r.mentioned) > 0:
		p = w.masked(r, nil)
	default:
		return a, nil
	}
	if len(r.mentioned) > 0 {
		if err := w.note(&a, r, r.mentioned, dsr.Redact, nil, hits); err != nil {
			return a, err
		}
	}
	a.tallies = a.tallies[:1]
	if r.held {
		return a, nil
	}
	switch a.tallies[0].Method {
	case dsr.Delete:
		a.deleted = true
	case dsr.Mask, dsr.Keep, dsr.Redact:
		out, changed, err := w.rewrite(rec, r, p, w.matcher(r))
		if err != nil {
			return a, err
		}
		if changed {
			a.changed = out
		}
	}
	return a, nil
}

// note adds a tally, and a Hit, for people to whom a record means the same.
func (w *worker) note(a *act, r *record, people []int32, m dsr.Method, masks map[string]mask.Spec, hits bool) error {
	shown := m
	if r.held {
		shown = dsr.Held
	}
	first := w.people[people[0]].Ref
	a.tallies = append(a.tallies, connectors.Tally{Subject: first, Entity: w.l.e.Name, Method: shown, Rows: 1})
	if !hits {
		return nil
	}
	h := &Hit{Method: shown, Time: r.time, worker: w, record: r}
	for _, i := range people {
		h.Subjects = append(h.Subjects, w.people[i].Ref)
	}
	var err error
	h.Residue, err = w.residue(r, people, m, masks)
	a.hits = append(a.hits, h)
	return err
}

// residue names the fields in which something of people is left.
func (w *worker) residue(r *record, people []int32, m dsr.Method, masks map[string]mask.Spec) ([]string, error) {
	var out []string
	for n, in := range r.in {
		if slices.ContainsFunc(in, func(i int32) bool { return slices.Contains(people, i) }) {
			out = append(out, w.fields[r.values[n].field].name)
		}
	}
	if m != dsr.Redact {
		edits, err := w.editsOf(r.body, r.values, w.masked(&record{}, masks), w.matcher(r))
		if err != nil {
			return nil, err
		}
		for _, e := range edits {
			out = append(out, w.fields[e.field].name)
		}
		for _, n := range r.matched {
			f := &w.fields[r.values[n].field]
			if m == dsr.Keep && (f.mask.Kind == "" || f.mask.Kind == mask.HMAC) {
				continue
			}
			out = append(out, f.name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// sweep finds out what becomes of a record by a rule.
func (w *worker) sweep(rec []byte, r *record, hits bool) (act, error) {
	var a act
	if !r.due {
		return a, nil
	}
	m := w.due.method()
	shown := m
	if r.held {
		shown = dsr.Held
	}
	a.tallies = []connectors.Tally{{Entity: w.l.e.Name, Method: shown, Rows: 1}}
	if hits {
		a.hits = []*Hit{{Method: shown, Time: r.time, worker: w, record: r}}
	}
	switch shown {
	case dsr.Delete:
		a.deleted = true
	case dsr.Mask:
		out, changed, err := w.rewrite(rec, r, w.masked(r, w.due.rule.Masks), nil)
		if err != nil {
			return a, err
		}
		if changed {
			a.changed = out
		}
	}
	return a, nil
}
