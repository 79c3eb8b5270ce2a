package datamap

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Rule is one deletion rule of the map, and where it stands.
type Rule struct {
	connectors.Rule
	System, Entity string
	// Earlier are the rules of the Entity before this one whose action is next, in the order of the map.
	Earlier []connectors.Rule
	// Minima are the other rules of the Entity that have a statutory minimum, for a rule by which rows go.
	Minima []connectors.Rule
	reach  string // what a Sweep of the rule reaches: see [Map.reach]
}

// Rules lists every deletion rule in the order of the map: System, Entity, rule.
func (m *Map) Rules() []Rule {
	var all []Rule
	for _, s := range m.Systems {
		for _, e := range s.Entities {
			var earlier []connectors.Rule
			for i, rule := range e.Rules {
				all = append(all, Rule{
					Rule: rule, System: s.Name, Entity: e.Name, Earlier: slices.Clone(earlier), Minima: minimaBeside(&e, i),
					reach: m.reach(s, &e, rule.Action),
				})
				if rule.Action == retention.Next {
					earlier = append(earlier, rule)
				}
			}
		}
	}
	return all
}

// Rule returns the named rule.
func (m *Map) Rule(name string) (Rule, bool) {
	for _, r := range m.Rules() {
		if r.Name == name {
			return r, true
		}
	}
	return Rule{}, false
}

// minimaBeside lists the rules of an Entity, but for the one at a position and those that it waits for anyway, whose
// statutory minimum keeps rows from going by it: a minimum is of the rows that its rule means, whichever rule they are
// due by. What is masked stays, so it keeps nothing from that.
func minimaBeside(e *connectors.Entity, at int) []connectors.Rule {
	if e.Rules[at].Action == retention.Pseudonymise {
		return nil
	}
	var all []connectors.Rule
	for i, r := range e.Rules {
		waits := i < at && r.Action == retention.Next
		if i != at && !waits && r.Class.Minimum != (retention.Period{}) {
			all = append(all, r)
		}
	}
	return all
}

// Cut returns where the rule cuts on today, which is in the controller's time zone.
func (r *Rule) Cut(today time.Time) connectors.Cut {
	cut := connectors.Cut{Before: r.Class.Cutoff(today), Zone: today.Location()}
	for _, earlier := range r.Earlier {
		cut.After = append(cut.After, connectors.Bound{Rule: earlier, Before: earlier.Class.Cutoff(today)})
	}
	for _, other := range r.Minima {
		other.Class.Period = other.Class.Minimum
		cut.After = append(cut.After, connectors.Bound{Rule: other, Before: other.Class.Cutoff(today)})
	}
	return cut
}

// Hash returns the SHA-256, in hex, of everything in the map that decides what the rule deletes: the rule, those that it
// waits for, where its rows are, and what goes with them. It is what a disposition review approves.
func (r *Rule) Hash() string {
	text := func(rule *connectors.Rule, waits []string) string {
		return rule.Rule.Hash(canonical(struct {
			Masks any      // by field, in order
			Waits []string `json:",omitempty"`
			Reach string   `json:",omitempty"`
		}{rule.Masks, waits, r.reach}))
	}
	var waits []string
	for i := range r.Earlier {
		waits = append(waits, text(&r.Earlier[i], nil))
	}
	return text(&r.Rule, waits)
}

func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a rule of strings does not marshal: %v", err)) // cannot happen
	}
	return string(b)
}

// reach is a canonical text of where the rows of an Entity's rule are, and of the Entities whose rows go with them: a rule
// whose words stay the same deletes something else when the map leads it to another table, bucket or child.
func (m *Map) reach(s *connectors.System, e *connectors.Entity, action retention.Action) string {
	family := []*connectors.Entity{e}
	if action == retention.Delete {
		family = familyOf(s, e)
	}
	members := make([]any, len(family))
	for i, e := range family {
		members[i] = memberOf(e, action)
	}
	return canonical(struct {
		Zone      string // cuts are made at its midnights
		Connector string
		Place     map[string]string
		Tenants   string
		Family    []any // the Entity first, the others by name
	}{m.Controller.Zone.String(), s.Connector, m.places[s.Name], m.Tenants, members})
}

// memberOf is what decides which rows of an Entity are those that are meant, and whether they may go with others.
func memberOf(e *connectors.Entity, action retention.Action) any {
	type place struct {
		Name, From, Tenant string
		Settings           map[string]any
	}
	at := place{e.Name, e.From(), e.Tenant, e.Settings}
	if action != retention.Delete {
		return at // every row for itself
	}
	type minimum struct {
		Minimum, From string
		FiscalYear    retention.MonthDay
		Start         retention.StartingPoint
		When          []dsr.Condition
	}
	var minima []minimum
	for _, r := range e.Rules {
		if c := r.Class; c.Minimum != (retention.Period{}) {
			minima = append(minima, minimum{c.Minimum.String(), string(c.Start), c.FiscalYear, r.Start, r.When})
		}
	}
	return struct {
		place
		OwnedBy, Owns []connectors.Owner
		OnOwnerErased any
		Erase         dsr.Method
		Masks         any
		Minima        []minimum
	}{at, e.OwnedBy, e.Owns, e.OnOwnerErased, e.Erase, e.Masks, minima}
}

// familyOf lists the Entities whose rows may go with rows of e, e itself first and the others by name.
func familyOf(s *connectors.System, e *connectors.Entity) []*connectors.Entity {
	all := []*connectors.Entity{e}
	for i := 0; i < len(all); i++ {
		at := all[i]
		leads := func(to string) func(connectors.Owner) bool {
			return func(o connectors.Owner) bool { return o.Entity == to }
		}
		for j := range s.Entities {
			next := &s.Entities[j]
			if !slices.ContainsFunc(all, func(e *connectors.Entity) bool { return e.Name == next.Name }) &&
				(slices.ContainsFunc(next.OwnedBy, leads(at.Name)) || slices.ContainsFunc(next.Owns, leads(at.Name)) ||
					slices.ContainsFunc(at.Owns, leads(next.Name))) {
				all = append(all, next)
			}
		}
	}
	slices.SortFunc(all[1:], func(a, b *connectors.Entity) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// FindKeepWithoutRule is the code of a finding: rows are kept for a deletion class, and nothing ends that.
const FindKeepWithoutRule = "keep-without-rule"

// keptForever reports kept entities that no rule of their class ends.
func (m *Map) keptForever() []connectors.Finding {
	var all []connectors.Finding
	for _, s := range m.Systems {
		for _, e := range s.Entities {
			ends := func(r connectors.Rule) bool { return r.Class.Name == e.Keep.Class }
			if e.Keep == nil || slices.ContainsFunc(e.Rules, ends) {
				continue
			}
			all = append(all, connectors.Finding{
				Code: FindKeepWithoutRule, Severity: connectors.Warning, Entity: s.Name + "." + e.Name,
				Message: "is kept for class " + e.Keep.Class + ", but has no deletion rule of that class: its rows stay for ever",
				Hint:    "Write retention: [{class: " + e.Keep.Class + ", start: COLUMN, action: delete}].",
			})
		}
	}
	return all
}
