package records_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

func TestGlobMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		glob, path string
		ok         bool
		values     []string
	}{
		{"app.log*", "app.log.1.gz", true, nil},
		{"app.log*", "app.log", true, nil},
		{"app.log*", "x/app.log", false, nil},
		{"app.log*", "app_log", false, nil},
		{"*.log", ".log", true, nil},
		{"**/*.log", "a.log", true, nil},
		{"**/*.log", "a/b/c.log", true, nil},
		{"a/**/b.log", "a/b.log", true, nil},
		{"a/**/b.log", "a/x/y/b.log", true, nil},
		{"a/**/b.log", "ab.log", false, nil},
		{"a/**", "a/b/c", true, nil},
		{"a/**", "a", false, nil},
		{"**", "a\nb/c", true, nil},
		{"a/**.gz", "a/b/c.gz", true, nil},
		{"a/**.gz", "a/.gz", true, nil},
		{"a/**.gz", "a/b/c", false, nil},
		{"a**", "a/b", true, nil},
		{"a**", "ab", true, nil},
		{"a/b**/{id}", "a/bc/d/7", true, []string{"7"}},
		{"avatars/{user_id}/**", "avatars/42/a/b.png", true, []string{"42"}},
		{"avatars/{user_id}/**", "avatars/42", false, nil},
		{"avatars/{user_id}/**", "avatars//a", false, nil},
		{"{email}.log", "anna@example.com.log", true, []string{"anna@example.com"}},
		{"{email}.log*", "anna@example.com.log.1", true, []string{"anna@example.com"}},
		{"{tenant}/s-{user_id}.log", "t1/s-a-b.log", true, []string{"t1", "a-b"}},
		{"a[1].log", "a[1].log", true, nil},
		{"a[1].log", "a1.log", false, nil},
	} {
		g, err := records.ParseGlob(c.glob)
		require.NoError(t, err, c.glob)
		values, ok := g.Match(c.path)
		require.Equal(t, c.ok, ok, "%s on %s", c.glob, c.path)
		if c.values != nil {
			require.Equal(t, c.values, values, "%s on %s", c.glob, c.path)
		}
	}
	for _, bad := range []string{"", "/a", "a/../b", "./a", "{a}{b}", "a/{a}**", "{a}*", "*{a}", "{}", "{1}", "{a", "a}", "{a}/{a}"} {
		_, err := records.ParseGlob(bad)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, bad)
	}
}

func TestGlobHasOneReading(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a*/**/b*", "{a}/*/b-{b}.x/**.gz", "**/a-{a}", "{a}"} {
		g, err := records.ParseGlob(good)
		require.NoError(t, err, good)
		require.NoError(t, g.OneReading(), good)
	}
	for _, bad := range []string{"{a}-*", "*-{a}", "{a}-{b}", "{a}.log*", "**/{a}/**", "a**/{a}/**", "{a}-**"} {
		g, err := records.ParseGlob(bad)
		require.NoError(t, err, bad)
		require.ErrorIs(t, g.OneReading(), &dsr.Error{Code: dsr.CodeInvalid}, bad)
	}
}

// A value put into its place in a pattern of one reading is read back, whatever it is and whatever stands around it.
func TestAPathIsReadBack(t *testing.T) {
	t.Parallel()
	text := rapid.StringMatching(`[^/]{0,8}`)
	for _, pattern := range []string{"in/*/x-{id}.d/**", "in/**/x-{id}.d/*", "in/*x/**y/x-{id}.d"} {
		g, err := records.ParseGlob(pattern)
		require.NoError(t, err)
		require.NoError(t, g.OneReading())
		rapid.Check(t, func(t *rapid.T) {
			value := rapid.StringMatching(`[^/]{1,12}`).Draw(t, "value")
			deep := rapid.StringMatching(`([^/]{0,4}/){0,2}[^/]{0,4}`).Draw(t, "deep")
			path := strings.NewReplacer("**", deep, "*", text.Draw(t, "text"), "{id}", value).Replace(pattern)
			got, ok := g.Match(path)
			require.True(t, ok, "%s on %q", pattern, path)
			require.Equal(t, []string{value}, got, "%s on %q", pattern, path)
		})
	}
}

// What matches lies below every folder on its way, and begins with the prefix: a walk may leave out the rest.
func TestGlobBelow(t *testing.T) {
	t.Parallel()
	segment := rapid.SampledFrom([]string{"a", "ab", "*", "**", "a*", "a**", "{id}", "b-{id}.x"})
	text := rapid.SampledFrom([]string{"a", "ab", "b-7.x", "x"})
	rapid.Check(t, func(t *rapid.T) {
		g, err := records.ParseGlob(strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "glob"), "/"))
		if err != nil {
			t.Skip("an identifier twice")
		}
		path := rapid.SliceOfN(text, 1, 4).Draw(t, "path")
		if _, ok := g.Match(strings.Join(path, "/")); !ok {
			return
		}
		require.True(t, strings.HasPrefix(strings.Join(path, "/"), g.Prefix()))
		for i := range path {
			require.True(t, g.Below(strings.Join(path[:i], "/")), "%s below %v", g, path[:i])
		}
	})
}
