package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// checkMasks reports masks that cannot hold in their columns, and personal fields of rows that stay without a mask.
func (k *checker) checkMasks(ctx context.Context) {
	for _, e := range k.entities {
		if e.table == nil {
			continue
		}
		all := e.allMasks()
		for _, where := range slices.Sorted(maps.Keys(all)) {
			for _, name := range slices.Sorted(maps.Keys(all[where])) {
				if c := columnOf(e.table, name); c != nil {
					k.checkMask(ctx, e, c, all[where], where)
				}
			}
		}
		for _, name := range e.Mentions {
			if c := columnOf(e.table, name); c != nil {
				k.checkMention(e, c)
			}
		}
		k.checkUnmasked(e)
		k.checkRemoval(ctx, e)
	}
}

// checkRemoval reports identifiers that cannot be taken out of rows that belong to other people.
func (k *checker) checkRemoval(ctx context.Context, e *checked) {
	if e.Subject || e.Keep != nil {
		return
	}
	for _, f := range e.Fields {
		c := columnOf(e.table, f.Name)
		if f.Identifier == "" || c == nil || slices.Contains(e.Mentions, f.Name) || k.referring(e, f.Name) != "" {
			continue
		}
		spec := mask.Spec{Kind: mask.Random}
		switch {
		case c.Class == connectors.ClassJSON:
			spec.Kind = mask.Redact
		case c.Nullable:
			spec.Kind = mask.Null
		}
		k.checkMask(ctx, e, c, map[string]mask.Spec{f.Name: spec}, "an identifier in somebody else's row")
	}
}

func (k *checker) checkMask(ctx context.Context, e *checked, c *connectors.Column, masks map[string]mask.Spec, where string) {
	spec := masks[c.Name]
	fail := func(message, hint string) {
		k.fail(connectors.FindMask, e.Name, c.Name, where+": "+message, hint)
	}
	if slices.Contains(e.table.PrimaryKey, c.Name) {
		fail("the column is part of the primary key, which other rows may refer to",
			"Delete the row, or move personal data out of the key.")
		return
	}
	if r := k.referring(e, c.Name); r != "" && spec.Kind != mask.Null {
		fail(fmt.Sprintf("the column refers to %s, where the masked value does not exist", r), "Use null, if the column may be NULL.")
		return
	}
	if r := k.referredBy(e, c.Name); r != "" {
		fail(fmt.Sprintf("%s refers to the column", r), "Delete the row, or refer to another column.")
		return
	}
	if err := spec.Holds(k.target(e, c)); err != nil {
		message, hint := err.Error(), ""
		var fault *dsr.Error
		if errors.As(err, &fault) {
			message, hint = fault.Msg, fault.Hint
		}
		fail(message, hint)
		return
	}
	k.checkConstraints(ctx, e, c, masks, where)
}

// checkMention reports declared free text that redaction cannot change.
func (k *checker) checkMention(e *checked, c *connectors.Column) {
	text := []connectors.ColumnClass{connectors.ClassText, connectors.ClassJSON, connectors.ClassArray, connectors.ClassOther}
	switch {
	case c.Generated:
		k.fail(connectors.FindMask, e.Name, c.Name, "mentions: the column is generated", "Name the columns that it is generated from.")
	case !slices.Contains(text, c.Class):
		k.fail(connectors.FindMask, e.Name, c.Name, fmt.Sprintf("mentions: a column of type %s holds no text", c.Type), "Remove it from mentions.")
	}
}

// checkUnmasked reports personal fields of rows that stay after an erasure under masks alone.
func (k *checker) checkUnmasked(e *checked) {
	masks, where, ok := stays(e.Entity)
	if !ok {
		return
	}
	for _, f := range e.Fields {
		_, masked := masks[f.Name]
		c := columnOf(e.table, f.Name)
		if masked || c == nil || c.Generated || slices.Contains(e.table.PrimaryKey, f.Name) ||
			slices.Contains(e.Mentions, f.Name) || f.Category == "" && f.Identifier == "" {
			continue
		}
		k.fail(FindUnmaskedField, e.Name, f.Name, fmt.Sprintf("the row stays and %s leaves this personal field as it is", where),
			"Mask it there too.")
	}
}

// referring returns the table that a foreign key of the column refers to.
func (k *checker) referring(e *checked, column string) string {
	for _, r := range e.table.References {
		if slices.Contains(r.Columns, column) {
			return r.Entity
		}
	}
	return ""
}

// referredBy returns a table whose foreign key refers to the column.
func (k *checker) referredBy(e *checked, column string) string {
	for i := range k.c.schema.Entities {
		t := &k.c.schema.Entities[i]
		for _, r := range t.References {
			if r.Entity == e.table.Name && slices.Contains(r.References, column) {
				return t.Name
			}
		}
	}
	return ""
}

// target describes a column for the masks.
func (k *checker) target(e *checked, c *connectors.Column) mask.Target {
	t := mask.Target{
		Class: mask.Class(c.Class), MaxLen: c.MaxLen, Bits: bits(c.Type), Nullable: c.Nullable, Generated: c.Generated, Enum: c.Enum,
		Format: k.format(e, c.Name),
	}
	unique := func(index []string) bool { return slices.Contains(index, c.Name) }
	t.Unique = slices.ContainsFunc(e.table.Unique, unique) || slices.ContainsFunc(e.facts.looseUnique, unique)
	return t
}

// format returns the shape that the column's values have, by what the map says of them.
func (k *checker) format(e *checked, column string) mask.Format {
	for _, f := range e.Fields {
		if f.Name != column {
			continue
		}
		switch kind := k.d.System.Identifiers[f.Identifier]; {
		case kind == dsr.KindEmail, strings.HasPrefix(f.Category, "user.contact.email"):
			return mask.Email
		case kind == dsr.KindPhone, strings.HasPrefix(f.Category, "user.contact.phone"):
			return mask.Phone
		}
	}
	return mask.Free
}

// bits is the width of an integer type; 0 is 64.
func bits(typ string) int {
	switch base, _, _ := strings.Cut(strings.ToLower(typ), "("); strings.TrimSpace(base) {
	case "smallint", "int2":
		return 16
	case "integer", "int", "int4":
		return 32
	case "mediumint":
		return 24
	case "tinyint":
		return 8
	}
	return 0
}

// checkConstraints asks the database whether the masked value satisfies the column's type and CHECK constraints. Where
// the value is not known beforehand, or other columns take part, it can only warn.
func (k *checker) checkConstraints(ctx context.Context, e *checked, c *connectors.Column, masks map[string]mask.Spec, where string) {
	value, known := fixedValue(masks[c.Name])
	d := k.d.dialect
	if known && value != nil && d.name == postgres && c.Class != connectors.ClassText {
		s := d.statement("SELECT ").arg(value).add("::text::", c.Type, " IS NULL")
		if _, refused := k.ask(ctx, s); refused {
			k.fail(connectors.FindMask, e.Name, c.Name, fmt.Sprintf("%s: the type %s does not accept the value", where, c.Type),
				"Write a value of the column's type.")
			return
		}
	}
	for _, check := range e.facts.checks {
		inside := slices.DeleteFunc(identifiersIn(check), func(w string) bool { return columnOf(e.table, w) == nil })
		slices.Sort(inside)
		inside = slices.Compact(inside)
		if !slices.Contains(inside, c.Name) || strings.HasPrefix(check, "json_valid(") {
			continue
		}
		s, ok := k.checkStatement(e, check, inside, masks)
		holds, refused := false, false
		if ok && known {
			holds, refused = k.ask(ctx, s)
		}
		switch {
		case !ok || !known || refused:
			k.warn(FindMaskUnproven, e.Name, c.Name, where+": a CHECK constraint applies whose outcome cannot be told beforehand",
				"Make sure that masked values satisfy it, or use a constant.")
		case !holds:
			k.fail(connectors.FindMask, e.Name, c.Name, where+": the value violates a CHECK constraint of the table", "Choose a value that it allows.")
		}
	}
}

// fixedValue returns what a mask writes, where that does not depend on the row.
func fixedValue(s mask.Spec) (value any, known bool) {
	switch s.Kind {
	case mask.Null:
		return nil, true
	case mask.Constant:
		return s.Value, true
	}
	return nil, false
}

// checkStatement builds the question whether a CHECK holds for a row of masked values; not ok when it depends on
// columns that keep their values.
func (k *checker) checkStatement(e *checked, check string, columns []string, masks map[string]mask.Spec) (*statement, bool) {
	d := k.d.dialect
	s := d.statement("SELECT (", check, ") FROM (SELECT ")
	for i, name := range columns {
		value, known := fixedValue(masks[name])
		if _, masked := masks[name]; !masked || !known {
			return nil, false
		}
		if i > 0 {
			s.add(", ")
		}
		switch typ := columnOf(e.table, name).Type; {
		case d.name == postgres:
			s.arg(value).add("::text::", typ)
		case d.name == sqlite && typ != "":
			s.add("CAST(").arg(value).add(" AS ", typ, ")")
		default:
			s.arg(value)
		}
		s.add(" AS ", d.quote(name))
	}
	return s.add(") AS t"), true
}

// ask runs a question with one truth value for answer; NULL is true, as in a CHECK. refused says that the database
// could not answer.
func (k *checker) ask(ctx context.Context, s *statement) (yes, refused bool) {
	answer := sql.NullBool{}
	err := each(ctx, k.d.SQL, s.sb.String(), s.args, func(rows *sql.Rows) error { return rows.Scan(&answer) })
	return !answer.Valid || answer.Bool, err != nil
}
