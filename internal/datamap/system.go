package datamap

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

// name is what systems, entities and identifiers may be called: they become file names and metric labels.
var name = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,62}$`)

type systemReader struct {
	*reader
	m     *Map
	kinds []connectors.Kind
	// identified are the paths of entities one of whose settings names an identifier.
	identified map[string]bool
	flat       map[string]bool // systems whose entities have no ties
	ruleNames  map[string]bool
}

func (r *systemReader) read(n *yaml.Node, path string) {
	r.each(n, path, func(system string, k, v *yaml.Node) {
		r.nameOf(k, join(path, system))
		s := &connectors.System{Name: system, Identifiers: r.m.Identifiers, Settings: map[string]any{}}
		r.system(v, join(path, system), s)
		r.m.Systems = append(r.m.Systems, s)
	})
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		r.fault(n, path, "declares nothing", "`lethe init` drafts a system from a database")
	}
	slices.SortFunc(r.m.Systems, func(a, b *connectors.System) int { return cmp.Compare(a.Name, b.Name) })
}

func (r *systemReader) nameOf(n *yaml.Node, path string) {
	if !name.MatchString(n.Value) {
		r.fault(n, path, "is not a name", "use letters, digits, dot, dash and underscore, a letter first")
	}
}

func (r *systemReader) system(n *yaml.Node, path string, s *connectors.System) {
	kind := r.kind(n, path)
	entities := func(n *yaml.Node, path string) {
		r.each(n, path, func(entity string, k, v *yaml.Node) {
			r.nameOf(k, join(path, entity))
			e := connectors.Entity{Name: entity, Settings: map[string]any{}}
			r.entity(v, join(path, entity), s.Name, &e, kind)
			s.Entities = append(s.Entities, e)
		})
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
			r.fault(n, path, "declares nothing", "")
		}
		slices.SortFunc(s.Entities, func(a, b connectors.Entity) int { return cmp.Compare(a.Name, b.Name) })
	}
	keys := []key{
		{"connector", true, r.text(&s.Connector)},
		{"limits", false, r.limits(&s.Limits)},
		{"copies", false, r.copies(&s.Copies)},
		{"settle", false, r.duration(&s.Settle)},
		{"batch", false, func(n *yaml.Node, path string) {
			r.mapping(n, path, key{"window", true, r.duration(&s.Window)})
		}},
		{"ignore", false, func(n *yaml.Node, path string) {
			s.Ignored = map[string]string{}
			r.each(n, path, func(table string, _, v *yaml.Node) {
				var reason string
				r.text(&reason)(v, join(path, table))
				s.Ignored[table] = reason
			})
		}},
		{"entities", true, entities},
	}
	if kind != nil {
		r.flat[s.Name] = kind.Flat
		keys = append(keys, r.settings(path, kind.SystemKeys, s.Settings)...)
		r.m.places[s.Name] = placeOf(n, kind)
	}
	r.mapping(n, path, keys...)
	s.TenantName = r.m.Tenants
}

// placeOf returns the settings that say where a system is: every one but secrets that it can do without.
func placeOf(n *yaml.Node, kind *connectors.Kind) map[string]string {
	place := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		for _, d := range kind.SystemKeys {
			if d.Name == n.Content[i].Value && (d.Required || !d.Secret) {
				place[d.Name] = n.Content[i+1].Value
			}
		}
	}
	return place
}

// kind finds a system's connector before its other keys are read.
func (r *systemReader) kind(n *yaml.Node, path string) *connectors.Kind {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "connector" {
			continue
		}
		var names []string
		for j := range r.kinds {
			if r.kinds[j].Name == n.Content[i+1].Value {
				return &r.kinds[j]
			}
			names = append(names, r.kinds[j].Name)
		}
		r.fault(n.Content[i+1], join(path, "connector"), "is not a connector", nearest(n.Content[i+1].Value, names))
	}
	return nil
}

// settings reads a connector's own keys of what stands at path.
func (r *systemReader) settings(path string, declared []connectors.Setting, to map[string]any) []key {
	var keys []key
	for _, d := range declared {
		keys = append(keys, key{d.Name, d.Required, func(n *yaml.Node, at string) {
			if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
				r.fault(n, at, "must be a single value", d.Doc)
				return
			}
			value := r.expand(n, at)
			var v any = value
			var err error
			switch d.Type {
			case "integer":
				v, err = strconv.ParseInt(value, 10, 64)
			case "boolean":
				v, err = strconv.ParseBool(value)
			case "duration":
				v, err = time.ParseDuration(value)
			}
			if err != nil || value == "" {
				r.fault(n, at, "must be of type "+d.Type, d.Doc)
				return
			}
			to[d.Name] = v
			if d.Parse == nil {
				return
			}
			identifiers, err := d.Parse(value)
			if err != nil {
				r.refuse(n, at, err)
			}
			for _, name := range identifiers {
				r.identified[path] = true
				if _, ok := r.m.Identifiers[name]; !ok {
					r.fault(n, at, "names "+name+", which is not an identifier of this map", nearest(name, sorted(r.m.Identifiers)))
				}
			}
		}})
	}
	return keys
}

func (r *systemReader) limits(l *connectors.Limits) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var connections int64
		r.mapping(
			n, path,
			key{"rows_per_request", false, r.count(&l.RowsPerRequest)},
			key{"share_of_table", false, r.share(&l.ShareOfTable)},
			key{"connections", false, r.count(&connections)},
			key{"statement", false, r.duration(&l.Statement)},
			key{"lock", false, r.duration(&l.Lock)},
		)
		l.Connections = int(connections)
	}
}

func (r *systemReader) copies(to *[]dsr.Copy) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.list(n, path, func(n *yaml.Node, path string) {
			var c dsr.Copy
			r.mapping(
				n, path,
				key{"what", true, r.text(&c.What)},
				key{"recipient", false, r.text(&c.Recipient)},
				key{"ends", false, func(n *yaml.Node, path string) {
					p, err := retention.ParsePeriod(n.Value)
					if err != nil {
						r.refuse(n, path, err)
						return
					}
					c.Ends = p.String()
				}},
			)
			*to = append(*to, c)
		})
	}
}

// ties are the keys of an entity that relate it to others.
var ties = []string{"owned_by", "accessed_by", "owns", "on_owner_erased", "anchor"}

func (r *systemReader) entity(n *yaml.Node, path, system string, e *connectors.Entity, kind *connectors.Kind) {
	var erase string
	keys := []key{
		{"table", false, r.text(&e.Source)},
		{"subject", false, r.flag(&e.Subject)},
		{"teaches", false, r.flag(&e.Teaches)},
		{"shared", false, r.flag(&e.Shared)},
		{"tenant", false, r.text(&e.Tenant)},
		{"fields", false, r.fields(&e.Fields)},
		{"not_personal", false, r.names(&e.NotPersonal)},
		{"mentions", false, r.names(&e.Mentions)},
		{"purposes", false, r.names(&e.Purposes)},
		{"owned_by", false, r.owners(&e.OwnedBy)},
		{"accessed_by", false, r.owners(&e.AccessedBy)},
		{"owns", false, r.owners(&e.Owns)},
		{"on_owner_erased", false, func(n *yaml.Node, path string) {
			e.OnOwnerErased = map[string]map[string]mask.Spec{}
			r.each(n, path, func(column string, _, v *yaml.Node) {
				masks := map[string]mask.Spec{}
				r.masks(&masks)(v, join(path, column))
				e.OnOwnerErased[column] = masks
			})
		}},
		{"erase", false, r.text(&erase)},
		{"mask", false, r.masks(&e.Masks)},
		{"anchor", false, r.masks(&e.Anchor)},
		{"mask_export", false, r.masks(&e.ExportMask)},
		{"keep", false, func(n *yaml.Node, path string) {
			e.Keep = &connectors.Keep{}
			r.mapping(
				n, path,
				key{"article", true, r.text(&e.Keep.Article)},
				key{"statute", false, r.text(&e.Keep.Statute)},
				key{"class", true, r.text(&e.Keep.Class)},
			)
		}},
		{"retention", false, r.rules(system, e, kind)},
	}
	if kind != nil {
		keys = append(keys, r.settings(path, kind.EntityKeys, e.Settings)...)
	}
	r.mapping(n, path, keys...)
	for _, k := range ties {
		if tie := r.places[join(path, k)]; tie != nil && kind != nil && kind.Flat {
			r.fault(tie, join(path, k), "entities of "+kind.Name+" have no ties to each other",
				"remove it: a record belongs to whom its identifiers name")
		}
	}
	e.Erase = dsr.Method(erase)
	switch {
	case e.Keep != nil && erase != "":
		r.fault(n, path, "has both erase and keep", "an entity is erased or kept")
	case e.Keep != nil:
		e.Erase = dsr.Keep
	case e.Erase == dsr.Expire && kind != nil && kind.Expires:
	case e.Erase != dsr.Delete && e.Erase != dsr.Mask:
		r.fault(n, path, "does not say what an erasure does", "write erase: delete, erase: mask, or keep")
	case e.Erase == dsr.Mask && len(e.Masks) == 0:
		r.fault(n, path, "is to be masked but names no mask", "write mask: {field: redact}")
	}
}

func (r *systemReader) fields(to *[]connectors.Field) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.each(n, path, func(field string, _, v *yaml.Node) {
			f := connectors.Field{Name: field}
			r.mapping(
				v, join(path, field),
				key{"identifier", false, func(n *yaml.Node, path string) {
					r.text(&f.Identifier)(n, path)
					if _, ok := r.m.Identifiers[f.Identifier]; f.Identifier != "" && !ok {
						r.fault(n, path, "is not an identifier of this map", nearest(f.Identifier, sorted(r.m.Identifiers)))
					}
				}},
				key{"category", false, r.text(&f.Category)},
			)
			*to = append(*to, f)
		})
		slices.SortFunc(*to, func(a, b connectors.Field) int { return cmp.Compare(a.Name, b.Name) })
	}
}

// owners reads references in their three forms: column: entity; column: {by: column, value: entity …} for a
// polymorphic one; and a list of {columns, entity, references} for composite keys.
func (r *systemReader) owners(to *[]connectors.Owner) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			r.list(n, path, func(n *yaml.Node, path string) {
				var o connectors.Owner
				r.mapping(
					n, path,
					key{"columns", true, r.names(&o.Columns)},
					key{"entity", true, r.text(&o.Entity)},
					key{"references", false, r.names(&o.References)},
				)
				if len(o.References) > 0 && len(o.References) != len(o.Columns) {
					r.fault(n, path, "has another number of columns than of references", "")
				}
				*to = append(*to, o)
			})
			return
		}
		r.each(n, path, func(column string, k, v *yaml.Node) {
			at := join(path, column)
			if strings.ContainsAny(column, ", ") {
				r.fault(k, at, "looks like several columns in one name", "write a list: - {columns: [a, b], entity: x}")
				return
			}
			if v.Kind != yaml.MappingNode {
				o := connectors.Owner{Columns: []string{column}}
				r.text(&o.Entity)(v, at)
				*to = append(*to, o)
				return
			}
			by := ""
			var targets []connectors.Owner
			r.each(v, at, func(value string, _, v *yaml.Node) {
				if value == "by" {
					r.text(&by)(v, join(at, value))
					return
				}
				o := connectors.Owner{Columns: []string{column}, When: &connectors.Discriminator{Value: value}}
				r.text(&o.Entity)(v, join(at, value))
				targets = append(targets, o)
			})
			if by == "" || len(targets) == 0 {
				r.fault(v, at, "a polymorphic reference names its discriminator and a target for each value",
					"write {by: owner_type, customer: customers}")
				return
			}
			for _, o := range targets {
				o.When.Column = by
				*to = append(*to, o)
			}
		})
	}
}

// masks reads masks by field: null, random, redact, {hmac: domain}, {year: true}, {generalise: 10}, {truncate_ip:
// true}, and any other text or number as a constant.
func (r *systemReader) masks(to *map[string]mask.Spec) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		*to = map[string]mask.Spec{}
		r.each(n, path, func(field string, _, v *yaml.Node) {
			(*to)[field] = r.mask(v, join(path, field))
		})
	}
}

func (r *systemReader) mask(n *yaml.Node, path string) mask.Spec {
	if n.Kind == yaml.ScalarNode {
		switch {
		case n.ShortTag() == "!!null":
			return mask.Spec{Kind: mask.Null}
		case n.Style == 0 && (n.Value == string(mask.Random) || n.Value == string(mask.Redact)):
			return mask.Spec{Kind: mask.Kind(n.Value)}
		}
		return mask.Spec{Kind: mask.Constant, Value: n.Value}
	}
	var s mask.Spec
	on := func(kind mask.Kind) func(*yaml.Node, string) {
		return func(n *yaml.Node, path string) {
			var yes bool
			r.flag(&yes)(n, path)
			s.Kind = kind
		}
	}
	r.mapping(
		n, path,
		key{"hmac", false, func(n *yaml.Node, path string) { r.text(&s.Domain)(n, path); s.Kind = mask.HMAC }},
		key{"generalise", false, func(n *yaml.Node, path string) { r.count(&s.Step)(n, path); s.Kind = mask.Generalise }},
		key{"year", false, on(mask.Year)},
		key{"truncate_ip", false, on(mask.TruncateIP)},
	)
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		r.fault(n, path, "must name one mask", "write {hmac: domain}, {year: true}, {generalise: 10} or {truncate_ip: true}")
	}
	return s
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
