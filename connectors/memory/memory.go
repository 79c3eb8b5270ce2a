package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
)

// DB is the connector of one [Store] under one map.
type DB struct {
	// ChunkRows is how many rows one transaction changes and one checkpoint of an export covers.
	ChunkRows int

	store *Store
	sys   *connectors.System
	keys  mask.Keyring
	now   func() time.Time
}

// Open returns a connector of the store.
func Open(s *Store, sys *connectors.System, o connectors.Options) *DB {
	db := &DB{ChunkRows: 100, store: s, sys: sys, keys: o.Pseudonyms, now: o.Now}
	if db.now == nil {
		db.now = time.Now
	}
	return db
}

// Kind is the connector as the registry knows it, for one store.
func Kind(s *Store) connectors.Kind {
	return connectors.Kind{
		Name: "memory",
		Open: func(_ context.Context, sys *connectors.System, o connectors.Options) (connectors.Connector, error) {
			return Open(s, sys, o), nil
		},
	}
}

// Close does nothing: the store is the caller's.
func (db *DB) Close() error { return nil }

// Describe returns the schema of every table with its size.
func (db *DB) Describe(ctx context.Context) (connectors.Schema, error) {
	if err := ctx.Err(); err != nil {
		return connectors.Schema{}, err
	}
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	var s connectors.Schema
	for _, t := range db.store.tables {
		e := t.EntitySchema
		e.Rows = int64(len(t.Rows))
		s.Entities = append(s.Entities, e)
	}
	slices.SortFunc(s.Entities, func(a, b connectors.EntitySchema) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return s, nil
}

// Check compares the map with the tables.
func (db *DB) Check(ctx context.Context) ([]connectors.Finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.store.mu.Lock()
	defer db.store.mu.Unlock()
	var out []connectors.Finding
	wrong := func(code, entity, field, msg, hint string) {
		out = append(out, connectors.Finding{
			Code: code, Severity: connectors.Error, Entity: entity, Field: field, Message: msg, Hint: hint,
		})
	}
	mapped := map[string]bool{}
	for i := range db.sys.Entities {
		e := &db.sys.Entities[i]
		mapped[e.From()] = true
		t := db.store.tables[e.From()]
		if t == nil {
			wrong(connectors.FindUnknownTable, e.Name, "", "the store has no such table", "correct the entity's name or its table")
			continue
		}
		for _, name := range named(e) {
			if t.column(name) == nil {
				wrong(connectors.FindUnknownColumn, e.Name, name, "the table has no such column", "correct its name")
			}
		}
		for _, masks := range allMasks(e) {
			for name, spec := range masks {
				if t.column(name) == nil {
					continue
				}
				var de *dsr.Error
				if err := spec.Holds(db.target(e, t, name)); errors.As(err, &de) {
					wrong(connectors.FindMask, e.Name, name, de.Msg, de.Hint)
				}
			}
		}
	}
	for name := range db.store.tables {
		if _, ignored := db.sys.Ignored[name]; !mapped[name] && !ignored {
			wrong(connectors.FindUnmappedTable, name, "", "the map does not say what the table holds", "map it, or ignore it with a reason")
		}
	}
	return out, nil
}

// named are the columns that the map names of an entity.
func named(e *connectors.Entity) []string {
	names := slices.Concat(e.Mentions, e.NotPersonal)
	for _, f := range e.Fields {
		names = append(names, f.Name)
	}
	for _, o := range slices.Concat(e.OwnedBy, e.AccessedBy, e.Owns) {
		names = append(names, o.Columns...)
		if o.When != nil {
			names = append(names, o.When.Column)
		}
	}
	if e.Tenant != "" {
		names = append(names, e.Tenant)
	}
	for _, masks := range allMasks(e) {
		for name := range masks {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func allMasks(e *connectors.Entity) []map[string]mask.Spec {
	out := []map[string]mask.Spec{e.Masks, e.Anchor, e.ExportMask}
	for _, m := range e.OnOwnerErased {
		out = append(out, m)
	}
	return out
}

// target describes a column to the masks.
func (db *DB) target(e *connectors.Entity, t *Table, name string) mask.Target {
	c := t.column(name)
	target := mask.Target{
		Class: mask.Class(c.Class), MaxLen: c.MaxLen, Nullable: c.Nullable, Generated: c.Generated, Enum: c.Enum,
		Unique: slices.ContainsFunc(append([][]string{t.PrimaryKey}, t.Unique...), func(u []string) bool {
			return len(u) == 1 && u[0] == name
		}),
	}
	switch db.sys.Identifiers[identifierOf(e, name)] {
	case dsr.KindEmail:
		target.Format = mask.Email
	case dsr.KindPhone:
		target.Format = mask.Phone
	}
	return target
}

// identifierOf is the name of the identifier that a column holds; empty when none.
func identifierOf(e *connectors.Entity, column string) string {
	for _, f := range e.Fields {
		if f.Name == column {
			return f.Identifier
		}
	}
	return ""
}

func (db *DB) table(e *connectors.Entity) (*Table, error) {
	wrong := func(msg string) error {
		return connectors.Permanent(dsr.CodeInvalid, "entities."+e.Name+": "+msg, "Run `lethe check` and correct the map.", nil)
	}
	t := db.store.tables[e.From()]
	if t == nil {
		return nil, wrong("the store has no such table")
	}
	for _, name := range named(e) {
		if t.column(name) == nil {
			return nil, wrong(fmt.Sprintf("the table has no column %q", name))
		}
	}
	return t, nil
}

func (db *DB) checkTenants(b connectors.Batch) error {
	for _, s := range b {
		if db.sys.TenantName != "" && s.Tenant == "" {
			return connectors.Permanent(dsr.CodeInvalid, "a subject has no tenant", "File the request for a tenant.", nil)
		}
	}
	return nil
}
