package sqldb_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/sqldb"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			connectortest.Run(t, func(t *testing.T) connectortest.Backend {
				f := newFixture(t, kind)
				b := connectortest.SQL(f.raw, kind)
				b.Open = func(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector {
					sys.Connector, sys.Settings = kind, map[string]any{"dsn": f.url}
					db, err := sqldb.Open(context.Background(), sys, o)
					require.NoError(t, err)
					if chunk > 0 {
						db.Split(chunk, chunk)
					}
					return db
				}
				return b
			})
		})
	}
}
