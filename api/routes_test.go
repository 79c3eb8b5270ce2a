package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

const filing = `{"kind":"erasure","identifiers":[{"name":"email","value":"` + canary + `"}]}`

// goodCall is a call of an operation that nothing is wrong with.
func goodCall(operation string) (body string, header []string) {
	switch operation {
	case "fileRequest", "previewPlan":
		body = filing
	case "searchRequests":
		body = `{"identifier":{"name":"email","value":"` + canary + `"}}`
	case "confirmIdentity":
		body = `{"method":"session"}`
	case "instructRequest":
		body = `{"reference":"CASE-17/4"}`
	case "approveRequest":
		body = `{"plan_hash":"abc123"}`
	case "refuseRequest":
		body = `{"article":"12(5)(b)","reason":"excessive"}`
	case "extendRequest":
		body = `{"reason":"complexity"}`
	case "pauseRequest":
		body = `{"reason":"clarification"}`
	case "completeTask":
		body = `{"records":3}`
	case "approveRule":
		body = `{"hash":"abc123"}`
	case "startSweep":
		body = `{"now":true}`
	case "stopSweeps":
		body = `{"reason":"incident"}`
	case "simulateRetention":
		body = `{"map":"version: 1"}`
	case "approveSweep":
		body = `{"due":41200}`
	case "placeHold":
		body = `{"kind":"legal","identifiers":[{"name":"email","value":"` + canary + `"}],"reference":"CASE-17/4","review":"2027-01-31"}`
	case "searchHolds":
		body = `{"identifier":{"name":"email","value":"` + canary + `"}}`
	case "reviewHold":
		body = `{"review":"2027-01-31"}`
	case "createApiKey":
		body = `{"principal":"new-person","type":"person","roles":["portal"]}`
	}
	return body, []string{"If-Match", `"7"`}
}

type operation struct {
	method, path string
	permission   auth.Permission
}

// operations reads the routes out of the contract, so that a new one cannot be forgotten here.
//
// The generator embeds the contract with capitals of its own in the operations' names.
func operations(t testing.TB) map[string]operation {
	t.Helper()
	spec, err := gen.GetSpec()
	require.NoError(t, err)
	table := map[string]auth.Permission{}
	for _, p := range auth.Permissions() {
		table[p.Operation] = p
	}
	out := map[string]operation{}
	for path, item := range spec.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Tags[0] == "operations" {
				continue
			}
			id := lowerFirst(op.OperationID)
			require.Contains(t, table, id)
			path := strings.NewReplacer("{id}", requestID, "{system}", "paper", "{name}", "shop", "{key}",
				strings.Repeat("a", 16), "{token}", "one-time-link-0123456789", "{rule}", ruleName, "{sweep}", sweepID,
				"{hold}", holdID).Replace(path)
			out[id] = operation{method, path, table[id]}
		}
	}
	require.Len(t, out, len(table))
	return out
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func TestEveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *auth.Config) { c.AddressFailures = 1000 })
	type who struct {
		name   string
		token  string
		role   string
		system bool
	}
	callers := []who{{name: "nobody"}}
	for _, role := range auth.Roles() {
		callers = append(callers,
			who{role + " person", b.token("p-"+role, role), role, false},
			who{role + " system", b.key(auth.NewKey{Principal: "s-" + role, System: true, Roles: []string{role}}), role, true})
	}
	for id, op := range operations(t) {
		for _, c := range callers {
			body, header := goodCall(id)
			got := b.call(op.method, op.path, c.token, body, header...)
			may := op.permission.Open
			for _, r := range op.permission.Roles {
				may = may || r == c.role && !(op.permission.PersonsOnly && c.system)
			}
			switch {
			case may && id == "revokeApiKey": // of a key that is not there
				require.Equal(t, http.StatusNotFound, got.status, "%s as %s: %s", id, c.name, got.body)
			case may:
				require.Less(t, got.status, 300, "%s as %s: %s", id, c.name, got.body)
			case c.token == "":
				require.Equal(t, http.StatusUnauthorized, got.status, "%s as %s", id, c.name)
				require.NotEmpty(t, got.header.Get("WWW-Authenticate"))
				require.Equal(t, string(auth.CodeUnauthenticated), got.problem(t).code())
			default:
				require.Equal(t, http.StatusForbidden, got.status, "%s as %s: %s", id, c.name, got.body)
				require.Equal(t, string(dsr.CodeForbidden), got.problem(t).code())
			}
			require.NotContains(t, got.body, canary, id)
		}
	}
	require.NotContains(t, b.log.String(), canary)
}

// A caller who may not do a thing learns nothing of what is wrong with the call either.
func TestPermissionComesBeforeValidation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.call("POST", "/v1/requests", b.token("aud", dsr.RoleAuditor), `{"nonsense":1}`)
	require.Equal(t, http.StatusForbidden, got.status)
	require.Empty(t, got.problem(t).Field)
}

func TestDecisionsNeedTheVersionThatWasSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token("ada", dsr.RoleDPO)
	for id, op := range operations(t) {
		spec, err := gen.GetSpec()
		require.NoError(t, err)
		decision := false
		for _, item := range spec.Paths.Map() {
			for _, o := range item.Operations() {
				decision = decision || lowerFirst(o.OperationID) == id && o.Tags[0] == "decisions"
			}
		}
		if !decision {
			continue
		}
		body, _ := goodCall(id)
		got := b.call(op.method, op.path, token, body)
		require.Equal(t, http.StatusPreconditionRequired, got.status, id)
		require.Equal(t, "If-Match", got.problem(t).Field)

		for _, bad := range []string{"*", "7", `W/"7"`, `"x"`, `"-1"`, `"7", "8"`} {
			got = b.call(op.method, op.path, token, body, "If-Match", bad)
			require.Equal(t, http.StatusBadRequest, got.status, "%s %s", id, bad)
			require.Equal(t, "If-Match", got.problem(t).Field)
		}
		got = b.call(op.method, op.path, token, body, "If-Match", `"7"`)
		require.Less(t, got.status, 300, "%s %s", id, got.body)
		require.Equal(t, `"7"`, got.header.Get("ETag"))
	}
	b.engine.fail(&dsr.Error{Code: dsr.CodeConflict, Msg: "it has moved on"})
	got := b.call("POST", "/v1/requests/"+requestID+"/cancel", token, "", "If-Match", `"6"`)
	require.Equal(t, http.StatusPreconditionFailed, got.status)
}
