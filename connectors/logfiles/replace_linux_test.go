package logfiles

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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
	place(t, root, temporaryPrefix+"new-"+random(), "half")
	f := place(t, root, "x", "the old one, exchanged already")
	require.NoError(t, os.Rename(filepath.Join(root, "x"), filepath.Join(root, temporaryName(inode{Ino: 1}, f.inode))))
	f = place(t, root, "x", "the new one, not exchanged yet")
	require.NoError(t, os.Rename(filepath.Join(root, "x"), filepath.Join(root, temporaryName(f.inode, inode{Ino: 1}))))
	place(t, root, "app.log", "log")
	place(t, root, ".lethe-notes", "somebody else's")
	require.NoError(t, d.clean(context.Background()))
	require.Equal(t, map[string]string{"app.log": "log", ".lethe-notes": "somebody else's"}, folderOf(t, root))
}

// A file's name stands in an error only where it can do no harm there.
func TestNamesInErrors(t *testing.T) {
	t.Parallel()
	e, err := newEntity(&connectors.System{}, &connectors.Entity{Name: "logs", Settings: map[string]any{"files": "*", "format": "jsonl"}}, connectors.Options{})
	require.NoError(t, err)
	for name, want := range map[string]string{
		"app.log.1": "app.log.1", "app-20260131.log": "app-20260131.log", "a\nb": "* with inode 7", "a\x1b[31m": "* with inode 7",
		"a\xff": "* with inode 7", "anna@example.com": "* with inode 7", "4670123456789": "* with inode 7",
	} {
		require.Equal(t, want, e.where(name, "7", nil))
	}
}

// A file that moves whenever it is to be read was not read: that is no success.
func TestFilesThatAlwaysMove(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, always := range []bool{false, true} {
		s := &connectors.System{
			Name: "web", Connector: "logfiles", Settings: map[string]any{"root": root},
			Entities: []connectors.Entity{{Name: "logs", Settings: map[string]any{"files": "*.log", "format": "jsonl"}}},
		}
		f, err := newFolder(s, connectors.Options{})
		require.NoError(t, err)
		d, err := f.disk()
		require.NoError(t, err)
		defer d.close()
		place(t, root, "a.log", "{}\n")
		l := &listing{disk: d, entities: f.entities, at: &progress{}}
		tries := 0
		err = l.each(context.Background(), func(*match) error {
			if tries++; always || tries < 3 {
				return errMoved
			}
			return nil
		}, nil)
		require.Equal(t, always, err != nil)
		require.Equal(t, always, connectors.Transient(err))
		require.Equal(t, map[bool]int{false: 3, true: maxListings}[always], tries)
	}
}

// A new file in a folder with a default access list gets that list; the old file's readers are to be the new one's.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	place(t, root, "a", "before the list")
	// version 2: the owner rwx, user 4711 rwx, the group r-x, the mask rwx, others none (linux/posix_acl_xattr.h)
	list := []byte{2, 0, 0, 0}
	for _, e := range [][4]byte{{1, 7, 0xff, 0xff}, {2, 7, 0x67, 0x12}, {4, 5, 0xff, 0xff}, {0x10, 7, 0xff, 0xff}, {0x20, 0, 0xff, 0xff}} {
		high := byte(0xff)
		if e[0] == 2 {
			high = 0
		}
		list = append(list, e[0], 0, e[1], 0, e[2], e[3], high, high)
	}
	if err := unix.Setxattr(root, "system.posix_acl_default", list, 0); err != nil {
		require.ErrorIs(t, err, unix.EOPNOTSUPP)
		return // the file system has no access lists, and nothing to take away
	}
	old, err := os.Open(filepath.Join(root, "a"))
	require.NoError(t, err)
	defer old.Close()
	made, err := os.OpenFile(filepath.Join(root, "b"), os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer made.Close()
	names, err := attributes(int(made.Fd()))
	require.NoError(t, err)
	require.Contains(t, names, "system.posix_acl_access")
	require.NoError(t, copyAttributes(int(old.Fd()), int(made.Fd())))
	names, err = attributes(int(made.Fd()))
	require.NoError(t, err)
	require.NotContains(t, names, "system.posix_acl_access")
}

var _ connectors.Granter = (*Folder)(nil)
