package logfiles

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

func place(t *testing.T, root, name, content string) *file {
	t.Helper()
	at := filepath.Join(root, name)
	if content != "" {
		require.NoError(t, os.WriteFile(at, []byte(content), 0o600))
	}
	h, err := os.Open(at)
	require.NoError(t, err)
	defer h.Close()
	s, err := statOpen(h)
	require.NoError(t, err)
	return &file{status: *s, name: name, real: name}
}

func folderOf(t *testing.T, root string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(root)
	require.NoError(t, err)
	out := map[string]string{}
	for _, d := range list {
		b, err := os.ReadFile(filepath.Join(root, d.Name()))
		require.NoError(t, err)
		out[d.Name()] = string(b)
	}
	return out
}

// A rotation between the check and the exchange: what was taken is another file. It gets the name that it would have by
// now, and nothing is lost. Every state in which a worker may have been killed is mended in the same way.
func TestForeignFileIsPutBack(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"at work": false, "killed": true, "killed, another Run cleans": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			f := &Folder{root: root}
			d, err := f.disk()
			require.NoError(t, err)
			defer d.close()
			ctx := context.Background()
			read := place(t, root, "app.log.1", "old")
			r, err := d.draft(read)
			require.NoError(t, err)
			require.NoError(t, r.create())
			_, err = r.out.WriteString("new")
			require.NoError(t, err)
			original, err := d.open(read)
			require.NoError(t, err)
			defer original.Close()
			require.NoError(t, r.finish(original))

			// the exchange takes what was rotated in between, and rotation goes on with our file
			move := func(from, to string) {
				require.NoError(t, os.Rename(filepath.Join(root, from), filepath.Join(root, to)))
			}
			move("app.log.1", "app.log.2")
			place(t, root, "app.log.1", "a day's log")
			move(r.temp, "swap")
			move("app.log.1", r.temp)
			move("swap", "app.log.2a")
			switch {
			case name == "killed":
				w := &worker{reader: &reader{Folder: f, disk: d}}
				happened, err := w.happened(ctx, &intent{Real: "app.log.1", Temp: r.temp, Old: r.old.inode, New: r.new.inode})
				require.NoError(t, err)
				require.False(t, happened)
				require.NoError(t, d.clean(ctx))
			case killed:
				require.NoError(t, d.clean(ctx))
			default:
				require.NoError(t, r.putBack(ctx, d))
			}
			r.discard()
			require.Equal(t, map[string]string{"app.log.2": "old", "app.log.2a": "a day's log"}, folderOf(t, root))
		})
	}
}

// commit refuses a name that is another file's by now, a file that was appended to, and one that somebody writes to.
func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(t *testing.T, at string)
		err     error
		want    string
	}{
		"nothing": {func(*testing.T, string) {}, nil, "new"},
		"rotated": {func(t *testing.T, at string) {
			require.NoError(t, os.Rename(at, at+".moved"))
			require.NoError(t, os.WriteFile(at, []byte("other"), 0o600))
		}, errMoved, "other"},
		"gone": {func(t *testing.T, at string) { require.NoError(t, os.Remove(at)) }, errMoved, ""},
		"appended to": {func(t *testing.T, at string) {
			require.NoError(t, os.WriteFile(at, []byte("older"), 0o600))
		}, errMoved, "older"},
		"written to": {func(t *testing.T, at string) {
			w, err := os.OpenFile(at, os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			t.Cleanup(func() { _ = w.Close() })
		}, errWritten, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			d, err := (&Folder{root: root}).disk()
			require.NoError(t, err)
			defer d.close()
			read := place(t, root, "app.log.1", "old")
			original, err := d.open(read)
			require.NoError(t, err)
			defer original.Close()
			r, err := d.draft(read)
			require.NoError(t, err)
			require.NoError(t, r.create())
			_, err = r.out.WriteString("new")
			require.NoError(t, err)
			require.NoError(t, r.finish(original))
			c.happens(t, filepath.Join(root, "app.log.1"))
			require.ErrorIs(t, r.commit(context.Background(), d, original), c.err)
			r.discard()
			got := folderOf(t, root)
			require.Equal(t, c.want, got["app.log.1"])
			for name := range got {
				require.False(t, isTemporary(name))
			}
		})
	}
}

// What comes in between the check and the exchange is noticed by what was taken.
func TestExchangeGivesBack(t *testing.T) {
	t.Parallel()
	for name, removes := range map[string]bool{"a new file": false, "a removal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			d, err := (&Folder{root: root}).disk()
			require.NoError(t, err)
			defer d.close()
			read := place(t, root, "app.log.1", "old")
			original, err := d.open(read)
			require.NoError(t, err)
			defer original.Close()
			r, err := d.draft(read)
			require.NoError(t, err)
			if r.remove(); !removes {
				r.removes = false
				require.NoError(t, r.create())
				require.NoError(t, r.finish(original))
			}
			require.NoError(t, os.Rename(filepath.Join(root, "app.log.1"), filepath.Join(root, "app.log.2")))
			place(t, root, "app.log.1", "a day's log")
			require.ErrorIs(t, r.exchange(context.Background(), d), errMoved)
			r.discard()
			require.Equal(t, map[string]string{"app.log.1": "a day's log", "app.log.2": "old"}, folderOf(t, root))
		})
	}
}

// What killed workers left is removed, whatever they were at.
func TestClean(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d, err := (&Folder{root: root}).disk()
	require.NoError(t, err)
	defer d.close()
	place(t, root, temporaryPrefix+"new-0011", "half")
	f := place(t, root, "x", "the old one, exchanged already")
	require.NoError(t, os.Rename(filepath.Join(root, "x"), filepath.Join(root, temporaryName(inode{Ino: 1}, f.inode))))
	f = place(t, root, "x", "the new one, not exchanged yet")
	require.NoError(t, os.Rename(filepath.Join(root, "x"), filepath.Join(root, temporaryName(f.inode, inode{Ino: 1}))))
	place(t, root, "app.log", "log")
	require.NoError(t, d.clean(context.Background()))
	require.Equal(t, map[string]string{"app.log": "log"}, folderOf(t, root))
}

var _ connectors.Granter = (*Folder)(nil)
