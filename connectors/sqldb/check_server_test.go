package sqldb

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestServerSettingsPostgres(t *testing.T) {
	t.Parallel()
	for setting, code := range map[string]string{
		"log_statement = 'all'":                      FindLogsBindValues,
		"log_min_duration_statement = 1000":          FindLogsBindValues,
		"log_min_duration_sample = 10":               FindLogsBindValues,
		"log_transaction_sample_rate = 0.5":          FindLogsBindValues,
		"log_parameter_max_length_on_error = -1":     FindLogsBindValues,
		"default_transaction_read_only = on":         FindReplica,
		"log_min_duration_statement = 0; harmless":   "",
		"log_statement = 'ddl'; on its own harmless": "",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t)
			raw := openRaw(t, dsn)
			execAll(t, raw, cleanSchema)
			name := strings.TrimPrefix(mustURL(t, dsn).Path, "/")
			set, harmless, _ := strings.Cut(setting, ";")
			if strings.Contains(harmless, "harmless") {
				_, err := raw.Exec("ALTER DATABASE " + name + " SET log_parameter_max_length = 0")
				require.NoError(t, err)
			}
			_, err := raw.Exec("ALTER DATABASE " + name + " SET " + set)
			require.NoError(t, err)
			found := checkURL(t, postgres, dsn, cleanSystem())
			if code == "" {
				require.Empty(t, found)
				return
			}
			require.Equal(t, []string{code}, codesOf(found))
			require.Equal(t, connectors.Error, found[0].Severity)
		})
	}
}

func mustURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u
}

// The settings of a MariaDB server are shared by all tests, so they are judged here without one.
func TestServerSettingsMariaDB(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings map[string]string
		code     []string
	}{
		{map[string]string{"general_log": "0", "slow_query_log": "0", "read_only": "0", "sql_log_off": "0"}, nil},
		{map[string]string{"general_log": "1", "slow_query_log": "0"}, []string{FindLogsBindValues}},
		{map[string]string{"general_log": "1", "sql_log_off": "1"}, nil},
		{map[string]string{"slow_query_log": "1"}, []string{FindLogsBindValues}},
		{map[string]string{"read_only": "ON"}, []string{FindReplica}},
	} {
		k := &checker{}
		k.judgeMariaDB(c.settings)
		require.Equal(t, c.code, codesOf(k.found), "%v", c.settings)
	}
}

func TestStandbyIsReported(t *testing.T) {
	t.Parallel()
	k := &checker{}
	k.judgePostgres(map[string]string{"recovery": "on", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1"})
	require.Equal(t, []string{FindReplica}, codesOf(k.found))
}

func TestUnreachableIsAFindingWithAHint(t *testing.T) {
	t.Parallel()
	pg := dbtest.Postgres(t)
	missing := mustURL(t, pg)
	missing.Path = "/lethe_no_such_database"
	for name, c := range map[string]struct {
		backend, dsn string
		again        bool // trying again may help
	}{
		"refused":          {postgres, "postgres://nobody@127.0.0.1:1/none?sslmode=disable", true},
		"mariadb refused":  {mariadb, "mysql://nobody@127.0.0.1:1/none", true},
		"missing database": {postgres, missing.String(), false},
		"missing file":     {sqlite, "sqlite:///no/such/folder/shop.db", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cleanSystem()
			s.Connector, s.Settings = c.backend, map[string]any{"dsn": c.dsn}
			db, err := Open(context.Background(), s, connectors.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			found, err := db.Check(context.Background())
			require.Len(t, found, 1)
			require.Equal(t, connectors.FindUnreachable, found[0].Code)
			require.NotEmpty(t, found[0].Hint)
			require.NotContains(t, found[0].Message, "nobody")
			if c.again {
				require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err))
			} else {
				require.NoError(t, err)
			}
		})
	}
}
