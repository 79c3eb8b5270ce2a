package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/api"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/auth/authtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

const (
	requestID = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	sweepID   = "swp_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	holdID    = "hold_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	ruleName  = "shop.orders.accounting"
	canary    = "canary-7f3a@leak.example.com"
)

// bundle is the API over an engine that answers what it is told: for what happens at the edge. What happens behind it
// is tested over the real engine in flow_test.go.
type bundle struct {
	t      testing.TB
	engine *engineDouble
	guard  *auth.Guard
	log    *lockedBuffer
	url    string
	http   http.Handler
	now    func() time.Time
}

func setup(t testing.TB, change ...func(*auth.Config)) *bundle {
	t.Helper()
	start := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	b := &bundle{t: t, engine: &engineDouble{}, log: &lockedBuffer{}, now: func() time.Time { return start }}
	limits := auth.Config{Store: authtest.NewMemory(), Now: b.now, Rate: -1}
	for _, f := range change {
		f(&limits)
	}
	b.guard = auth.New(limits)
	h, err := api.New(api.Config{
		Engine: b.engine, Guard: b.guard, Idempotency: &idempotencyMemory{rows: map[string]*idempotencyRow{}},
		Logger: slog.New(slog.NewTextHandler(b.log, nil)), Now: b.now,
	})
	require.NoError(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	b.url, b.http = s.URL, h
	return b
}

func (b *bundle) token(principal string, roles ...string) string {
	b.t.Helper()
	return b.key(auth.NewKey{Principal: principal, Roles: roles})
}

func (b *bundle) key(n auth.NewKey) string {
	b.t.Helper()
	_, token, err := b.guard.CreateKey(context.Background(),
		dsr.Actor{ID: "admin", Roles: []string{dsr.RoleOperator, dsr.RoleDPO}}, n)
	require.NoError(b.t, err)
	return token.Reveal()
}

type answer struct {
	status int
	header http.Header
	body   string
}

type problem struct {
	Type, Title, Detail, Instance, Field, Hint string
	Status                                     int
	Errors                                     []struct{ Field, Message string }
}

func (a answer) problem(t testing.TB) problem {
	t.Helper()
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"), a.body)
	var p problem
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&p), a.body)
	require.Equal(t, a.status, p.Status)
	return p
}

func (p problem) code() string { return p.Type[strings.LastIndex(p.Type, "#")+1:] }

// call sends a request; header values come in pairs.
func (b *bundle) call(method, path, token, body string, header ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(b.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type idempotencyRow struct {
	fingerprint string
	answer      []byte
	expires     time.Time
}

type idempotencyMemory struct {
	mu   sync.Mutex
	rows map[string]*idempotencyRow
}

func (m *idempotencyMemory) ClaimIdempotency(
	_ context.Context, key, fingerprint string, now, expires time.Time,
) (bool, string, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.rows[key]; ok && r.expires.After(now) {
		return false, r.fingerprint, r.answer, nil
	}
	m.rows[key] = &idempotencyRow{fingerprint: fingerprint, expires: expires}
	return true, "", nil, nil
}

func (m *idempotencyMemory) FinishIdempotency(_ context.Context, key string, answer []byte, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[key].answer, m.rows[key].expires = answer, expires
	return nil
}

func (m *idempotencyMemory) DropIdempotency(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, key)
	return nil
}

func (m *idempotencyMemory) PurgeIdempotency(context.Context, time.Time) error { return nil }

// engineDouble answers every use case; err, when set, is the answer to all of them.
type engineDouble struct {
	engine.UseCases // nil: a call of what is not below is a panic
	engine.Retention

	mu    sync.Mutex
	err   error
	filed int
	// hold, when set, is received from before File returns; entered is sent to first.
	entered, hold chan struct{}
	next          string    // cursor of the next page
	content       io.Reader // of the package; nil is two bytes
}

func (e *engineDouble) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *engineDouble) request() (*dsr.Request, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, e.err
	}
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	return &dsr.Request{
		ID: requestID, Kind: dsr.Erasure, State: dsr.AwaitingReview, FiledBy: "shop", Version: 7,
		Clock: dsr.Clock{Received: day, Due: day.AddDate(0, 1, 0), DueUnpaused: day.AddDate(0, 1, 0)}, CreatedAt: day,
	}, nil
}

func (e *engineDouble) File(context.Context, dsr.Actor, engine.NewRequest) (*dsr.Request, error) {
	if e.hold != nil {
		e.entered <- struct{}{}
		<-e.hold
	}
	e.mu.Lock()
	e.filed++
	e.mu.Unlock()
	return e.request()
}

func (e *engineDouble) Get(context.Context, dsr.Actor, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) List(context.Context, dsr.Actor, engine.Filter) ([]*dsr.Request, string, error) {
	r, err := e.request()
	return []*dsr.Request{r}, e.next, err
}

func (e *engineDouble) Plan(context.Context, dsr.Actor, string) (string, *dsr.Plan, error) {
	return "hash", &dsr.Plan{Request: requestID, Kind: dsr.Erasure}, e.err
}

func (e *engineDouble) Tasks(context.Context, dsr.Actor, string) ([]*dsr.Task, error) {
	return []*dsr.Task{{ID: "task_1", System: "paper", Phase: dsr.PhaseManual, State: dsr.TaskPending}}, e.err
}

func (e *engineDouble) Events(_ context.Context, _ dsr.Actor, _ string, _ int64, n int) ([]dsr.Event, error) {
	return make([]dsr.Event, min(n, 3)), e.err
}

func (e *engineDouble) ConfirmIdentity(context.Context, dsr.Actor, string, int64, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Instruct(context.Context, dsr.Actor, string, int64, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Approve(context.Context, dsr.Actor, string, int64, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Refuse(context.Context, dsr.Actor, string, int64, string, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Extend(context.Context, dsr.Actor, string, int64, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Pause(context.Context, dsr.Actor, string, int64, string) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Resume(context.Context, dsr.Actor, string, int64) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Cancel(context.Context, dsr.Actor, string, int64) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) Retry(context.Context, dsr.Actor, string, int64) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) CompleteTask(context.Context, dsr.Actor, string, int64, string, int64) (*dsr.Request, error) {
	return e.request()
}

func (e *engineDouble) PackageInfo(context.Context, dsr.Actor, string) (*engine.Package, error) {
	return &engine.Package{Request: requestID}, e.err
}

func (e *engineDouble) PackageLink(context.Context, dsr.Actor, string) (*engine.Link, error) {
	return &engine.Link{Token: dsr.NewSecret("one-time-link-0123456789")}, e.err
}

func (e *engineDouble) OpenPackage(_ context.Context, token dsr.Secret) (*engine.OpenedPackage, error) {
	if token.Reveal() != "one-time-link-0123456789" {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "no such row"}
	}
	content := e.content
	if content == nil {
		content = strings.NewReader("PK")
	}
	return &engine.OpenedPackage{
		ReadCloser: io.NopCloser(content), Info: &engine.Package{SHA256: strings.Repeat("ab", 32)},
	}, e.err
}

func (e *engineDouble) Systems(context.Context, dsr.Actor) ([]engine.SystemStatus, error) {
	return []engine.SystemStatus{{Name: "shop"}}, e.err
}

func (e *engineDouble) CheckSystem(context.Context, dsr.Actor, string) (*engine.CheckResult, error) {
	return &engine.CheckResult{System: "shop"}, e.err
}

func (e *engineDouble) Preview(context.Context, dsr.Actor, engine.NewRequest) (*engine.Preview, error) {
	return &engine.Preview{Kind: dsr.Erasure}, e.err
}
