package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// validateFrozen checks a Hold on an Entity.
func (e *Engine) validateFrozen(ctx context.Context, a dsr.Actor, m *atlas, h *dsr.Hold) error {
	if h.Tenant != "" {
		return invalid("tenant", "is for holds on subjects only", "a hold on an entity holds every tenant's rows; add a condition")
	}
	if m.Tenants != "" && a.Tenants != nil {
		return &dsr.Error{Code: dsr.CodeForbidden, Field: "entity", Msg: "is held by whoever works for every tenant only"}
	}
	s := m.System(h.System)
	if s == nil {
		return invalid("system", "is not a system of the data map", "GET /v1/systems (lethe system list) lists them")
	}
	entity := s.Entity(h.Entity)
	if entity == nil {
		return invalid("entity", "is not an entity of that system", "")
	}
	for i, w := range h.When {
		field := "when[" + strconv.Itoa(i) + "]"
		given := 0
		for _, is := range []bool{len(w.Values) > 0, w.Null, w.NotNull} {
			if is {
				given++
			}
		}
		if w.Field == "" || given != 1 {
			return invalid(field, "is not a condition", "a field, and one of values, null and not_null")
		}
		named := slices.ContainsFunc(entity.Fields, func(f connectors.Field) bool { return f.Name == w.Field && f.Identifier != "" })
		if named || len(w.Values) > 0 && slices.Contains(entity.Mentions, w.Field) {
			return invalid(field, "names a person by an identifier", "hold the subject: its identifiers are kept encrypted")
		}
	}
	return e.fits(ctx, m, s.Name, entity, h.When)
}

// fits refuses a condition that no row of the Entity can meet, by what the System says of its columns: on a field that
// it has not, or a value that the field cannot hold. Every Sweep of the System would fail by the first, and perhaps by
// the second; else it would hold nothing, and nobody would see that. Of a System that does not answer, or does not
// describe the Entity, nothing is known.
func (e *Engine) fits(ctx context.Context, m *atlas, system string, entity *connectors.Entity, when []dsr.Condition) error {
	if len(when) == 0 || e.kinds[m.System(system).Connector].Flat { // records have more fields than a map declares
		return nil
	}
	conn, release, err := e.connect(ctx, m, system)
	if err != nil {
		return nil
	}
	defer release()
	schema, err := conn.connector.Describe(ctx)
	if err != nil {
		return nil
	}
	for _, s := range schema.Entities {
		if s.Name != entity.From() || len(s.Columns) == 0 {
			continue
		}
		for i, w := range when {
			at := "when[" + strconv.Itoa(i) + "]"
			n := slices.IndexFunc(s.Columns, func(c connectors.Column) bool { return c.Name == w.Field })
			if n < 0 {
				return invalid(at+".field", "is not a field of "+system+"."+entity.Name, "")
			}
			c := s.Columns[n]
			if len(w.Values) > 0 && !c.Comparable() {
				return invalid(at+".field", "is of type "+c.Type+", which has no values to compare", "use null, not_null, or another field")
			}
			for j, v := range w.Values {
				if !c.Takes(v) {
					hint := ""
					if len(c.Enum) > 0 {
						hint = "write one of " + strings.Join(c.Enum, ", ")
					}
					return invalid(at+".values["+strconv.Itoa(j)+"]", "cannot be in "+w.Field+", which is of type "+c.Type, hint)
				}
			}
		}
	}
	return nil
}
