// Package memory is the reference connector: data in Go maps, every verb written for the reader. It is what the
// conformance suite is checked against, and shows what the others must do; it is not meant to be fast.
package memory

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Row is one row: nil, string or int64 by column.
type Row map[string]any

// Table is what a table looks like and what it holds.
type Table struct {
	connectors.EntitySchema
	Rows []Row
}

// Store is the data of one system. Its methods are transactions. It is safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	tables map[string]*Table
	// committed remembers what each transaction of Erase did, as a database's own transaction number would tell.
	committed map[int64][]connectors.Tally
	next      int64
}

// NewStore returns a store of the tables; rows are copied.
func NewStore(tables ...Table) *Store {
	s := &Store{tables: map[string]*Table{}, committed: map[int64][]connectors.Tally{}}
	for _, t := range tables {
		c := Table{EntitySchema: t.EntitySchema}
		for _, r := range t.Rows {
			c.Rows = append(c.Rows, maps.Clone(r))
		}
		s.tables[t.Name] = &c
	}
	return s
}

// Dump returns a copy of every row by table.
func (s *Store) Dump() map[string][]Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]Row{}
	for name, t := range s.tables {
		out[name] = []Row{}
		for _, r := range t.Rows {
			out[name] = append(out[name], maps.Clone(r))
		}
	}
	return out
}

// Put adds rows, or replaces those with the same primary key.
func (s *Store) Put(table string, rows ...Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[table]
	for _, r := range rows {
		k := t.key(r)
		t.Rows = slices.DeleteFunc(t.Rows, func(old Row) bool { return t.key(old) == k })
		t.Rows = append(t.Rows, maps.Clone(r))
	}
}

// key is the row's primary key, encoded.
func (t *Table) key(r Row) connectors.Key {
	values := make([]string, len(t.PrimaryKey))
	for i, c := range t.PrimaryKey {
		values[i] = text(r[c])
	}
	b, _ := json.Marshal(values) // strings cannot fail
	return connectors.Key(b)
}

func (t *Table) column(name string) *connectors.Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// text is a value as identifiers and keys are compared; NULL is empty.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// values are a row's columns joined; ok is false when one is NULL, which refers to nothing.
func values(r Row, columns []string) (joined string, ok bool) {
	var b strings.Builder
	for _, c := range columns {
		if r[c] == nil {
			return "", false
		}
		b.WriteString(text(r[c]))
		b.WriteByte(0)
	}
	return b.String(), true
}
