package engine

import (
	"context"
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

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
	if len(when) == 0 {
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
			if len(w.Values) > 0 && opaque(c) {
				return invalid(at+".field", "is of type "+c.Type+", which has no values to compare", "use null, not_null, or another field")
			}
			for j, v := range w.Values {
				if !holds(c, v) {
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

// opaque reports whether values of a column are not compared as a whole.
func opaque(c connectors.Column) bool {
	return c.Class == connectors.ClassJSON || c.Class == connectors.ClassArray || c.Class == connectors.ClassBinary
}

// clockForms are how a condition may write a time.
var clockForms = []string{
	time.DateOnly, time.DateTime, "2006-01-02T15:04:05", time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07",
}

// holds reports whether a column can hold a value, given as text.
func holds(c connectors.Column, v string) bool {
	if len(c.Enum) > 0 {
		return slices.Contains(c.Enum, v)
	}
	var err error
	switch c.Class {
	case connectors.ClassInteger:
		if _, err = strconv.ParseInt(v, 10, 64); err != nil {
			_, err = strconv.ParseUint(v, 10, 64)
		}
	case connectors.ClassNumber:
		var f float64
		if f, err = strconv.ParseFloat(v, 64); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return false
		}
	case connectors.ClassBool:
		return slices.Contains([]string{"t", "true", "1", "f", "false", "0"}, strings.ToLower(v))
	case connectors.ClassDate:
		_, err = time.Parse(time.DateOnly, v)
	case connectors.ClassTime:
		return slices.ContainsFunc(clockForms, func(layout string) bool {
			_, err := time.Parse(layout, v)
			return err == nil
		})
	case connectors.ClassUUID:
		b, err := hex.DecodeString(strings.ReplaceAll(v, "-", ""))
		return err == nil && len(b) == 16
	case connectors.ClassIP:
		if _, err = netip.ParsePrefix(v); err != nil {
			_, err = netip.ParseAddr(v)
		}
	}
	return err == nil
}
