package api_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	return v
}

// Everything that the engine knows of a rule, a sweep and a hold is shown, in the units of the contract.
func TestRulesSweepsAndHoldsAreShownWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO)

	status := b.call("GET", "/v1/retention/rules", token, "").object(t)
	require.Equal(t, "22:00-05:30", status["window"])
	require.Equal(t, "UTC", status["time_zone"])
	require.Equal(t, "incident", status["stopped"].(map[string]any)["reason"])
	rule := status["rules"].([]any)[0].(map[string]any)
	sweep := rule["last_sweep"].(map[string]any)
	delete(rule, "last_sweep")
	at := "2026-03-01T02:30:00Z"
	require.Equal(t, map[string]any{
		"name": ruleName, "system": "shop", "entity": "orders", "class": "accounting", "period": "P7Y", "minimum": "P7Y",
		"grace": "P7D", "from": "end_of_calendar_year", "action": "delete", "reviewed": true, "hash": "abc123",
		"needs_approval": false, "approved_by": "ada", "approved_at": at, "paused_by": "olga", "paused_at": at, "counted_at": at,
		"due": 3.0, "held": 0.0, "blocked": 0.0, "backlog": 0.0, "last_success": at, "next_run": at,
		"cap": map[string]any{"rows": 5000.0, "share": 0.1, "growth": 3.0},
		"start": map[string]any{
			"kind": "field", "field": "placed_at", "latest": []any{"lines.booked_at"}, "if_null": "field", "null_field": "created_at",
		},
		"when": []any{
			map[string]any{"field": "status", "values": []any{"closed"}},
			map[string]any{"field": "dispute", "null": true},
			map[string]any{"field": "no", "not_null": true},
		},
	}, rule)
	require.Equal(t, map[string]any{
		"bytes": 1048576.0, "transactions": 9.0, "longest_seconds": 0.048, "worked_seconds": 3.0,
		"paused_seconds": map[string]any{"lag": 1.5},
	}, sweep["measures"])
	require.Equal(t, sweep, b.call("GET", "/v1/retention/sweeps/"+sweepID, token, "").object(t))
	require.Equal(t, "Stopped: 41,200 due, cap 5,000. Nothing deleted.", sweep["hint"])
	require.Equal(t, []any{"invoices"}, sweep["blocked_by"])

	forecast := b.call("GET", "/v1/retention/forecast?rule="+ruleName+"&rule=shop.x.y", token, "").object(t)
	horizon := forecast["rules"].([]any)[0].(map[string]any)["horizons"].([]any)[0].(map[string]any)
	require.Equal(t, 7.0, horizon["free"], "neither held nor blocked")
	require.Equal(t, 10.0, horizon["rows"])
	require.Equal(t, map[string]any{"unreadable-content": 3.0}, horizon["unreadable"])

	hold := b.call("GET", "/v1/holds/"+holdID, token, "").object(t)
	require.Equal(t, map[string]any{
		"id": holdID, "kind": "legal", "identifiers": 0.0, "system": "shop", "entity": "orders", "reference": "CASE-17/4",
		"review": "2027-03-01", "placed_by": "ada", "created_at": "2026-03-01T00:00:00Z", "version": 7.0,
		"when": []any{map[string]any{"field": "dispute", "not_null": true}},
	}, hold)
}

func TestStartingASweep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("olga", dsr.RoleOperator)
	path := "/v1/retention/rules/" + ruleName + "/sweep"

	got := b.call("POST", path, token, `{"dry_run":true}`)
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, "over-cap", got.object(t)["would"])
	require.Empty(t, got.header.Get("Location"))

	got = b.call("POST", path, token, `{}`, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusAccepted, got.status, got.body)
	require.Equal(t, "/v1/retention/sweeps/"+sweepID, got.header.Get("Location"))
	require.Equal(t, `"7"`, got.header.Get("ETag"))
	again := b.call("POST", path, token, `{}`, "Idempotency-Key", "k1")
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	require.JSONEq(t, got.body, again.body)
	require.Equal(t, http.StatusUnprocessableEntity, b.call("POST", path, token, `{"now":true}`, "Idempotency-Key", "k1").status)

	b.engine.fail(&dsr.Error{Code: dsr.CodeWrongState, Msg: "the rule is paused", Hint: "resume it first"})
	got = b.call("POST", path, token, `{}`)
	require.Equal(t, http.StatusConflict, got.status)
	require.Equal(t, "resume it first", got.problem(t).Hint)
}

func TestBadRetentionCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO)
	hold := func(rest string) string { return `{"kind":"legal"` + rest + `}` }
	for name, c := range map[string]struct{ method, path, body, field string }{
		"a rule's name":     {"GET", "/v1/retention/rules/a%20b", "", "rule"},
		"a sweep's id":      {"GET", "/v1/retention/sweeps/swp_1", "", "sweep"},
		"a hold's id":       {"GET", "/v1/holds/hold_1", "", "hold"},
		"a state":           {"GET", "/v1/retention/sweeps?state=asleep", "", "state"},
		"an identifier":     {"GET", "/v1/holds?identifier=" + canary, "", "identifier"},
		"a kind of hold":    {"POST", "/v1/holds", `{"kind":"` + canary + `"}`, "kind"},
		"a name as a file":  {"POST", "/v1/holds", hold(`,"reference":"Case of ` + canary + `"`), "reference"},
		"a day":             {"POST", "/v1/holds", hold(`,"review":"soon"`), "review"},
		"a condition":       {"POST", "/v1/holds", hold(`,"when":[{"values":["` + canary + `"]}]`), "when[0].field"},
		"an empty list":     {"POST", "/v1/holds", hold(`,"when":[{"field":"a","values":[]}]`), "when[0].values"},
		"a reason in prose": {"POST", "/v1/retention/stop", `{"reason":"because ` + canary + `"}`, "reason"},
		"no map":            {"POST", "/v1/retention/simulate", `{"map":""}`, "map"},
		"an order":          {"POST", "/v1/retention/rules/" + ruleName + "/sweep", `{"force":true}`, "force"},
	} {
		got := b.call(c.method, c.path, token, c.body)
		require.Equal(t, http.StatusBadRequest, got.status, "%s: %s", name, got.body)
		require.Equal(t, c.field, got.problem(t).Field, name)
		require.NotContains(t, got.body, canary, name)
	}
	b.engine.fail(&dsr.Error{Code: dsr.CodeHashMismatch, Field: "hash", Msg: "is not the hash of the rule as it is now"})
	got := b.call("POST", "/v1/retention/rules/"+ruleName+"/approve", token, `{"hash":"old"}`)
	require.Equal(t, http.StatusPreconditionFailed, got.status)
	require.Equal(t, "hash", got.problem(t).Field)
	b.engine.fail(&dsr.Error{Code: dsr.CodeInvalid, Field: "identifiers[0].value", Msg: "is not an e-mail address"})
	got = b.call("POST", "/v1/holds/search", token, `{"identifier":{"name":"email","value":"`+canary+`"}}`)
	require.Equal(t, "identifier.value", got.problem(t).Field)
	require.NotContains(t, b.log.String(), canary)
}
