package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Whatever a body is: never a fault of ours, never an echo, and never a crash. Where the body has the word CANARY it is
// replaced by something that no answer has a reason to contain.
func FuzzBodies(f *testing.F) {
	ops := operations(f)
	for id := range ops {
		if body, _ := goodCall(id); body != "" {
			f.Add(id, body)
			f.Add(id, strings.Replace(body, `:"`, `:"CANARY`, 1))
			f.Add(id, strings.Replace(body, `{"`, `{"CANARY":1,"`, 1))
			f.Add(id, strings.Replace(body, `"}`, `CANARY`, 1))
		}
	}
	f.Add("fileRequest", `{"kind":"access","identifiers":[{"name":"email","value":"CANARY\ud800"}]}`)
	f.Add("fileRequest", `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"received_at":"9999-12-31T23:59:60Z"}`)
	f.Add("completeTask", `{"records":1e19}`)
	f.Add("createApiKey", `{"principal":"a","type":"person","roles":["dpo"],"expires_at":"0000-00-00T00:00:00CANARY"}`)
	b := setup(f)
	token := b.token("ada", dsr.RoleDPO, dsr.RoleOperator)
	f.Fuzz(func(t *testing.T, id, body string) {
		op, ok := ops[id]
		if !ok || op.method != "POST" {
			return
		}
		const secret = "zq7canaryq7z"
		b := *b
		b.t = t
		got := b.call(op.method, op.path, token, strings.ReplaceAll(body, "CANARY", secret), "If-Match", `"7"`)
		require.Less(t, got.status, 500, got.body)
		// A label or a principal of a new key is what the caller asked to see again.
		if id != "createApiKey" || got.status >= 400 {
			require.NotContains(t, strings.ToLower(got.body), secret)
		}
		if got.status >= 400 {
			got.problem(t)
		}
		require.NotContains(t, strings.ToLower(b.log.String()), secret)
	})
}
