package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

const shop = `
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {email: {kind: email}}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP_DSN}
    entities:
      people: {subject: true, fields: {email: {identifier: email}}, erase: delete}
`

type bench struct {
	config config.Config
	env    map[string]string
	notice strings.Builder
}

func setup(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{config: config.Default(), env: map[string]string{"SHOP_DSN": dbtest.SQLite(t)}}
	b.config.Data, b.config.Map, b.config.Listen = filepath.Join(dir, "data"), filepath.Join(dir, "lethe.yaml"), "127.0.0.1:0"
	b.write(t, shop)
	return b
}

func (b *bench) write(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(b.config.Map, []byte(text), 0o600))
}

func (b *bench) options() app.Options {
	return app.Options{Config: b.config, Notice: &b.notice, Env: func(name string) (string, bool) {
		v, ok := b.env[name]
		return v, ok
	}}
}

func (b *bench) new(t *testing.T) *app.App {
	t.Helper()
	a, err := app.New(t.Context(), b.options())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, a.Stop(ctx))
	})
	return a
}

func (b *bench) start(t *testing.T) *app.App {
	t.Helper()
	a := b.new(t)
	require.NoError(t, a.Start(t.Context()))
	return a
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestTheFirstStartMakesOneKeyAndLaterOnesNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, err := app.New(t.Context(), b.options()) // stopped by hand
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	path := filepath.Join(b.config.Data, app.BootstrapFile)
	token, err := os.ReadFile(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Contains(t, b.notice.String(), path)
	require.NotContains(t, b.notice.String(), strings.TrimSpace(string(token)), "a log would keep it")

	c, err := client.Connect(a.URL(), strings.TrimSpace(string(token)))
	require.NoError(t, err)
	keys, err := client.Read[client.ApiKeyPage](c.ListApiKeys(t.Context(), &client.ListApiKeysParams{}))
	require.NoError(t, err)
	require.Len(t, keys.Keys, 1)
	require.NoError(t, os.Remove(path))
	require.NoError(t, a.Stop(t.Context()))

	b.start(t)
	require.NoFileExists(t, path)
}

func TestTheEmbeddedDatabaseBelongsToOneProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t)
	_, err := app.New(t.Context(), b.options())
	require.Equal(t, dsr.CodeConflict, dsr.CodeOf(err))
}

func TestOperationsNeedNoKey(t *testing.T) {
	t.Parallel()
	a := setup(t).start(t)
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "lethe_request"} {
		_, _ = get(t, http.DefaultClient, a.URL()+path) // a first scrape may find no request at all
		status, body := get(t, http.DefaultClient, a.URL()+path)
		require.Equal(t, http.StatusOK, status, path)
		if path != "/metrics" {
			require.Contains(t, body, want)
		}
	}
	status, _ := get(t, http.DefaultClient, a.URL()+"/v1/requests")
	require.Equal(t, http.StatusUnauthorized, status)
}

func TestWithoutAMapTheServerIsAliveAndNotReady(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.Map = config.Default().Map // the default may be missing; this test's folder has none
	a := b.start(t)
	status, body := get(t, http.DefaultClient, a.URL()+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "no data map")
	status, _ = get(t, http.DefaultClient, a.URL()+"/healthz")
	require.Equal(t, http.StatusOK, status)
}

func TestAMapThatIsNamedMustBeThereAndValid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, os.Remove(b.config.Map))
	require.ErrorIs(t, b.new(t).Start(t.Context()), os.ErrNotExist)

	b = setup(t)
	b.write(t, "version: 1\ncanary: 1\n")
	err := b.new(t).Start(t.Context())
	require.ErrorContains(t, err, "line 2")
}

func TestAFaultyMapAtReloadChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.start(t)
	before, err := a.Engine().CurrentMap(t.Context())
	require.NoError(t, err)
	b.write(t, "version: 2\n")
	require.Error(t, a.ReloadMap(t.Context()))
	after, err := a.Engine().CurrentMap(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Version, after.Version)

	b.write(t, shop+"    settle: 1s\n")
	require.NoError(t, a.ReloadMap(t.Context()))
	after, err = a.Engine().CurrentMap(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Version+1, after.Version)
}

func TestAWorkerServesNoAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config.Database = dbtest.Postgres(t)
	first := b.new(t)
	err := first.Start(t.Context())
	require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err), "a database that was not migrated")

	s, err := app.OpenStore(t.Context(), &b.config, nil)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Close())
	b.start(t) // stores the map

	worker := &bench{config: b.config, env: b.env}
	worker.config.Role, worker.config.Map = config.RoleWorker, "none.yaml"
	a := worker.start(t)
	status, body := get(t, http.DefaultClient, a.URL()+"/readyz")
	require.Equal(t, http.StatusOK, status)
	var ready map[string]string
	require.NoError(t, json.Unmarshal([]byte(body), &ready))
	require.Equal(t, map[string]string{"status": "ready", "role": "worker"}, ready)
	status, _ = get(t, http.DefaultClient, a.URL()+"/v1/requests")
	require.Equal(t, http.StatusNotFound, status)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pool := b.certificate(t)
	a := b.start(t)
	require.True(t, strings.HasPrefix(a.URL(), "https://"))
	dial := func(c *tls.Config) (int, error) {
		c.RootCAs = pool
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		defer hc.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+"/healthz", nil)
		require.NoError(t, err)
		resp, err := hc.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	status, err := dial(&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	_, err = dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	require.ErrorContains(t, err, "protocol version")
}

// certificate makes a certificate for 127.0.0.1 and returns who trusts it.
func (b *bench) certificate(t *testing.T) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	b.config.TLS = config.TLS{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(b.config.TLS.Certificate, certificate, 0o600))
	require.NoError(t, os.WriteFile(b.config.TLS.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	return pool
}
