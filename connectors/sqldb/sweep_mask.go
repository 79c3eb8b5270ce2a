package sqldb

import (
	"strconv"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/mask"
)

// unmasked appends that a rule's masks would change the row. A column whose masked values look like any other does not
// take part: another one of the rule tells (see [entity.maskings]).
func (u *sweepRule) unmasked(s *statement) *statement {
	if len(u.masks) == 0 {
		return s
	}
	s.add(" AND (")
	first := true
	for _, k := range u.masks {
		if !k.known {
			continue
		}
		if !first {
			s.add(" OR ")
		}
		first = false
		s.changes(u.e, k)
	}
	return s.add(")")
}

// changes appends that a mask would change a row's column.
func (s *statement) changes(e *entity, k masking) {
	c, name := k.col, k.col.quoted
	step := strconv.FormatInt(k.spec.Step, 10)
	switch k.spec.Kind {
	case mask.Null:
		s.add(name, " IS NOT NULL")
	case mask.Constant:
		s.add("(", name, " IS NULL OR ", name, " <> ").value(c, cell{k.spec.Value, true}).add(")")
	case mask.Redact:
		s.add(name, " <> ").value(c, cell{clipped(c), true})
	case mask.Random:
		s.add("(", name, " IS NULL OR ", name, " NOT LIKE ").arg(madeLike(e.target(c).Format)).add(")")
	case mask.HMAC:
		s.add(name, " NOT LIKE ").arg(madeLike(e.target(c).Format))
	case mask.Year:
		s.notNewYear(c)
	case mask.Generalise:
		switch {
		case c.class == connectors.ClassText && s.d.name == sqlite:
			s.add("length(", name, ") > ", step)
		case c.class == connectors.ClassText:
			s.add("char_length(", name, ") > ", step)
		case s.d.name == postgres:
			s.add(name, "::numeric % ", step, " <> 0")
		case s.d.name == sqlite:
			s.add("(", name, " <> CAST(", name, " AS INTEGER) OR ", name, " % ", step, " <> 0)")
		default:
			s.add(name, " % ", step, " <> 0")
		}
	case mask.TruncateIP:
		text := name
		switch {
		case s.d.name == postgres && c.class == connectors.ClassIP:
			text = "host(" + name + ")"
		case s.d.name == mariadb:
			text = "CAST(" + name + " AS CHAR)"
		}
		s.add("(", name, " IS NOT NULL AND NOT (", text, " LIKE '%.%.%.0' AND ", text, " NOT LIKE '%:%' OR ",
			text, " LIKE '%::' AND ", text, " NOT LIKE '%:%:%:%:%:%'))")
	}
}

// notNewYear appends that a date is not the first moment of its year.
func (s *statement) notNewYear(c *column) {
	name := c.quoted
	switch {
	case c.class == connectors.ClassText || s.d.name == sqlite:
		s.add("(", name, " NOT LIKE '____-01-01' AND ", name, " NOT LIKE '____-01-01 00:00:00')")
	case s.d.name == postgres:
		s.add(name, " <> date_trunc('year', ", name, ")")
	default:
		s.add("(MONTH(", name, ") <> 1 OR DAY(", name, ") <> 1 OR TIME(", name, ") <> '00:00:00')")
	}
}

// madeLike is the pattern of values that Random and HMAC make: see [mask.Made].
func madeLike(f mask.Format) string {
	if f == mask.Phone {
		return "+999___________"
	}
	return "%@x.invalid"
}
