package failure

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// volume is where packages go.
type volume struct {
	dir  string
	fill func(leave int64) // lets so many bytes more be written, to one file
	free func()
}

// inChild, in the environment, says that this process was started by a test that may not mount.
const inChild = "LETHE_FAILURE_CHILD"

// newVolume mounts a small file system. Who may not mount runs the same test again in a process of its own and bounds
// the size of that process's files instead: for Lethe both are a write that the disk does not take. Then it returns
// nil, for the test is done.
func newVolume(t *testing.T) *volume {
	t.Helper()
	if os.Getenv(inChild) != "" {
		return limited(t)
	}
	dir := filepath.Join(t.TempDir(), "packages")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
		cmd.Env = append(os.Environ(), inChild+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return nil
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	other := filepath.Join(dir, "other")
	return &volume{
		dir: filepath.Dir(dir),
		fill: func(leave int64) {
			f, err := os.Create(other)
			require.NoError(t, err)
			block := make([]byte, 4096)
			for err == nil {
				_, err = f.Write(block)
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			size, err := f.Seek(0, io.SeekEnd)
			require.NoError(t, err)
			require.NoError(t, f.Truncate(size-leave))
			require.NoError(t, f.Close())
		},
		free: func() { require.NoError(t, os.Remove(other)) },
	}
}

func limited(t *testing.T) *volume {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	set := func(limit syscall.Rlimit) { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) }
	return &volume{
		dir:  t.TempDir(),
		fill: func(leave int64) { set(syscall.Rlimit{Cur: uint64(leave), Max: before.Max}) },
		free: func() { set(before) },
	}
}

// The disk is full while a subject's records are staged, or when the package is made of them: a person is told, there
// is no half of a package, and with space a retry completes the copy.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		after  dsr.Phase // the disk fills up when this is done
		reason string
	}{
		{"staging", dsr.PhaseLocate, "unavailable"},
		{"assembling", dsr.PhaseExport, "package-not-assembled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t)
			if v == nil {
				return
			}
			w := backends[0].world(t)
			var once sync.Once
			h := open(t, options{
				control: dbtest.Postgres(t), dir: v.dir, target: w.url, auto: true,
				worked: func(done dsr.Phase) {
					if done == c.after {
						once.Do(func() { v.fill(8 << 10) })
					}
				},
			})
			h.activate(t, w.dataMap(notesDeleted))
			r := h.attention(t, h.file(t, dsr.Access, 0).ID, c.reason)
			require.Contains(t, r.Hint, "space")
			require.Contains(t, r.Hint, "retry")
			_, err := h.engine.PackageInfo(t.Context(), bob, r.ID)
			require.Equal(t, dsr.CodeNotFound, dsr.CodeOf(err))

			v.free()
			h.retry(t, r.ID)
			h.await(t, r.ID, dsr.Completed)
			info, err := h.engine.PackageInfo(t.Context(), bob, r.ID)
			require.NoError(t, err)
			require.EqualValues(t, heavyTickets+2, info.Records)
		})
	}
}
