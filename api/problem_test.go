package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

func TestBadInputNamesTheFieldAndNotTheValue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO, dsr.RoleOperator)
	const (
		file = "POST /v1/requests"
		one  = "/v1/requests/" + requestID
	)
	id := func(name, value string) string {
		return fmt.Sprintf(`{"kind":"erasure","identifiers":[{"name":%q,"value":%q}]}`, name, value)
	}
	for name, c := range map[string]struct {
		call, body string
		header     []string
		status     int
		field      string
	}{
		"malformed JSON":        {file, `{"kind": "` + canary, nil, 400, "body"},
		"empty body":            {file, ``, []string{"Content-Type", "application/json"}, 400, "body"},
		"two values":            {file, filing + filing, nil, 400, "body"},
		"an array":              {file, `["` + canary + `"]`, nil, 400, "body"},
		"a string":              {file, `"` + canary + `"`, nil, 400, "body"},
		"null":                  {file, `null`, nil, 400, "body"},
		"not UTF-8":             {file, "{\"kind\":\"\xff" + canary + "\"}", nil, 400, "body"},
		"a member twice":        {file, `{"kind":"access","kind":"` + canary + `"}`, nil, 400, "kind"},
		"deep nesting":          {file, strings.Repeat(`[`, 5000) + `"` + canary + `"`, nil, 400, "body"},
		"wrong content type":    {file, filing, []string{"Content-Type", "text/" + canary}, 415, "Content-Type"},
		"form":                  {file, filing, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "Content-Type"},
		"other charset":         {file, filing, []string{"Content-Type", "application/json; charset=latin1"}, 415, "Content-Type"},
		"too large":             {file, `{"kind":"` + strings.Repeat(canary, 20000) + `"}`, nil, 413, "body"},
		"unknown field":         {file, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"colour":"` + canary + `"}`, nil, 400, "colour"},
		"unknown field, leaky":  {file, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"` + canary + `":1}`, nil, 400, "body"},
		"unknown field inside":  {file, `{"kind":"access","identifiers":[{"name":"email","value":"a","extra":"` + canary + `"}]}`, nil, 400, "identifiers[0].extra"},
		"wrong enum":            {file, `{"kind":"` + canary + `","identifiers":[{"name":"email","value":"a"}]}`, nil, 400, "kind"},
		"missing kind":          {file, `{"identifiers":[{"name":"email","value":"` + canary + `"}]}`, nil, 400, "kind"},
		"missing value":         {file, `{"kind":"access","identifiers":[{"name":"email"}]}`, nil, 400, "identifiers[0].value"},
		"no identifier":         {file, `{"kind":"access","identifiers":[]}`, nil, 400, "identifiers"},
		"value of another type": {file, `{"kind":"access","identifiers":[{"name":"email","value":{"x":"` + canary + `"}}]}`, nil, 400, "identifiers[0].value"},
		"null value":            {file, `{"kind":"access","identifiers":[{"name":"email","value":null}]}`, nil, 400, "identifiers[0].value"},
		"a control character":   {file, `{"kind":"access","identifiers":[{"name":"email","value":"` + canary + `\u0000"}]}`, nil, 400, "identifiers[0].value"},
		"value too long":        {file, id("email", strings.Repeat(canary, 30)), nil, 400, "identifiers[0].value"},
		"leaky name":            {file, id(canary, "x"), nil, 400, "identifiers[0].name"},
		"leaky system":          {file, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"scope":{"systems":["` + canary + `"]}}`, nil, 400, "scope.systems[0]"},
		"no date":               {file, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"received_at":"` + canary + `"}`, nil, 400, "received_at"},
		"an impossible date":    {file, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"received_at":"2026-02-31T10:00:00Z"}`, nil, 400, "received_at"},
		"idempotency key":       {file, filing, []string{"Idempotency-Key", strings.Repeat("x", 200)}, 400, "Idempotency-Key"},
		"unknown parameter":     {"GET /v1/requests?email=" + canary, "", nil, 400, "email"},
		"leaky parameter":       {"GET /v1/requests?" + canary + "=1", "", nil, 400, "query"},
		"wrong kind in a query": {"GET /v1/requests?kind=" + canary, "", nil, 400, "kind"},
		"wrong state":           {"GET /v1/requests?state=running&state=" + canary, "", nil, 400, "state"},
		"limit zero":            {"GET /v1/requests?limit=0", "", nil, 400, "limit"},
		"limit too high":        {"GET /v1/requests?limit=1000", "", nil, 400, "limit"},
		"limit is a word":       {"GET /v1/requests?limit=" + canary, "", nil, 400, "limit"},
		"cursor":                {"GET /v1/requests?cursor=%00" + canary, "", nil, 400, "cursor"},
		"cursor of sweeps":      {"GET /v1/retention/sweeps?cursor=swp_garbage", "", nil, 400, "cursor"},
		"cursor of others":      {"GET /v1/retention/sweeps?cursor=hold_01ARZ3NDEKTSV4RRFFQ69G5FAV", "", nil, 400, "cursor"},
		"cursor of holds":       {"GET /v1/holds?cursor=01ARZ3NDEKTSV4RRFFQ69G5FAV", "", nil, 400, "cursor"},
		"cursor of a search":    {"POST /v1/holds/search", `{"identifier":{"name":"email","value":"a"},"cursor":"x"}`, nil, 400, "cursor"},
		"cursor of keys":        {"GET /v1/api-keys?cursor=garbage", "", nil, 400, "cursor"},
		"after":                 {"GET " + one + "/events?after=" + canary, "", nil, 400, "after"},
		"request id":            {"GET /v1/requests/" + canary, "", nil, 400, "id"},
		"encoded slash":         {"GET /v1/requests/..%2f" + canary, "", nil, 400, "id"},
		"a body where none is":  {"POST " + one + "/cancel", `{"why":"` + canary + `"}`, []string{"If-Match", `"1"`}, 400, "body"},
		"refusal's article":     {"POST " + one + "/refuse", `{"article":"` + canary + `","reason":"x"}`, []string{"If-Match", `"1"`}, 400, "article"},
		"refusal's reason":      {"POST " + one + "/refuse", `{"article":"12(5)","reason":"` + canary + `"}`, []string{"If-Match", `"1"`}, 400, "reason"},
		"extension's reason":    {"POST " + one + "/extend", `{"reason":"` + canary + `"}`, []string{"If-Match", `"1"`}, 400, "reason"},
		"negative records":      {"POST " + one + "/tasks/paper/complete", `{"records":-1}`, []string{"If-Match", `"1"`}, 400, "records"},
		"huge records":          {"POST " + one + "/tasks/paper/complete", `{"records":1e300}`, []string{"If-Match", `"1"`}, 400, "records"},
		"half a record":         {"POST " + one + "/tasks/paper/complete", `{"records":1.5}`, []string{"If-Match", `"1"`}, 400, "records"},
		"unknown task":          {"POST " + one + "/tasks/elsewhere/complete", `{"records":1}`, []string{"If-Match", `"1"`}, 404, "system"},
		"principal":             {"POST /v1/api-keys", `{"principal":"` + canary + `","type":"person","roles":["dpo"]}`, nil, 400, "principal"},
		"role":                  {"POST /v1/api-keys", `{"principal":"bob","type":"person","roles":["` + canary + `"]}`, nil, 400, "roles[0]"},
		"a role twice":          {"POST /v1/api-keys", `{"principal":"bob","type":"person","roles":["dpo","dpo"]}`, nil, 400, "roles"},
		"label":                 {"POST /v1/api-keys", `{"principal":"bob","type":"person","roles":["dpo"],"label":"\u0000"}`, nil, 400, "label"},
		"expired key":           {"POST /v1/api-keys", `{"principal":"bob","type":"person","roles":["dpo"],"expires_at":"2020-01-01T00:00:00Z"}`, nil, 422, "expires_at"},
		"key id":                {"DELETE /v1/api-keys/" + canary, "", nil, 400, "key"},
		"no such resource":      {"GET /v1/" + canary, "", nil, 404, ""},
		"no such method":        {"PATCH /v1/requests", "", nil, 405, ""},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		got := b.call(method, path, token, c.body, c.header...)
		require.Equal(t, c.status, got.status, "%s: %s", name, got.body)
		require.Equal(t, c.field, got.problem(t).Field, "%s: %s", name, got.body)
		require.NotContains(t, strings.ToLower(got.body+fmt.Sprint(got.header)), "canary", name)
	}
	require.Zero(t, b.engine.filed)
	require.NotContains(t, strings.ToLower(b.log.String()), "canary")
}

func TestSeveralFieldsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.call("POST", "/v1/requests", b.token("ada", dsr.RoleDPO),
		`{"kind":"x","identifiers":[{"name":"email"}],"tenant":""}`)
	var fields []string
	for _, e := range got.problem(t).Errors {
		fields = append(fields, e.Field)
		require.NotEmpty(t, e.Message)
	}
	require.Equal(t, []string{"identifiers[0].value", "kind", "tenant"}, fields)
}

func TestErrorsOfTheEngine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO)
	for code, status := range map[dsr.Code]int{
		dsr.CodeInvalid: 422, dsr.CodeNotFound: 404, dsr.CodeForbidden: 403, dsr.CodeConflict: 412, dsr.CodeWrongState: 409,
		dsr.CodeDuplicate: 409, dsr.CodeFourEyes: 403, dsr.CodeOverCap: 429, dsr.CodeHashMismatch: 412,
		dsr.CodeUnavailable: 503,
	} {
		b.engine.fail(fmt.Errorf("outer: %w", &dsr.Error{
			Code: code, Field: "identifiers[0].value", Msg: "is wrong", Hint: "do this", Err: errors.New(canary),
		}))
		got := b.call("POST", "/v1/requests", token, filing)
		p := got.problem(t)
		require.Equal(t, status, got.status, code)
		require.Equal(t, string(code), p.code())
		require.Equal(t, "is wrong", p.Detail)
		require.Equal(t, "do this", p.Hint)
		require.Equal(t, "identifiers[0].value", p.Field)
		require.NotContains(t, got.body, canary)
		if status == 429 || status == 503 {
			require.NotEmpty(t, got.header.Get("Retry-After"))
		}
	}
}

func TestUntypedErrorIsGenericAndFoundInTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO)
	for _, err := range []error{errors.New("a fault"), &dsr.Error{Code: "made-up", Msg: "a fault"}} {
		b.engine.fail(err)
		got := b.call("GET", "/v1/requests/"+requestID, token, "")
		p := got.problem(t)
		require.Equal(t, http.StatusInternalServerError, got.status)
		require.Equal(t, "internal", p.code())
		require.NotContains(t, got.body, "a fault")
		require.Contains(t, b.log.String(), strings.TrimPrefix(p.Instance, "urn:lethe:fault:"))
	}
}

func TestPanicIsAFaultOfOurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.hold = nil
	b.engine.entered = nil
	b.engine.fail(panicking{})
	got := b.call("GET", "/v1/requests/"+requestID, b.token("ada", dsr.RoleDPO), "")
	require.Equal(t, http.StatusInternalServerError, got.status)
	require.Equal(t, "internal", got.problem(t).code())
	require.NotContains(t, b.log.String(), canary)
}

type panicking struct{}

func (panicking) Error() string   { panic(canary) }
func (panicking) Unwrap() []error { panic(canary) }

// Every problem's type leads to a heading of docs/API.md.
func TestEveryProblemIsDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/API.md")
	require.NoError(t, err)
	for _, code := range []string{
		"malformed", "unauthenticated", "forbidden", "four-eyes", "not-found", "method-not-allowed", "wrong-state",
		"duplicate", "principal-kind", "idempotency-in-flight", "conflict", "plan-hash-mismatch", "rule-hash-mismatch", "due-mismatch", "too-large",
		"content-type", "invalid", "unreadable-content", "idempotency-mismatch", "precondition-required", "blast-radius", "too-many-requests",
		"internal", "unavailable",
	} {
		require.Contains(t, string(raw), "\n### "+code+"\n", code)
	}
}
