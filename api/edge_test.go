package api_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/api"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/auth/authtest"
)

func TestSameKeySameAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("shop", dsr.RolePortal)
	first := b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusAccepted, first.status)
	require.Equal(t, "/v1/requests/"+requestID, first.header.Get("Location"))
	again := b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1")
	require.Equal(t, first.status, again.status)
	require.JSONEq(t, first.body, again.body)
	require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
	require.Equal(t, first.header.Get("ETag"), again.header.Get("ETag"))
	require.Equal(t, 1, b.engine.filed)

	other := b.call("POST", "/v1/requests", token, strings.Replace(filing, "erasure", "access", 1), "Idempotency-Key", "k1")
	require.Equal(t, http.StatusUnprocessableEntity, other.status)
	require.Equal(t, "idempotency-mismatch", other.problem(t).code())

	b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k2")
	b.call("POST", "/v1/requests", token, filing)
	b.call("POST", "/v1/requests", b.token("shop", dsr.RolePortal), filing, "Idempotency-Key", "k1")
	require.Equal(t, 4, b.engine.filed, "another key, no key, and another caller's key are new calls")
}

func TestKeyInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("shop", dsr.RolePortal)
	b.engine.entered, b.engine.hold = make(chan struct{}), make(chan struct{})
	var first answer
	var wg sync.WaitGroup
	wg.Go(func() { first = b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1") })
	<-b.engine.entered
	second := b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusConflict, second.status)
	require.Equal(t, "idempotency-in-flight", second.problem(t).code())
	require.Equal(t, "1", second.header.Get("Retry-After"))
	close(b.engine.hold)
	wg.Wait()
	require.Equal(t, http.StatusAccepted, first.status)
	require.Equal(t, 1, b.engine.filed)
}

func TestRefusedCallFreesItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("shop", dsr.RolePortal)
	for _, err := range []error{&dsr.Error{Code: dsr.CodeInvalid, Msg: "no"}, panicking{}} {
		b.engine.fail(err)
		got := b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1")
		require.GreaterOrEqual(t, got.status, 400)
	}
	b.engine.fail(nil)
	got := b.call("POST", "/v1/requests", token, filing, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusAccepted, got.status)
}

func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("olga", dsr.RoleOperator, dsr.RoleDPO)
	const key = `{"principal":"bob","type":"person","roles":["portal"]}`
	first := b.call("POST", "/v1/api-keys", token, key, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusCreated, first.status)
	require.Contains(t, first.body, `"token":"lethe_`)
	again := b.call("POST", "/v1/api-keys", token, key, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusCreated, again.status)
	require.NotContains(t, again.body, "token")
	require.Contains(t, again.body, `"principal":"bob"`)

	path := "/v1/requests/" + requestID + "/package"
	first = b.call("POST", path, token, "", "Idempotency-Key", "k1")
	require.Contains(t, first.body, "/v1/packages/one-time-link-0123456789")
	again = b.call("POST", path, token, "", "Idempotency-Key", "k1")
	require.Equal(t, http.StatusCreated, again.status)
	require.NotContains(t, again.body, "one-time-link")
	require.Empty(t, again.header.Get("Location"))
	require.NotContains(t, b.log.String(), "one-time-link")
	require.NotContains(t, b.log.String(), token)
}

func TestDownload(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *auth.Config) { c.AddressFailures = 2 })
	got := b.call("GET", "/v1/packages/one-time-link-0123456789", "", "")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "application/zip", got.header.Get("Content-Type"))
	require.Contains(t, got.header.Get("Content-Disposition"), "attachment")
	require.Equal(t, "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:", got.header.Get("Repr-Digest"))
	require.Equal(t, "PK", got.body)
	for range 2 {
		got = b.call("GET", "/v1/packages/made-up-made-up-made-up", "", "")
		require.Equal(t, http.StatusNotFound, got.status)
	}
	got = b.call("GET", "/v1/packages/one-time-link-0123456789", "", "")
	require.Equal(t, http.StatusTooManyRequests, got.status, "who guesses links is locked out")
	require.NotContains(t, b.log.String(), "made-up")
	require.NotContains(t, b.log.String(), "one-time")
}

// Half a zip must not look like a whole one: the connection breaks instead of ending.
func TestDownloadThatFailsHalfWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.content = io.MultiReader(strings.NewReader(strings.Repeat("x", 64<<10)), iotest.ErrReader(errors.New("disk gone")))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/v1/packages/one-time-link-0123456789", nil)
	require.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	_, err = io.Copy(io.Discard, resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Contains(t, b.log.String(), "answer cut short")
}

func TestLockoutAndRate(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *auth.Config) { c.AddressFailures, c.Rate, c.Burst = 3, 1, 2 })
	token := b.token("ada", dsr.RoleDPO)
	for range 2 {
		require.Equal(t, 200, b.call("GET", "/v1/systems", token, "").status)
	}
	got := b.call("GET", "/v1/systems", token, "")
	require.Equal(t, http.StatusTooManyRequests, got.status)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	for range 3 {
		require.Equal(t, 401, b.call("GET", "/v1/systems", "lethe_wrong", "").status)
	}
	got = b.call("GET", "/v1/systems", b.token("bob", dsr.RoleDPO), "")
	require.Equal(t, http.StatusTooManyRequests, got.status)
	require.Equal(t, "900", got.header.Get("Retry-After"))
	require.Equal(t, "too-many-requests", got.problem(t).code())
}

// A header that anybody can send must not choose whose failures are counted.
func TestForwardedForIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *auth.Config) { c.AddressFailures = 1 })
	require.Equal(t, 401, b.call("GET", "/v1/systems", "x", "", "X-Forwarded-For", "203.0.113.9").status)
	require.Equal(t, 429, b.call("GET", "/v1/systems", "x", "", "X-Forwarded-For", "203.0.113.10").status)
	require.NoError(t, b.guard.Admit(t.Context(), netip.MustParseAddr("203.0.113.9")))
}

func TestHeadersAndTrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, path := range []string{"/v1/systems", "/nowhere"} {
		got := b.call("GET", path, b.token("ada", dsr.RoleDPO), "", "traceparent", given)
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
		require.Contains(t, got.header.Get("Content-Security-Policy"), "default-src 'none'")
		require.Equal(t, "no-referrer", got.header.Get("Referrer-Policy"))
		require.Equal(t, given, got.header.Get("Traceparent"))
	}
	require.Contains(t, b.log.String(), "trace=0af7651916cd43dd8448eb211c80319c")
	got := b.call("GET", "/v1/systems", b.token("ada", dsr.RoleDPO), "", "traceparent", canary)
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, got.header.Get("Traceparent"))
}

func TestNextPageKeepsTheFilter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.next = "c2"
	token := b.token("ada", dsr.RoleDPO)
	got := b.call("GET", "/v1/requests?kind=erasure&state=running&state=verifying&limit=1&cursor=c1", token, "")
	require.Equal(t, `</v1/requests?cursor=c2&kind=erasure&limit=1&state=running&state=verifying>; rel="next"`,
		got.header.Get("Link"))
	b.engine.next = ""
	require.Empty(t, b.call("GET", "/v1/requests", token, "").header.Get("Link"))
	path := "/v1/requests/" + requestID + "/events"
	require.Equal(t, `<`+path+`?after=0&limit=2>; rel="next"`, b.call("GET", path+"?limit=2", token, "").header.Get("Link"))
	require.Empty(t, b.call("GET", path+"?limit=4", token, "").header.Get("Link"))
}

func TestTrustedProxyNamesTheCaller(t *testing.T) {
	t.Parallel()
	guard := auth.New(auth.Config{Store: authtest.NewMemory(), Now: time.Now, AddressFailures: 1})
	h, err := api.New(api.Config{
		Engine: &engineDouble{}, Guard: guard, Idempotency: &idempotencyMemory{}, Logger: slog.New(slog.DiscardHandler),
		TrustedProxies: []string{"192.0.2.0/24"},
	})
	require.NoError(t, err)
	from := func(peer, forwarded string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/systems", nil)
		r.RemoteAddr = peer + ":40000"
		r.Header.Set("X-Forwarded-For", forwarded)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, 401, from("192.0.2.1", "203.0.113.9"))
	require.Equal(t, 429, from("192.0.2.1", "203.0.113.9"))
	require.Equal(t, 401, from("192.0.2.1", "203.0.113.10"), "another caller behind the same proxy")
	require.Equal(t, 429, from("203.0.113.9", "198.51.100.1"), "the locked caller, past the proxy")

	_, err = api.New(api.Config{
		Engine: &engineDouble{}, Guard: guard, Idempotency: &idempotencyMemory{}, TrustedProxies: []string{"everybody"},
	})
	require.ErrorContains(t, err, "trusted proxies")
	_, err = api.New(api.Config{})
	require.ErrorContains(t, err, "required")
}

func TestTLSNeedsACertificateAndTakesNothingOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := api.TLS(filepath.Join(dir, "none.pem"), filepath.Join(dir, "none.key"))
	require.ErrorIs(t, err, os.ErrNotExist)
	cert, key := selfSigned(t, dir)
	c, err := api.TLS(cert, key)
	require.NoError(t, err)

	b := setup(t)
	s := httptest.NewUnstartedServer(b.http)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	get := func(highest uint16) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: highest,
		}}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/systems", nil)
		require.NoError(t, err)
		return client.Do(r)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		resp, err := get(version)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, version, resp.TLS.Version)
		require.NotEmpty(t, resp.Header.Get("Strict-Transport-Security"))
	}
	_, err = get(tls.VersionTLS11)
	require.ErrorContains(t, err, "protocol version")
}
