package logfiles_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
)

// rotator writes lines of ann and bob by turns to app.log and rotates it as logrotate does, until it has rotated enough.
type rotator struct {
	root     string
	truncate bool // copytruncate
	rounds   int
	errs     error
	written  int
}

const keepFiles = 12

func (r *rotator) run() {
	at := func(n int, ending string) string { return filepath.Join(r.root, "app.log."+strconv.Itoa(n)+ending) }
	live := filepath.Join(r.root, "app.log")
	fail := func(err error) bool {
		if err != nil && r.errs == nil {
			r.errs = err
		}
		return err != nil
	}
	w, err := os.OpenFile(live, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if fail(err) {
		return
	}
	defer func() { _ = w.Close() }()
	burst := func() {
		for range 20 {
			r.written++
			_, err := w.WriteString(line([]string{"ann", "bob"}[r.written%2], r.written))
			fail(err)
		}
	}
	for range r.rounds {
		burst()
		for n := keepFiles; n > 0; n-- { // nothing is deleted: the last ones pile up under names of their own
			for _, ending := range []string{"", ".gz"} {
				to := at(n+1, ending)
				if n == keepFiles {
					to = at(1000+r.written, ending)
				}
				if err := os.Rename(at(n, ending), to); err != nil && !os.IsNotExist(err) {
					fail(err)
				}
			}
		}
		if r.truncate {
			src, err := os.Open(live)
			if fail(err) {
				return
			}
			dst, err := os.Create(at(1, ""))
			if fail(err) {
				return
			}
			_, err = io.Copy(dst, src)
			fail(err)
			fail(dst.Close())
			fail(src.Close())
			fail(os.Truncate(live, 0))
		} else {
			fail(os.Rename(live, at(1, "")))
			burst() // into the file that was renamed
			fail(w.Close())
			if w, err = os.OpenFile(live, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640); fail(err) {
				return
			}
		}
		r.compress(at(2, ""), at(2, ".gz"), fail)
	}
}

// compress does what gzip does: it writes the compressed file, then removes what stands under the name that it read.
func (r *rotator) compress(from, to string, fail func(error) bool) {
	b, err := os.ReadFile(from)
	if os.IsNotExist(err) || fail(err) {
		return
	}
	var sink failing
	fail(os.WriteFile(to, []byte(pack(&sink, ".gz", string(b))), 0o640))
	fail(sink.err)
	fail(os.Remove(from))
}

// failing is a testing.TB for a goroutine that is not the test's.
type failing struct {
	testing.TB
	err error
}

func (f *failing) Helper()                        {}
func (f *failing) Errorf(msg string, args ...any) { f.err = fmt.Errorf(msg, args...) }
func (f *failing) FailNow()                       {}

// One pass finds what a rotation in the middle of it put where the pass had been: app.log.9 becomes app.log.10, which
// stands before app.log.2. Every record is counted once.
func TestRotationInsideOnePass(t *testing.T) {
	t.Parallel()
	for _, at := range []string{logfiles.StepRewritten, logfiles.StepIntent, logfiles.StepReplaced} {
		root := t.TempDir()
		for n := 1; n <= 9; n++ {
			write(t, root, fmt.Sprint("app.log.", n), line("ann", n)+line("bob", n))
		}
		path := func(name string) string { return filepath.Join(root, name) }
		j := connectortest.NewJournal()
		rotated := false
		j.AtStep(func(_ int, step string) {
			if step != at || rotated {
				return
			}
			rotated = true
			for n := 9; n > 0; n-- {
				require.NoError(t, os.Rename(path(fmt.Sprint("app.log.", n)), path(fmt.Sprint("app.log.", n+1))))
			}
			write(t, root, "app.log.1", line("ann", 11))
			write(t, root, "app.log.10.gz", pack(t, ".gz", read(t, root, "app.log.10")))
			require.NoError(t, os.Remove(path("app.log.10")))
		})
		c := open(t, root, system(requests()), connectors.Options{})
		ann := connectors.Batch{user("a", "ann")}
		require.NoError(t, c.(connectors.Eraser).Erase(context.Background(), connectors.Job{Batch: ann, Journal: j}))
		require.True(t, rotated)
		require.Empty(t, verify(t, c, ann), at)
		require.Equal(t, map[string]int64{"a requests delete": 10}, counts(j.Tallies()), at)
		for n := 1; n <= 8; n++ {
			require.Equal(t, line("bob", n), read(t, root, fmt.Sprint("app.log.", n+1)), at)
		}
	}
}

// While files are written, renamed, copied and compressed, an erasure loses no line of anybody else and doubles none; and
// when the rotation rests, one more erasure leaves nothing but what the live file still has.
func TestRotationDuringErasure(t *testing.T) {
	t.Parallel()
	for name, truncate := range map[string]bool{"reopen": false, "copytruncate": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			c := open(t, root, system(requests()), connectors.Options{})
			ann := connectors.Batch{user("a", "ann")}
			r := &rotator{root: root, truncate: truncate, rounds: 60}
			ended := make(chan struct{})
			var wait sync.WaitGroup
			wait.Go(func() { defer close(ended); r.run() })
			passes := 0
			for busy := true; busy; passes++ {
				select {
				case <-ended:
					busy = false
				default:
				}
				err := c.(connectors.Eraser).Erase(context.Background(), connectors.Job{Batch: ann, Journal: connectortest.NewJournal()})
				require.False(t, connectors.IsPermanent(err), "%v", err)
				_, err = c.Verify(context.Background(), connectors.Search{Batch: ann, Keys: connectortest.NewJournal()})
				require.False(t, connectors.IsPermanent(err), "%v", err)
			}
			wait.Wait()
			require.NoError(t, r.errs)
			require.Greater(t, passes, 1)
			_, err := erase(t, c, ann)
			require.NoError(t, err)
			for _, left := range verify(t, c, ann) {
				require.NotNil(t, left.Waits)
			}
			seen := map[string]int{}
			for name, content := range contents(t, root) {
				for l := range strings.Lines(unpack(t, name, string(content))) {
					seen[l]++
					if strings.Contains(l, "ann") {
						require.Equal(t, "app.log", name, "a rotated file has a line of hers")
					}
				}
			}
			for n := 1; n <= r.written; n++ {
				if who := []string{"ann", "bob"}[n%2]; who == "bob" {
					require.Equal(t, 1, seen[line(who, n)], "line %d of %d", n, r.written)
				}
			}
			noTemporaryFiles(t, root)
		})
	}
}
