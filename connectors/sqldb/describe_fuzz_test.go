package sqldb

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

// What a catalogue prints is text of other people: reading it must never fail.
func FuzzCatalogueText(f *testing.F) {
	for _, s := range []string{
		"enum('a','it''s')", "'", "`", "[", "CREATE TABLE t (a TEXT CHECK (a IN ('x', ')')), -- CHECK (\n b /* ' */ INT)", "CHECK (",
		"GRANT SELECT (`a`), UPDATE ON `a``b`.* TO x", "GRANT ( ON ` TO ", "lower((email)::text)", "kundenName_2", "\x00'''\"", "/*", "a --",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, inside := range checksIn(s) {
			require.Contains(t, s, inside)
		}
		quotedList(s)
		identifiersIn(s)
		listedValues([]string{s}, "a")
		typeArgument(s)
		if g, ok := parseGrant(s); ok {
			g.covers("a", "b", "SELECT", "c")
		}
		for _, w := range connectors.Words(s) {
			require.Equal(t, strings.ToLower(w), w)
		}
		connectors.GuessPersonal(connectors.Column{Name: s, Comment: s, Class: connectors.ClassText})
	})
}
