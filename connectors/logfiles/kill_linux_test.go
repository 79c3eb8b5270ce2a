package logfiles_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/connectors/logfiles"
	"github.com/lethe-gdpr/lethe/dsr"
)

// The test's own binary is the worker that is killed: it erases ann from a folder.
const (
	killRoot  = "LOGFILES_TEST_ROOT"
	killAt    = "LOGFILES_TEST_KILL_AT"  // the step at which it is killed, from 1 on
	killSpace = "LOGFILES_TEST_FILESIZE" // the largest file that it may write
	killUmask = "LOGFILES_TEST_UMASK"    // octal
)

// diskJournal is a journal in a file, as durable as the worker's database would be.
type diskJournal struct {
	connectortest.Journal
	at    string
	state diskState
	steps int
	kill  int
}

type diskState struct {
	Checkpoint []byte
	Tallies    []connectors.Tally
}

func loadJournal(at string) (*diskJournal, error) {
	j := &diskJournal{at: at}
	b, err := os.ReadFile(at)
	if errors.Is(err, os.ErrNotExist) {
		return j, nil
	} else if err != nil {
		return nil, err
	}
	return j, json.Unmarshal(b, &j.state)
}

func (j *diskJournal) Load(context.Context) ([]byte, error) { return j.state.Checkpoint, nil }

func (j *diskJournal) Save(_ context.Context, checkpoint []byte, done []connectors.Tally) error {
	j.state.Checkpoint = checkpoint
	j.state.Tallies = append(j.state.Tallies, done...)
	b, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(j.at+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(j.at+".new", j.at)
}

func (j *diskJournal) Step(string) {
	if j.steps++; j.steps == j.kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// worker is the life of the child process.
func worker(root string) int {
	j, err := loadJournal(filepath.Join(filepath.Dir(root), "journal"))
	if err == nil {
		j.kill, _ = strconv.Atoi(os.Getenv(killAt))
		if mask, aerr := strconv.ParseUint(os.Getenv(killUmask), 8, 32); aerr == nil {
			syscall.Umask(int(mask))
		}
		if n, aerr := strconv.ParseUint(os.Getenv(killSpace), 10, 64); aerr == nil {
			signal.Ignore(syscall.SIGXFSZ)
			err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n})
		}
	}
	var c connectors.Connector
	if err == nil {
		s := system(requests())
		s.Connector, s.Settings = "logfiles", map[string]any{"root": root}
		c, err = logfiles.Kinds()[0].Open(context.Background(), s, connectors.Options{})
	}
	if err == nil {
		err = c.(connectors.Eraser).Erase(context.Background(), connectors.Job{Batch: connectors.Batch{user("a", "ann")}, Journal: j})
	}
	if err != nil {
		fmt.Println(dsr.CodeOf(err), err)
		return 1
	}
	fmt.Println("steps", j.steps)
	return 0
}

func runWorker(t *testing.T, root string, env ...string) (out string, killed bool) {
	t.Helper()
	return runWorkerAs(t, os.Args[0], nil, root, env...)
}

func runWorkerAs(t *testing.T, binary string, who *syscall.Credential, root string, env ...string) (out string, killed bool) {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), append(env, killRoot+"="+root)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(b), exit.Sys().(syscall.WaitStatus).Signaled()
	}
	require.NoError(t, err)
	return string(b), false
}

// A worker that is killed at any step leaves every file old or new, whole; the one that comes after it ends the work and
// counts every record once.
func TestKilled(t *testing.T) {
	t.Parallel()
	before := map[string]string{}
	after := map[string]string{}
	for n, ending := range []string{"", ".gz", ".zst"} {
		name := fmt.Sprint("app.log.", n+1, ending)
		before[name] = line("ann", n) + line("bob", n) + line("ann", 10+n)
		after[name] = line("bob", n)
	}
	for step := 1; ; step++ {
		root := filepath.Join(t.TempDir(), "logs")
		for name, content := range before {
			write(t, root, name, pack(t, filepath.Ext(name), content))
		}
		_, killed := runWorker(t, root, killAt+"="+strconv.Itoa(step))
		for name := range before {
			require.Contains(t, []string{before[name], after[name]}, unpack(t, name, read(t, root, name)), "%s at step %d", name, step)
		}
		if killed {
			out, again := runWorker(t, root)
			require.False(t, again, "%s", out)
		}
		for name, want := range after {
			require.Equal(t, want, unpack(t, name, read(t, root, name)), "%s at step %d", name, step)
		}
		j, err := loadJournal(filepath.Join(filepath.Dir(root), "journal"))
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"a requests delete": 6}, counts(j.state.Tallies), "step %d", step)
		noTemporaryFiles(t, root)
		if !killed {
			require.Greater(t, step, 12, "the worker passed few steps")
			return
		}
	}
}

// A disk that takes no more leaves the file as it was; the fault is one that may pass.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "logs")
	content := ""
	for n := range 5000 {
		content += line("bob", n)
	}
	write(t, root, "app.log.1", line("ann", 1)+content)
	out, killed := runWorker(t, root, killSpace+"=65536")
	require.False(t, killed)
	require.Contains(t, out, string(dsr.CodeUnavailable))
	require.Equal(t, line("ann", 1)+content, read(t, root, "app.log.1"))
	noTemporaryFiles(t, root)
	out, _ = runWorker(t, root)
	require.Contains(t, out, "steps")
	require.Equal(t, content, read(t, root, "app.log.1"))
}

// A worker without privileges keeps the group and the mode that it may set, whatever its umask and locale. A file of
// another owner, whom it could not keep, is left as it is, with an error.
func TestWithoutPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not as root: the worker runs as the same user, and there is no file of another owner")
	}
	parent, err := os.MkdirTemp("", "lethe-test-") // not below a folder that only root may enter
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(parent)) })
	binary := filepath.Join(parent, "worker")
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, self, 0o755))
	root := filepath.Join(parent, "logs")
	content := line("ann", 1) + line("bob", 2)
	write(t, root, "app.log.1", content)
	at := filepath.Join(root, "app.log.1")
	var who *syscall.Credential
	if os.Geteuid() == 0 {
		who = &syscall.Credential{Uid: 4711, Gid: 4712, Groups: []uint32{4713}}
		write(t, root, "app.log.2", content)
		for _, name := range []string{parent, root, at} {
			require.NoError(t, os.Chown(name, 4711, 4713))
		}
		require.NoError(t, os.Chmod(filepath.Join(root, "app.log.2"), 0o666))
		old(t, root, "app.log.2", time.Now().Add(-2*time.Hour)) // a lease is for owners: it counts as written to before
	}
	require.NoError(t, os.Chmod(at, 0o664))
	var before, after syscall.Stat_t
	require.NoError(t, syscall.Stat(at, &before))

	out, _ := runWorkerAs(t, binary, who, root, killUmask+"=077", "LC_ALL=tr_TR.UTF-8")
	require.Equal(t, line("bob", 2), read(t, root, "app.log.1"), out)
	require.NoError(t, syscall.Stat(at, &after))
	require.NotEqual(t, before.Ino, after.Ino)
	require.Equal(t, []uint32{before.Uid, before.Gid, before.Mode}, []uint32{after.Uid, after.Gid, after.Mode})
	if who != nil {
		require.Contains(t, out, string(logfiles.CodeFile))
		require.Equal(t, content, read(t, root, "app.log.2"))
	}
	noTemporaryFiles(t, root)
}
