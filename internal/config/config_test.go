package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/internal/config"
)

func env(pairs ...string) config.Env {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestShippedSampleLoads(t *testing.T) {
	t.Parallel()
	samples, err := filepath.Glob("../../*.config.example.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, samples)
	for _, path := range samples {
		c, err := config.Load(path, env())
		require.NoError(t, err, path)
		require.Equal(t, config.Duration(30*24*time.Hour), c.Policy.PackageTTL)
		require.Equal(t, "portal-copies", c.Policy.AutoApprove[0].Name)
	}
}

func TestNothingConfiguredIsEmbedded(t *testing.T) {
	t.Parallel()
	c, err := config.Load("", env())
	require.NoError(t, err)
	require.True(t, c.Embedded())
	u, err := c.DatabaseURL()
	require.NoError(t, err)
	require.Regexp(t, `^sqlite:///.*/lethe-data/control\.db$`, u)
}

func TestFaultsNameTheLineAndNoValue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"unknown key":     {"data: x\nlistne: 1.2.3.4\n", `line 2: unknown key "listne"`},
		"unknown nested":  {"tls:\n  cert: canary\n", `line 2: unknown key "cert"`},
		"wrong type":      {"data: x\nworkers: canary\n", "line 2: this value does not fit"},
		"not YAML":        {"data: [canary\n", "line"},
		"twice":           {"data: x\ndata: canary\n", "line 2"},
		"role":            {"role: canary\ndatabase: postgres://h/d\n", "role must be one of all, api, worker"},
		"half TLS":        {"tls: {certificate: canary}\n", "go together"},
		"split SQLite":    {"role: worker\n", "needs PostgreSQL"},
		"duration":        {"policy: {link_ttl: canary}\n", "line 1: must be a duration"},
		"kind of request": {"policy: {requests_per_hour: {canary: 1}}\n", "must be one of access"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(write(t, tt.text), env())
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestEnvironmentWinsAndSecretsComeFromFiles(t *testing.T) {
	t.Parallel()
	secret := write(t, "p@ss/word\n")
	c, err := config.Load(write(t, "listen: 127.0.0.1:1\ndatabase: postgres://lethe@h/d\n"),
		env("LETHE_LISTEN", "127.0.0.1:2", "LETHE_DATABASE_PASSWORD_FILE", secret))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:2", c.Listen)
	require.Equal(t, "postgres://lethe:p%40ss%2Fword@h/d", c.Database)

	_, err = config.Load("", env("LETHE_DATABASE_PASSWORD_FILE", "/does/not/exist"))
	require.ErrorContains(t, err, "LETHE_DATABASE_PASSWORD_FILE")

	v, ok := config.Secrets(env("SHOP_DSN_FILE", secret))("SHOP_DSN")
	require.True(t, ok)
	require.Equal(t, "p@ss/word", v)
}

func TestLoggerHonoursLevelAndFormat(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Log.Level = "warn"
	var b bytes.Buffer
	c.Logger(&b).Info("quiet")
	c.Logger(&b).Warn("loud")
	require.Contains(t, b.String(), `"msg":"loud"`)
	require.NotContains(t, b.String(), "quiet")
}
