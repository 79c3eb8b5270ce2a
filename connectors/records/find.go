package records

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// Finder is what one pass looks for: a batch of subjects, or what a rule makes due. It is immutable and safe for
// concurrent use.
type Finder struct {
	l        *Layout
	people   []person // the batch, then who is held
	fields   []field  // by index in paths
	paths    *paths
	mentions *mentions // nil when no field has free text or nobody is looked for
	frozen   [][]dsr.Condition
	due      *due // of a Sweep
	time     int  // index of the time field; -1 when none
	tenant   int  // index of the tenant field; -1 when none
	err      error
}

// person is a subject that a pass looks for.
type person struct {
	connectors.Subject
	held   bool
	tenant string // normalised
}

// field is one field of the map as a pass sees it.
type field struct {
	name       string
	identifier string // name of the identifier that it holds; empty when none
	kind       dsr.IdentifierKind
	people     map[string][]int32 // who is looked for, by normalised identifier and by pseudonym
	mention    bool
	mask       mask.Spec // on erasure; Kind empty when none
	export     mask.Spec
}

// Find looks for subjects. A record in which an identifier field names one of them is theirs and is deleted, masked or
// kept as the Entity says; in any other record identifiers in mentions are redacted. Records of held subjects stay as
// they are. Subjects whose Entities leave this one out are not looked for. Pseudonyms under every live key count as the
// identifier; where a key cannot be had, every pass of the Finder fails with that error.
func (l *Layout) Find(b connectors.Batch, held connectors.Holds) *Finder {
	f, err := l.finder(b, held, nil)
	if err != nil {
		return &Finder{l: l, err: err}
	}
	return f
}

func (l *Layout) finder(b connectors.Batch, held connectors.Holds, d *due) (*Finder, error) {
	f := &Finder{l: l, due: d, time: -1, tenant: -1}
	tenantKind := l.sys.Identifiers[l.sys.TenantName]
	for i, s := range slices.Concat(b, held.Subjects) {
		if s.Entities == nil || s.Entities[l.e.Name] {
			tenant := string(normalise(nil, tenantKind, []byte(s.Tenant)))
			f.people = append(f.people, person{Subject: s, held: i >= len(b), tenant: tenant})
		}
	}
	names := l.names()
	for _, h := range held.Entities {
		if h.Entity != l.e.Name {
			continue
		}
		f.frozen = append(f.frozen, h.When)
		for _, c := range h.When {
			names = append(names, c.Field)
		}
	}
	if d != nil {
		names = append(names, d.fields()...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		field, err := f.field(name)
		if err != nil {
			return nil, err
		}
		f.fields = append(f.fields, field)
	}
	if len(f.people) > 0 && slices.ContainsFunc(f.fields, func(f field) bool { return f.mention }) {
		f.mentions = newMentions(f.people, l.sys.Identifiers)
	}
	f.paths = newPaths(names, func(i int) bool {
		return f.fields[i].people != nil || f.fields[i].mention && f.mentions != nil && d == nil || names[i] == l.time
	})
	at := func(name string) int {
		if i, ok := f.paths.index[name]; ok && name != "" {
			return i
		}
		return -1
	}
	f.time, f.tenant = at(l.time), at(l.e.Tenant)
	if d != nil {
		d.bind(at)
	}
	return f, nil
}

// field compiles what the map says of one field.
func (f *Finder) field(name string) (field, error) {
	e := f.l.e
	out := field{
		name: name, mention: slices.Contains(e.Mentions, name) || name == unmatchedLine,
		mask: e.Masks[name], export: e.ExportMask[name],
	}
	for _, declared := range e.Fields {
		if declared.Name == name {
			out.identifier = declared.Identifier
		}
	}
	if out.identifier == "" {
		return out, nil
	}
	out.kind = f.l.sys.Identifiers[out.identifier]
	add := func(v string, who int32) {
		if v == "" || slices.Contains(out.people[v], who) {
			return
		}
		if out.people == nil {
			out.people = map[string][]int32{}
		}
		out.people[v] = append(out.people[v], who)
	}
	keys, err := f.l.keysOf(name, out.identifier)
	if err != nil {
		return out, err
	}
	for i, p := range f.people {
		for _, id := range p.Identifiers {
			if id.Name != out.identifier {
				continue
			}
			v := string(normalise(nil, out.kind, []byte(id.Value.Reveal())))
			add(v, int32(i))
			for _, key := range keys {
				for _, p := range pseudonyms(key, v, out.kind) {
					add(string(normalise(nil, out.kind, []byte(p))), int32(i))
				}
			}
		}
	}
	return out, nil
}

// keysOf are the live keys of every pseudonym that a field may hold, by the erasure's masks and the rules'.
func (l *Layout) keysOf(name, identifier string) ([][]byte, error) {
	domains := map[string]bool{}
	note := func(spec mask.Spec) {
		if spec.Kind == mask.HMAC {
			domain := spec.Domain
			if domain == "" {
				domain = identifier
			}
			domains[domain] = true
		}
	}
	note(l.e.Masks[name])
	for _, r := range l.e.Rules {
		note(r.Masks[name])
	}
	if l.o.Pseudonyms == nil {
		return nil, nil
	}
	var keys [][]byte
	for domain := range domains {
		live, err := l.o.Pseudonyms.Live(domain)
		if err != nil {
			return nil, err
		}
		keys = append(keys, live...)
	}
	return keys, nil
}

// worker is what one goroutine needs to take records apart and decide about them.
type worker struct {
	*Finder
	parser
	hot   []value
	all   []value
	spare []byte
	who   []int32
}

// record is one record that was looked into.
type record struct {
	body      []byte
	values    []value
	owners    []int32   // people of the batch whose record it is
	mentioned []int32   // people of the batch in its free text who are no owners
	in        [][]int32 // people of the batch in each value's free text
	matched   []int     // values that hold an identifier of an owner
	held      bool
	due       bool
	unread    bool // a rule would have to read its start and cannot
	time      time.Time
}

// candidate reports whether a record must be looked into, and its time.
func (w *worker) candidate(body []byte) (bool, time.Time, error) {
	var err error
	if w.hot, err = w.parse(body, w.hot[:0], false); err != nil {
		return false, time.Time{}, err
	}
	found, at := w.due != nil, time.Time{}
	for _, v := range w.hot {
		f := &w.fields[v.field]
		if v.field == w.time && at.IsZero() && v.kind != null {
			at, _ = w.l.times.parse(string(w.text(body, v)), w.zone())
		}
		if found {
			continue
		}
		if f.people != nil {
			w.who = w.holders(body, f, v, w.who[:0])
			found = len(w.who) > 0
		}
		if !found && f.mention && w.mentions != nil {
			w.who = w.named(body, v, w.who[:0])
			found = len(w.who) > 0
		}
	}
	return found, at, nil
}

func (w *worker) zone() *time.Location {
	if w.due != nil {
		return w.due.cut.Zone
	}
	return nil
}

// holders appends the people whose identifier a value is; any string, number or name in a document may be one.
func (w *worker) holders(body []byte, f *field, v value, out []int32) []int32 {
	look := func(literal []byte) {
		w.spare = normalise(w.spare[:0], f.kind, literal)
		for _, i := range f.people[string(w.spare)] {
			if !slices.Contains(out, i) {
				out = append(out, i)
			}
		}
	}
	any := func(literal []byte) {
		look(literal)
		for _, s := range parts(f.kind, literal) {
			look([]byte(s))
		}
	}
	switch v.kind {
	case text:
		any(w.text(body, v))
	case number:
		look([]byte(integral(string(body[v.from:v.to]))))
	case composite:
		eachLiteral(body[v.from:v.to], func(_, _ int, literal []byte) { any(literal) })
	}
	return out
}

// named appends the people whom a value's free text names.
func (w *worker) named(body []byte, v value, out []int32) []int32 {
	switch v.kind {
	case text, number:
		out = w.mentions.in(string(w.literal(body, v)), out)
	case composite:
		eachLiteral(body[v.from:v.to], func(_, _ int, s []byte) { out = w.mentions.in(string(s), out) })
	}
	return out
}

// look takes a record apart and finds out whose it is.
func (w *worker) look(body []byte, at time.Time) (*record, error) {
	var err error
	if w.all, err = w.parse(body, w.all[:0], true); err != nil {
		return nil, err
	}
	r := &record{body: body, values: slices.Clone(w.all), time: at}
	r.in = make([][]int32, len(r.values))
	reach := w.reach(r)
	for n, v := range r.values {
		f := &w.fields[v.field]
		if f.people != nil {
			for _, i := range w.holders(body, f, v, nil) {
				switch {
				case !reach(i):
				case w.people[i].held:
					r.held = true
				default:
					if !slices.Contains(r.owners, i) {
						r.owners = append(r.owners, i)
					}
					if len(r.matched) == 0 || r.matched[len(r.matched)-1] != n {
						r.matched = append(r.matched, n)
					}
				}
			}
		}
		if f.mention && w.mentions != nil {
			for _, i := range w.named(body, v, nil) {
				if reach(i) && !w.people[i].held {
					r.in[n] = append(r.in[n], i)
				}
			}
		}
	}
	for _, in := range r.in {
		for _, i := range in {
			if !slices.Contains(r.owners, i) && !slices.Contains(r.mentioned, i) {
				r.mentioned = append(r.mentioned, i)
			}
		}
	}
	slices.Sort(r.owners)
	slices.Sort(r.mentioned)
	for _, when := range w.frozen {
		r.held = r.held || w.meets(r, when)
	}
	if w.due != nil {
		if r.due, err = w.isDue(r); errors.Is(err, errUnread) {
			r.unread, err = true, nil
		}
	}
	return r, err
}

// reach tells which people's records this one may be: those of its tenant.
func (w *worker) reach(r *record) func(i int32) bool {
	if w.tenant < 0 {
		return func(int32) bool { return true }
	}
	kind := w.l.sys.Identifiers[w.l.sys.TenantName]
	var tenants []string
	for _, v := range r.values {
		if v.field == w.tenant && v.kind != null {
			tenants = append(tenants, string(normalise(nil, kind, w.literal(r.body, v))))
		}
	}
	return func(i int32) bool {
		// a record that says two tenants is nobody's
		return len(tenants) > 0 && !slices.ContainsFunc(tenants, func(t string) bool { return t != w.people[i].tenant })
	}
}

// literal is a scalar as text; whole numbers without point and exponent.
func (w *worker) literal(body []byte, v value) []byte {
	if v.kind == number {
		return []byte(integral(string(body[v.from:v.to])))
	}
	return w.text(body, v)
}

// meets reports whether all conditions hold. A field that is several times in the record meets one if any of its values
// does.
func (w *worker) meets(r *record, when []dsr.Condition) bool {
	for _, c := range when {
		values := 0
		ok := slices.ContainsFunc(r.values, func(v value) bool {
			if w.fields[v.field].name != c.Field || v.kind == null {
				return false
			}
			values++
			return slices.Contains(c.Values, string(bytes.TrimSpace(w.literal(r.body, v))))
		})
		switch {
		case c.Null:
			ok = values == 0
		case c.NotNull:
			ok = values > 0
		}
		if !ok {
			return false
		}
	}
	return true
}

// method is what is done to a record that is somebody's.
func (l *Layout) method() dsr.Method {
	if l.e.Keep != nil {
		return dsr.Keep
	}
	return l.e.Erase
}
