package api_test

import (
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Whatever a body is: never a fault of ours, never an echo, and never a crash. Where the body has the word CANARY it is
// replaced by something that no answer has a reason to contain.
func FuzzBodies(f *testing.F) {
	var ops []operation
	all := operations(f)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		op := all[id]
		body, _ := goodCall(id)
		if body == "" {
			continue
		}
		ops = append(ops, op)
		n := uint8(len(ops) - 1)
		f.Add(n, body)
		f.Add(n, strings.Replace(body, `:"`, `:"CANARY`, 1))
		f.Add(n, strings.Replace(body, `{"`, `{"CANARY":1,"`, 1))
		f.Add(n, strings.Replace(body, `"}`, `CANARY`, 1))
		f.Add(n, `{"kind":"access","identifiers":[{"name":"email","value":"CANARY\ud800"}]}`)
		f.Add(n, `{"kind":"access","identifiers":[{"name":"email","value":"a"}],"received_at":"9999-12-31T23:59:60Z"}`)
		f.Add(n, `{"records":1e19}`)
		f.Add(n, `{"principal":"a","type":"person","roles":["dpo"],"expires_at":"0000-00-00T00:00:00CANARY"}`)
	}
	b := setup(f)
	token := b.token("ada", dsr.RoleDPO, dsr.RoleOperator)
	f.Fuzz(func(t *testing.T, n uint8, body string) {
		const secret = "zq7canaryq7z"
		op := ops[int(n)%len(ops)]
		r := httptest.NewRequestWithContext(t.Context(), op.method, op.path,
			strings.NewReader(strings.ReplaceAll(body, "CANARY", secret)))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", `"7"`)
		w := httptest.NewRecorder()
		b.log.Reset()
		b.http.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, w.Body)
		if w.Code >= 400 {
			answer{w.Code, w.Header(), w.Body.String()}.problem(t)
		}
		// The label and the principal of a new key are what the caller asked to see again.
		if op.permission.Operation != "createApiKey" || w.Code >= 400 {
			require.NotContains(t, strings.ToLower(w.Body.String()), secret)
		}
		require.NotContains(t, strings.ToLower(b.log.String()), secret)
	})
}
