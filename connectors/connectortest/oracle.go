package connectortest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// oracle computes what an erasure must do, from the map and the rows alone: definitions written down and repeated
// until nothing changes. It shares no code with any connector but the matcher of free text, which is theirs by
// contract.
type oracle struct {
	sys   *connectors.System
	data  Dataset
	batch connectors.Batch
	any   bool
	rows  []*fate
}

// fate is what happens to one row.
type fate struct {
	e       *connectors.Entity
	t       *Table
	key     string
	row     map[string]string
	matched []string
	seed    bool
	reached bool
	doomed  bool
	access  bool
	held    bool
	stays   bool // a statutory minimum of its own has not ended
	gone    bool // goes with somebody else of the batch, so that it owns nothing
	pinned  bool // stays because a row that stays refers to it, or is owned through it
	action  dsr.Method
	nulls   []string
}

// outcome is what the oracle expects.
type outcome struct {
	after  Tables
	counts map[string]int64           // "entity method"
	fates  map[string]map[string]fate // by entity and key
}

// expect computes the outcome of erasing a batch.
func expect(sys *connectors.System, d Dataset, b connectors.Batch) outcome {
	return expectHeld(sys, d, b, connectors.Holds{})
}

// expectHeld computes the outcome of erasing a batch, where what is held stays as it is. What a held row refers to is
// anchored if it can be, and otherwise stays too: it only loses what a row of others would lose.
func expectHeld(sys *connectors.System, d Dataset, b connectors.Batch, held connectors.Holds) outcome {
	return expectOn(sys, d, b, held, time.Time{})
}

// expectOn is expectHeld on a day, on which some rows' statutory minimum has not ended; without a day all have. Such a row
// stays as a held one does, but for a person's own, which stays alone.
func expectOn(sys *connectors.System, d Dataset, b connectors.Batch, held connectors.Holds, today time.Time) outcome {
	tenants := map[string]bool{}
	for _, s := range b {
		tenants[s.Tenant] = true
	}
	out := outcome{after: d.rows().clone(), counts: map[string]int64{}, fates: map[string]map[string]fate{}}
	for tenant := range tenants {
		of := func(all connectors.Batch) connectors.Batch {
			return slices.DeleteFunc(slices.Clone(all), func(s connectors.Subject) bool { return s.Tenant != tenant })
		}
		stay := frozen(sys, d, of(held.Subjects), held.Entities)
		young := unfinished(sys, d, today)
		for at, e := range young {
			stay[at] = stay[at] || !e.Subject
		}
		o := newOracle(sys, d, of(b), false, stay)
		for _, f := range o.rows {
			f.stays = young[f.e.Name+"\x00"+f.key] != nil
		}
		o.act()
		o.apply(out)
	}
	return out
}

// frozen are the rows that are held, by entity and key.
func frozen(sys *connectors.System, d Dataset, subjects connectors.Batch, entities []connectors.Frozen) map[string]bool {
	out := map[string]bool{}
	for _, s := range subjects {
		for _, f := range newOracle(sys, d, connectors.Batch{s}, true, nil).rows {
			if f.reached && !f.access {
				out[f.e.Name+"\x00"+f.key] = true
			}
		}
	}
	for _, h := range entities {
		for k, row := range d.rows()[sys.Entity(h.Entity).From()] {
			if meets(row, h.When) {
				out[h.Entity+"\x00"+k] = true
			}
		}
	}
	return out
}

// meets is the definition of conditions: each must hold.
func meets(row map[string]string, when []dsr.Condition) bool {
	for _, c := range when {
		v := row[c.Field]
		if c.Null && v != null || c.NotNull && v == null || c.Values != nil && (v == null || !slices.Contains(c.Values, v)) {
			return false
		}
	}
	return true
}

// shown are the rows that an export of one subject shows, by "entity key".
func shown(sys *connectors.System, d Dataset, s connectors.Subject) map[string]*fate {
	out := map[string]*fate{}
	o := newOracle(sys, d, connectors.Batch{s}, true, nil)
	for _, f := range o.rows {
		if (f.reached || o.named(f)) && (s.Entities == nil || s.Entities[f.e.Name]) {
			out[f.e.Name+" "+f.key] = f
		}
	}
	return out
}

func newOracle(sys *connectors.System, d Dataset, b connectors.Batch, any bool, frozen map[string]bool) *oracle {
	o := &oracle{sys: sys, data: d, batch: b, any: any}
	rows := d.rows()
	for i := range sys.Entities {
		e := &sys.Entities[i]
		for k, r := range rows[e.From()] {
			if e.Tenant != "" && r[e.Tenant] != b[0].Tenant {
				continue
			}
			o.rows = append(o.rows, &fate{e: e, t: d.Table(e.From()), key: k, row: r, held: frozen[e.Name+"\x00"+k]})
		}
	}
	o.spread()
	return o
}

// spread follows ownership from the rows of the batch.
func (o *oracle) spread() {
	for _, f := range o.rows {
		o.match(f)
	}
	for o.again() {
	}
}

// expectAmong computes what is left to do for one of a batch, all of whom are erased.
func expectAmong(sys *connectors.System, d Dataset, s connectors.Subject, batch connectors.Batch) outcome {
	batch = slices.DeleteFunc(slices.Clone(batch), func(other connectors.Subject) bool { return other.Tenant != s.Tenant })
	all := newOracle(sys, d, batch, false, nil)
	o := &oracle{sys: sys, data: d, batch: connectors.Batch{s}}
	for _, f := range all.rows {
		o.rows = append(o.rows, &fate{e: f.e, t: f.t, key: f.key, row: f.row, gone: f.doomed})
	}
	o.spread()
	out := outcome{after: d.rows().clone(), counts: map[string]int64{}, fates: map[string]map[string]fate{}}
	o.act()
	o.apply(out)
	return out
}

func (o *oracle) match(f *fate) {
	for _, field := range f.e.Fields {
		if field.Identifier == "" || f.row[field.Name] == null {
			continue
		}
		for _, s := range o.batch {
			for _, id := range s.Identifiers {
				kind := o.sys.Identifiers[id.Name]
				if id.Name == field.Identifier && !slices.Contains(f.matched, field.Name) &&
					slices.ContainsFunc(f.values(field.Name), func(v string) bool { return same(kind, id.Value.Reveal(), v) }) {
					f.matched = append(f.matched, field.Name)
				}
			}
		}
	}
	owned := len(f.e.OwnedBy) > 0
	for i := range o.sys.Entities {
		for _, tie := range o.sys.Entities[i].Owns {
			owned = owned || tie.Entity == f.e.Name
		}
	}
	f.seed = len(f.matched) > 0 && (f.e.Subject || !owned)
	f.reached = len(f.matched) > 0
}

// values are a column's value, or everything in its document.
func (f *fate) values(column string) []string {
	v := f.row[column]
	if f.t.column(column).Class != connectors.ClassJSON {
		return []string{v}
	}
	var out []string
	dec := json.NewDecoder(strings.NewReader(v))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if err != nil {
			return out
		}
		out = append(out, fmt.Sprint(tok))
	}
}

func same(kind dsr.IdentifierKind, a, b string) bool {
	switch kind {
	case dsr.KindEmail:
		return strings.EqualFold(a, b)
	case dsr.KindPhone:
		only := func(s string) string {
			return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }), "")
		}
		return strings.TrimPrefix(only(a), "00") == strings.TrimPrefix(only(b), "00")
	}
	return a == b
}

// again applies each definition to each row once and reports whether anything new follows.
func (o *oracle) again() bool {
	news := false
	for _, f := range o.rows {
		fromOwner := slices.ContainsFunc(o.ownersOf(f), func(p *fate) bool { return p.doomed })
		fromMember := slices.ContainsFunc(o.membersOf(f), func(m *fate) bool { return m.doomed })
		leftAlone := !f.held && !f.doomed && len(f.e.Owns) > 0 && !o.alive(f) &&
			slices.ContainsFunc(o.targetsOf(f), func(p *fate) bool { return p.doomed })
		if (fromOwner || fromMember || leftAlone) && (!f.reached || f.access) {
			f.reached, f.access, news = true, false, true
		}
		if o.any && !f.reached && slices.ContainsFunc(o.parentsBy(f, f.e.AccessedBy), func(p *fate) bool { return p.doomed }) {
			f.reached, f.access, news = true, true, true
		}
		if !f.reached || f.access || f.doomed || f.held {
			continue
		}
		livingMember := slices.ContainsFunc(o.membersOf(f), func(m *fate) bool { return !m.doomed && o.alive(m) })
		if o.any || f.seed || !o.alive(f) && !livingMember {
			f.doomed, news = true, true
		}
	}
	return news
}

// alive reports whether an owner of the row lives: one who is anchored was erased.
func (o *oracle) alive(f *fate) bool {
	return f.held || slices.ContainsFunc(o.ownersOf(f), func(p *fate) bool { return !p.doomed && !p.gone && !o.anchored(p) })
}

// anchored reports whether a row is what an erasure left of a person: all of its anchor's masks were applied.
func (o *oracle) anchored(f *fate) bool {
	certain := false
	for c, spec := range f.e.Anchor {
		v := f.row[c]
		made := strings.HasSuffix(v, "@x.invalid")
		if slices.Contains(f.matched, c) || spec.Kind == mask.Null && v != null || spec.Kind == mask.Constant && v != spec.Value ||
			spec.Kind == mask.Random && !made {
			return false
		}
		certain = certain || spec.Kind != mask.Null
	}
	return certain
}

func (o *oracle) ownersOf(f *fate) []*fate  { return o.parentsBy(f, f.e.OwnedBy) }
func (o *oracle) targetsOf(f *fate) []*fate { return o.parentsBy(f, f.e.Owns) }

func (o *oracle) parentsBy(f *fate, ties []connectors.Owner) []*fate {
	var out []*fate
	for _, tie := range ties {
		for _, p := range o.rows {
			if o.refers(f, tie, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// refers is the definition of a reference: none leads to another tenant.
func (o *oracle) refers(f *fate, tie connectors.Owner, p *fate) bool {
	if f.e.Tenant != "" && p.e.Tenant != "" && f.row[f.e.Tenant] != p.row[p.e.Tenant] {
		return false
	}
	if p.e.Name != tie.Entity || tie.When != nil && f.row[tie.When.Column] != tie.When.Value {
		return false
	}
	to := tie.References
	if len(to) == 0 {
		to = p.t.PrimaryKey
	}
	for i, c := range tie.Columns {
		if f.row[c] == null || f.row[c] != p.row[to[i]] {
			return false
		}
	}
	return true
}

func (o *oracle) membersOf(f *fate) []*fate {
	var out []*fate
	for _, m := range o.rows {
		for _, tie := range m.e.Owns {
			if o.refers(m, tie, f) {
				out = append(out, m)
			}
		}
	}
	return out
}

func (o *oracle) covers(e string) bool {
	return slices.ContainsFunc(o.batch, func(s connectors.Subject) bool { return s.Entities == nil || s.Entities[e] })
}

func (o *oracle) matcher() *mask.Matcher {
	var ids []dsr.Identifier
	for _, s := range o.batch {
		ids = append(ids, s.Identifiers...)
	}
	return mask.NewMatcher(ids, o.sys.Identifiers)
}

// named reports whether a row's free text mentions one of the batch.
func (o *oracle) named(f *fate) bool {
	matcher := o.matcher()
	return slices.ContainsFunc(f.e.Mentions, func(c string) bool { return f.row[c] != null && matcher.Find(f.row[c]) })
}

// act gives each row its one method. A row that was reached only through a membership, and that others still own, is
// not affected: it has none.
func (o *oracle) act() {
	for _, f := range o.rows {
		named := o.named(f)
		released := slices.ContainsFunc(o.ownersOf(f), func(p *fate) bool { return p.doomed })
		switch {
		case f.held || f.stays || !o.covers(f.e.Name):
		case f.doomed && f.e.Keep != nil:
			f.action = dsr.Keep
		case f.doomed:
			f.action = f.e.Erase
		case released:
			f.action = dsr.Release
		case named && f.e.Erase == dsr.Expire:
			f.action = dsr.Expire
		case len(f.matched) > 0 || named:
			f.action = dsr.Redact
		}
	}
	for again := true; again; {
		again = false
		for _, f := range o.rows {
			if f.action == dsr.Delete && slices.ContainsFunc(o.targetsOf(f), func(p *fate) bool { return p.held || p.stays || p.pinned }) {
				o.pin(f) // by it the held row is found again
				again = true
			}
			if f.action == dsr.Delete {
				continue
			}
			for _, tie := range slices.Concat(f.e.OwnedBy, f.e.Owns) {
				for _, p := range o.rows {
					if p == f || p.action != dsr.Delete || !o.refers(f, tie, p) || o.changes(f, tie.Columns) {
						continue
					}
					switch {
					case o.anchored(p):
						p.action, again = "", true
					case p.e.Anchor != nil:
						p.action, again = dsr.Anchor, true
					case f.held || f.stays || f.pinned:
						o.pin(p)
						again = true
					default:
						f.nulls = append(f.nulls, tie.Columns[0])
					}
				}
			}
		}
	}
}

// pin lets a row stay for the sake of one that is held: it loses what a row of others would lose, and the subject's own
// row not even that by which it is found again.
func (o *oracle) pin(f *fate) {
	f.pinned, f.action = true, ""
	if f.seed {
		f.matched = nil
	}
	if len(f.matched) > 0 || o.named(f) {
		f.action = dsr.Redact
	}
}

func (o *oracle) changes(f *fate, columns []string) bool {
	specs := o.specs(f)
	return slices.ContainsFunc(columns, func(c string) bool { _, ok := specs[c]; return ok })
}

// specs are the masks of a row by column.
func (o *oracle) specs(f *fate) masks {
	out := masks{}
	merge := func(m masks) {
		for c, s := range m {
			out[c] = s
		}
	}
	switch f.action {
	case dsr.Mask, dsr.Keep:
		merge(f.e.Masks)
	case dsr.Anchor:
		merge(f.e.Anchor)
	case dsr.Release:
		for _, tie := range f.e.OwnedBy {
			if slices.ContainsFunc(o.parentsBy(f, owners(tie)), func(p *fate) bool { return p.doomed }) {
				for _, c := range tie.Columns {
					merge(f.e.OnOwnerErased[c])
				}
			}
		}
	case dsr.Redact:
		for _, c := range f.matched {
			if f.t.column(c).Nullable {
				out[c] = toNull
			} else {
				out[c] = toRandom
			}
		}
	}
	for _, c := range f.nulls {
		out[c] = toNull
	}
	return out
}

// apply writes the outcome down.
func (o *oracle) apply(out outcome) {
	matcher := o.matcher()
	for _, f := range o.rows {
		if out.fates[f.e.Name] == nil {
			out.fates[f.e.Name] = map[string]fate{}
		}
		out.fates[f.e.Name][f.key] = *f
		if f.action == "" {
			continue
		}
		out.counts[f.e.Name+" "+string(f.action)]++
		if f.action == dsr.Expire {
			continue
		}
		rows := out.after[f.e.From()]
		if f.action == dsr.Delete {
			delete(rows, f.key)
			continue
		}
		specs := o.specs(f)
		for _, c := range f.e.Mentions {
			if _, ok := specs[c]; !ok {
				specs[c] = toRedact
			}
		}
		for c, spec := range specs {
			rows[f.key][c] = o.masked(f, c, spec, matcher)
		}
	}
}

func (o *oracle) masked(f *fate, c string, spec mask.Spec, m *mask.Matcher) string {
	v := f.row[c]
	col := f.t.column(c)
	switch {
	case spec.Kind == mask.Null:
		return null
	case spec.Kind == mask.Constant:
		return spec.Value
	case spec.Kind == mask.Random:
		return fresh
	case v == null:
		return null
	case spec.Kind == mask.Redact && col.Class == connectors.ClassJSON:
		doc, _ := m.RedactJSON(v)
		return canonical(col.Class, doc)
	case spec.Kind == mask.Redact && slices.Contains(f.e.Mentions, c):
		text, _ := m.Redact(v)
		return text
	case spec.Kind == mask.Redact:
		return mask.Redacted
	}
	in := mask.Input{Value: v, Keys: keyring{}, Target: mask.Target{Class: mask.Class(col.Class), MaxLen: col.MaxLen}}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && col.Class == connectors.ClassInteger {
		in.Value = n
	}
	for _, field := range f.e.Fields {
		if field.Name == c && field.Identifier != "" {
			in.Domain = field.Identifier
			switch o.sys.Identifiers[field.Identifier] {
			case dsr.KindEmail:
				in.Target.Format, in.Value = mask.Email, strings.ToLower(v)
			case dsr.KindPhone:
				in.Target.Format = mask.Phone
			}
		}
	}
	got, err := spec.Apply(in)
	if err != nil {
		panic("the suite's own map has a mask that cannot hold: " + err.Error())
	}
	return canonical(col.Class, got)
}
