package datamap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// rules reads the deletion rules of one entity.
func (r *systemReader) rules(system string, e *connectors.Entity, kind *connectors.Kind) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.list(n, path, func(n *yaml.Node, path string) {
			rule := r.rule(n, path, system+"."+e.Name+".", kind)
			if r.ruleNames[rule.Name] {
				r.fault(n, path, "has the name of another rule", "tell them apart by a name: of its own")
			}
			r.ruleNames[rule.Name] = true
			e.Rules = append(e.Rules, rule)
		})
		if last := len(e.Rules) - 1; last >= 0 && e.Rules[last].Action == retention.Next {
			r.faultAt(fmt.Sprintf("%s[%d].action", path, last), "has no rule after it to move on to", "write the next rule below it")
		}
	}
}

// rule reads one deletion rule; prefix is what its name begins with.
func (r *systemReader) rule(n *yaml.Node, path, prefix string, kind *connectors.Kind) connectors.Rule {
	var rule connectors.Rule
	var own string
	before := len(r.faults)
	r.mapping(
		n, path,
		key{"class", true, func(n *yaml.Node, path string) {
			var ok bool
			if rule.Class, ok = r.m.Classes[n.Value]; !ok {
				r.fault(n, path, "is not a deletion class of this map", nearest(n.Value, sorted(r.m.Classes)))
			}
		}},
		key{"name", false, func(n *yaml.Node, path string) { r.text(&own)(n, path); r.nameOf(n, path) }},
		key{"start", true, r.start(&rule.Start, kind)},
		key{"if_null", false, r.missing(&rule.Start)},
		key{"when", false, r.conditions(&rule.When)},
		key{"action", true, func(n *yaml.Node, path string) {
			rule.Action = retention.Action(n.Value)
			if !slices.Contains(retention.Actions(), rule.Action) {
				r.fault(n, path, "is not what a rule can do", nearest(n.Value, texts(retention.Actions())))
			}
			if rule.Action == retention.Expire && kind != nil && !kind.Expires {
				r.fault(n, path, "expire needs a system that deletes by its own retention", "write delete or pseudonymise")
			}
		}},
		key{"mask", false, r.masks(&rule.Masks)},
		key{"review", false, func(n *yaml.Node, path string) {
			rule.Unreviewed = n.Value == "never"
			if !rule.Unreviewed {
				r.fault(n, path, "must be never", "without it a person approves the rule when it is new or has changed")
			}
		}},
		key{"cap", false, func(n *yaml.Node, path string) {
			r.mapping(
				n, path,
				key{"rows", false, r.count(&rule.Cap.Rows)},
				key{"share", false, r.share(&rule.Cap.Share)},
				key{"growth", false, r.growth(&rule.Cap.Growth)},
			)
		}},
	)
	if own == "" {
		own = rule.Class.Name
	}
	rule.Name = prefix + own
	switch {
	case rule.Action == retention.Pseudonymise && len(rule.Masks) == 0:
		r.fault(n, path, "is to pseudonymise but names no mask", "write mask: {field: redact}")
	case rule.Action != retention.Pseudonymise && len(rule.Masks) > 0:
		r.faultAt(path+".mask", "masks what the rule does not pseudonymise", "write action: pseudonymise, or remove mask")
	}
	if rule.Action == retention.Next && rule.Cap != (retention.Cap{}) {
		r.faultAt(path+".cap", "caps a rule that deletes nothing", "cap the rule after it")
	}
	if rule.Action == retention.Next && rule.Unreviewed {
		r.faultAt(path+".review", "waives the review of a rule that deletes nothing", "write it in the rule after it")
	}
	if len(r.faults) > before {
		return rule
	}
	var e *dsr.Error
	if err := rule.Validate(); errors.As(err, &e) {
		r.faultAt(path+"."+e.Field, e.Msg, e.Hint)
	}
	return rule
}

// alternatives is a starting point with an "or" in it.
var alternatives = regexp.MustCompile(`(?i)[,|]|\bor\b`)

// start reads a starting point: a column, object_age, event_time, or the latest of related rows.
func (r *systemReader) start(to *retention.StartingPoint, kind *connectors.Kind) func(*yaml.Node, string) {
	flat := func(n *yaml.Node, path, msg, hint string, want bool) {
		if kind != nil && kind.Flat != want {
			r.fault(n, path, msg, hint)
		}
	}
	return func(n *yaml.Node, path string) {
		to.Kind = retention.StartField
		switch word := retention.StartKind(n.Value); {
		case n.Kind == yaml.ScalarNode && n.Style == 0 && (word == retention.StartObject || word == retention.StartEvent):
			to.Kind = word
			flat(n, path, "is not what a row has", "name a column", true)
		case n.Kind == yaml.SequenceNode, n.Kind == yaml.ScalarNode && alternatives.MatchString(n.Value):
			r.fault(n, path, "is more than one starting point: a rule has no or",
				"write a rule for each case with when:, or {latest: [entity.column]} for the later of related rows")
		case n.Kind == yaml.MappingNode:
			r.mapping(
				n, path,
				key{"latest", true, r.related(&to.Latest)},
				key{"field", false, r.text(&to.Field)},
			)
			flat(n, path, "asks for related rows, but entities of this connector have no ties", "name a field", false)
		default:
			r.text(&to.Field)(n, path)
		}
	}
}

// related reads columns of other entities, as entity.column.
func (r *systemReader) related(to *[]retention.Related) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var names []string
		r.names(&names)(n, path)
		for i, name := range names {
			dot := strings.LastIndexByte(name, '.')
			if dot <= 0 || dot == len(name)-1 {
				r.faultAt(fmt.Sprintf("%s[%d]", path, i), "must be an entity and its column", "write orders.placed_at")
				continue
			}
			*to = append(*to, retention.Related{Entity: name[:dot], Field: name[dot+1:]})
		}
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			r.fault(n, path, "declares nothing", "write [orders.placed_at]")
		}
	}
}

// missing reads what a start that is null means.
func (r *systemReader) missing(to *retention.StartingPoint) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.MappingNode {
			to.Null = retention.NullOther
			r.mapping(n, path, key{"field", true, r.text(&to.NullField)})
			return
		}
		to.Null = retention.NullStart(n.Value)
		if to.Null != retention.NullKeep && to.Null != retention.NullDue {
			r.fault(n, path, "must be keep, due or a field", "write keep (not yet started), due (at once), or {field: created_at}")
		}
	}
}

// conditions reads which rows are meant, by field: null, not_null, one value or a list of them. Quoted words are values.
func (r *systemReader) conditions(to *[]dsr.Condition) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.each(n, path, func(field string, _, v *yaml.Node) {
			at := join(path, field)
			c := dsr.Condition{Field: field}
			value := func(n *yaml.Node, path string) {
				if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
					r.fault(n, path, "must be a single value", "write null and not_null alone, other values alone or in a list")
					return
				}
				c.Values = append(c.Values, n.Value)
			}
			switch {
			case v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null":
				c.Null = true
			case v.Kind == yaml.ScalarNode && v.Style == 0 && v.Value == "not_null":
				c.NotNull = true
			case v.Kind == yaml.SequenceNode && len(v.Content) > 0:
				r.list(v, at, value)
			default:
				value(v, at)
			}
			*to = append(*to, c)
		})
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
			r.fault(n, path, "declares nothing", "write {status: closed}")
		}
	}
}

func (r *systemReader) growth(to *float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		v, err := strconv.ParseFloat(n.Value, 64)
		if tag := n.ShortTag(); n.Kind != yaml.ScalarNode || (tag != "!!int" && tag != "!!float") || err != nil || !(v > 1) {
			r.fault(n, path, "must be a number above 1", "write 3 for three times as much as the last runs")
			return
		}
		*to = v
	}
}

// retention checks what rules refer to.
func (v *systemValidator) retention(e *connectors.Entity, at string) {
	for i, rule := range e.Rules {
		path := fmt.Sprintf("%s.retention[%d]", at, i)
		v.maskFields(e, path+".mask", rule.Masks)
		v.minima(e, i, path)
		for j, related := range rule.Start.Latest {
			place := fmt.Sprintf("%s.start.latest[%d]", path, j)
			target := v.s.Entity(related.Entity)
			switch {
			case target == nil:
				v.faultAt(place, "refers to an entity that this system does not declare", nearest(related.Entity, v.entityNames()))
			case !slices.ContainsFunc(target.OwnedBy, func(o connectors.Owner) bool { return o.Entity == e.Name }):
				v.faultAt(place, "is not of rows that "+e.Name+" owns", "related rows are those whose owned_by leads here")
			}
		}
	}
}

// minima refuses a rule by which rows would go whose statutory minimum cannot be asked for, and one whose own minimum an
// erasure would not meet: in a flat system, what must stay when a person asks says keep.
func (v *systemValidator) minima(e *connectors.Entity, at int, path string) {
	rule := e.Rules[at]
	if _, lawful := rule.Class.Statutory(); lawful && v.flat && e.Keep == nil && e.Erase != dsr.Expire {
		v.faultAt(path+".class", "has a statutory minimum, and an erasure takes the records before it has ended",
			`write keep: {article: "17(3)(b)", class: `+rule.Class.Name+`} in place of erase: `+string(e.Erase))
	}
	if rule.Action == retention.Pseudonymise {
		return
	}
	if e.Keep != nil && v.m.Classes[e.Keep.Class].Minimum != (retention.Period{}) &&
		!slices.ContainsFunc(e.Rules, func(r connectors.Rule) bool { return r.Class.Name == e.Keep.Class }) {
		v.faultAt(path, "takes rows that are kept for class "+e.Keep.Class+", and no rule says when its statutory minimum begins",
			"write a rule of that class too: {class: "+e.Keep.Class+", start: COLUMN, action: delete}")
	}
	if rule.Action != retention.Expire {
		return
	}
	waits := minimaBeside(e, at)
	for i := range waits {
		waits[i].Class.Period = waits[i].Class.Minimum
	}
	for _, r := range e.Rules[:at] {
		if r.Action == retention.Next {
			waits = append(waits, r)
		}
	}
	for _, r := range waits {
		if r.Start.Kind != rule.Start.Kind || r.Class.Start.EndsYear() || !rule.Class.Period.Covers(r.Class.Period) {
			v.faultAt(path+".action", "expire cannot wait for another rule of the entity, "+r.Name+": a system's own retention reads nothing",
				"write action: delete, or a class whose period is the longer one and whose start is the same")
		}
	}
}
