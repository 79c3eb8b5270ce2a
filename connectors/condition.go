package connectors

import (
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Comparable reports whether a [dsr.Condition] can ask for values of the column.
func (c *Column) Comparable() bool {
	switch c.Class {
	case ClassJSON, ClassArray, ClassBinary:
		return false
	case ClassOther:
		return !slices.Contains(unequal, strings.ToLower(c.Type))
	}
	return true
}

// timeForms are those that say what the column holds. Of a moment one must say by whose clock: a session's is nobody's
// choice. A wall clock's time has no offset, and MariaDB finds nothing by one that has.
func (c *Column) timeForms() []string {
	switch t := strings.ToLower(c.Type); {
	case strings.HasPrefix(t, "timestamptz"), strings.HasSuffix(t, "with time zone"):
		return zonedForms
	case strings.HasPrefix(t, "timestamp"), strings.HasPrefix(t, "datetime"):
		return wallForms
	}
	return slices.Concat(wallForms, zonedForms)
}

// unequal are types of which no database tells whether two values are equal, or not by what they are.
var unequal = []string{
	"xml", "point", "line", "lseg", "box", "path", "polygon", "circle", // PostgreSQL
	"geometry", "linestring", "multipoint", "multilinestring", "multipolygon", "geometrycollection", // and MariaDB
}

// How a condition may write a time.
var (
	wallForms  = []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05"}
	zonedForms = []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07"}
)

// Takes reports whether the column can hold a value of a [dsr.Condition]. One that it cannot hold is met by no row, or
// refused by the System with everything that asks for it.
func (c *Column) Takes(v string) bool {
	if len(c.Enum) > 0 {
		return slices.Contains(c.Enum, v)
	}
	var err error
	switch c.Class {
	case ClassInteger:
		if _, err = strconv.ParseInt(v, 10, 64); err != nil {
			_, err = strconv.ParseUint(v, 10, 64)
		}
	case ClassNumber:
		var f float64
		if f, err = strconv.ParseFloat(v, 64); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return false
		}
	case ClassBool:
		return slices.Contains([]string{"t", "true", "1", "f", "false", "0"}, strings.ToLower(v))
	case ClassDate:
		_, err = time.Parse(time.DateOnly, v)
	case ClassTime:
		return slices.ContainsFunc(c.timeForms(), func(layout string) bool {
			_, err := time.Parse(layout, v)
			return err == nil
		})
	case ClassUUID:
		b, err := hex.DecodeString(strings.ReplaceAll(v, "-", ""))
		return err == nil && len(b) == 16
	case ClassIP:
		if _, err = netip.ParsePrefix(v); err != nil {
			_, err = netip.ParseAddr(v)
		}
	}
	return err == nil
}
