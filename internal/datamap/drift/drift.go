// Package drift compares a data map with what a system really has, so that a change of the database that the map does
// not know of fails a build instead of a request. It needs no more than a Schema: run it in CI against a database that
// the migrations were applied to.
package drift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Codes of drift. They are stable.
const (
	// NewTable: a table that refers to a mapped entity, or whose columns look personal, is in neither entities nor ignore.
	NewTable = "new-table"
	// NewColumn: a column of a mapped entity that the map does not speak of.
	NewColumn = "new-column"
	// NewReference: a foreign key between mapped entities that the map does not declare.
	NewReference = "new-reference"
	// VanishedTable: the map names a table that is gone.
	VanishedTable = "vanished-table"
	// VanishedColumn: the map names a column that is gone.
	VanishedColumn = "vanished-column"
	// ChangedType: a column is not what it was when the baseline was taken.
	ChangedType = "changed-type"
	// ChangedKey: a primary key is not what it was when the baseline was taken.
	ChangedKey = "changed-key"
)

// Compare returns how a system's schema differs from its map, sorted by entity, field and code. With a baseline, the
// schema that the map was last reviewed against, changed types and keys are found too; nil leaves these out.
func Compare(s *connectors.System, now connectors.Schema, baseline *connectors.Schema) []connectors.Finding {
	c := comparer{s: s, now: index(now), entities: make(map[string]*connectors.Entity)}
	for i := range s.Entities {
		e := &s.Entities[i]
		if t := c.table(e.From()); t != nil {
			c.entities[t.Name] = e
		} else {
			c.add(VanishedTable, connectors.Error, e.Name, "", fmt.Sprintf("the table %s is gone", e.From()),
				"Remove the entity, or name the table that took its place.")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Ignored)) {
		if c.table(name) == nil {
			c.add(VanishedTable, connectors.Warning, name, "", "the ignored table is gone", "Remove it from ignore.")
		}
	}
	for _, t := range c.now {
		if e := c.entities[t.Name]; e != nil {
			c.columns(e, t)
		}
	}
	c.newTables()
	if baseline != nil {
		c.changes(index(*baseline))
	}
	slices.SortFunc(c.found, func(a, b connectors.Finding) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Code, b.Code))
	})
	return c.found
}

type comparer struct {
	s        *connectors.System
	now      map[string]*connectors.EntitySchema
	entities map[string]*connectors.Entity // by table
	found    []connectors.Finding
}

func index(s connectors.Schema) map[string]*connectors.EntitySchema {
	m := make(map[string]*connectors.EntitySchema, len(s.Entities))
	for i := range s.Entities {
		m[s.Entities[i].Name] = &s.Entities[i]
	}
	return m
}

func (c *comparer) add(code string, severity connectors.Severity, entity, field, message, hint string) {
	c.found = append(c.found, connectors.Finding{
		Code: code, Severity: severity, Entity: entity, Field: field, Message: message, Hint: hint,
	})
}

// table finds a table by the name in the map, which may carry the default schema's name that the catalogue leaves out.
func (c *comparer) table(name string) *connectors.EntitySchema {
	if t := c.now[name]; t != nil {
		return t
	}
	if _, local, ok := strings.Cut(name, "."); ok {
		return c.now[local]
	}
	return nil
}

// columns compares one mapped entity with its table.
func (c *comparer) columns(e *connectors.Entity, t *connectors.EntitySchema) {
	spoken := spokenOf(e)
	for _, name := range t.PrimaryKey {
		spoken[name] = true
	}
	has := make(map[string]bool, len(t.Columns))
	for _, col := range t.Columns {
		has[col.Name] = true
		if spoken[col.Name] {
			continue
		}
		message := fmt.Sprintf("the column of type %s is new to the map", col.Type)
		if g, ok := connectors.GuessPersonal(col); ok {
			message += " and looks like " + g.Category
		}
		severity := connectors.Error
		if col.Generated {
			severity = connectors.Warning
		}
		c.add(NewColumn, severity, e.Name, col.Name, message, "Add it to fields or mentions, or to not_personal after looking at it.")
	}
	for _, name := range slices.Sorted(maps.Keys(spoken)) {
		if !has[name] {
			c.add(VanishedColumn, connectors.Error, e.Name, name, "the column is gone", "Remove it from the map, or correct its name.")
		}
	}
	for _, r := range t.References {
		to := c.entities[r.Entity]
		if to == nil || declares(e, to.Name, r.Columns) {
			continue
		}
		c.add(NewReference, connectors.Error, e.Name, strings.Join(r.Columns, ", "),
			fmt.Sprintf("a foreign key to %s that the map does not declare", to.Name), "Add it to owned_by or accessed_by.")
	}
}

// spokenOf returns every column that the map names for an entity.
func spokenOf(e *connectors.Entity) map[string]bool {
	spoken := make(map[string]bool)
	for _, f := range e.Fields {
		spoken[f.Name] = true
	}
	for _, name := range slices.Concat(e.NotPersonal, e.Mentions) {
		spoken[name] = true
	}
	if e.Tenant != "" {
		spoken[e.Tenant] = true
	}
	for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
		for _, name := range o.Columns {
			spoken[name] = true
		}
		if o.When != nil {
			spoken[o.When.Column] = true
		}
	}
	for name := range e.Masks {
		spoken[name] = true
	}
	for name := range e.Anchor {
		spoken[name] = true
	}
	for name := range e.ExportMask {
		spoken[name] = true
	}
	for _, masks := range e.OnOwnerErased {
		for name := range masks {
			spoken[name] = true
		}
	}
	return spoken
}

func declares(e *connectors.Entity, entity string, columns []string) bool {
	same := func(a, b []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
	}
	return slices.ContainsFunc(slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns), func(o connectors.Owner) bool {
		return o.Entity == entity && same(o.Columns, columns)
	})
}

// newTables reports tables outside the map that belong to a person's data. Partitions and views show rows of other
// tables.
func (c *comparer) newTables() {
	outside := make(map[string]*connectors.EntitySchema)
	for name, t := range c.now {
		if c.entities[name] == nil && !c.ignored(name) && !t.View && !t.Partition {
			outside[name] = t
		}
	}
	reason := make(map[string]string)
	for changed := true; changed; {
		changed = false
		for _, name := range slices.Sorted(maps.Keys(outside)) {
			if reason[name] != "" {
				continue
			}
			for _, r := range outside[name].References {
				if c.entities[r.Entity] != nil || reason[r.Entity] != "" {
					reason[name] = fmt.Sprintf("%s refers to %s", strings.Join(r.Columns, ", "), r.Entity)
					changed = true
					break
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(outside)) {
		var personal []string
		for _, col := range outside[name].Columns {
			if g, ok := connectors.GuessPersonal(col); ok && (!g.Weak || g.Category == "user.name" && g.Word != "title") {
				personal = append(personal, col.Name)
			}
		}
		var why []string
		if reason[name] != "" {
			why = append(why, reason[name])
		}
		if len(personal) > 0 {
			why = append(why, strings.Join(personal, ", ")+" look personal")
		}
		if len(why) > 0 {
			c.add(NewTable, connectors.Error, name, "", "the table is new to the map: "+strings.Join(why, "; "),
				"Add it to entities, or to ignore with a reason.")
		}
	}
}

func (c *comparer) ignored(table string) bool {
	for name := range c.s.Ignored {
		if t := c.table(name); t != nil && t.Name == table {
			return true
		}
	}
	return false
}

// changes compares mapped tables with the schema of the last review.
func (c *comparer) changes(before map[string]*connectors.EntitySchema) {
	for name, e := range c.entities {
		old, now := before[name], c.now[name]
		if old == nil {
			continue
		}
		spoken := spokenOf(e)
		for _, col := range now.Columns {
			i := slices.IndexFunc(old.Columns, func(o connectors.Column) bool { return o.Name == col.Name })
			if i < 0 || !spoken[col.Name] && !slices.Contains(now.PrimaryKey, col.Name) {
				continue
			}
			c.changed(e, old.Columns[i], col)
		}
		if !slices.Equal(old.PrimaryKey, now.PrimaryKey) {
			c.add(ChangedKey, connectors.Error, e.Name, "", fmt.Sprintf("the primary key was (%s) and is (%s)",
				strings.Join(old.PrimaryKey, ", "), strings.Join(now.PrimaryKey, ", ")), "Look at every reference to this entity.")
		}
	}
}

// changed reports a column whose values may no longer be found or masked as the map says.
func (c *comparer) changed(e *connectors.Entity, old, now connectors.Column) {
	var what []string
	severity := connectors.Warning
	if old.Type != now.Type {
		what = append(what, fmt.Sprintf("type %s became %s", old.Type, now.Type))
	}
	if old.Class != now.Class || now.MaxLen > 0 && (old.MaxLen == 0 || now.MaxLen < old.MaxLen) {
		severity = connectors.Error
	}
	if old.Nullable && !now.Nullable {
		what = append(what, "it became NOT NULL")
		severity = connectors.Error
	}
	if !old.Nullable && now.Nullable {
		what = append(what, "it may be NULL now")
	}
	if !old.Generated && now.Generated {
		what = append(what, "it is generated now")
		severity = connectors.Error
	}
	if !slices.Equal(old.Enum, now.Enum) {
		what = append(what, "its allowed values changed")
	}
	if len(what) > 0 {
		c.add(ChangedType, severity, e.Name, now.Name, strings.Join(what, "; "), "Look at its masks and at references to it.")
	}
}

// Failed reports whether findings should fail a build.
func Failed(found []connectors.Finding) bool {
	return slices.ContainsFunc(found, func(f connectors.Finding) bool { return f.Severity == connectors.Error })
}
