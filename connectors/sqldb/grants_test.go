package sqldb

import (
	"context"
	"database/sql"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func codesOf(found []connectors.Finding) []string {
	var out []string
	for _, f := range found {
		if !slices.Contains(out, f.Code) {
			out = append(out, f.Code)
		}
	}
	return out
}

// grantsFor returns what Grants prints for the clean system.
func grantsFor(t *testing.T, backend, dsn, principal string) string {
	t.Helper()
	s := cleanSystem()
	s.Connector, s.Settings = backend, map[string]any{"dsn": dsn}
	db, err := Open(context.Background(), s, connectors.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	text, err := db.Grants(context.Background(), principal)
	require.NoError(t, err)
	return text
}

// run executes the statements of a script, leaving comments out.
func run(t *testing.T, db *sql.DB, script string) {
	t.Helper()
	for _, line := range strings.Split(script, "\n") {
		if line == "" || strings.HasPrefix(line, "--") {
			continue
		}
		_, err := db.ExecContext(context.Background(), line)
		require.NoError(t, err, line)
	}
}

// as returns the URL with another user.
func as(t *testing.T, raw, user string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.User = url.UserPassword(user, "secret")
	return u.String()
}

func TestGrantsAreEnoughAndNeededPostgres(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t)
	raw := openRaw(t, dsn)
	execAll(t, raw, cleanSchema)
	user := `lethe "test" ` + strings.TrimPrefix(dsn[strings.LastIndex(dsn, "/")+1:strings.Index(dsn, "?")], "lethe_")
	quoted := quotePostgres(user)
	_, err := raw.Exec("CREATE ROLE " + quoted + " LOGIN PASSWORD 'secret'")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := raw.Exec("DROP OWNED BY " + quoted)
		require.NoError(t, err)
		_, err = raw.Exec("DROP ROLE " + quoted)
		require.NoError(t, err)
	})
	_, err = raw.Exec("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
	require.NoError(t, err)

	before := checkURL(t, postgres, as(t, dsn, user), cleanSystem())
	require.Equal(t, []string{connectors.FindPrivilege}, codesOf(before))
	require.True(t, slices.ContainsFunc(before, func(f connectors.Finding) bool {
		return f.Entity == "customers" && f.Field == "email" && f.Severity == connectors.Error
	}), "UPDATE of an anchored column: %+v", before)

	script := grantsFor(t, postgres, dsn, user)
	run(t, raw, script)
	require.Empty(t, checkURL(t, postgres, as(t, dsn, user), cleanSystem()))

	// Each statement is needed: without it, Check finds something.
	for _, line := range strings.Split(script, "\n") {
		if !strings.HasPrefix(line, "GRANT ") || !strings.Contains(line, " ON ") {
			continue
		}
		revoke := strings.Replace(strings.Replace(line, "GRANT", "REVOKE", 1), " TO ", " FROM ", 1)
		run(t, raw, revoke)
		require.Equal(t, []string{connectors.FindPrivilege}, codesOf(checkURL(t, postgres, as(t, dsn, user), cleanSystem())), revoke)
		run(t, raw, line)
	}

	_, err = raw.Exec("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
	require.NoError(t, err)
	require.Equal(t, []string{FindRowSecurity}, codesOf(checkURL(t, postgres, as(t, dsn, user), cleanSystem())))
}

func TestGrantsAreEnoughAndNeededMariaDB(t *testing.T) {
	t.Parallel()
	dsn := dbtest.MariaDB(t)
	raw := openRaw(t, dsn)
	execAll(t, raw, cleanSchema)
	user := "u" + dsn[strings.LastIndex(dsn, "_")+1:]
	execAll(t, raw, "CREATE USER '"+user+"'@'%' IDENTIFIED BY 'secret'")
	t.Cleanup(func() {
		_, err := raw.Exec("DROP USER '" + user + "'@'%'")
		require.NoError(t, err)
	})
	// To connect at all takes some privilege in the database.
	_, err := raw.Exec("GRANT SHOW VIEW ON `" + dsn[strings.LastIndex(dsn, "/")+1:] + "`.* TO '" + user + "'@'%'")
	require.NoError(t, err)

	script := grantsFor(t, mariadb, dsn, user)
	run(t, raw, script)
	require.Empty(t, checkURL(t, mariadb, as(t, dsn, user), cleanSystem()))
	for _, line := range strings.Split(script, "\n") {
		if !strings.HasPrefix(line, "GRANT ") {
			continue
		}
		// Keep SELECT: information_schema hides tables without any privilege, which Check reports as unknown.
		revoke := strings.Replace(strings.Replace(line, "GRANT SELECT, ", "REVOKE ", 1), " TO ", " FROM ", 1)
		run(t, raw, revoke)
		require.Equal(t, []string{connectors.FindPrivilege}, codesOf(checkURL(t, mariadb, as(t, dsn, user), cleanSystem())), revoke)
		run(t, raw, line)
	}
}

func TestGrantsSQLiteExplainsThatThereAreNone(t *testing.T) {
	t.Parallel()
	dsn := dbtest.SQLite(t)
	execAll(t, openRaw(t, dsn), cleanSchema)
	require.NotContains(t, grantsFor(t, sqlite, dsn, "lethe"), "GRANT")
}

func TestGrantsQuotePrincipals(t *testing.T) {
	t.Parallel()
	require.Equal(t, `'o''brien'@'10.0.%'`, mariaDBUser(`o'brien@10.0.%`))
	require.Equal(t, `'lethe'@'%'`, mariaDBUser("lethe"))
	dsn := dbtest.SQLite(t)
	execAll(t, openRaw(t, dsn), cleanSchema)
	s := cleanSystem()
	s.Connector, s.Settings = sqlite, map[string]any{"dsn": dsn}
	db, err := Open(context.Background(), s, connectors.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.Grants(context.Background(), "x\nDROP TABLE customers")
	require.Error(t, err)
}

func TestParseGrant(t *testing.T) {
	t.Parallel()
	g, ok := parseGrant("GRANT SELECT, UPDATE (`a`, `b``c`), DELETE ON `shop\\_1%`.`orders` TO `u`@`%`")
	require.True(t, ok)
	require.True(t, g.covers("shop_1x", "orders", "SELECT", ""))
	require.True(t, g.covers("shop_1", "orders", "UPDATE", "b`c"))
	require.True(t, g.covers("shop_1", "orders", "DELETE", ""))
	require.False(t, g.covers("shop_1", "orders", "UPDATE", "d"))
	require.False(t, g.covers("shopx1", "orders", "SELECT", ""))
	require.False(t, g.covers("shop_1", "lines", "SELECT", ""))
	g, ok = parseGrant("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION")
	require.True(t, ok)
	require.True(t, g.covers("any", "table", "UPDATE", "x"))
	_, ok = parseGrant("GRANT `role` TO `u`@`%`")
	require.False(t, ok)
}
