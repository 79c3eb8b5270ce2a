// Package dbtest gives each test a database or a bucket of its own on the real servers that `make test` starts. Only tests
// import it.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/glebarez/go-sqlite"
	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// Postgres returns the URL of a fresh, empty PostgreSQL database that is dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	fresh := server(t, "LETHE_TEST_POSTGRES_URL")
	admin, name := fresh.String(), freshName(t)
	execute := func(sql string) {
		ctx := context.Background()
		c, err := pgx.Connect(ctx, admin)
		if err != nil {
			t.Fatalf("connect to PostgreSQL: %v", err)
		}
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	execute("CREATE DATABASE " + name)
	t.Cleanup(func() { execute("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)") })
	fresh.Path = "/" + name
	return fresh.String()
}

// MariaDB returns the URL (mysql://user:password@host:port/database) of a fresh, empty MariaDB database that is
// dropped when the test ends.
func MariaDB(t testing.TB) string {
	t.Helper()
	admin := server(t, "LETHE_TEST_MARIADB_URL")
	name := freshName(t)
	db, err := sql.Open("mysql", MySQLDSN(admin.String()))
	if err != nil {
		t.Fatalf("open MariaDB: %v", err)
	}
	if _, err := db.ExecContext(context.Background(), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		t.Fatalf("create a MariaDB database: %v", err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP DATABASE IF EXISTS "+name); err != nil {
			t.Errorf("drop a MariaDB database: %v", err)
		}
		_ = db.Close()
	})
	admin.Path = "/" + name
	return admin.String()
}

// SQLite returns the URL (sqlite:///path) of a database file that does not exist yet, in the test's own folder.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "test.db")
}

// MySQLDSN turns a mysql:// URL into the driver's own form.
func MySQLDSN(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.User.String() + "@tcp(" + u.Host + ")/" + strings.TrimPrefix(u.Path, "/") + "?parseTime=true&multiStatements=true"
}

// server reads a server's URL from the environment. Without it a test is skipped on a developer's machine and fails
// where everything must run.
func server(t testing.TB, variable string) *url.URL {
	t.Helper()
	raw := os.Getenv(variable)
	if raw == "" {
		msg := variable + " is not set; `make test` starts the server and sets it"
		if required() {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatalf("%s is not a URL", variable)
	}
	return u
}

func freshName(t testing.TB) string {
	t.Helper()
	b := make([]byte, 6)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return "lethe_" + hex.EncodeToString(b)
}
