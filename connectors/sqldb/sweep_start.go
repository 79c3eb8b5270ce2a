package sqldb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/retention"
)

// A starting point is compared with a constant and never the other way about: "column < cut-off" is what an index on the
// column serves. Columns without a zone are read in the controller's. Text must be an ISO 8601 date or time (sweep_text.go),
// whole numbers are seconds since 1970.

// starts is a starting point with the cut-off before which a row's period has ended.
type starts struct {
	m      *model
	e      *entity
	before time.Time
	zone   *time.Location
	field  *column // nil when only related rows count
	null   retention.NullStart
	other  *column
	latest []related
}

// related is a column of rows that the row owns, through one or more references: path leads from them to the row.
type related struct {
	path []*tie
	col  *column
}

// newStarts reads a rule's starting point. It refuses what cannot be compared.
func (m *model) newStarts(e *entity, r connectors.Rule, before time.Time, zone *time.Location) (starts, error) {
	if zone == nil {
		zone = before.Location()
	}
	u := starts{m: m, e: e, before: before, zone: zone, null: r.Start.Null}
	var err error
	if r.Start.Field != "" {
		if u.field, err = e.startColumn(r.Start.Field); err != nil {
			return u, err
		}
	} else if len(r.Start.Latest) == 0 {
		return u, wrongMap(e.Name, "", "the rule's start is not a column", "Rows of a database have neither object age nor event time.")
	}
	if u.null == retention.NullOther {
		if u.other, err = e.startColumn(r.Start.NullField); err != nil {
			return u, err
		}
	}
	for _, l := range r.Start.Latest {
		child := m.byName[l.Entity]
		if child == nil {
			return u, wrongMap(e.Name, "", "the rule's start is in an entity that is not in this system", "")
		}
		col, err := child.startColumn(l.Field)
		if err != nil {
			return u, err
		}
		paths := ownedPaths(child, e)
		if len(paths) > maxPaths {
			return u, wrongMap(e.Name, "", fmt.Sprintf("the rule's start is in %s, whose rows it owns in more than %d ways", child.Name, maxPaths),
				"Let the rule start at rows that are nearer.")
		}
		if paths == nil {
			return u, wrongMap(e.Name, "", fmt.Sprintf("the rule's start is in %s, whose rows it does not own", child.Name), "Declare owned_by.")
		}
		for _, path := range paths {
			u.latest = append(u.latest, related{path: path, col: col})
		}
	}
	return u, nil
}

// startColumn returns a column that can be compared with a cut-off.
func (e *entity) startColumn(name string) (*column, error) {
	c := e.columns[name]
	if c == nil {
		return nil, wrongMap(e.Name, name, "a rule starts at a column that the table does not have", "")
	}
	if !startClass(c.class) {
		return nil, wrongMap(e.Name, name, fmt.Sprintf("a rule cannot start at a column of type %s", c.Type),
			"Start at a date, a time, ISO 8601 text or whole seconds since 1970.")
	}
	return c, nil
}

func startClass(c connectors.ColumnClass) bool {
	switch c {
	case connectors.ClassDate, connectors.ClassTime, connectors.ClassText, connectors.ClassInteger:
		return true
	}
	return false
}

// maxPaths bounds the ways by which a row may own another: each is a subquery, and none is left out.
const maxPaths = 16

// ownedPaths returns the chains of owning references from child up to parent, the shortest first; of more than maxPaths
// not all.
func ownedPaths(child, parent *entity) [][]*tie {
	var out [][]*tie
	open := [][]*tie{nil}
	for len(open) > 0 && len(out) <= maxPaths {
		path := open[0]
		open = open[1:]
		at := child
		if len(path) > 0 {
			at = path[len(path)-1].parent
		}
		for _, t := range at.owners {
			longer := append(slices.Clone(path), t)
			switch {
			case t.parent == parent:
				out = append(out, longer)
			case t.parent != child && !slices.ContainsFunc(path, func(p *tie) bool { return p.parent == t.parent }):
				open = append(open, longer)
			}
		}
	}
	return out
}

// earlier appends that a column lies before the cut-off.
func (u *starts) earlier(s *statement, alias string, c *column) {
	local := u.before.In(u.zone)
	name := alias + c.quoted
	less := func(v string) *statement { return s.add(name, " < ").value(c, cell{v, true}) }
	unix := strconv.FormatInt(u.before.Unix(), 10)
	switch {
	case c.class == connectors.ClassInteger: // zero is how many programs write that there is no time yet
		less(unix).add(" AND ", name, " > 0")
	case c.sqlite && c.class != connectors.ClassText: // SQLite keeps text or numbers in a column of any type
		arg := func(v string) *statement { return s.add(name, " < ").arg(v) }
		less(u.lastDay()).add(" AND CASE typeof(", name, ") WHEN 'text' THEN ")
		u.iso(s, name, arg)
		s.add(" WHEN 'integer' THEN ", name, " > 0 AND ", name, " < ").arg(u.before.Unix()).add(" ELSE 0 END")
	case c.class == connectors.ClassText:
		less(u.lastDay()).add(" AND ")
		u.iso(s, name, less)
	case s.d.name == mariadb:
		v := local.Format(time.DateOnly)
		if c.class == connectors.ClassTime {
			v = local.Format(time.DateTime)
			if strings.HasPrefix(c.Type, "timestamp") { // the session's zone is UTC
				v = u.before.UTC().Format(time.DateTime)
			}
		}
		less(v).add(" AND ", name, " > '0000-00-00' AND month(", name, ") > 0 AND dayofmonth(", name, ") > 0") // of 2024-00-00 nobody knows the day
	default: // a type without a zone takes the local time and leaves the offset
		less(local.Format("2006-01-02 15:04:05-07:00"))
	}
}

// ended appends that a row's period has ended.
func (u *starts) ended(s *statement) {
	s.add("(")
	if len(u.latest) > 0 {
		for _, r := range u.latest {
			s.add("NOT EXISTS (")
			u.rowsOf(s, r)
			s.add(" AND CASE WHEN ")
			u.earlier(s, "r0.", r.col)
			s.add(" THEN 0 ELSE 1 END = 1) AND ")
		}
		s.add("(")
	}
	if u.field != nil {
		u.earlier(s, "", u.field)
	}
	if u.mayBeNull() {
		if u.field != nil {
			s.add(" OR ", u.field.quoted, " IS NULL AND (")
		} else {
			s.add("(")
		}
		switch {
		case u.null == retention.NullDue:
			s.add("1 = 1")
		case u.null == retention.NullOther:
			u.earlier(s, "", u.other)
		default:
			s.add("1 = 0")
		}
		for _, r := range u.latest {
			s.add(" OR EXISTS (")
			u.rowsOf(s, r)
			s.add(")")
		}
		s.add(")")
	}
	if len(u.latest) > 0 {
		s.add(")")
	}
	s.add(")")
}

// mayBeNull reports whether a row can be due whose own column is NULL, or that has none. A column that is NOT NULL is not asked:
// of MariaDB's zero date, which says that there is no time yet, the server would say that it is NULL.
func (u *starts) mayBeNull() bool {
	if u.field != nil && !u.field.Nullable {
		return false
	}
	return u.field == nil || len(u.latest) > 0 || u.null == retention.NullDue || u.null == retention.NullOther
}

// rowsOf appends the query of a row's related rows, without its end.
func (u *starts) rowsOf(s *statement, r related) {
	s.add("SELECT 1 FROM ", r.path[0].child.from, " AS r0")
	for i, t := range r.path[1:] {
		s.add(" JOIN ", t.child.from, " AS r", strconv.Itoa(i+1), " ON ")
		s.joined(r.path[i], fmt.Sprintf("r%d.", i), fmt.Sprintf("r%d.", i+1))
	}
	last := len(r.path) - 1
	s.add(" WHERE ").joined(r.path[last], fmt.Sprintf("r%d.", last), u.e.from+".")
}

// joined appends that a child's reference is a parent's.
func (s *statement) joined(t *tie, child, parent string) *statement {
	for i := range t.cols {
		if i > 0 {
			s.add(" AND ")
		}
		s.add(child, t.cols[i].quoted, " = ", parent, t.refs[i].quoted)
	}
	t.whereTie(s, child)
	if t.child.tenant != nil && t.parent.tenant != nil {
		s.add(" AND ", child, t.child.tenant.quoted, " = ", parent, t.parent.tenant.quoted)
	}
	return s
}
