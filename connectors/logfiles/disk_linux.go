package logfiles

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// disk is the root folder while one verb runs. Paths are below the root, with slashes; the root itself is ".".
type disk struct {
	root   *os.Root
	path   string
	follow bool
}

// inode tells files apart whatever they are called. Numbers are used again when a file is gone, so the time of birth
// belongs to it where the file system keeps one.
type inode struct {
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born int64  `json:"born,omitempty"`
}

// status is what the file system says of a file.
type status struct {
	inode
	Size             int64
	Mtime            int64 // nanoseconds since 1970
	atime            unix.Timespec
	mtime            unix.Timespec
	ctime            time.Time
	mode             uint32
	uid, gid, nlinks uint32
}

// same reports whether a file is as it was: the same inode, with nothing written to it since.
func (s *status) same(o *status) bool {
	return s.inode == o.inode && s.Size == o.Size && s.Mtime == o.Mtime
}

func (s *status) modified() time.Time { return time.Unix(0, s.Mtime) }

// file is one name in a listing.
type file struct {
	status
	name    string  // as patterns see it
	real    string  // without symbolic links
	problem problem // why it cannot be worked
	folder  bool    // with a problem: it is, or may be, a folder
}

// problem is why a name in a listing cannot be worked.
type problem string

const (
	symlink problem = "symbolic-link" // refused by the map
	escape  problem = "link-leads-out"
	special problem = "not-a-file" // a device, a socket, a pipe
)

// errMoved says that a file is not, or no longer, where and as it was listed. The next listing shows what became of it.
var errMoved = errors.New("the file moved or changed")

func (f *Folder) disk() (*disk, error) {
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return nil, unreachable(err)
	}
	return &disk{root: root, path: f.root, follow: f.follow}, nil
}

// unreachable is a root or a folder that cannot be read: a mount may come back, a permission does not by itself.
func unreachable(err error) error {
	const msg, hint = "the folder of log files cannot be read", "See whether it is mounted and readable by Lethe; run `lethe check`."
	if errors.Is(err, fs.ErrPermission) {
		return connectors.Permanent(CodeFolder, msg, hint, bare(err))
	}
	return &dsr.Error{Code: dsr.CodeUnavailable, Msg: msg, Hint: hint, Err: bare(err)}
}

// bare is the system's error without the path, which may hold personal data.
func bare(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return nil
}

// isRefusal reports whether an error does not pass by itself.
func isRefusal(err error) bool {
	for _, no := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EROFS, unix.ENAMETOOLONG, unix.ELOOP} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func (d *disk) close() { _ = d.root.Close() }

func stat(dir *os.File, base string) (*status, error) {
	return statx(int(dir.Fd()), base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

func statOpen(h *os.File) (*status, error) { return statx(int(h.Fd()), "", unix.AT_EMPTY_PATH) }

func statx(fd int, base string, flags int) (*status, error) {
	var x unix.Statx_t
	for {
		err := unix.Statx(fd, base, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	nano := func(t unix.StatxTimestamp) int64 { return time.Unix(t.Sec, int64(t.Nsec)).UnixNano() }
	s := &status{
		inode: inode{Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino}, Size: int64(x.Size), Mtime: nano(x.Mtime),
		atime: unix.NsecToTimespec(nano(x.Atime)), mtime: unix.NsecToTimespec(nano(x.Mtime)), ctime: time.Unix(0, nano(x.Ctime)),
		mode: uint32(x.Mode), uid: x.Uid, gid: x.Gid, nlinks: x.Nlink,
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.Born = nano(x.Btime)
	}
	return s, nil
}

// walk lists the files below the root, each folder's names in their order. Folders of which below says no are left out.
// Lethe's own temporary files are listed only with temporary, and then nothing else is.
func (d *disk) walk(ctx context.Context, temporary bool, below func(folder string) bool, fn func(*file) error) error {
	w := walk{disk: d, temporary: temporary, below: below, fn: fn}
	return w.folder(ctx, "", ".", nil)
}

type walk struct {
	*disk
	temporary bool
	below     func(folder string) bool
	fn        func(*file) error
}

// folder lists one folder. above are the folders that lead to it: a link to one of them would go round for ever.
func (w *walk) folder(ctx context.Context, name, real string, above []inode) error {
	dir, err := w.root.Open(real)
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		return nil
	} else if err != nil {
		return unreachable(err)
	}
	defer dir.Close()
	here, err := statOpen(dir)
	if err != nil {
		return unreachable(err)
	}
	if slices.Contains(above, here.inode) {
		return nil
	}
	above = append(slices.Clip(above), here.inode)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return unreachable(err)
	}
	slices.Sort(names)
	for _, base := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if isTemporary(base) != w.temporary && isTemporary(base) {
			continue
		}
		s, err := stat(dir, base)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return unreachable(err)
		}
		f := &file{status: *s, name: path.Join(name, base), real: path.Join(real, base)}
		if err := w.entry(ctx, f, above); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(ctx context.Context, f *file, above []inode) error {
	if f.mode&unix.S_IFMT == unix.S_IFLNK && !w.temporary {
		gone, err := w.link(f)
		if gone || err != nil {
			return err
		}
	}
	switch kind := f.mode & unix.S_IFMT; {
	case f.problem != "":
	case kind == unix.S_IFDIR:
		if !w.below(f.name) {
			return nil
		}
		return w.folder(ctx, f.name, f.real, above)
	case kind != unix.S_IFREG:
		f.problem = special
	}
	if w.temporary != isTemporary(path.Base(f.real)) {
		return nil
	}
	return w.fn(f)
}

// link finds out what a symbolic link means. One that leads to nothing holds nothing.
func (w *walk) link(f *file) (gone bool, err error) {
	info, err := w.root.Stat(f.real)
	f.folder = err != nil || info.IsDir()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case !w.follow:
		f.problem = symlink
		return false, nil
	}
	top, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return false, unreachable(err)
	}
	target, err := filepath.EvalSymlinks(filepath.Join(w.path, filepath.FromSlash(f.real)))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, unreachable(err)
	}
	rel, err := filepath.Rel(top, target)
	if err != nil || !filepath.IsLocal(rel) {
		f.problem = escape
		return false, nil
	}
	// the name is only a name: everything is opened beneath the root
	f.real = filepath.ToSlash(rel)
	dir, err := w.root.Open(path.Dir(f.real))
	if err != nil {
		return true, nil
	}
	defer dir.Close()
	s, err := stat(dir, path.Base(f.real))
	if err != nil {
		return true, nil
	}
	f.status = *s
	return false, nil
}

// open opens a listed file for reading and takes its status anew. It returns errMoved when another file, or none, has
// that name by now.
func (d *disk) open(f *file) (*os.File, error) {
	// without O_NONBLOCK a pipe that took the file's place would hang
	h, err := d.root.OpenFile(f.real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errMoved
	} else if err != nil {
		return nil, err
	}
	s, err := statOpen(h)
	if err != nil || s.inode != f.inode {
		_ = h.Close()
		return nil, errors.Join(err, errMoved)
	}
	f.status = *s
	return h, nil
}

// writers is what a read lease tells of a file.
type writers int

const (
	none    writers = iota // nobody has it open for writing
	some                   // somebody has
	unknown                // the file system or the privileges do not tell
)

// lease takes a read lease on an open file. While it is held whoever opens the file for writing waits; release it soon.
func lease(h *os.File) (w writers, release func()) {
	_, err := unix.FcntlInt(h.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		return none, func() { _, _ = unix.FcntlInt(h.Fd(), unix.F_SETLEASE, unix.F_UNLCK) }
	case errors.Is(err, unix.EAGAIN):
		return some, func() {}
	}
	return unknown, func() {}
}

// lock makes its caller the only one that changes files below the root, until release or the process's end. It waits for
// others until the deadline and is then ErrYield.
func (d *disk) lock(ctx context.Context, over func() bool) (release func(), err error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return nil, unreachable(err)
	}
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = dir.Close() }, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = dir.Close()
			return nil, unreachable(err)
		case over():
			_ = dir.Close()
			return nil, connectors.ErrYield
		}
		select {
		case <-ctx.Done():
			_ = dir.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// names finds every name of an inode below the root.
func (d *disk) names(ctx context.Context, of inode) ([]string, error) {
	var out []string
	err := d.walk(ctx, false, func(string) bool { return true }, func(f *file) error {
		if f.inode == of && !slices.Contains(out, f.real) {
			out = append(out, f.real)
		}
		return nil
	})
	return out, err
}
