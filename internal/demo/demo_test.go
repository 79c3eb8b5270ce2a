package demo_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/internal/demo"
)

// TestMain is also the demo's S3 server, which runs in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == s3Server {
		if err := demo.ServeS3(context.Background(), os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const s3Server = "s3-server"

func startS3() *exec.Cmd { return exec.Command(os.Args[0], s3Server) }

func TestTheDemoLeavesNothingOfTheSubject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, log, debug bytes.Buffer
	require.NoError(t, demo.Run(t.Context(), demo.Options{
		Dir: dir, Exit: true, JSON: true, Out: &out, Log: &log, S3: startS3,
		Logger: slog.New(slog.NewJSONHandler(&debug, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}), &log)

	var result demo.Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &result))
	require.Equal(t, client.StateCompleted, result.Access.State)
	require.Equal(t, client.StateDeferred, result.Erasure.State, "only the log group's events are left, which expire")
	require.NotNil(t, result.Erasure.DeferredUntil)
	require.Equal(t, []string{"analytics", "files", "helpdesk", "logs", "web"}, result.Erasure.Systems)
	require.Zero(t, result.Erasure.Residue)
	require.Positive(t, result.Erasure.Expiring)
	require.Positive(t, result.Erasure.Deleted)
	require.Positive(t, result.Erasure.Kept)
	require.Equal(t, result.Erasure.Found,
		result.Erasure.Deleted+result.Erasure.Pseudonymized+result.Erasure.Kept+result.Erasure.Expiring)
	kept := result.Retention
	require.Positive(t, kept.Due)
	require.Positive(t, kept.Held)
	require.Positive(t, kept.Blocked)
	require.Zero(t, kept.DueAfter)
	require.Equal(t, kept.Due, kept.Deleted+kept.Held+kept.Blocked)
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
		require.NotContains(t, path, "/137/", "an attachment in some version")
		content := read(t, path)
		require.NotContains(t, content, `"id":137,`, path)
		require.NotContains(t, content, " - 137 [", path)
		for _, trace := range demo.SubjectTraces() {
			require.NotContains(t, strings.ToLower(content), strings.ToLower(trace), path)
		}
		return nil
	}))
	require.Subset(t, files, []string{demo.HelpdeskFile, demo.AnalyticsFile, "control.db", "access.log", "access.log.1", "access.log.5.gz"})
	require.Greater(t, len(files), 40, "the bucket's objects and their old versions are among them")

	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, demo.HelpdeskFile))
	require.NoError(t, err)
	defer db.Close()
	for query, want := range map[string]int64{
		"SELECT count(*) FROM customers WHERE id < 381":                                                               380, // one of them is only the anchor of invoices
		"SELECT count(*) FROM customers WHERE id >= 381":                                                              6,   // one held, five blocked by invoices
		"SELECT count(*) FROM tickets WHERE customer_id >= 381 AND customer_id <> 390":                                0,
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

// read returns a file's content, unpacked where it is gzip whatever its name.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	if z, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
		content, err = io.ReadAll(z)
		require.NoError(t, err, path)
	}
	return string(content)
}

func TestTheDemoOverwritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, demo.MapFile), nil, 0o600))
	err := demo.Run(t.Context(), demo.Options{Dir: dir, Exit: true, Out: io.Discard, S3: startS3})
	require.ErrorContains(t, err, "give --dir an empty folder")
}
