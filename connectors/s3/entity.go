package s3

import (
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// entity is one entity of the map, compiled.
type entity struct {
	*connectors.Entity
	pattern *pattern
	layout  *records.Layout // nil: whole objects
	props   []property      // of whole objects
	abort   time.Duration   // age from which uploads of nobody knows whom are aborted; 0 is never
	tenant  string          // the map's tenant identifier, where the entity is not shared
	kinds   map[string]dsr.IdentifierKind
}

// property is a declared field of a whole object: a tag or a piece of its metadata.
type property struct {
	field      string // "tag:owner", "meta:user-id"
	tag        bool
	name       string
	identifier string
}

// most values of a batch for which the bucket is listed value by value, and not as a whole.
const narrowest = 64

func newEntity(sys *connectors.System, m *connectors.Entity, o connectors.Options) (*entity, error) {
	e := &entity{Entity: m, kinds: sys.Identifiers}
	if !m.Shared {
		e.tenant = sys.TenantName
	}
	text, _ := m.Settings["objects"].(string)
	var err error
	if e.pattern, err = parsePattern(text); err != nil {
		return nil, at(m.Name+".objects", err)
	}
	for _, name := range e.pattern.placeholders {
		if _, ok := sys.Identifiers[name]; !ok {
			return nil, invalid(m.Name+".objects", "refers to an identifier that the map does not have", "Declare it under identifiers.")
		}
	}
	if e.abort, _ = m.Settings[abortUploads].(time.Duration); e.abort < 0 {
		return nil, invalid(m.Name+"."+abortUploads, "is negative", "Write for example 168h, or leave it out.")
	}
	if m.Erase == dsr.Expire {
		return nil, invalid(m.Name+".erase", "expire is not for buckets: objects can be deleted", "Write delete.")
	}
	if format, _ := m.Settings["format"].(string); format != "" {
		if e.layout, err = records.NewLayout(sys, m, o); err != nil {
			return nil, err
		}
		if (m.Erase == dsr.Mask || len(m.Masks) > 0) && slices.ContainsFunc(e.pattern.placeholders, func(n string) bool { return n != e.tenant }) {
			return nil, invalid(m.Name+".objects", "names a person, and the entity has masks: objects of one person go as a whole",
				"Write * in place of the placeholder, and give the fields of the records that hold the identifier.")
		}
		if e.tenant != "" && m.Tenant == "" {
			return nil, invalid(m.Name+".tenant", "is missing: records have to say whose tenant's they are", "Name the field, or say shared: true.")
		}
		return e, e.checkRules()
	}
	if m.Erase == dsr.Mask || len(m.Masks) > 0 || len(m.Mentions) > 0 {
		return nil, invalid(m.Name, "has masks or mentions, which whole objects cannot have", "Say with format what is inside the objects, or delete them.")
	}
	for _, f := range m.Fields {
		kind, name, _ := strings.Cut(f.Name, ":")
		if name == "" || kind != "tag" && kind != "meta" {
			return nil, invalid(m.Name+".fields."+f.Name, "is no field of a whole object", "Write tag:NAME or meta:NAME; give format for records inside objects.")
		}
		e.props = append(e.props, property{field: f.Name, tag: kind == "tag", name: name, identifier: f.Identifier})
	}
	if e.tenant != "" && !slices.Contains(e.pattern.placeholders, e.tenant) &&
		!slices.ContainsFunc(e.props, func(p property) bool { return p.identifier == e.tenant || p.field == m.Tenant }) {
		return nil, invalid(m.Name, "has nothing that names the tenant", "Put {"+e.tenant+"} into objects, or say shared: true.")
	}
	return e, e.checkRules()
}

// checkRules refuses what a bucket cannot do.
func (e *entity) checkRules() error {
	for _, r := range e.Rules {
		where := e.Name + ".retention." + r.Name
		switch {
		case r.Start.Kind == retention.StartField && e.layout == nil:
			return invalid(where, "starts at a field, which whole objects do not have", "Start at object_age.")
		case r.Start.Kind == retention.StartEvent:
			return invalid(where, "starts at the time of a log event, which a bucket does not have", "Start at object_age, or at a field of the records.")
		case r.Action == retention.Pseudonymise && r.Start.Kind == retention.StartObject && e.layout == nil:
			return invalid(where, "pseudonymises whole objects", "Delete them.")
		case r.Action == retention.Expire:
			if err := e.checkLifecycle(r); err != nil {
				return at(where, err)
			}
		}
		if e.layout == nil || r.Start.Kind == retention.StartObject {
			for _, c := range r.When {
				if _, ok := e.valueOf(c.Field, nil, nil); !ok {
					return invalid(where, "has a condition on a field that objects do not have", "Conditions of objects are on tag:NAME or meta:NAME of fields, or on a placeholder.")
				}
			}
		}
	}
	return nil
}

// at puts the place in front of an error of the map.
func at(field string, err error) error {
	if de, ok := err.(*dsr.Error); ok { //nolint:errorlint // made by this package, never wrapped
		c := *de
		c.Field = field
		return &c
	}
	return err
}

func (e *entity) needsTags() bool {
	return slices.ContainsFunc(e.props, func(p property) bool { return p.tag })
}

func (e *entity) needsMeta() bool {
	return slices.ContainsFunc(e.props, func(p property) bool { return !p.tag })
}

// searched tells whether the content of the entity's objects may belong to somebody whom the key does not name.
func (e *entity) searched() bool {
	return e.layout != nil && (len(e.Mentions) > 0 || slices.ContainsFunc(e.Fields, func(f connectors.Field) bool { return f.Identifier != "" }))
}

// valueOf returns the value of a field of an object: a placeholder of its key, a tag, or metadata. ok tells whether the
// entity has such a field at all.
func (e *entity) valueOf(field string, key []string, props map[string]string) (value string, ok bool) {
	for i, name := range e.pattern.placeholders {
		if name == field {
			if i < len(key) {
				value = key[i]
			}
			return value, true
		}
	}
	for _, p := range e.props {
		if p.field == field {
			return props[field], true
		}
	}
	return "", false
}

// people is a batch, ready to be looked up by the values of identifiers.
type people struct {
	batch connectors.Batch
	by    map[string]map[string][]int // name -> normalised value -> indices
}

// members are those of a batch whom an entity is worked for.
func members(e *entity, b connectors.Batch) connectors.Batch {
	out := make(connectors.Batch, 0, len(b))
	for _, s := range b {
		if s.Entities == nil || s.Entities[e.Name] {
			out = append(out, s)
		}
	}
	return out
}

func newPeople(b connectors.Batch, kinds map[string]dsr.IdentifierKind) *people {
	p := &people{batch: b, by: map[string]map[string][]int{}}
	for i, s := range b {
		for _, id := range s.Identifiers {
			n := records.Normalise(kinds[id.Name], id.Value.Reveal())
			if n == "" {
				continue
			}
			if p.by[id.Name] == nil {
				p.by[id.Name] = map[string][]int{}
			}
			if !slices.Contains(p.by[id.Name][n], i) {
				p.by[id.Name][n] = append(p.by[id.Name][n], i)
			}
		}
	}
	return p
}

// owners are the indices of those whom an object's key, tags or metadata name, in the order of the batch.
func (e *entity) owners(p *people, key []string, props map[string]string) []int {
	var out []int
	add := func(identifier, raw string) {
		if identifier == "" || identifier == e.tenant || raw == "" {
			return
		}
		for _, v := range spellings(raw) {
			for _, i := range p.by[identifier][records.Normalise(e.kinds[identifier], v)] {
				if e.sameTenant(p.batch[i], key, props) && !slices.Contains(out, i) {
					out = append(out, i)
				}
			}
		}
	}
	for i, name := range e.pattern.placeholders {
		add(name, key[i])
	}
	for _, f := range e.props {
		add(f.identifier, props[f.field])
	}
	slices.Sort(out)
	return out
}

func (e *entity) sameTenant(s connectors.Subject, key []string, props map[string]string) bool {
	if e.tenant == "" {
		return true
	}
	v, ok := e.valueOf(e.tenant, key, props)
	for _, f := range e.props {
		if !ok && (f.identifier == e.tenant || f.field == e.Tenant) {
			v, ok = props[f.field], true
		}
	}
	if !ok { // of records, which have the tenant in a field
		return e.layout != nil
	}
	return slices.Contains(spellings(v), s.Tenant)
}

// identifiers are those that an object's key, tags and metadata hold, for an entity that teaches.
func (e *entity) identifiers(source string, key []string, props map[string]string) []dsr.Identifier {
	var out []dsr.Identifier
	add := func(name, raw string) {
		if name == "" || name == e.tenant || raw == "" {
			return
		}
		all := spellings(raw)
		v := all[len(all)-1]
		if e.kinds[name] == dsr.KindEmail {
			v = records.Normalise(dsr.KindEmail, v)
		}
		out = append(out, dsr.Identifier{Name: name, Value: dsr.NewSecret(v), Origin: dsr.Learned, Source: source})
	}
	for i, name := range e.pattern.placeholders {
		add(name, key[i])
	}
	for _, f := range e.props {
		add(f.identifier, props[f.field])
	}
	return out
}

// prefixes are where a batch's objects can lie, sorted, none within another: below their values where the pattern
// begins with one placeholder of a kind that has one spelling, and nothing else names an owner.
func (e *entity) prefixes(p *people) []string {
	all := []string{e.pattern.prefix}
	if p == nil || !e.pattern.narrow || len(e.pattern.placeholders) != 1 || len(e.props) > 0 || e.searched() {
		return all
	}
	name := e.pattern.placeholders[0]
	if k := e.kinds[name]; k != dsr.KindOpaque && k != dsr.KindInteger || len(p.by[name]) > narrowest {
		return all
	}
	var out []string
	for v := range p.by[name] {
		if !plain(v) {
			return all
		}
		out = append(out, e.pattern.prefix+v+e.pattern.after)
	}
	slices.Sort(out)
	return slices.CompactFunc(out, func(x, y string) bool { return strings.HasPrefix(y, x) })
}

// meets reports whether an object meets every condition of a rule or a hold. A field that it does not have is null.
func (e *entity) meets(when []dsr.Condition, key []string, props map[string]string) bool {
	for _, c := range when {
		v, _ := e.valueOf(c.Field, key, props)
		switch {
		case c.Null:
			if v != "" {
				return false
			}
		case c.NotNull:
			if v == "" {
				return false
			}
		case !slices.Contains(c.Values, v):
			return false
		}
	}
	return true
}

// frozen reports whether a hold on the entity covers an object. A condition on what objects do not have holds all.
func (e *entity) frozen(h connectors.Holds, key []string, props map[string]string) bool {
	return slices.ContainsFunc(h.Entities, func(f connectors.Frozen) bool {
		if f.Entity != e.Name {
			return false
		}
		for _, c := range f.When {
			if _, ok := e.valueOf(c.Field, key, props); !ok {
				return true
			}
		}
		return e.meets(f.When, key, props)
	})
}
