package sqldb

import "github.com/lethe-gdpr/lethe/connectors"

// whereTenant appends the tenant's predicate, so that no statement crosses tenants.
func (e *entity) whereTenant(s *statement, alias, tenant string) *statement {
	if e.tenant == nil || tenant == everyTenant {
		return s
	}
	return s.add(" AND ", alias, e.tenant.quoted, " = ").value(e.tenant, cell{tenant, true})
}

// whereTie appends the tie's discriminator.
func (t *tie) whereTie(s *statement, alias string) *statement {
	if t.disc == nil {
		return s
	}
	return s.add(" AND ", alias, t.disc.quoted, " = ").value(t.disc, cell{t.discValue, true})
}

// list writes the columns as they are selected: keys must come back in the form in which they can be sent again.
func (s *statement) list(alias string, cols []*column) *statement {
	for i, c := range cols {
		if i > 0 {
			s.add(", ")
		}
		s.selected(alias, c)
	}
	return s
}

// selected writes one column. SQLite's driver would parse dates into its own form.
func (s *statement) selected(alias string, c *column) *statement {
	if c.sqlite && (c.class == connectors.ClassDate || c.class == connectors.ClassTime) {
		return s.add("CAST(", alias, c.quoted, " AS TEXT)")
	}
	return s.add(alias, c.quoted)
}

// names writes column names for ORDER BY and GROUP BY.
func (s *statement) names(alias string, cols []*column) *statement {
	for i, c := range cols {
		if i > 0 {
			s.add(", ")
		}
		s.add(alias, c.quoted)
	}
	return s
}
