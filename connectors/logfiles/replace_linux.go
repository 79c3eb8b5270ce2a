package logfiles

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lethe-gdpr/lethe/connectors"
)

// Temporary files stand beside the original, because a name can be exchanged within one file system only. Their names
// carry inodes and nothing of the original's name:
//
//	.lethe-new-RANDOM          is being written
//	.lethe-NEW-OLD-RANDOM      is ready to be exchanged; afterwards it is the old file, and is removed
//
// What is under such a name and is neither of the two inodes is somebody else's: a rotation came between the check and
// the exchange. It is put back where the new file is then.
const temporaryPrefix = ".lethe-"

var temporary = regexp.MustCompile(`^\.lethe-(?:new|[0-9a-f]+-[0-9a-f]+)-[0-9a-f]{12}$`)

// isTemporary tells Lethe's own files from others that begin alike.
func isTemporary(base string) bool { return temporary.MatchString(base) }

func temporaryName(to, from inode) string {
	return fmt.Sprintf("%s%x-%x-%s", temporaryPrefix, to.Ino, from.Ino, random())
}

// inodesOf reads the numbers back; ok is false for a file that is only being written.
func inodesOf(base string) (to, from uint64, ok bool) {
	parts := strings.Split(strings.TrimPrefix(base, temporaryPrefix), "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	to, err := strconv.ParseUint(parts[0], 16, 64)
	if err != nil {
		return 0, 0, false
	}
	from, err = strconv.ParseUint(parts[1], 16, 64)
	return to, from, err == nil
}

func random() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// draft is a new file beside an old one, or, without content, the removal of the old one.
type draft struct {
	dir     *os.Root
	at      *os.File // dir, for calls that os.Root does not have
	base    string   // the original's name
	temp    string
	out     *os.File
	old     status
	new     status // once it is finished
	removes bool
	done    bool // what is under temp is not ours to discard any more
}

// draft opens a folder for the replacement of one file in it.
func (d *disk) draft(f *file) (*draft, error) {
	dir, err := d.root.OpenRoot(path.Dir(f.real))
	if err != nil {
		return nil, err
	}
	at, err := dir.Open(".")
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return &draft{dir: dir, at: at, base: path.Base(f.real), old: f.status}, nil
}

// create begins the new content.
func (r *draft) create() (err error) {
	r.temp = temporaryPrefix + "new-" + random()
	r.out, err = r.dir.OpenFile(r.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	return err
}

// finish gives the new file everything of the old one but its content, and makes it durable.
func (r *draft) finish(original *os.File) error {
	if err := r.attributes(original); err != nil {
		return err
	}
	if err := r.out.Sync(); err != nil {
		return err
	}
	s, err := statOpen(r.out)
	if err != nil {
		return err
	}
	r.new = *s
	name := temporaryName(s.inode, r.old.inode)
	if err := r.dir.Rename(r.temp, name); err != nil {
		return err
	}
	r.temp = name
	return nil
}

// attributes copies owner, access lists, other attributes, mode and times, in this order: a change of owner clears bits
// of the mode, and every change sets a time.
func (r *draft) attributes(original *os.File) error {
	now, err := statOpen(r.out)
	if err != nil {
		return err
	}
	if now.uid != r.old.uid || now.gid != r.old.gid {
		if err := r.out.Chown(int(r.old.uid), int(r.old.gid)); err != nil {
			return err
		}
	}
	if err := copyAttributes(int(original.Fd()), int(r.out.Fd())); err != nil {
		return err
	}
	if err := unix.Fchmod(int(r.out.Fd()), r.old.mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(r.at.Fd()), r.temp, []unix.Timespec{r.old.atime, r.old.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyAttributes copies POSIX access lists and the user's attributes, and takes those away that the new file has from its
// folder alone: a default access list would let people read it who could not read the old one. What the kernel keeps for
// security modules follows from the folder where it cannot be copied.
func copyAttributes(from, to int) error {
	names, err := attributes(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value := make([]byte, 64<<10) // the largest that Linux has
		n, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			continue
		}
		if err := unix.Fsetxattr(to, name, value[:n], 0); err != nil && isContent(name) {
			return err
		}
	}
	given, err := attributes(to)
	if err != nil {
		return err
	}
	for _, name := range given {
		if isContent(name) && !slices.Contains(names, name) {
			if err := unix.Fremovexattr(to, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// isContent reports whether an extended attribute must be the same on the new file.
func isContent(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl")
}

// attributes lists a file's extended attributes; there are none where the file system keeps none.
func attributes(fd int) ([]string, error) {
	n, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, n+256)
	if n, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }), nil
}

// remove makes the draft one that removes the original.
func (r *draft) remove() { r.removes, r.temp = true, temporaryName(inode{}, r.old.inode) }

// link makes the draft one that puts another name of a file that is new already in the original's place.
func (r *draft) link(d *disk, folder, to string, s status) error {
	name := temporaryName(s.inode, r.old.inode)
	if err := d.root.Link(to, path.Join(folder, name)); err != nil {
		return err
	}
	r.temp, r.new = name, s
	return nil
}

// abandon gives the new content up.
func (r *draft) abandon() {
	_ = r.out.Close()
	_ = r.dir.Remove(r.temp)
	r.out = nil
}

// discard removes what was not used, and closes. It is harmless after commit.
func (r *draft) discard() {
	if r.out != nil {
		_ = r.out.Close()
	}
	if !r.done && !r.removes && r.temp != "" {
		_ = r.dir.Remove(r.temp)
	}
	_ = r.at.Close()
	_ = r.dir.Close()
}

// commit puts the new file in the old one's place and removes the old one. It returns errMoved, with everything as it
// was, when the name is not the file's that was read any more, or the file was written to since; and errWritten when
// somebody has it open for writing.
func (r *draft) commit(ctx context.Context, d *disk, original *os.File) error {
	w, release := lease(original)
	defer release()
	if w == some {
		return errWritten
	}
	if s, err := stat(r.at, r.base); errors.Is(err, fs.ErrNotExist) || err == nil && !s.same(&r.old) {
		return errMoved
	} else if err != nil {
		return err
	}
	return r.exchange(ctx, d)
}

// exchange does it, looks at what it took, and gives that back when a rotation or a writer came in after the check.
func (r *draft) exchange(ctx context.Context, d *disk) error {
	flag := uint(unix.RENAME_EXCHANGE)
	from, to := r.temp, r.base
	if r.removes {
		flag, from, to = unix.RENAME_NOREPLACE, r.base, r.temp
	}
	fd := int(r.at.Fd())
	err := unix.Renameat2(fd, from, fd, to, flag)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A file system that cannot exchange, as some that come over a network. A plain rename is as atomic for readers;
		// what it cannot notice is a rotation since the check a moment ago.
		err = unix.Renameat(fd, from, fd, to)
	}
	if err != nil {
		return err
	}
	r.done = true
	s, err := stat(r.at, r.temp)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.at.Sync()
	case err != nil:
		return err
	case !s.same(&r.old):
		if err := r.putBack(ctx, d); err != nil {
			return err
		}
		r.done = false
		return errMoved
	}
	if err := r.dir.Remove(r.temp); err != nil {
		return err
	}
	return r.at.Sync()
}

// errWritten says that somebody writes to a file that was to be changed.
var errWritten = errors.New("the file is written to")

// putBack undoes an exchange that took somebody else's file, or a file that was written to meanwhile.
func (r *draft) putBack(ctx context.Context, d *disk) error {
	if r.removes {
		fd := int(r.at.Fd())
		return restore(unix.Renameat2(fd, r.temp, fd, r.base, unix.RENAME_NOREPLACE))
	}
	return d.putBack(ctx, r.at, r.temp, r.new.inode)
}

// putBack exchanges what is under a temporary name with our own new file, wherever a rotation has carried that by now:
// it would have carried the other file there.
func (d *disk) putBack(ctx context.Context, at *os.File, temp string, ours inode) error {
	for range 10 {
		names, err := d.names(ctx, ours)
		if err != nil {
			return err
		}
		for _, name := range names {
			dir, err := d.root.Open(path.Dir(name))
			if err != nil {
				continue
			}
			err = unix.Renameat2(int(at.Fd()), temp, int(dir.Fd()), path.Base(name), unix.RENAME_EXCHANGE)
			_ = dir.Close()
			if err != nil {
				continue
			}
			if s, err := stat(at, temp); err == nil && s.inode == ours {
				return nil
			}
		}
	}
	return restore(errMoved)
}

// restore says that a file stands under a temporary name and nobody knows where it belongs.
func restore(err error) error {
	if err == nil {
		return nil
	}
	return connectors.Permanent(CodeFile, "a file that was rotated at the same moment is under a temporary name",
		"Give the file whose name begins with "+temporaryPrefix+" its name back.", bare(err))
}

// clean removes what killed workers left. Call it under the lock, after the own intent is settled.
func (d *disk) clean(ctx context.Context) error {
	var left []*file
	err := d.walk(ctx, true, func(string) bool { return true }, func(f *file) error {
		left = append(left, f)
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range left {
		dir, err := d.root.Open(path.Dir(f.real))
		if err != nil {
			return unreachable(err)
		}
		to, from, ready := inodesOf(path.Base(f.real))
		if ready && f.Ino != to && f.Ino != from {
			if to == 0 {
				_ = dir.Close()
				continue // the Run that took it knows its name
			}
			var s *status
			if s, err = d.byNumber(ctx, f.Dev, to); err == nil {
				err = d.putBack(ctx, dir, path.Base(f.real), s.inode)
			}
		}
		_ = dir.Close()
		if err != nil {
			return err
		}
		if err := d.root.Remove(f.real); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unreachable(err)
		}
	}
	return nil
}

func (d *disk) byNumber(ctx context.Context, dev, ino uint64) (*status, error) {
	var out *status
	err := d.walk(ctx, false, func(string) bool { return true }, func(f *file) error {
		if f.Dev == dev && f.Ino == ino {
			out = &f.status
		}
		return nil
	})
	if err == nil && out == nil {
		err = restore(errMoved)
	}
	return out, err
}
