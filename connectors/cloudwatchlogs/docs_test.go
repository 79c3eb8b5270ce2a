package cloudwatchlogs_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/internal/datamap"
)

// The example of docs/DATAMAP.md is a map that loads and opens.
func TestExampleOfTheDocs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/DATAMAP.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(b), "## CloudWatch Logs")
	_, section, _ = strings.Cut(section, "```yaml\n")
	example, _, ok := strings.Cut(section, "```")
	require.True(t, ok)
	const head = `
version: 1
controller: {name: Example AB, country: SE, time_zone: Europe/Stockholm}
identifiers: {user_id: {kind: opaque}}
deletion_classes: {short: {period: P30D, from: collection}}
`
	m, err := datamap.Load([]byte(head+example), func(string) (string, bool) { return "", false }, cloudwatchlogs.Kinds())
	require.NoError(t, err)
	l, err := cloudwatchlogs.Open(context.Background(), m.Systems[0], connectors.Options{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
