package cloudwatchlogs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Check compares the map with the log groups. See [connectors.Connector].
func (l *Logs) Check(ctx context.Context) ([]connectors.Finding, error) {
	c := checker{Logs: l}
	groups := map[string]*group{}
	unmapped := 0
	mapped := map[string]bool{}
	for _, name := range l.groups() {
		mapped[name] = true
	}
	err := l.eachGroup(ctx, "", func(g *group) bool {
		if mapped[g.name] {
			groups[g.name] = g
		} else if _, ok := l.sys.Ignored[g.name]; !ok {
			unmapped++
		}
		return true
	})
	if err := c.refused(nil, err); err != nil || len(c.out) > 0 {
		return c.out, err
	}
	for i := range l.entities {
		e := &l.entities[i]
		g := groups[e.group]
		if g == nil {
			c.found(connectors.Error, "unknown-group", e, "the log group "+e.group+" does not exist", "correct group, or the system's region")
			continue
		}
		for j := range l.entities[:i] {
			if other := &l.entities[j]; e.shares(other) {
				c.found(connectors.Error, connectors.FindTwoEntities, e, "a log stream may belong to "+other.Name+" too, whose events would go with it",
					"write patterns that do not overlap, and map events of other log groups only")
			}
		}
		c.retention(e, g)
		c.places(e, g)
		if err := c.probe(ctx, e, g); err != nil {
			return nil, err
		}
		copies, err := c.copies(ctx, g.name)
		if err := c.refused(e, err); err != nil {
			return nil, err
		}
		for _, cp := range copies {
			c.found(connectors.Warning, "subscription", e, "the "+cp.What+" hands events on to the "+cp.Recipient,
				"map where they go as a system, or see how long they stay there")
		}
	}
	if unmapped > 0 {
		c.found(connectors.Warning, "unmapped-groups", nil,
			fmt.Sprintf("the map says nothing of %d other log groups of the region", unmapped), "map them, or ignore them with a reason")
	}
	return c.out, nil
}

// shares reports whether deleting a stream of one entity could take what belongs to the other.
func (e *entity) shares(other *entity) bool {
	switch {
	case e.group != other.group || e.pattern == nil && other.pattern == nil:
		return false
	case e.pattern == nil || other.pattern == nil:
		return true
	}
	return e.pattern.Overlaps(other.pattern)
}

type checker struct {
	*Logs
	out []connectors.Finding
}

func (c *checker) found(s connectors.Severity, code string, e *entity, msg, hint string) {
	f := connectors.Finding{Code: code, Severity: s, Message: msg, Hint: hint}
	if e != nil {
		f.Entity = e.Name
	}
	c.out = append(c.out, f)
}

// refused makes findings of errors that a person must mend; it returns every other one.
func (c *checker) refused(e *entity, err error) error {
	var de *dsr.Error
	switch code := dsr.CodeOf(err); {
	case code == CodePermission && errors.As(err, &de):
		c.found(connectors.Error, connectors.FindPrivilege, e, de.Msg, de.Hint)
	case code == CodeRefused && e != nil && e.filter != "":
		c.found(connectors.Error, "bad-filter", e, "AWS does not take the filter", "see the filter pattern syntax of CloudWatch Logs")
	default:
		return err
	}
	return nil
}

// probe tries what the verbs will ask.
func (c *checker) probe(ctx context.Context, e *entity, g *group) error {
	if e.pattern != nil {
		_, _, err := c.nextStreams(ctx, e, &listing{})
		if err := c.refused(e, err); err != nil {
			return err
		}
	}
	_, _, err := c.next(ctx, e.reading(g), &cursor{})
	return c.refused(e, err)
}

// retention finds what keeps events from going when the map says that they do.
func (c *checker) retention(e *entity, g *group) {
	rule, want := e.expires(), 0
	if rule != nil {
		want = days(rule.Class)
	}
	switch {
	case g.retention == 0 && e.Erase == dsr.Expire && rule == nil:
		c.found(connectors.Error, "no-retention", e, "the log group "+g.name+" keeps its events for ever, so that an erasure never ends",
			"set its retention, or give the entity a rule with action: expire")
	case g.retention == 0 && rule != nil:
		c.found(connectors.Warning, "no-retention", e, "the log group "+g.name+" keeps its events for ever",
			fmt.Sprintf("the next sweep of %s sets %d days", rule.Name, want))
	case g.retention == 0:
		c.found(connectors.Warning, "no-retention", e, "the log group "+g.name+" keeps its events for ever", "set its retention")
	case rule != nil && g.retention != want:
		c.found(connectors.Warning, "other-retention", e,
			fmt.Sprintf("the log group %s keeps events for %d days, the rule says %d", g.name, g.retention, want),
			"the next sweep of "+rule.Name+" sets it")
	}
	if rule != nil && g.policy != "" && g.retention != want {
		c.found(connectors.Error, "account-retention", e,
			"the account-level policy "+g.policy+" decides on the retention of "+g.name+", not the rule", "change that policy")
	}
	if g.undeletable && e.pattern != nil && (e.Erase == dsr.Delete || sweeps(e)) {
		c.found(connectors.Error, "deletion-protection", e, "the log group "+g.name+" is protected from deletion, its streams too",
			"take the protection away")
	}
}

func sweeps(e *entity) bool {
	for _, r := range e.Rules {
		if r.Action == retention.Delete {
			return true
		}
	}
	return false
}

// places finds what keeps Lethe from seeing every event of a group.
func (c *checker) places(e *entity, g *group) {
	if g.class != "" && g.class != types.LogGroupClassStandard {
		c.found(connectors.Warning, "log-class", e, "the log group "+g.name+" is of the class "+string(g.class)+
			", in which not every action of the API works", "see that FilterLogEvents and DescribeLogStreams do")
	}
	if g.protected {
		c.found(connectors.Warning, "masked-events", e, "a data protection policy masks what is in "+g.name,
			"Lethe reads it unmasked, which takes logs:Unmask")
	}
	if e.filter != "" {
		c.found(connectors.Warning, "filtered", e, "events that the filter does not match are not searched",
			"map them as another entity, or see that they name nobody")
	}
}

// Describe returns the mapped log groups under their entities' names, with what the map says is in them: the service does
// not know. Ignored groups that are there are in it under their own names.
func (l *Logs) Describe(ctx context.Context) (connectors.Schema, error) {
	var s connectors.Schema
	err := l.eachGroup(ctx, "", func(g *group) bool {
		if _, ok := l.sys.Ignored[g.name]; ok {
			s.Entities = append(s.Entities, connectors.EntitySchema{Name: g.name, Bytes: g.bytes})
		}
		for i := range l.entities {
			if e := &l.entities[i]; e.group == g.name {
				s.Entities = append(s.Entities, connectors.EntitySchema{Name: e.From(), Bytes: g.bytes, Columns: e.columns()})
			}
		}
		return true
	})
	slices.SortFunc(s.Entities, func(a, b connectors.EntitySchema) int { return strings.Compare(a.Name, b.Name) })
	return s, err
}

func (e *entity) columns() []connectors.Column {
	names := slices.Concat(e.Mentions, e.NotPersonal)
	for _, f := range e.Fields {
		names = append(names, f.Name)
	}
	for name := range e.ExportMask {
		names = append(names, name)
	}
	if e.Tenant != "" {
		names = append(names, e.Tenant)
	}
	slices.Sort(names)
	var out []connectors.Column
	for _, name := range slices.Compact(names) {
		out = append(out, connectors.Column{Name: name, Class: connectors.ClassOther, Nullable: true})
	}
	return out
}
