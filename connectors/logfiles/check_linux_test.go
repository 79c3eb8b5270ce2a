package logfiles_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
)

func kind() connectors.Kind { return logfiles.Kinds()[0] }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestCheck(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	other := connectors.Entity{Name: "other", Erase: "delete", Settings: map[string]any{"files": "other/*.log*", "format": "jsonl", "rotates": "daily"}}
	none := connectors.Entity{Name: "none", Erase: "delete", Settings: map[string]any{"files": "none/*", "format": "jsonl"}}
	double := connectors.Entity{Name: "twice", Erase: "delete", Settings: map[string]any{"files": "other/b*", "format": "jsonl"}}
	s := system(none, other, requests(), double)
	s.Ignored["debug/**"] = "no personal data"
	write(t, root, "app.log", "")
	write(t, root, "app.log.1", "")
	require.NoError(t, os.Link(filepath.Join(root, "app.log.1"), filepath.Join(root, "app.log.2")))
	write(t, root, "other/a.log", "")
	write(t, root, "other/b.log", "")
	require.NoError(t, os.Symlink("b.log", filepath.Join(root, "other/current.log")))
	require.NoError(t, os.Symlink("gone", filepath.Join(root, "other/dangling.log")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(root, "other/pipe.log"), 0o600))
	write(t, root, "debug/x", "")
	write(t, root, "sessions/ann@example.com.log", "")
	write(t, root, "sessions/bob@example.com.log", "")
	write(t, root, "audit-7.log", "")
	found, err := open(t, root, s, connectors.Options{}).Check(context.Background())
	require.NoError(t, err)
	var got []string
	for _, f := range found {
		require.NotContains(t, f.Message+f.Entity, "example.com")
		require.NotEmpty(t, f.Hint)
		got = append(got, string(f.Severity)+" "+f.Code+" "+f.Entity+": "+f.Message[:min(12, len(f.Message))])
	}
	require.ElementsMatch(t, []string{
		"error unmapped-file audit-*.log: 1 files like",
		"error unmapped-file sessions/*: 2 files like",
		"warning no-files none: no file matc",
		"error not-a-file other: 1 names are ",
		"error symbolic-link other: 1 symbolic l",
		"warning never-rotated other: every file i",
		"error hard-link requests: 2 files have",
		"warning rotation-unknown requests: the map does",
		"error two-entities twice: 1 files belo",
		"warning never-rotated twice: every file i",
	}, got)
}

func TestCheckUnreachable(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "gone"), system(requests()), connectors.Options{})
	found, err := c.Check(context.Background())
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, connectors.FindUnreachable, found[0].Code)
	_, err = c.Locate(context.Background(), connectors.Query{Batch: connectors.Batch{user("a", "ann")}})
	require.Error(t, err)
	require.False(t, connectors.IsPermanent(err), "a mount may come back")
}

func TestGrantsAndDescribe(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	e := requests()
	e.Settings["files"] = "web/app.log*"
	write(t, root, "web/app.log.1", line("ann", 1))
	write(t, root, "new/x.log", "")
	c := open(t, root, system(e), connectors.Options{})
	text, err := c.(connectors.Granter).Grants(context.Background(), "lethe")
	require.NoError(t, err)
	require.Contains(t, text, filepath.Join(root, "web"))
	require.Contains(t, text, "u:lethe:rwX")
	_, err = c.(connectors.Granter).Grants(context.Background(), "a\nb")
	require.Error(t, err)
	schema, err := c.Describe(context.Background())
	require.NoError(t, err)
	require.Equal(t, []string{"new/x.log", "requests"}, []string{schema.Entities[0].Name, schema.Entities[1].Name})
	require.Equal(t, int64(len(line("ann", 1))), schema.Entities[1].Bytes)
}
