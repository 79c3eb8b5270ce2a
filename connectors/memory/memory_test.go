package memory_test

import (
	"testing"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/memory"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, backend(plain))
}

func TestConformanceFlat(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, flat(plain))
}

func TestConformanceExpires(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, expires(plain))
}

// wrap is how a test opens the connector: as it is, or with a defect.
type wrap = func(sys *connectors.System, open func() *memory.DB) connectors.Connector

func plain(_ *connectors.System, open func() *memory.DB) connectors.Connector { return open() }

// flat is a store whose entities have no ties.
func flat(w wrap) func(*testing.T) connectortest.Backend {
	return func(t *testing.T) connectortest.Backend {
		b := backend(w)(t)
		b.Flat = true
		return b
	}
}

// expires is a flat store in which nothing is deleted singly.
func expires(w wrap) func(*testing.T) connectortest.Backend {
	return func(t *testing.T) connectortest.Backend {
		b := flat(w)(t)
		b.Expires = true
		return b
	}
}

// backend is a store and the connector that open makes, wrapped.
func backend(w wrap) func(*testing.T) connectortest.Backend {
	return func(*testing.T) connectortest.Backend {
		var store *memory.Store
		return connectortest.Backend{
			Open: func(_ *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector {
				sys.Connector = "memory"
				return w(sys, func() *memory.DB {
					db := memory.Open(store, sys, o)
					if chunk > 0 {
						db.ChunkRows = chunk
					}
					return db
				})
			},
			Load: func(_ *testing.T, d connectortest.Dataset) {
				var tables []memory.Table
				for _, t := range d.Tables {
					m := memory.Table{EntitySchema: t.EntitySchema}
					for _, r := range t.Rows {
						m.Rows = append(m.Rows, memory.Row(r))
					}
					tables = append(tables, m)
				}
				store = memory.NewStore(tables...)
			},
			Dump: func(*testing.T) map[string][]connectortest.Row {
				out := map[string][]connectortest.Row{}
				for name, rows := range store.Dump() {
					for _, r := range rows {
						out[name] = append(out[name], connectortest.Row(r))
					}
				}
				return out
			},
			Put: func(_ *testing.T, table string, r connectortest.Row) { store.Put(table, memory.Row(r)) },
		}
	}
}
