package demo_test

import (
	"archive/zip"
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/internal/demo"
)

func TestTheDemoLeavesNothingOfTheSubject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, log, debug bytes.Buffer
	require.NoError(t, demo.Run(t.Context(), demo.Options{
		Dir: dir, Exit: true, JSON: true, Out: &out, Log: &log,
		Logger: slog.New(slog.NewJSONHandler(&debug, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}), &log)

	var result demo.Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &result))
	require.Equal(t, client.StateCompleted, result.Access.State)
	require.Equal(t, client.StateCompletedWithExceptions, result.Erasure.State)
	require.Equal(t, []string{"analytics", "helpdesk"}, result.Erasure.Systems)
	require.Zero(t, result.Erasure.Residue)
	require.Less(t, result.Seconds, 10.0)
	require.Positive(t, result.Erasure.Deleted)
	require.Positive(t, result.Erasure.Kept)
	require.Equal(t, result.Erasure.Found, result.Erasure.Deleted+result.Erasure.Pseudonymized+result.Erasure.Kept)
	require.Contains(t, log.String(), "newsletter_signups", "check reports the table that the map forgot")

	require.Contains(t, debug.String(), "/v1/requests", "the log was written")
	for _, trace := range demo.SubjectTraces() {
		require.NotContains(t, strings.ToLower(debug.String()), strings.ToLower(trace))
	}

	// Everything that is left, byte by byte, without Lethe: its own databases and files, too.
	var files []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if e.IsDir() || path == result.Access.Package { // the copy is the subject's own
			return nil
		}
		files = append(files, filepath.Base(path))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, trace := range demo.SubjectTraces() {
			require.NotContains(t, strings.ToLower(string(content)), strings.ToLower(trace), path)
		}
		return nil
	}))
	require.Subset(t, files, []string{demo.HelpdeskFile, demo.AnalyticsFile, "control.db"})

	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, demo.HelpdeskFile))
	require.NoError(t, err)
	defer db.Close()
	for query, want := range map[string]int64{
		"SELECT count(*) FROM customers": 400, // one of them is only the anchor of invoices
		"SELECT count(*) FROM customers WHERE name = 'Former customer' AND phone IS NULL":                             1,
		"SELECT count(*) FROM invoices i JOIN customers c ON c.id = i.customer_id WHERE c.phone IS NULL":              5,
		"SELECT count(*) FROM tickets t JOIN customers c ON c.id = t.customer_id WHERE c.phone IS NULL":               0,
		"SELECT count(*) FROM messages m JOIN customers c ON c.id IN (sender_id, recipient_id) WHERE c.phone IS NULL": 0,
		"SELECT count(*) FROM pragma_foreign_key_check":                                                               0,
	} {
		var got int64
		require.NoError(t, db.QueryRow(query).Scan(&got), query)
		require.Equal(t, want, got, query)
	}

	copied, err := zip.OpenReader(result.Access.Package)
	require.NoError(t, err)
	defer copied.Close()
	var all strings.Builder
	for _, f := range copied.File {
		r, err := f.Open()
		require.NoError(t, err)
		_, err = io.Copy(&all, r)
		require.NoError(t, err)
	}
	for _, trace := range demo.SubjectTraces() {
		require.Contains(t, all.String(), trace, "the subject received everything")
	}
}

func TestTheDemoOverwritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, demo.MapFile), nil, 0o600))
	err := demo.Run(t.Context(), demo.Options{Dir: dir, Exit: true, Out: io.Discard})
	require.ErrorContains(t, err, "give --dir an empty folder")
}
