package datamap

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/retention"
)

// Rule is one deletion rule of the map, and where it stands.
type Rule struct {
	connectors.Rule
	System, Entity string
	// Earlier are the rules of the Entity before this one whose action is next, in the order of the map.
	Earlier []connectors.Rule
}

// Rules lists every deletion rule in the order of the map: System, Entity, rule.
func (m *Map) Rules() []Rule {
	var all []Rule
	for _, s := range m.Systems {
		for _, e := range s.Entities {
			var earlier []connectors.Rule
			for _, rule := range e.Rules {
				all = append(all, Rule{Rule: rule, System: s.Name, Entity: e.Name, Earlier: slices.Clone(earlier)})
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

// Cut returns where the rule cuts on today, which is in the controller's time zone.
func (r *Rule) Cut(today time.Time) connectors.Cut {
	cut := connectors.Cut{Before: r.Class.Cutoff(today), Zone: today.Location()}
	for _, earlier := range r.Earlier {
		cut.After = append(cut.After, connectors.Bound{Rule: earlier, Before: earlier.Class.Cutoff(today)})
	}
	return cut
}

// Hash returns the SHA-256, in hex, of everything that decides what the rule deletes, the rules that it waits for
// included: what a disposition review approves.
func (r *Rule) Hash() string {
	text := func(rule *connectors.Rule, waits []string) string {
		b, err := json.Marshal(struct {
			Masks any      // by field, in order
			Waits []string `json:",omitempty"`
		}{rule.Masks, waits})
		if err != nil {
			panic(fmt.Sprintf("masks of strings do not marshal: %v", err)) // cannot happen
		}
		return rule.Rule.Hash(string(b))
	}
	var waits []string
	for i := range r.Earlier {
		waits = append(waits, text(&r.Earlier[i], nil))
	}
	return text(&r.Rule, waits)
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
