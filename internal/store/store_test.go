package store_test

import (
	"testing"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/store/storetest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, dbtest.Postgres)
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, dbtest.SQLite)
}
