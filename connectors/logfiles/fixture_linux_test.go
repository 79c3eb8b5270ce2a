package logfiles_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

// system is a map of one folder with the entities.
func system(entities ...connectors.Entity) *connectors.System {
	return &connectors.System{
		Name: "web", Entities: entities, Ignored: map[string]string{},
		Identifiers: map[string]dsr.IdentifierKind{"user": dsr.KindOpaque, "email": dsr.KindEmail},
	}
}

// requests is an entity of JSON Lines that name a user.
func requests() connectors.Entity {
	return connectors.Entity{
		Name: "requests", Erase: dsr.Delete, Fields: []connectors.Field{{Name: "user", Identifier: "user"}},
		Settings: map[string]any{"files": "app.log*", "format": "jsonl", "time": "at"},
	}
}

func user(ref, id string) connectors.Subject {
	return connectors.Subject{Ref: ref, Identifiers: []dsr.Identifier{{Name: "user", Value: dsr.NewSecret(id), Origin: dsr.Known}}}
}

// line is a request of a user.
func line(id string, n int) string {
	return fmt.Sprintf(`{"at":"2026-01-%02dT00:00:00Z", "user":%q,"n":%d}`+"\n", n%28+1, id, n)
}

func write(t testing.TB, root, name, content string) {
	t.Helper()
	at := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
	require.NoError(t, os.WriteFile(at, []byte(content), 0o640))
}

func read(t testing.TB, root, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(b)
}

// pack compresses as a file's ending says.
func pack(t testing.TB, ending, content string) string {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch ending {
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".zst":
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		require.NoError(t, err)
		w = z
	default:
		return content
	}
	_, err := io.WriteString(w, content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.String()
}

// unpack undoes pack.
func unpack(t testing.TB, name, content string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(content)
	var err error
	switch {
	case content == "":
	case strings.HasSuffix(name, ".gz"):
		r, err = gzip.NewReader(r)
	case strings.HasSuffix(name, ".zst"):
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func erase(t testing.TB, c connectors.Connector, b connectors.Batch) (*connectortest.Journal, error) {
	t.Helper()
	j := connectortest.NewJournal()
	return j, c.(connectors.Eraser).Erase(context.Background(), connectors.Job{Batch: b, Journal: j})
}

func verify(t testing.TB, c connectors.Connector, b connectors.Batch) []dsr.Residue {
	t.Helper()
	left, err := c.Verify(context.Background(), connectors.Search{Batch: b, Keys: connectortest.NewJournal()})
	require.NoError(t, err)
	return left
}

func locate(t testing.TB, c connectors.Connector, b connectors.Batch) []connectors.Count {
	t.Helper()
	found, err := c.Locate(context.Background(), connectors.Query{Batch: b})
	require.NoError(t, err)
	return found.Counts
}

// noTemporaryFiles fails when something of Lethe's was left.
func noTemporaryFiles(t testing.TB, root string) {
	t.Helper()
	for name := range contents(t, root) {
		require.NotContains(t, name, ".lethe-")
	}
}

func counts(tallies []connectors.Tally) map[string]int64 {
	out := map[string]int64{}
	for _, t := range tallies {
		out[t.Subject+" "+t.Entity+" "+string(t.Method)] += t.Rows
	}
	return out
}

// old sets a file's last modification.
func old(t testing.TB, root, name string, at time.Time) {
	t.Helper()
	require.NoError(t, os.Chtimes(filepath.Join(root, name), at, at))
}
