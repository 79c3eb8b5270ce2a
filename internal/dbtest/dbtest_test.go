package dbtest_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestDatabasesAreFreshAndEmpty(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() (*sql.DB, error){
		"postgres": func() (*sql.DB, error) { return sql.Open("pgx", dbtest.Postgres(t)) },
		"mariadb":  func() (*sql.DB, error) { return sql.Open("mysql", dbtest.MySQLDSN(dbtest.MariaDB(t))) },
		"sqlite":   func() (*sql.DB, error) { return sql.Open("sqlite", dbtest.SQLite(t)[len("sqlite://"):]) },
	} {
		db, err := open()
		require.NoError(t, err, name)
		defer db.Close()
		_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
		require.NoError(t, err, name)
	}
}
