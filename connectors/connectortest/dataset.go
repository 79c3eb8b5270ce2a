package connectortest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Row is one row or record: nil, string or int64 by column. Times are strings in RFC 3339 and UTC, days as 2006-01-02.
type Row map[string]any

// Table is one kind of record with its rows. Its schema is complete: columns with Class, Nullable and MaxLen, the
// primary key, unique keys and references; Type is empty. Classes used are text, integer, JSON, time and date. The backend makes
// what its data model can.
type Table struct {
	connectors.EntitySchema
	Rows []Row
}

// Dataset is what a store is loaded with. Tables come before those that refer to them, but for references in a circle.
type Dataset struct{ Tables []Table }

// Table returns the named table.
func (d Dataset) Table(name string) *Table {
	for i := range d.Tables {
		if d.Tables[i].Name == name {
			return &d.Tables[i]
		}
	}
	return nil
}

// add appends rows; every row has a value for every column, NULL where none is given.
func (d Dataset) add(table string, rows ...Row) Dataset {
	t := d.Table(table)
	for _, r := range rows {
		full := Row{}
		for _, c := range t.Columns {
			full[c.Name] = r[c.Name]
			if n, ok := r[c.Name].(int); ok {
				full[c.Name] = int64(n)
			}
		}
		t.Rows = append(t.Rows, full)
	}
	return d
}

// Tables are rows as they are compared: by table and primary key, values as text, NULL as [null].
type Tables map[string]map[string]map[string]string

const (
	null = "<null>"
	// fresh stands for a value that a random mask wrote: not NULL and not what was there.
	fresh = "<fresh>"
)

func (d Dataset) canonical(rows map[string][]Row) Tables {
	out := Tables{}
	for _, t := range d.Tables {
		out[t.Name] = map[string]map[string]string{}
		for _, r := range rows[t.Name] {
			row := map[string]string{}
			for _, c := range t.Columns {
				row[c.Name] = canonical(c.Class, r[c.Name])
			}
			k := t.key(row)
			if old, ok := out[t.Name][k]; ok && !maps.Equal(old, row) {
				k += " in another version"
			}
			out[t.Name][k] = row
		}
	}
	return out
}

func (t *Table) key(row map[string]string) string {
	values := make([]string, len(t.PrimaryKey))
	for i, c := range t.PrimaryKey {
		values[i] = row[c]
	}
	return strings.Join(values, "/")
}

func (t *Table) column(name string) *connectors.Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// with is the dataset with other rows, as they are compared.
func (d Dataset) with(rows Tables) Dataset {
	out := Dataset{}
	for _, t := range d.Tables {
		t.Rows = nil
		for _, r := range rows[t.Name] {
			row := Row{}
			for c, v := range r {
				if v != null {
					row[c] = v
				}
			}
			t.Rows = append(t.Rows, row)
		}
		out.Tables = append(out.Tables, t)
	}
	return out
}

// rows are the loaded rows as they are compared.
func (d Dataset) rows() Tables {
	all := map[string][]Row{}
	for _, t := range d.Tables {
		all[t.Name] = t.Rows
	}
	return d.canonical(all)
}

func canonical(class connectors.ColumnClass, v any) string {
	if v == nil {
		return null
	}
	s := fmt.Sprint(v)
	switch b := v.(type) {
	case []byte:
		s = string(b)
	case json.RawMessage: // of an exported document
		s = string(b)
	}
	if class == connectors.ClassTime || class == connectors.ClassDate {
		return date(class, v)
	}
	if class == connectors.ClassJSON {
		var doc any
		dec := json.NewDecoder(bytes.NewReader([]byte(s)))
		dec.UseNumber()
		if dec.Decode(&doc) == nil {
			if b, err := json.Marshal(doc); err == nil {
				return string(b)
			}
		}
	}
	return s
}

// date is a time as it is compared: stores return it in many forms, and without a zone it is in UTC.
func date(class connectors.ColumnClass, v any) string {
	layout := time.RFC3339
	if class == connectors.ClassDate {
		layout = time.DateOnly
	}
	if at, ok := v.(time.Time); ok {
		return at.UTC().Format(layout)
	}
	s := fmt.Sprint(v)
	for _, form := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if at, err := time.Parse(form, s); err == nil {
			return at.UTC().Format(layout)
		}
	}
	return s
}

func (t Tables) clone() Tables {
	out := Tables{}
	for name, rows := range t {
		out[name] = map[string]map[string]string{}
		for k, row := range rows {
			c := map[string]string{}
			for col, v := range row {
				c[col] = v
			}
			out[name][k] = c
		}
	}
	return out
}

// diff compares what is with what is expected, where before tells whether a random mask changed a value. It returns
// one line a difference.
func diff(before, want, got Tables) []string {
	var out []string
	for name := range want {
		for k, row := range want[name] {
			have, ok := got[name][k]
			if !ok {
				out = append(out, fmt.Sprintf("%s %s: the row is gone", name, k))
				continue
			}
			for col, v := range row {
				switch {
				case v == fresh && (have[col] == null || have[col] == before[name][k][col]):
					out = append(out, fmt.Sprintf("%s %s: %s is %q, not a fresh value", name, k, col, have[col]))
				case v != fresh && have[col] != v:
					out = append(out, fmt.Sprintf("%s %s: %s is %q, want %q", name, k, col, have[col], v))
				}
			}
		}
		for k := range got[name] {
			if _, ok := want[name][k]; !ok {
				out = append(out, fmt.Sprintf("%s %s: the row is still there", name, k))
			}
		}
	}
	slices.Sort(out)
	return out
}

// dangling lists references that point at nothing, by the dataset's own references.
func (d Dataset) dangling(rows Tables) []string {
	var out []string
	for _, t := range d.Tables {
		for _, ref := range t.References {
			targets := map[string]bool{}
			for _, r := range rows[ref.Entity] {
				targets[joined(r, ref.References)] = true
			}
			for k, r := range rows[t.Name] {
				if v := joined(r, ref.Columns); !strings.Contains(v, null) && !targets[v] {
					out = append(out, fmt.Sprintf("%s %s: %s", t.Name, k, ref.Name))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func joined(r map[string]string, columns []string) string {
	values := make([]string, len(columns))
	for i, c := range columns {
		values[i] = r[c]
	}
	return strings.Join(values, "\x00")
}

// tallied sums tallies over subjects: a row that several share is credited to one of them, whichever.
func tallied(list []connectors.Tally) map[string]int64 {
	out := map[string]int64{}
	for _, t := range list {
		if t.Rows != 0 {
			out[t.Entity+" "+string(t.Method)] += t.Rows
		}
	}
	return out
}

// Constructors of schemas; names are short because they are read in tables.

func table(name string, columns []connectors.Column, key ...string) Table {
	t := Table{EntitySchema: connectors.EntitySchema{Name: name, Columns: columns, PrimaryKey: key}}
	return t
}

func (t Table) unique(columns ...string) Table {
	t.Unique = append(t.Unique, columns)
	return t
}

func (t Table) refers(column, to string, references ...string) Table {
	return t.refersBy([]string{column}, to, references...)
}

func (t Table) refersBy(columns []string, to string, references ...string) Table {
	if len(references) == 0 {
		references = []string{"id"}
	}
	t.References = append(t.References, connectors.Reference{
		Name: t.Name + "_" + columns[0], Columns: columns, Entity: to, References: references, OnDelete: "no action",
	})
	t.Indexes = append(t.Indexes, columns)
	return t
}

func columns(c ...connectors.Column) []connectors.Column { return c }

func integer(name string) connectors.Column {
	return connectors.Column{Name: name, Class: connectors.ClassInteger}
}

func words(name string) connectors.Column {
	return connectors.Column{Name: name, Class: connectors.ClassText, MaxLen: 200, HasText: true}
}

func document(name string) connectors.Column {
	return connectors.Column{Name: name, Class: connectors.ClassJSON, HasText: true}
}

// moment is a point in time, in RFC 3339 and UTC.
func moment(name string) connectors.Column {
	return connectors.Column{Name: name, Class: connectors.ClassTime}
}

// day is a date, as 2006-01-02.
func day(name string) connectors.Column {
	return connectors.Column{Name: name, Class: connectors.ClassDate}
}

func optional(c connectors.Column) connectors.Column {
	c.Nullable = true
	return c
}

func byName(entities []connectors.Entity) []connectors.Entity {
	slices.SortFunc(entities, func(a, b connectors.Entity) int { return cmp.Compare(a.Name, b.Name) })
	return entities
}
