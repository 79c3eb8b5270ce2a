package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/glebarez/go-sqlite"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/auth"
	"github.com/lethe-gdpr/lethe/internal/config"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

const (
	subject = "canary.subject@example.com"
	other   = "other.person@example.com"
)

const shopSQL = `
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), note TEXT);
CREATE INDEX orders_customer ON orders (customer_id);
INSERT INTO customers VALUES (1, '` + subject + `', 'Canary Subject'), (2, '` + other + `', 'Other Person');
INSERT INTO orders VALUES (10, 1, 'for Canary Subject'), (11, 1, NULL), (12, 2, 'for Other Person');`

const shopMap = `
version: 1
controller: {name: Example Shop AB, country: SE, time_zone: Europe/Stockholm}
identifiers:
  email: {kind: email}
art15:
  purposes: [Selling]
  recipients: [Example Hosting AB]
  period: Until the account is closed
  rights: You may ask us to correct or erase your data.
  complaint: imy.se
  source: You
  automated_decisions: {not_applicable: true}
  transfers: {not_applicable: true}
systems:
  shop:
    connector: sqlite
    dsn: ${SHOP_DSN}
    entities:
      customers:
        subject: true
        fields: {email: {identifier: email, category: user.contact.email}, name: {category: user.name}}
        erase: delete
      orders:
        owned_by: {customer_id: customers}
        fields: {note: {category: user.content}}
        mentions: [note]
        erase: delete
`

// house is a whole Lethe over a small shop, called through the generated client.
type house struct {
	t    *testing.T
	app  *app.App
	dir  string
	shop *sql.DB
	log  *lockedBuffer

	portal, portal2, dpo, dpo2, operator, auditor *client.Client
}

// start opens a house whose control database is at url; empty is the embedded one.
func start(t *testing.T, url string) *house {
	t.Helper()
	return startWith(t, url, shopSQL, shopMap)
}

func startWith(t *testing.T, url, schema, dataMap string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	shopURL := dbtest.SQLite(t)
	shop, err := sql.Open("sqlite", strings.TrimPrefix(shopURL, "sqlite://"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, shop.Close()) })
	_, err = shop.ExecContext(t.Context(), schema)
	require.NoError(t, err)
	h.shop = shop

	c := config.Default()
	c.Data, c.Map, c.Listen, c.Database = filepath.Join(h.dir, "data"), filepath.Join(h.dir, "lethe.yaml"), "127.0.0.1:0", url
	require.NoError(t, os.WriteFile(c.Map, []byte(dataMap), 0o600))
	h.app, err = app.New(t.Context(), app.Options{
		Config: c, Logger: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Limits: auth.Config{Rate: -1},
		Env: func(name string) (string, bool) {
			if name == "SHOP_DSN" {
				return shopURL, true
			}
			return "", false
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, h.app.Stop(ctx))
	})
	if url != "" {
		store, err := app.OpenStore(t.Context(), &c, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.NoError(t, store.Migrate(t.Context()))
		require.NoError(t, store.Close())
	}
	require.NoError(t, h.app.Start(t.Context()))

	h.portal = h.caller("portal", dsr.RolePortal, true)
	h.portal2 = h.caller("portal2", dsr.RolePortal, true)
	h.dpo = h.caller("ada", dsr.RoleDPO, false)
	h.dpo2 = h.caller("ada", dsr.RoleDPO, false)
	h.operator = h.caller("olga", dsr.RoleOperator, false)
	h.auditor = h.caller("alf", dsr.RoleAuditor, false)
	return h
}

// caller makes a key through the API and returns a client that uses it.
func (h *house) caller(principal, role string, system bool, tenants ...string) *client.Client {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.dir, "data", app.BootstrapFile))
	require.NoError(h.t, err)
	admin, err := client.Connect(h.app.URL(), strings.TrimSpace(string(raw)))
	require.NoError(h.t, err)
	body := client.NewApiKey{Principal: principal, Type: client.PrincipalTypePerson, Roles: []client.Role{client.Role(role)}}
	if system {
		body.Type = client.PrincipalTypeSystem
	}
	if tenants != nil {
		body.Tenants = &tenants
	}
	made := read[client.CreatedApiKey](h, h.must(admin.CreateApiKey(h.t.Context(), &client.CreateApiKeyParams{}, body)))
	c, err := client.Connect(h.app.URL(), *made.Token)
	require.NoError(h.t, err)
	c.Client = asTheContractSays(h.t)
	return c
}

func (h *house) must(r *http.Response, err error) *http.Response {
	h.t.Helper()
	require.NoError(h.t, err)
	return r
}

func read[T any](h *house, r *http.Response) *T {
	h.t.Helper()
	v, err := client.Read[T](r, nil)
	require.NoError(h.t, err)
	return v
}

// refused asserts that an answer is the problem with a code, and returns it.
func (h *house) refused(code string, r *http.Response, err error) *client.Refused {
	h.t.Helper()
	require.NoError(h.t, err)
	defer r.Body.Close()
	var p *client.Refused
	require.ErrorAs(h.t, client.Check(r), &p, "status %d", r.StatusCode)
	require.Equal(h.t, code, p.Type[strings.LastIndex(p.Type, "#")+1:], "%+v", p)
	return p
}

func filingOf(kind client.Kind) client.NewRequest {
	verified, method := true, "session"
	return client.NewRequest{
		Kind: kind, Identifiers: client.Identifiers{{Name: "email", Value: " Canary.Subject@Example.com"}},
		IdentityVerified: &verified, IdentityMethod: &method,
	}
}

func (h *house) file(by *client.Client, n client.NewRequest) *client.Request {
	h.t.Helper()
	resp := h.must(by.FileRequest(h.t.Context(), &client.FileRequestParams{}, n))
	require.Equal(h.t, http.StatusAccepted, resp.StatusCode)
	r := read[client.Request](h, resp)
	require.Equal(h.t, "/v1/requests/"+r.Id, resp.Header.Get("Location"))
	return r
}

// follow reads a request until it is in one of the states. It waits for the workers, which is what clients do.
func (h *house) follow(id string, states ...client.State) *client.Request {
	h.t.Helper()
	var r *client.Request
	require.Eventually(h.t, func() bool {
		r = read[client.Request](h, h.must(h.dpo.GetRequest(h.t.Context(), id)))
		for _, s := range states {
			if r.State == s {
				return true
			}
		}
		return r.State.Final() || r.State == client.StateNeedsAttention
	}, 30*time.Second, 20*time.Millisecond)
	require.Contains(h.t, states, r.State, "reason %v hint %v", val(r.Reason), val(r.Hint))
	return r
}

func val(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (h *house) approve(by *client.Client, r *client.Request) (*http.Response, error) {
	h.t.Helper()
	plan := read[client.Plan](h, h.must(h.dpo.GetPlan(h.t.Context(), r.Id)))
	return by.ApproveRequest(h.t.Context(), r.Id, &client.ApproveRequestParams{IfMatch: r.ETag()},
		client.Approval{PlanHash: plan.Hash})
}

func (h *house) rows(table string) (n int) {
	h.t.Helper()
	require.NoError(h.t, h.shop.QueryRowContext(h.t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// everywhere runs a test on the embedded control database and on PostgreSQL.
func everywhere(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, start(t, ""))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, start(t, dbtest.Postgres(t)))
	})
}

func TestErasureFromFilingToTheEnd(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		r := h.file(h.dpo, filingOf(client.KindErasure))
		reviewed := h.follow(r.Id, client.StateAwaitingReview)

		resp, err := h.approve(h.dpo2, reviewed)
		_ = h.refused("four-eyes", resp, err) // another key of the same person
		resp, err = h.approve(h.portal, reviewed)
		_ = h.refused("forbidden", resp, err)
		stale := *reviewed
		stale.Version--
		officer := h.caller("bob", dsr.RoleDPO, false)
		resp, err = h.approve(officer, &stale)
		_ = h.refused("conflict", resp, err)
		resp, err = officer.ApproveRequest(ctx, r.Id, &client.ApproveRequestParams{IfMatch: reviewed.ETag()},
			client.Approval{PlanHash: "0000"})
		require.Equal(t, "plan_hash", *h.refused("plan-hash-mismatch", resp, err).Field)
		require.Equal(t, 2, h.rows("customers"), "nothing was approved, so nothing was done")

		resp, err = h.approve(officer, reviewed)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		read[client.Request](h, resp)
		done := h.follow(r.Id, client.StateCompleted)
		require.Equal(t, "bob", *done.ApprovedBy)
		require.Equal(t, 1, h.rows("customers"))
		require.Equal(t, 1, h.rows("orders"))

		tasks := read[client.TaskList](h, h.must(h.auditor.ListTasks(ctx, r.Id)))
		require.Len(t, tasks.Tasks, 1)
		require.EqualValues(t, 0, tasks.Tasks[0].Receipt.Residue)
		var deleted int64
		for _, l := range tasks.Tasks[0].Receipt.Lines {
			if l.Method == client.MethodDelete {
				deleted += l.Count
			}
		}
		require.EqualValues(t, 3, deleted)

		resp, err = h.dpo.CancelRequest(ctx, r.Id, &client.CancelRequestParams{IfMatch: done.ETag()})
		_ = h.refused("wrong-state", resp, err)
		h.everyPage(r.Id)
		h.nothingLeaked()
	})
}

// everyPage walks the timeline in small pages by the Link header and finds each event once, in order.
func (h *house) everyPage(id string) {
	h.t.Helper()
	whole := read[client.EventPage](h, h.must(h.auditor.ListEvents(h.t.Context(), id, &client.ListEventsParams{})))
	require.GreaterOrEqual(h.t, len(whole.Events), 4)
	two := 2
	var got []client.Event
	params := &client.ListEventsParams{Limit: &two}
	for {
		resp := h.must(h.auditor.ListEvents(h.t.Context(), id, params))
		link := resp.Header.Get("Link")
		page := read[client.EventPage](h, resp)
		got = append(got, page.Events...)
		if link == "" {
			break
		}
		last := page.Events[len(page.Events)-1].Id
		params.After = &last
	}
	require.Equal(h.t, whole.Events, got)
}

// nothingLeaked greps everything that Lethe wrote, except the shop's own database, for the subject.
func (h *house) nothingLeaked() {
	h.t.Helper()
	needles := []string{"canary.subject", "canary subject"}
	check := func(where string, raw []byte) {
		for _, n := range needles {
			require.NotContains(h.t, strings.ToLower(string(raw)), n, where)
		}
	}
	check("log", []byte(h.log.String()))
	require.NoError(h.t, filepath.WalkDir(filepath.Join(h.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil // a journal of SQLite's may go meanwhile
		}
		if err != nil {
			return err
		}
		check("path", []byte(path))
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		check(path, raw)
		return err
	}))
}

func TestAccessFromFilingToTheDownload(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		r := h.file(h.portal, filingOf(client.KindAccess))
		resp, err := h.portal.GetPackage(ctx, r.Id)
		require.NoError(t, err)
		require.GreaterOrEqual(t, resp.StatusCode, 400, "there is no package yet")
		resp.Body.Close()
		reviewed := h.follow(r.Id, client.StateAwaitingReview)
		resp, err = h.approve(h.dpo, reviewed)
		require.NoError(t, err)
		read[client.Request](h, resp)
		h.follow(r.Id, client.StateCompleted, client.StateCompletedWithExceptions)

		info := read[client.Package](h, h.must(h.auditor.GetPackage(ctx, r.Id)))
		require.EqualValues(t, 3, info.Records)
		resp, err = h.auditor.CreatePackageLink(ctx, r.Id, &client.CreatePackageLinkParams{})
		_ = h.refused("forbidden", resp, err)
		resp, err = h.operator.CreatePackageLink(ctx, r.Id, &client.CreatePackageLinkParams{})
		_ = h.refused("forbidden", resp, err)
		resp, err = h.portal2.CreatePackageLink(ctx, r.Id, &client.CreatePackageLinkParams{})
		_ = h.refused("not-found", resp, err)

		link := read[client.PackageLink](h, h.must(h.portal.CreatePackageLink(ctx, r.Id, &client.CreatePackageLinkParams{})))
		token := strings.TrimPrefix(*link.Url, "/v1/packages/")
		anyone, err := client.NewClient(h.app.URL())
		require.NoError(t, err)
		resp, err = anyone.DownloadPackage(ctx, token)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		require.NoError(t, err)
		found := false
		for _, f := range archive.File {
			entry, err := f.Open()
			require.NoError(t, err)
			content, err := io.ReadAll(entry)
			require.NoError(t, err)
			found = found || bytes.Contains(content, []byte(subject))
			require.NotContains(t, string(content), other, f.Name)
		}
		require.True(t, found, "the copy has the subject's data")

		resp, err = anyone.DownloadPackage(ctx, token)
		_ = h.refused("not-found", resp, err) // a link works once
		require.NotContains(t, h.log.String(), token)
		h.nothingLeaked()
	})
}

func TestNeedToKnow(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	mine := h.file(h.portal, filingOf(client.KindErasure))
	email := client.Identifier{Name: "email", Value: subject}

	require.Len(t, read[client.RequestPage](h, h.must(h.portal.ListRequests(ctx, &client.ListRequestsParams{}))).Requests, 1)
	require.Empty(t, read[client.RequestPage](h, h.must(h.portal2.ListRequests(ctx, &client.ListRequestsParams{}))).Requests)
	search := func(c *client.Client) *client.RequestPage {
		return read[client.RequestPage](h, h.must(c.SearchRequests(ctx, client.Search{Identifier: email})))
	}
	require.Len(t, search(h.portal).Requests, 1)
	require.Len(t, search(h.operator).Requests, 1)
	wrong, err := h.operator.SearchRequests(ctx, client.Search{Identifier: client.Identifier{Name: "email", Value: "nobody"}})
	require.Equal(t, "identifier.value", *h.refused("invalid", wrong, err).Field)
	require.Empty(t, search(h.portal2).Requests)
	resp, err := h.auditor.SearchRequests(ctx, client.Search{Identifier: email})
	_ = h.refused("forbidden", resp, err)

	now := h.follow(mine.Id, client.StateAwaitingReview)
	for name, call := range map[string]func() (*http.Response, error){
		"get": func() (*http.Response, error) { return h.portal2.GetRequest(ctx, mine.Id) },
		"cancel": func() (*http.Response, error) {
			return h.portal2.CancelRequest(ctx, mine.Id, &client.CancelRequestParams{IfMatch: now.ETag()})
		},
		"package": func() (*http.Response, error) { return h.portal2.GetPackage(ctx, mine.Id) },
		"not there at all": func() (*http.Response, error) {
			return h.portal.GetRequest(ctx, "req_00000000000000000000000000")
		},
	} {
		resp, err := call()
		t.Log(name)
		_ = h.refused("not-found", resp, err)
	}
	cancelled := read[client.Request](h, h.must(
		h.portal.CancelRequest(ctx, mine.Id, &client.CancelRequestParams{IfMatch: now.ETag()})))
	require.Equal(t, client.StateCancelled, cancelled.State)
	require.Equal(t, 2, h.rows("customers"))
}

func TestBadFilings(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	first := h.file(h.portal, filingOf(client.KindAccess))
	for name, c := range map[string]struct {
		change      func(n *client.NewRequest)
		code, field string
	}{
		"no e-mail":        {func(n *client.NewRequest) { n.Identifiers[0].Value = "canary.subject at example" }, "invalid", "identifiers[0].value"},
		"unknown kind":     {func(n *client.NewRequest) { n.Identifiers[0].Name = "passport" }, "invalid", "identifiers[0].name"},
		"unknown system":   {func(n *client.NewRequest) { n.Scope = &client.Scope{Systems: &[]string{"canary.subject"}} }, "invalid", "scope.systems[0]"},
		"unknown purpose":  {func(n *client.NewRequest) { n.Scope = &client.Scope{Purposes: &[]string{"canary.subject"}} }, "invalid", "scope.purposes[0]"},
		"tenant":           {func(n *client.NewRequest) { n.Tenant = new("canary.subject") }, "invalid", "tenant"},
		"ground":           {func(n *client.NewRequest) { n.Ground = new(client.GroundA) }, "invalid", "ground"},
		"in the future":    {func(n *client.NewRequest) { n.ReceivedAt = new(time.Now().AddDate(0, 0, 9)) }, "invalid", "received_at"},
		"in the year zero": {func(n *client.NewRequest) { n.ReceivedAt = new(time.Time{}.AddDate(1, 0, 0)) }, "invalid", "received_at"},
		"a duplicate":      {func(*client.NewRequest) {}, "duplicate", "identifiers"},
	} {
		n := filingOf(client.KindAccess)
		c.change(&n)
		resp, err := h.portal.FileRequest(ctx, &client.FileRequestParams{}, n)
		p := h.refused(c.code, resp, err)
		require.Equal(t, c.field, val(p.Field), name)
		require.NotContains(t, strings.ToLower(p.Error()+val(p.Hint)), "canary", name)
	}
	n := filingOf(client.KindAccess)
	link := true
	n.LinkDuplicate = &link
	require.Equal(t, first.Id, *h.file(h.portal, n).DuplicateOf)
	h.nothingLeaked()
}

func TestFilingAgainUnderOneKey(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, h *house) {
		key := "5c1d7a2e"
		params := &client.FileRequestParams{IdempotencyKey: &key}
		first := read[client.Request](h, h.must(h.portal.FileRequest(t.Context(), params, filingOf(client.KindAccess))))
		again := read[client.Request](h, h.must(h.portal.FileRequest(t.Context(), params, filingOf(client.KindAccess))))
		require.Equal(t, first, again)
		resp, err := h.portal.FileRequest(t.Context(), params, filingOf(client.KindErasure))
		_ = h.refused("idempotency-mismatch", resp, err)
		h.nothingLeaked()
	})
}

func TestIdentityClockAndRefusal(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	n := filingOf(client.KindErasure)
	n.IdentityVerified, n.IdentityMethod = nil, nil
	r := h.file(h.portal, n)
	require.Equal(t, client.StateAwaitingIdentity, r.State)
	require.True(t, r.Clock.Paused)
	r = read[client.Request](h, h.must(h.portal.ConfirmIdentity(ctx, r.Id,
		&client.ConfirmIdentityParams{IfMatch: r.ETag()}, client.IdentityConfirmation{Method: "email_code"})))
	require.False(t, r.Clock.Paused)
	r = h.follow(r.Id, client.StateAwaitingReview)

	r = read[client.Request](h, h.must(h.dpo.PauseRequest(ctx, r.Id,
		&client.PauseRequestParams{IfMatch: r.ETag()}, client.PauseReason{Reason: client.PauseReasonReasonClarification})))
	require.True(t, r.Clock.Paused)
	r = read[client.Request](h, h.must(h.dpo.ResumeRequest(ctx, r.Id, &client.ResumeRequestParams{IfMatch: r.ETag()})))
	require.False(t, r.Clock.Paused)
	before := r.Clock.Due
	r = read[client.Request](h, h.must(h.dpo.ExtendRequest(ctx, r.Id,
		&client.ExtendRequestParams{IfMatch: r.ETag()}, client.Extension{Reason: client.ExtensionReasonComplexity})))
	require.True(t, r.Clock.Extended)
	require.True(t, r.Clock.Due.After(before.Time))
	resp, err := h.dpo.RetryRequest(ctx, r.Id, &client.RetryRequestParams{IfMatch: r.ETag()})
	_ = h.refused("wrong-state", resp, err)
	r = read[client.Request](h, h.must(h.dpo.RefuseRequest(ctx, r.Id,
		&client.RefuseRequestParams{IfMatch: r.ETag()}, client.Refusal{Article: "12(5)(b)", Reason: "excessive"})))
	require.Equal(t, client.StateRefused, r.State)
	require.Equal(t, "12(5)(b)", *r.Article)
	require.Equal(t, 2, h.rows("customers"))
}

func TestManualKindIsCompletedByAPerson(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	r := h.file(h.portal, filingOf(client.KindRectification))
	r = h.follow(r.Id, client.StateManual)
	r = read[client.Request](h, h.must(h.operator.CompleteTask(ctx, r.Id, "shop",
		&client.CompleteTaskParams{IfMatch: r.ETag()}, client.TaskCompletion{Records: 2})))
	require.Equal(t, client.StateCompleted, r.State)
}

func TestSystemsAndPreview(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	systems := read[client.SystemList](h, h.must(h.auditor.ListSystems(ctx)))
	require.Len(t, systems.Systems, 1)
	require.Equal(t, 2, systems.Systems[0].Entities)
	require.Empty(t, read[client.CheckResult](h, h.must(h.operator.CheckSystem(ctx, "shop"))).Findings)
	resp, err := h.operator.CheckSystem(ctx, "elsewhere")
	_ = h.refused("not-found", resp, err)
	preview := read[client.Preview](h, h.must(h.operator.PreviewPlan(ctx, client.NewPreview{
		Kind: client.KindErasure, Identifiers: client.Identifiers{{Name: "email", Value: subject}},
	})))
	var rows int64
	for _, l := range preview.Lines {
		rows += l.Count
	}
	require.EqualValues(t, 3, rows)
	require.Empty(t, read[client.RequestPage](h, h.must(h.dpo.ListRequests(ctx, &client.ListRequestsParams{}))).Requests)
	h.nothingLeaked()
}

func TestRevokedKeyIsWorthNothing(t *testing.T) {
	t.Parallel()
	h := start(t, "")
	ctx := t.Context()
	keys := read[client.ApiKeyPage](h, h.must(h.operator.ListApiKeys(ctx, &client.ListApiKeysParams{})))
	for _, k := range keys.Keys {
		if k.Principal == "portal" {
			gone := read[client.ApiKey](h, h.must(h.operator.RevokeApiKey(ctx, k.Id)))
			require.NotNil(t, gone.RevokedAt)
		}
	}
	resp, err := h.portal.ListRequests(ctx, &client.ListRequestsParams{})
	_ = h.refused("unauthenticated", resp, err)
}
