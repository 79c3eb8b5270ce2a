package records_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors/records"
)

func TestOverlaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"events/**", "events/special/**", true},
		{"events/**", "event/**", false},
		{"events/*.gz", "events/*.json", false},
		{"events/*.gz", "events/a*", true},
		{"a/**/b.json", "a/xb.json", false},
		{"a/**/b.json", "a/b.json", true},
		{"a/**/b.json", "a/x/y/b.json", true},
		{"avatars/{user_id}/**", "avatars/a.png", false},
		{"avatars/{user_id}/**", "avatars/*/x", true},
		{"avatars/{user_id}.png", "avatars/.png", false},
		{"app.log*", "app.log.*.gz", true},
		{"**", "x", true},
		{"**.gz", "a/b.gz", true},
		{"a", "a", true},
		{"å/*", "å/ö", true},
	} {
		a, err := records.ParseGlob(c.a)
		require.NoError(t, err)
		b, err := records.ParseGlob(c.b)
		require.NoError(t, err)
		require.Equal(t, c.want, a.Overlaps(b), "%s, %s", c.a, c.b)
		require.Equal(t, c.want, b.Overlaps(a), "%s, %s", c.b, c.a)
	}
}

// TestOverlapsIsWhatMatches: of short paths over few letters, some match both exactly when the patterns overlap.
func TestOverlapsIsWhatMatches(t *testing.T) {
	t.Parallel()
	paths := []string{""}
	for from, n := 0, 0; n < 6; n++ {
		to := len(paths)
		for _, p := range paths[from:to] {
			for _, r := range "ab/" {
				paths = append(paths, p+string(r))
			}
		}
		from = to
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) *records.Glob {
			parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "/", "*", "**", "{id}"}), 1, 5).Draw(t, label)
			g, err := records.ParseGlob(strings.Join(parts, ""))
			if err != nil {
				t.Skip("no pattern")
			}
			return g
		}
		a, b := draw("a"), draw("b")
		both := false
		for _, p := range paths {
			_, one := a.Match(p)
			_, other := b.Match(p)
			both = both || one && other
		}
		if both != a.Overlaps(b) {
			t.Fatalf("%s and %s: a path matches both: %t", a, b, both)
		}
	})
}
