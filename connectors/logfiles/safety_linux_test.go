package logfiles_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
	"github.com/lethe-gdpr/lethe/dsr"
)

// nameless fails when an error tells of a person.
func nameless(t *testing.T, err error, canaries ...string) {
	t.Helper()
	require.Error(t, err)
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		text += fmt.Sprintf(" %+v", e)
	}
	for _, c := range canaries {
		require.NotContains(t, text, c)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	ann := connectors.Batch{user("a", "ann-canary")}
	content := line("ann-canary", 1) + line("bob", 2)
	for name, c := range map[string]struct {
		links   string
		prepare func(t *testing.T, root, outside string)
		refused bool
		want    map[string]string // of the root
	}{
		"a symbolic link is refused": {
			links: "refuse", refused: true,
			prepare: func(t *testing.T, root, _ string) {
				write(t, root, "real.1", content)
				require.NoError(t, os.Symlink("real.1", filepath.Join(root, "app.log.1")))
			},
			want: map[string]string{"real.1": content},
		},
		"a symbolic link is followed": {
			links: "follow",
			prepare: func(t *testing.T, root, _ string) {
				write(t, root, "deep/real.1", content)
				require.NoError(t, os.Symlink("deep/real.1", filepath.Join(root, "app.log.1")))
			},
			want: map[string]string{"deep/real.1": line("bob", 2)},
		},
		"a link out of the root is refused": {
			links: "follow", refused: true,
			prepare: func(t *testing.T, root, outside string) {
				require.NoError(t, os.Symlink(filepath.Join(outside, "theirs"), filepath.Join(root, "app.log.1")))
			},
		},
		"a relative link out of the root is refused": {
			links: "follow", refused: true,
			prepare: func(t *testing.T, root, outside string) {
				rel, err := filepath.Rel(root, filepath.Join(outside, "theirs"))
				require.NoError(t, err)
				require.NoError(t, os.Symlink(rel, filepath.Join(root, "app.log.1")))
			},
		},
		"a hard link is refused": {
			links: "refuse", refused: true,
			prepare: func(t *testing.T, root, _ string) {
				write(t, root, "app.log.1", content)
				require.NoError(t, os.Link(filepath.Join(root, "app.log.1"), filepath.Join(root, "copy")))
			},
			want: map[string]string{"app.log.1": content, "copy": content},
		},
		"a hard link is followed": {
			links: "follow",
			prepare: func(t *testing.T, root, _ string) {
				write(t, root, "app.log.1", content)
				require.NoError(t, os.MkdirAll(filepath.Join(root, "other"), 0o755))
				require.NoError(t, os.Link(filepath.Join(root, "app.log.1"), filepath.Join(root, "other/copy")))
			},
			want: map[string]string{"app.log.1": line("bob", 2), "other/copy": line("bob", 2)},
		},
		"a hard link out of the root is refused": {
			links: "follow", refused: true,
			prepare: func(t *testing.T, root, outside string) {
				write(t, root, "app.log.1", content)
				require.NoError(t, os.Link(filepath.Join(root, "app.log.1"), filepath.Join(outside, "copy")))
			},
			want: map[string]string{"app.log.1": content},
		},
		"a pipe is refused": {
			links: "follow", refused: true,
			prepare: func(t *testing.T, root, _ string) {
				require.NoError(t, syscall.Mkfifo(filepath.Join(root, "app.log.1"), 0o600))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, outside := t.TempDir(), t.TempDir()
			write(t, outside, "theirs", content)
			write(t, root, "app.log.2", content)
			c.prepare(t, root, outside)
			s := system(requests())
			s.Settings = map[string]any{"links": c.links}
			_, err := erase(t, open(t, root, s, connectors.Options{}), ann)
			if c.refused {
				nameless(t, err, "canary")
				require.True(t, connectors.IsPermanent(err))
				require.Equal(t, logfiles.CodeLink, dsr.CodeOf(err))
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, content, read(t, outside, "theirs"), "outside of the root")
			for name, want := range c.want {
				require.Equal(t, want, read(t, root, name), name)
			}
			require.Equal(t, line("bob", 2), read(t, root, "app.log.2"), "the other files go on")
		})
	}
}

// A file keeps its owner, mode, times and attributes, and one without a match is not touched at all.
func TestAttributesSurvive(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "app.log.1", line("ann", 1)+line("bob", 2))
	write(t, root, "app.log.2", line("bob", 3))
	at := filepath.Join(root, "app.log.1")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(at, 4711, 4712))
	}
	require.NoError(t, os.Chmod(at, 0o2604|os.ModeSetgid))
	attributes := unix.Setxattr(at, "user.shipper", []byte("offset 17"), 0) == nil
	when := time.Date(2024, 2, 29, 12, 0, 0, 123, time.UTC)
	old(t, root, "app.log.1", when)
	var before, untouched unix.Stat_t
	require.NoError(t, unix.Stat(at, &before))
	require.NoError(t, unix.Stat(filepath.Join(root, "app.log.2"), &untouched))

	_, err := erase(t, open(t, root, system(requests()), connectors.Options{}), connectors.Batch{user("a", "ann")})
	require.NoError(t, err)
	require.Equal(t, line("bob", 2), read(t, root, "app.log.1"))
	var after unix.Stat_t
	require.NoError(t, unix.Stat(at, &after))
	require.NotEqual(t, before.Ino, after.Ino)
	require.Equal(t, []uint32{before.Uid, before.Gid, before.Mode}, []uint32{after.Uid, after.Gid, after.Mode})
	require.Equal(t, before.Mtim, after.Mtim)
	if attributes {
		value := make([]byte, 100)
		n, err := unix.Getxattr(at, "user.shipper", value)
		require.NoError(t, err)
		require.Equal(t, "offset 17", string(value[:n]))
	}
	require.NoError(t, unix.Stat(filepath.Join(root, "app.log.2"), &after))
	require.Equal(t, untouched.Ino, after.Ino)
	require.Equal(t, untouched.Ctim, after.Ctim)
	noTemporaryFiles(t, root)
}

// Files whose names have placeholders go as a whole, and only those of the subject.
func TestWholeFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"ann@example.com/a.log", "ann@example.com/b/c.log.gz", "ANN%40Example.com/d.log", "joann@example.com/a.log"} {
		write(t, root, "sessions/"+name, "of "+name)
	}
	e := connectors.Entity{
		Name: "sessions", Erase: dsr.Delete, Settings: map[string]any{"files": "sessions/{email}/**"},
	}
	ann := connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret("ann@example.com")}}}}
	c := open(t, root, system(e), connectors.Options{})
	require.Equal(t, []connectors.Count{{Subject: "a", Entity: "sessions", Method: dsr.Delete, Rows: 3, TableRows: 3}}, locate(t, c, ann))

	j := connectortest.NewJournal()
	sinks := connectortest.NewSinks(j)
	require.NoError(t, c.(connectors.Exporter).Export(context.Background(), connectors.Job{Batch: ann, Journal: j}, sinks.For))
	exported := sinks.Records("a")
	require.Len(t, exported, 3)
	for _, r := range exported {
		name, err := url.PathUnescape(r.Values["name"].(string))
		require.NoError(t, err)
		require.True(t, strings.EqualFold("ann@example.com", strings.Split(name, "/")[1]), "the subject's own name is given")
	}

	held := connectors.Holds{Subjects: ann}
	require.NoError(t, c.(connectors.Eraser).Erase(context.Background(), connectors.Job{Batch: ann, Held: held, Journal: connectortest.NewJournal()}))
	left, err := c.Verify(context.Background(), connectors.Search{Batch: ann, Held: held, Keys: connectortest.NewJournal()})
	require.NoError(t, err)
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "sessions", Count: 3, Waits: &dsr.Exception{Cause: dsr.CauseHold}}}, left)

	writer, err := os.OpenFile(filepath.Join(root, "sessions/ann@example.com/a.log"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	j, err = erase(t, c, ann)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a sessions delete": 2}, counts(j.Tallies()))
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "sessions", Count: 1, Waits: &dsr.Exception{Cause: dsr.CauseLiveFile}}}, verify(t, c, ann))
	require.NoError(t, writer.Close())
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "sessions", Count: 1}}, verify(t, c, ann))
	_, err = erase(t, c, ann)
	require.NoError(t, err)
	require.Empty(t, verify(t, c, ann))
	require.Equal(t, map[string][]byte{"sessions/joann@example.com/a.log": []byte("of joann@example.com/a.log")}, contents(t, root))
}

// An error about a damaged file says where, without the name of a person, and the others go on.
func TestDamagedFileIsNamedSafely(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "app.log.ann-canary.1", line("ann-canary", 1)+"no JSON ann-canary\n")
	write(t, root, "app.log.2", line("ann-canary", 1)+line("bob", 2))
	c := open(t, root, system(requests()), connectors.Options{})
	_, err := erase(t, c, connectors.Batch{user("a", "ann-canary")})
	nameless(t, err, "canary")
	require.True(t, connectors.IsPermanent(err))
	var one *connectors.SubjectError
	require.ErrorAs(t, err, &one)
	require.Equal(t, "requests", one.Entity)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(root, "app.log.ann-canary.1"), &stat))
	require.Contains(t, err.Error(), fmt.Sprint(stat.Ino), "find -inum finds it")
	require.Contains(t, err.Error(), fmt.Sprint(len(line("ann-canary", 1))), "the offset")
	require.Equal(t, line("bob", 2), read(t, root, "app.log.2"))
	require.Contains(t, read(t, root, "app.log.ann-canary.1"), "canary")
	noTemporaryFiles(t, root)
}

// Live files wait: by their name, and by who has them open.
func TestLiveFilesWait(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	e := requests()
	e.Settings["rotates"] = "daily"
	now := time.Date(2026, 3, 4, 15, 0, 0, 0, time.UTC)
	write(t, root, "app.log", line("ann", 1)+line("bob", 2)+`{"user":"ann`) // the writer is in the middle of a line
	write(t, root, "app.log.1", line("ann", 3))
	old(t, root, "app.log.1", now.Add(-3*time.Hour))
	c := open(t, root, system(e), connectors.Options{Now: func() time.Time { return now }})
	ann := connectors.Batch{user("a", "ann")}
	ends := now.Add(21 * time.Hour)
	waits := &dsr.Exception{Cause: dsr.CauseLiveFile, Ends: &ends}
	require.Equal(t, []connectors.Count{
		{Subject: "a", Entity: "requests", Method: dsr.Delete, Rows: 1, TableRows: 3},
		{Subject: "a", Entity: "requests", Method: dsr.Wait, Rows: 1, TableRows: 3, Exception: waits},
	}, locate(t, c, ann))
	_, err := erase(t, c, ann)
	require.NoError(t, err)
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "requests", Field: "user", Count: 1, Waits: waits}}, verify(t, c, ann))

	// the writer goes on in the file that was renamed, until it is told to reopen
	writer, err := os.OpenFile(filepath.Join(root, "app.log"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(root, "app.log"), filepath.Join(root, "app.log.1")))
	require.NotNil(t, verify(t, c, ann)[0].Waits)
	_, err = erase(t, c, ann)
	require.NoError(t, err)
	_, err = writer.WriteString(`","n":4}` + "\n")
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "web", Entity: "requests", Field: "user", Count: 2}}, verify(t, c, ann))
	_, err = erase(t, c, ann)
	require.NoError(t, err)
	require.Empty(t, verify(t, c, ann))
	require.Equal(t, line("bob", 2), read(t, root, "app.log.1"))
}
