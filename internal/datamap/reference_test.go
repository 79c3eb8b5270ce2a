package datamap_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

// TestTheReferenceIsTrue holds docs/DATAMAP.md to the code: it names every key and value, and its example loads.
func TestTheReferenceIsTrue(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/DATAMAP.md")
	require.NoError(t, err)
	page := string(b)

	text, err := datamap.JSONSchema([]connectors.Kind{{Name: "postgres"}, {Name: "sqlite", Flat: true, Expires: true}})
	require.NoError(t, err)
	var s any
	require.NoError(t, json.Unmarshal(text, &s))
	says := func(pattern string) {
		if !regexp.MustCompile(pattern).MatchString(page) {
			t.Errorf("the reference does not say %s", pattern)
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if props, ok := v["properties"].(map[string]any); ok {
				for key := range props {
					says("`\\{?" + key + "(:|`)")
				}
			}
			if values, ok := v["enum"].([]any); ok {
				for _, value := range values {
					if word, ok := value.(string); ok && word != "1" {
						says("[` ]" + regexp.QuoteMeta(word) + "`")
					}
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(s)

	_, example, ok := strings.Cut(page, "```yaml\n")
	require.True(t, ok)
	example, _, ok = strings.Cut(example, "```")
	require.True(t, ok)
	m, err := datamap.Load([]byte(example), env, []connectors.Kind{{
		Name: "postgres", SystemKeys: []connectors.Setting{{Name: "dsn", Required: true, Type: "string"}},
	}})
	require.NoError(t, err)
	require.Empty(t, m.Art15.Missing())
}
