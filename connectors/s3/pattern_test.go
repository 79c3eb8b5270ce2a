package s3

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	for text, keys := range map[string]map[string][]string{
		"avatars/{user_id}/**":          {"avatars/42/a/b.png": {"42"}, "avatars/42/": {"42"}, "avatars/42": nil, "avatars//x": nil, "x/avatars/42/a": nil},
		"events/**.json.gz":             {"events/2024/01/a.json.gz": {}, "events/.json.gz": {}, "events/a.json": nil},
		"in/*/{email}.eml":              {"in/2024/anna@example.com.eml": {"anna@example.com"}, "in/2024/x/anna@example.com.eml": nil},
		"a/**/{user_id}.png":            {"a/b/c/42.png": {"42"}, "a/42.png": {"42"}},
		"export.csv":                    {"export.csv": {}, "export.csv2": nil, "exportxcsv": nil},
		"u-{user_id}/{email}/profile.*": {"u-7/b@example.com/profile.json": {"7", "b@example.com"}},
	} {
		p, err := parsePattern(text)
		require.NoError(t, err, text)
		for key, want := range keys {
			got, ok := p.Match(key)
			require.Equal(t, want != nil, ok, "%s %s", text, key)
			if ok {
				require.Equal(t, want, got, "%s %s", text, key)
			}
		}
	}
	for _, text := range []string{"", "/a/{b}", "a/{", "a/}b", "a/{}/b", "a/{x}-*", "a/{x}{y}", "a/{x}**", "**/{x}/**", "*{x}/a"} {
		_, err := parsePattern(text)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, text)
	}
}

func TestWhereAnObjectIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, key, want string }{
		{"events/**", "events/2024/a.jsonl", "events/2024/a.jsonl (version v1)"},
		{"events/{user_id}/**", "events/2024/a.jsonl", "the object with version v1"},
		{"events/**", "events/anna@example.com.jsonl", "the object with version v1"},
		{"events/**", "events/46701740605.jsonl", "the object with version v1"},
		{"events/**", "events/of-ANNA-42/a", "the object with version v1"},
	} {
		p, err := parsePattern(c.pattern)
		require.NoError(t, err)
		e := &entity{pattern: p}
		require.Equal(t, c.want, e.where(c.key, version{ID: "v1", ETag: `"e"`}, person("anna-42")))
	}
}
